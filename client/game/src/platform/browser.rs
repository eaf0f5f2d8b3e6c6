//! What the browser does for a client that runs in one: the functions of the page's plugin,
//! `assets/web-src/plugin.js`, made safe. Only in WASM.
// The only unsafe calls of the browser's client. Each passes numbers, or memory that is borrowed
// for the time of the call; the plugin never keeps a pointer.
#![allow(unsafe_code)]

use std::time::Duration;

/// The plugin's version, which the page compares.
const PLUGIN_VERSION: u32 = 2;
/// Longest text the plugin gives, in bytes: an invite link with a full room name.
const MAX_TEXT_BYTES: usize = 2048;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn cubesync_now_ms() -> f64;
    fn cubesync_random() -> u32;
    fn cubesync_is_hidden() -> u32;
    fn cubesync_prefers_touch() -> u32;
    fn cubesync_fail(text: *const u8, length: usize);
    fn cubesync_socket_open(address: *const u8, length: usize) -> u32;
    fn cubesync_socket_state(id: u32) -> u32;
    fn cubesync_socket_receive(id: u32, to: *mut u8, room: usize) -> usize;
    fn cubesync_socket_send(id: u32, from: *const u8, length: usize) -> u32;
    fn cubesync_socket_close(id: u32);
    fn cubesync_setting(key: *const u8, length: usize, to: *mut u8, room: usize) -> usize;
    fn cubesync_keep(key: *const u8, key_length: usize, value: *const u8, length: usize);
    fn cubesync_address(to: *mut u8, room: usize) -> usize;
    fn cubesync_invite_link(room_name: *const u8, length: usize, to: *mut u8, room: usize)
    -> usize;
    fn cubesync_copy(text: *const u8, length: usize);
    fn cubesync_set_title(text: *const u8, length: usize);
    fn cubesync_can_fullscreen() -> u32;
    fn cubesync_toggle_fullscreen();
    fn cubesync_text_field(
        index: u32,
        x: f32,
        y: f32,
        width: f32,
        height: f32,
        text: *const u8,
        length: usize,
        to: *mut u8,
        room: usize,
    ) -> i32;
}

/// Asked by gl.js.
#[unsafe(no_mangle)]
extern "C" fn cubesync_crate_version() -> u32 {
    PLUGIN_VERSION
}

/// One WebSocket of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SocketId(u32);

/// How far a WebSocket is; the numbers are the plugin's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SocketCode {
    /// 0: not yet usable.
    Connecting,
    /// 1: messages can flow, or some that came are still unread.
    Open,
    /// 2: neither a WebSocket nor a page could be had.
    Unreachable,
    /// 3: the server gives pages but no WebSocket.
    Blocked,
    /// 4: closed by the server, or by us.
    Closed,
    /// 5: cut without a word.
    Lost,
    /// 6: too much was left unread.
    Flooded,
}

/// The time since the page was opened; never goes backwards.
pub fn now() -> Duration {
    // SAFETY: a number.
    Duration::from_secs_f64(unsafe { cubesync_now_ms() }.max(0.0) / 1e3)
}

/// A number that nobody can guess.
pub fn random() -> u32 {
    // SAFETY: a number.
    unsafe { cubesync_random() }
}

/// Whether the tab is in the background, where nothing needs to be drawn.
pub fn is_hidden() -> bool {
    // SAFETY: a number.
    unsafe { cubesync_is_hidden() != 0 }
}

/// Whether this is a phone or a tablet.
pub fn prefers_touch() -> bool {
    // SAFETY: a number.
    unsafe { cubesync_prefers_touch() != 0 }
}

/// Covers the page with a text: what went wrong and what to do.
pub fn fail(text: &str) {
    // SAFETY: the text outlives the call.
    unsafe { cubesync_fail(text.as_ptr(), text.len()) }
}

/// What the tab kept, the page's address says, or the browser remembers, in this order.
pub fn setting(key: &str) -> Option<String> {
    // SAFETY: the key outlives the call; `text` gives memory to write to.
    let text = text(|to, room| unsafe { cubesync_setting(key.as_ptr(), key.len(), to, room) });
    Some(text).filter(|text| !text.is_empty())
}

