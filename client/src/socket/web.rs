//! The browser's socket: a WebSocket to the server that the page came from, or to one of its
//! neighbours.
//!
//! A message holds one or more whole frames; here they are bytes in a row, as from TCP.

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
    /// Starts to connect to a server. The one in the options is where the page came from, whatever
    /// is written there.
    pub fn connect(server: &str, options: &ClientOptions, now: Duration) -> Self {
        let neighbour = if server == options.server { "" } else { server };
        Self {
            id: page::socket_open(neighbour),
            state: State::Connecting {
                give_up_at: now + CONNECT_TIMEOUT,
            },
        }
    }

    /// How far the connection is.
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
                (code, _) => self.close(reason(code)),
            }
        }
        match &self.state {
            State::Connecting { .. } => SocketState::Connecting,
            State::Open => SocketState::Open,
            State::Closed { reason } => SocketState::Closed { reason },
        }
    }

    /// Appends bytes that have come to `buffer`; how many. 0: there are none for now, the
    /// buffer is full, or the connection is over. Call it until then.
    pub fn receive(&mut self, buffer: &mut BytesMut) -> usize {
        match self.state {
            State::Open => read_into(buffer, |room| page::socket_receive(self.id, room)),
            _ => 0,
        }
    }

    /// Sends all of `buffer`, or nothing while the browser still has much to send, and takes it
    /// out; how many bytes.
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

    /// Ends the connection. What was sent still arrives.
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

/// How a server that another one names is reached: encrypted, if the page came so.
pub(crate) fn neighbour(address: &ServerAddress, _given: &str) -> String {
    address.web.clone()
}

fn reason(code: SocketCode) -> &'static str {
    match code {
        SocketCode::Connecting | SocketCode::Open => "",
        SocketCode::Unreachable => "the server does not answer; is it running, and are you online?",
        SocketCode::Blocked => {
            "the server answers, but something blocks its WebSocket: a browser extension, a proxy \
             or a firewall"
        }
        SocketCode::Closed => "the server closed the connection",
        SocketCode::Lost => "the server or the network cut the connection",
        SocketCode::Flooded => "too much came while this tab was asleep",
    }
}
