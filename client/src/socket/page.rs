//! Safe wrappers of the page's WebSockets and of the data channels beside them, which are in its plugin
//! `assets/web-src/plugin.js`. They exist in WASM only.
// Each unsafe call passes numbers, or memory that is borrowed for the time of the call. The plugin
// keeps no pointer.
#![allow(unsafe_code)]

/// The plugin's version, which the page compares.
const PLUGIN_VERSION: u32 = 4;
/// Longest reason that the plugin returns, in bytes: a few sentences.
const MAX_REASON_BYTES: usize = 512;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn cubesync_socket_open(address: *const u8, length: usize) -> u32;
    fn cubesync_socket_state(id: u32) -> u32;
    fn cubesync_socket_reason(id: u32, to: *mut u8, room: usize) -> usize;
    fn cubesync_socket_receive(id: u32, to: *mut u8, room: usize) -> usize;
    fn cubesync_socket_send(id: u32, from: *const u8, length: usize) -> u32;
    fn cubesync_socket_close(id: u32);
    fn cubesync_datagrams_open(id: u32);
    fn cubesync_datagrams_offer(id: u32, to: *mut u8, room: usize) -> usize;
    fn cubesync_datagrams_answer(id: u32, text: *const u8, length: usize);
    fn cubesync_datagrams_receive(id: u32, to: *mut u8, room: usize) -> usize;
    fn cubesync_datagrams_send(id: u32, from: *const u8, length: usize);
}

/// Returns the plugin's version to gl.js, which calls this.
#[unsafe(no_mangle)]
extern "C" fn cubesync_crate_version() -> u32 {
    PLUGIN_VERSION
}

/// One WebSocket of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SocketId(u32);

/// The state of a WebSocket; the numbers are the plugin's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SocketCode {
    /// 0: not yet usable.
    Connecting,
    /// 1: messages can flow, or some are still unread.
    Open,
    /// 2: closed, for a reason.
    Closed,
}

/// Starts to connect to a `host:port`, or to the server of the page if that is empty.
pub(super) fn socket_open(address: &str) -> SocketId {
    // SAFETY: the address outlives the call.
    SocketId(unsafe { cubesync_socket_open(address.as_ptr(), address.len()) })
}

/// Returns the state of a socket.
pub(super) fn socket_state(SocketId(id): SocketId) -> SocketCode {
    // SAFETY: numbers.
    match unsafe { cubesync_socket_state(id) } {
        0 => SocketCode::Connecting,
        1 => SocketCode::Open,
        _ => SocketCode::Closed,
    }
}

/// Returns why a socket is closed, for a person.
pub(super) fn socket_reason(SocketId(id): SocketId) -> String {
    let mut reason = vec![0; MAX_REASON_BYTES];
    // SAFETY: the memory outlives the call, and no more than its length is written.
    let count = unsafe { cubesync_socket_reason(id, reason.as_mut_ptr(), reason.len()) };
    reason.truncate(count);
    String::from_utf8(reason).unwrap_or_default()
}

/// Moves bytes that have arrived to `buffer` and returns how many.
pub(super) fn socket_receive(SocketId(id): SocketId, buffer: &mut [u8]) -> usize {
    // SAFETY: the buffer outlives the call, and no more than its length is written.
    let count = unsafe { cubesync_socket_receive(id, buffer.as_mut_ptr(), buffer.len()) };
    count.min(buffer.len())
}

/// Sends a message unless much is still waiting to be sent. Returns whether it did.
pub(super) fn socket_send(SocketId(id): SocketId, message: &[u8]) -> bool {
    // SAFETY: the message outlives the call; the plugin copies it.
    unsafe { cubesync_socket_send(id, message.as_ptr(), message.len()) != 0 }
}

/// Closes a socket. Closing it again does nothing.
pub(super) fn socket_close(SocketId(id): SocketId) {
    // SAFETY: a number.
    unsafe { cubesync_socket_close(id) }
}

/// Starts to prepare a data channel beside a socket, with which it closes.
pub(super) fn datagrams_open(SocketId(id): SocketId) {
    // SAFETY: a number.
    unsafe { cubesync_datagrams_open(id) }
}

/// Writes the offer of a socket's data channel to `buffer` and returns its length: 0 while there is none.
pub(super) fn datagrams_offer(SocketId(id): SocketId, buffer: &mut [u8]) -> usize {
    // SAFETY: the buffer outlives the call, and no more than its length is written.
    let count = unsafe { cubesync_datagrams_offer(id, buffer.as_mut_ptr(), buffer.len()) };
    count.min(buffer.len())
}

/// Passes the server's answer to a socket's data channel.
pub(super) fn datagrams_answer(SocketId(id): SocketId, answer: &str) {
    // SAFETY: the answer outlives the call; the plugin copies it.
    unsafe { cubesync_datagrams_answer(id, answer.as_ptr(), answer.len()) }
}

/// Writes the next message of a socket's data channel to `buffer` and returns its length: 0 if there is
/// none.
pub(super) fn datagrams_receive(SocketId(id): SocketId, buffer: &mut [u8]) -> usize {
    // SAFETY: the buffer outlives the call, and no more than its length is written.
    let count = unsafe { cubesync_datagrams_receive(id, buffer.as_mut_ptr(), buffer.len()) };
    count.min(buffer.len())
}

/// Sends a message over a socket's data channel. The last one before the channel is open is sent then;
/// otherwise one that cannot be sent now is dropped.
pub(super) fn datagrams_send(SocketId(id): SocketId, message: &[u8]) {
    // SAFETY: the message outlives the call; the plugin copies it.
    unsafe { cubesync_datagrams_send(id, message.as_ptr(), message.len()) }
}
