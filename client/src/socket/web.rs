//! The browser's socket: a WebSocket to the server that the page came from, or to one of its
//! neighbours.
//!
//! A message holds one or more whole frames; here they become a stream of bytes, as from TCP.

use std::time::Duration;

use bytes::BytesMut;
use cubesync_protocol::ServerAddress;

use super::page::{self, SocketCode, SocketId};
use super::{CONNECT_TIMEOUT, SocketState, read_into};
use crate::options::ClientOptions;

/// One connection, from its beginning to its end.
#[derive(Debug)]
pub struct Socket {
    id: SocketId,
    state: State,
}

#[derive(Debug)]
enum State {
    Connecting { give_up_at: Duration },
    Open,
    Closed { reason: String },
}

impl Socket {
    /// Starts to connect to a server. The one in the options stands for the page's own server,
    /// whatever its address there.
    pub fn connect(server: &str, options: &ClientOptions, now: Duration) -> Self {
        let neighbour = if server == options.server { "" } else { server };
        Self {
            id: page::socket_open(neighbour),
            state: State::Connecting {
                give_up_at: now + CONNECT_TIMEOUT,
            },
        }
    }

    /// Returns the page's name of the socket.
    pub(super) fn id(&self) -> SocketId {
        self.id
    }

    /// Returns how far the connection is.
    pub fn poll(&mut self, now: Duration) -> SocketState<'_> {
        if !matches!(self.state, State::Closed { .. }) {
            match (page::socket_state(self.id), &self.state) {
                (SocketCode::Connecting, State::Connecting { give_up_at })
                    if now >= *give_up_at =>
                {
                    let seconds = CONNECT_TIMEOUT.as_secs();
                    self.close(format!("no answer from the server within {seconds} s"));
                }
                (SocketCode::Connecting, _) => {}
                (SocketCode::Open, _) => self.state = State::Open,
                (SocketCode::Closed, _) => self.close(page::socket_reason(self.id)),
            }
        }
        match &self.state {
            State::Connecting { .. } => SocketState::Connecting,
            State::Open => SocketState::Open,
            State::Closed { reason } => SocketState::Closed { reason },
        }
    }

    /// Appends bytes that have arrived to `buffer` and returns how many. Call it until it returns 0:
    /// then there are none for now, the buffer is full, or the connection is over.
    pub fn receive(&mut self, buffer: &mut BytesMut) -> usize {
        match self.state {
            State::Open => read_into(buffer, |room| page::socket_receive(self.id, room)),
            _ => 0,
        }
    }

    /// Sends all of `buffer` and removes it, or nothing while the browser still has much to send.
    /// Returns how many bytes were sent.
    pub fn send(&mut self, buffer: &mut BytesMut) -> usize {
        if !matches!(self.state, State::Open) || buffer.is_empty() {
            return 0;
        }
        if !page::socket_send(self.id, buffer) {
            return 0;
        }
        let sent_bytes = buffer.len();
        buffer.clear();
        sent_bytes
    }

    /// Closes the connection. Bytes that were sent still arrive.
    pub fn close(&mut self, reason: impl Into<String>) {
        page::socket_close(self.id);
        self.state = State::Closed {
            reason: reason.into(),
        };
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        page::socket_close(self.id);
    }
}

/// Returns the address of a server that another one named; it is encrypted if the page is.
pub(crate) fn neighbour(address: &ServerAddress, _given: &str) -> String {
    address.web.clone()
}

impl ClientOptions {
    /// Accepts any text as the server's address, since the page knows its own.
    ///
    /// # Errors
    /// None.
    pub fn check_address(&self) -> Result<(), String> {
        Ok(())
    }
}
