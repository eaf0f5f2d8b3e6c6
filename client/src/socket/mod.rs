//! The socket under a session, which is polled once a frame and never blocks. Natively it is a TCP
//! stream, encrypted or not; in a browser tab it is a WebSocket to the page's server. Beside it may be
//! a [`DatagramSocket`].

#[cfg(not(target_arch = "wasm32"))]
mod address;
mod datagram;
#[cfg(not(target_arch = "wasm32"))]
mod dial;
#[cfg(not(target_arch = "wasm32"))]
mod foreign;
#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod page;
#[cfg(not(target_arch = "wasm32"))]
mod race;
#[cfg(not(target_arch = "wasm32"))]
mod stream;
#[cfg(not(target_arch = "wasm32"))]
mod tls;
#[cfg(target_arch = "wasm32")]
mod web;

use std::time::Duration;

use bytes::BytesMut;
use cubesync_protocol::limits::{FRAME_HEADER_BYTES, MAX_SERVER_PAYLOAD_BYTES};

#[cfg(not(target_arch = "wasm32"))]
pub use address::full_address;
pub use datagram::DatagramSocket;
#[cfg(not(target_arch = "wasm32"))]
pub use native::Socket;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::neighbour;
#[cfg(target_arch = "wasm32")]
pub use web::Socket;
#[cfg(target_arch = "wasm32")]
pub(crate) use web::neighbour;

/// Longest time for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Size of one read: about a tick of a room of a thousand. Each read clears as much memory first.
const READ_BYTES: usize = 16 * 1024;
/// Largest number of unread bytes: the longest frame and one read, so that the longest frame can
/// always become complete.
const MAX_INCOMING_BYTES: usize = FRAME_HEADER_BYTES + MAX_SERVER_PAYLOAD_BYTES + READ_BYTES;

/// The state of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketState<'a> {
    /// Not yet usable.
    Connecting,
    /// Bytes can flow.
    Open,
    /// Closed for good.
    Closed {
        /// Why, for a person.
        reason: &'a str,
    },
}

/// Appends the bytes of one read to a buffer that has room and returns how many they are.
fn read_into(buffer: &mut BytesMut, read: impl FnOnce(&mut [u8]) -> usize) -> usize {
    let start = buffer.len();
    if start >= MAX_INCOMING_BYTES {
        return 0;
    }
    buffer.resize((start + READ_BYTES).min(MAX_INCOMING_BYTES), 0);
    let count = read(&mut buffer[start..]);
    buffer.truncate(start + count);
    count
}
