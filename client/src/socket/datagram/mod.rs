//! The socket for datagrams beside a session's stream, which is polled once a frame and never blocks.
//! Natively it is a UDP socket whose packets are sealed, in a browser tab a WebRTC data channel.
//!
//! The client asks for a path on the stream ([`request`](DatagramSocket::request)), the server's answer
//! opens it ([`answered`](DatagramSocket::answered)), and then datagrams flow as far as the network lets
//! them. A failure is silent: the stream has everything.

#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod web;

#[cfg(not(target_arch = "wasm32"))]
pub use native::DatagramSocket;
#[cfg(target_arch = "wasm32")]
pub use web::DatagramSocket;
