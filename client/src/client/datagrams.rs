//! The datagrams beside the client's connection.

use std::time::Duration;

use bytes::BytesMut;
use cubesync_protocol::DatagramAnswer;

use super::Client;
use super::link::Link;
use crate::session::Session;
use crate::socket::DatagramSocket;

/// Largest number of datagrams that are read per poll: four seconds of a room's.
const MAX_PER_POLL: usize = 128;

impl Client {
    /// Prepares a way for datagrams beside the connection, on which the session has just joined.
    pub(super) fn prepare_datagrams(&mut self) {
        if let Link::Up {
            socket, datagrams, ..
        } = &mut self.link
            && self.options.datagrams
        {
            *datagrams = DatagramSocket::beside(socket);
        }
    }

    /// Hands the server's answer to the datagrams' socket.
    pub(super) fn datagrams_answered(&mut self, answer: &DatagramAnswer) {
        if let Some((datagrams, _)) = datagrams(&mut self.link, &mut self.session) {
            datagrams.answered(answer);
        }
    }

    /// Reads the datagrams that have arrived, through the lab, into the session.
    pub(super) fn read_datagrams(&mut self, now: Duration) {
        let Some((datagrams, session)) = datagrams(&mut self.link, &mut self.session) else {
            return;
        };
        if let Some(request) = datagrams.request() {
            session.open_datagrams(request);
        }
        let (line, mut datagram) = (&mut self.lab.down, BytesMut::new());
        for _ in 0..MAX_PER_POLL {
            if !datagrams.receive(&mut datagram) {
                break;
            }
            line.send_datagram(now, &datagram);
        }
        while let Some(datagram) = line.receive_datagram(now) {
            self.total.bytes_in += datagram.len() as u64;
            if let Some(tap) = &mut self.tap {
                tap.received_datagram(now, &datagram);
            }
            session.receive_datagram(now, &datagram);
        }
    }

    /// Sends the session's datagrams through the lab.
    pub(super) fn flush_datagrams(&mut self, now: Duration) {
        let Some((datagrams, session)) = datagrams(&mut self.link, &mut self.session) else {
            return;
        };
        let line = &mut self.lab.up;
        while let Some(datagram) = session.next_datagram() {
            line.send_datagram(now, &datagram);
        }
        while let Some(datagram) = line.receive_datagram(now) {
            self.total.bytes_out += datagram.len() as u64;
            datagrams.send(&datagram);
        }
    }
}

/// Returns the datagrams' socket and the session beside which they flow, if there are both.
fn datagrams<'client>(
    link: &'client mut Link,
    session: &'client mut Option<Session>,
) -> Option<(&'client mut DatagramSocket, &'client mut Session)> {
    match link {
        Link::Up { datagrams, .. } => datagrams.as_mut().zip(session.as_mut()),
        Link::Down { .. } => None,
    }
}
