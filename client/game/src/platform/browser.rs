//! What the page does for the game in a browser tab: functions of its plugin,
//! `assets/web-src/plugin.js`, made safe. Only in WASM.
// Each unsafe call passes numbers, or memory that is borrowed for the time of the call; the plugin
// never keeps a pointer.
#![allow(unsafe_code)]

use std::time::Duration;

/// Longest text the plugin gives, in bytes: an invite link with a full room name.
const MAX_TEXT_BYTES: usize = 2048;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn cubesync_now_ms() -> f64;
    fn cubesync_random() -> u32;
    fn cubesync_is_hidden() -> u32;
    fn cubesync_prefers_touch() -> u32;
    fn cubesync_fail(text: *const u8, length: usize);
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

/// The time since the page was opened; never goes backwards.
pub(crate) fn now() -> Duration {
    // SAFETY: a number.
    Duration::from_secs_f64(unsafe { cubesync_now_ms() }.max(0.0) / 1e3)
}

/// A number that nobody can guess.
pub(crate) fn random() -> u32 {
    // SAFETY: a number.
    unsafe { cubesync_random() }
}

/// Whether the tab is in the background, where nothing needs to be drawn.
pub(crate) fn is_hidden() -> bool {
    // SAFETY: a number.
    unsafe { cubesync_is_hidden() != 0 }
}

/// Whether this is a phone or a tablet.
pub(crate) fn prefers_touch() -> bool {
    // SAFETY: a number.
    unsafe { cubesync_prefers_touch() != 0 }
}

/// Covers the page with a text: what went wrong and what to do.
pub(crate) fn fail(text: &str) {
    // SAFETY: the text outlives the call.
    unsafe { cubesync_fail(text.as_ptr(), text.len()) }
}

/// What the tab kept, the page's address says, or the browser remembers, in this order.
pub(crate) fn setting(key: &str) -> Option<String> {
    // SAFETY: the key outlives the call; `text` gives memory to write to.
    let text = text(|to, room| unsafe { cubesync_setting(key.as_ptr(), key.len(), to, room) });
    Some(text).filter(|text| !text.is_empty())
}

/// Keeps a setting for this tab's next page; name and colour also for other tabs.
pub(crate) fn keep(key: &str, value: &str) {
    // SAFETY: both outlive the call.
    unsafe { cubesync_keep(key.as_ptr(), key.len(), value.as_ptr(), value.len()) }
}

/// The page's `host:port`.
pub(crate) fn address() -> String {
    // SAFETY: `text` gives memory to write to.
    text(|to, room| unsafe { cubesync_address(to, room) })
}

/// The address that opens this game in a room.
pub(crate) fn invite_link(room_name: &str) -> String {
    let (name, length) = (room_name.as_ptr(), room_name.len());
    // SAFETY: the name outlives the call; `text` gives memory to write to.
    text(|to, room| unsafe { cubesync_invite_link(name, length, to, room) })
}

/// Puts a text into the clipboard; where that is forbidden, shows it to be copied by hand.
pub(crate) fn copy(copied: &str) {
    // SAFETY: the text outlives the call.
    unsafe { cubesync_copy(copied.as_ptr(), copied.len()) }
}

/// Names the tab.
pub(crate) fn set_title(title: &str) {
    // SAFETY: the title outlives the call.
    unsafe { cubesync_set_title(title.as_ptr(), title.len()) }
}

/// Whether the page can fill the whole screen; iPhones do not let it.
pub(crate) fn can_fullscreen() -> bool {
    // SAFETY: a number.
    unsafe { cubesync_can_fullscreen() != 0 }
}

/// Fills the whole screen, or no more.
pub(crate) fn toggle_fullscreen() {
    // SAFETY: no memory is involved.
    unsafe { cubesync_toggle_fullscreen() }
}

/// Lets a phone's keyboard type into a field that is drawn there, in logical pixels. To be called
/// in every frame in which it is; gives the text when it was typed into.
pub(crate) fn text_field(
    index: u32,
    [x, y, width, height]: [f32; 4],
    shown: &str,
) -> Option<String> {
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

/// A text that the plugin writes into the memory it is given, and how many bytes that were.
fn text(write: impl FnOnce(*mut u8, usize) -> usize) -> String {
    let mut bytes = vec![0; MAX_TEXT_BYTES];
    let count = write(bytes.as_mut_ptr(), bytes.len());
    bytes.truncate(count);
    String::from_utf8(bytes).unwrap_or_default()
}
