//! The browser's way for datagrams: a WebRTC data channel of the page.

use bytes::BytesMut;
use cubesync_protocol::limits::{MAX_DATAGRAM_BYTES, MAX_SESSION_DESCRIPTION_BYTES};
use cubesync_protocol::{DatagramAnswer, DatagramRequest};

use crate::socket::Socket;
use crate::socket::page::{self, SocketId};

/// A way for datagrams beside one stream, with which it closes.
#[derive(Debug)]
pub struct DatagramSocket {
    stream: SocketId,
    is_asked: bool,
}

impl DatagramSocket {
    /// Prepares a way for datagrams to the server of a stream that is open.
    pub fn beside(stream: &Socket) -> Option<Self> {
        let stream = stream.id();
        page::datagrams_open(stream);
        Some(Self {
            stream,
            is_asked: false,
        })
    }

    /// Returns the request that the server must get on the stream, once, when the browser has made its
    /// offer.
    pub fn request(&mut self) -> Option<DatagramRequest> {
        if self.is_asked {
            return None;
        }
        let mut offer = [0; MAX_SESSION_DESCRIPTION_BYTES];
        let len_bytes = page::datagrams_offer(self.stream, &mut offer);
        let offer = str::from_utf8(&offer[..len_bytes]).ok();
        let offer = offer.filter(|offer| !offer.is_empty())?.to_owned();
        self.is_asked = true;
        Some(DatagramRequest::WebRtc { offer })
    }

    /// Takes the server's answer to the request.
    pub fn answered(&mut self, answer: &DatagramAnswer) {
        if let DatagramAnswer::WebRtc { answer } = answer {
            page::datagrams_answer(self.stream, answer);
        }
    }

    /// Puts the next datagram that has arrived into `datagram`, and returns whether there was one.
    pub fn receive(&mut self, datagram: &mut BytesMut) -> bool {
        let mut received = [0; MAX_DATAGRAM_BYTES];
        let len_bytes = page::datagrams_receive(self.stream, &mut received);
        datagram.clear();
        datagram.extend_from_slice(&received[..len_bytes]);
        len_bytes > 0
    }

    /// Sends a datagram, or drops it when it cannot be sent now.
    pub fn send(&mut self, datagram: &[u8]) {
        page::datagrams_send(self.stream, datagram);
    }
}