/// Keeps a setting for this tab's next page; name and colour also for other tabs.
pub fn keep(key: &str, value: &str) {
    // SAFETY: both outlive the call.
    unsafe { cubesync_keep(key.as_ptr(), key.len(), value.as_ptr(), value.len()) }
}

/// The page's `host:port`.
pub fn address() -> String {
    // SAFETY: `text` gives memory to write to.
    text(|to, room| unsafe { cubesync_address(to, room) })
}

/// The address that opens this game in a room.
pub fn invite_link(room_name: &str) -> String {
    let (name, length) = (room_name.as_ptr(), room_name.len());
    // SAFETY: the name outlives the call; `text` gives memory to write to.
    text(|to, room| unsafe { cubesync_invite_link(name, length, to, room) })
}

/// Puts a text into the clipboard; where that is forbidden, shows it to be copied by hand.
pub fn copy(copied: &str) {
    // SAFETY: the text outlives the call.
    unsafe { cubesync_copy(copied.as_ptr(), copied.len()) }
}

/// Names the tab.
pub fn set_title(title: &str) {
    // SAFETY: the title outlives the call.
    unsafe { cubesync_set_title(title.as_ptr(), title.len()) }
}

/// Whether the page can fill the whole screen; iPhones do not let it.
pub fn can_fullscreen() -> bool {
    // SAFETY: a number.
    unsafe { cubesync_can_fullscreen() != 0 }
}

/// Fills the whole screen, or no more.
pub fn toggle_fullscreen() {
    // SAFETY: no memory is involved.
    unsafe { cubesync_toggle_fullscreen() }
}

/// Lets a phone's keyboard type into a field that is drawn there, in logical pixels. To be called
/// in every frame in which it is; gives the text when it was typed into.
pub fn text_field(index: u32, [x, y, width, height]: [f32; 4], shown: &str) -> Option<String> {
    let mut typed = None;
    let text = text(|to, room| {
        let (from, length) = (shown.as_ptr(), shown.len());
        // SAFETY: the text outlives the call; `text` gives memory to write to.
        let count =
            unsafe { cubesync_text_field(index, x, y, width, height, from, length, to, room) };
        typed = usize::try_from(count).ok();
        typed.unwrap_or(0)
    });
    typed.map(|_| text)
}

/// Starts to connect to a `host:port`, or to the server of the page if that is empty.
pub(crate) fn socket_open(address: &str) -> SocketId {
    // SAFETY: the address outlives the call.
    SocketId(unsafe { cubesync_socket_open(address.as_ptr(), address.len()) })
}

/// How far a socket is.
pub(crate) fn socket_state(SocketId(id): SocketId) -> SocketCode {
    // SAFETY: numbers.
    match unsafe { cubesync_socket_state(id) } {
        0 => SocketCode::Connecting,
        1 => SocketCode::Open,
        2 => SocketCode::Unreachable,
        3 => SocketCode::Blocked,
        5 => SocketCode::Lost,
        6 => SocketCode::Flooded,
        _ => SocketCode::Closed,
    }
}

/// Moves bytes that have come to `buffer`; how many.
pub(crate) fn socket_receive(SocketId(id): SocketId, buffer: &mut [u8]) -> usize {
    // SAFETY: the buffer outlives the call, and no more than its length is written.
    let count = unsafe { cubesync_socket_receive(id, buffer.as_mut_ptr(), buffer.len()) };
    count.min(buffer.len())
}

/// Sends a message, unless much is still waiting to be sent; whether it did.
pub(crate) fn socket_send(SocketId(id): SocketId, message: &[u8]) -> bool {
    // SAFETY: the message outlives the call; the plugin copies it.
    unsafe { cubesync_socket_send(id, message.as_ptr(), message.len()) != 0 }
}

/// Ends a socket; again does nothing.
pub(crate) fn socket_close(SocketId(id): SocketId) {
    // SAFETY: a number.
    unsafe { cubesync_socket_close(id) }
}

/// A text that the plugin writes into the memory it is given, and how many bytes that were.
fn text(write: impl FnOnce(*mut u8, usize) -> usize) -> String {
    let mut bytes = vec![0; MAX_TEXT_BYTES];
    let count = write(bytes.as_mut_ptr(), bytes.len());
    bytes.truncate(count);
    String::from_utf8(bytes).unwrap_or_default()
}
