//! The browser's datagrams, of which there are none yet.

use bytes::BytesMut;
use cubesync_protocol::{DatagramAnswer, DatagramRequest};

use crate::socket::Socket;

/// A way for datagrams beside one stream.
#[derive(Debug)]
pub struct DatagramSocket;

impl DatagramSocket {
    /// Prepares a way for datagrams to the server of a stream that is open.
    pub fn beside(_: &Socket) -> Option<Self> {
        None
    }

    /// Returns the request that the server must get on the stream, once.
    pub fn request(&mut self) -> Option<DatagramRequest> {
        None
    }

    /// Takes the server's answer to the request.
    pub fn answered(&mut self, _: &DatagramAnswer) {}

    /// Puts the next datagram that has arrived into `datagram`, and returns whether there was one.
    pub fn receive(&mut self, _: &mut BytesMut) -> bool {
        false
    }

    /// Sends a datagram, or drops it when it cannot be sent now.
    pub fn send(&mut self, _: &[u8]) {}
}
