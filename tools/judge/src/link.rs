//! The server's end of one connection, over TCP or a WebSocket: bytes out in any pieces, payloads in.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use cubesync_protocol::frame;
use cubesync_protocol::limits::MAX_CLIENT_PAYLOAD_BYTES;
use socket2::SockRef;
use tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tungstenite::{Message, WebSocket};

/// Longest wait for bytes in one read.
const READ_WAIT: Duration = Duration::from_millis(5);
/// Longest wait for a client that has connected to ask for a WebSocket.
const UPGRADE_WITHIN: Duration = Duration::from_secs(5);
/// Longest WebSocket message of a client.
const MAX_MESSAGE_BYTES: usize = 16 * 1024;
/// The first byte of a whole WebSocket message, of a first part, and of a last part.
const WHOLE: u8 = 0x82;
const FIRST: u8 = 0x02;
const LAST: u8 = 0x80;

/// A connection of the client under test.
pub(crate) struct Link {
    stream: TcpStream,
    web: Option<WebSocket<TcpStream>>,
    incoming: BytesMut,
    is_closed: bool,
    /// Whether the client reset the connection instead of closing it.
    pub(crate) was_reset: bool,
}

/// The answer of [`Link::receive`].
pub(crate) enum Received {
    Payload(Bytes),
    Nothing,
    Closed,
}

impl Link {
    /// Takes a connection that has been accepted; a WebSocket is upgraded first.
    pub(crate) fn new(stream: TcpStream, is_web: bool) -> Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(UPGRADE_WITHIN))?;
        stream.set_write_timeout(Some(UPGRADE_WITHIN))?;
        let own = stream.try_clone()?;
        let web = is_web.then(|| upgrade(stream)).transpose()?;
        own.set_read_timeout(Some(READ_WAIT))?;
        Ok(Self {
            stream: own,
            web,
            incoming: BytesMut::new(),
            is_closed: false,
            was_reset: false,
        })
    }

    /// Sends frames in one segment; over a WebSocket in one message.
    pub(crate) fn send(&mut self, frames: &[u8]) {
        let bytes = self.wrapped(frames);
        self.write(&bytes);
    }

    /// Sends frames in pieces of a few bytes, each in a segment of its own, with a pause after each.
    pub(crate) fn send_in_pieces(&mut self, frames: &[u8], piece_bytes: usize, pause: Duration) {
        for piece in self.wrapped(frames).chunks(piece_bytes) {
            self.write(piece);
            std::thread::sleep(pause);
        }
    }

    /// Sends frames as a WebSocket message of two parts.
    pub(crate) fn send_in_parts(&mut self, frames: &[u8]) {
        let (first, last) = frames.split_at(frames.len() / 2);
        let bytes = [web_frame(FIRST, first), web_frame(LAST, last)].concat();
        self.write(&bytes);
    }

    /// Sends bytes below the WebSocket, if there is one.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        // A client that is gone is noticed by the next read.
        let _ = self.stream.write_all(bytes);
    }

    /// Ends the server's own direction; the client may go on sending.
    pub(crate) fn end_writing(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Resets the connection: what the client sends afterwards is refused.
    pub(crate) fn reset(self) -> Result<()> {
        // A socket that is closed with unread bytes sends a reset.
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?;
        Ok(())
    }

    /// Waits a moment for the next payload.
    pub(crate) fn receive(&mut self) -> Result<Received> {
        loop {
            let split = frame::split(&mut self.incoming, MAX_CLIENT_PAYLOAD_BYTES);
            if let Some(payload) = split.context("it sent a frame that is none")? {
                return Ok(Received::Payload(payload));
            }
            if self.is_closed {
                return Ok(Received::Closed);
            }
            if !self.read()? {
                return Ok(Received::Nothing);
            }
        }
    }

    /// Reads what has arrived. Returns false if that is nothing.
    fn read(&mut self) -> Result<bool> {
        let Some(web) = &mut self.web else {
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => self.is_closed = true,
                Ok(count) => self.incoming.extend_from_slice(&bytes[..count]),
                Err(error) => return self.failed(error.kind()),
            }
            return Ok(true);
        };
        match web.read() {
            Ok(Message::Binary(bytes)) => {
                let count = bytes.len();
                ensure!(
                    count <= MAX_MESSAGE_BYTES,
                    "it sent a WebSocket message of {count} bytes; at most {MAX_MESSAGE_BYTES} are allowed"
                );
                self.incoming.extend_from_slice(&bytes);
            }
            Ok(Message::Text(text)) => bail!("it sent a text message on the WebSocket: {text:?}"),
            Ok(_) => {}
            Err(tungstenite::Error::Io(error)) => return self.failed(error.kind()),
            Err(tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed) => {
                self.is_closed = true;
            }
            Err(tungstenite::Error::Protocol(error)) if error.to_string().contains("closing") => {
                self.is_closed = true;
            }
            Err(error) => bail!("it broke the rules of WebSockets: {error}"),
        }
        Ok(true)
    }

    fn failed(&mut self, kind: ErrorKind) -> Result<bool> {
        match kind {
            ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Ok(false),
            kind => {
                self.was_reset = kind == ErrorKind::ConnectionReset;
                self.is_closed = true;
                Ok(true)
            }
        }
    }

    /// Returns frames as they travel: over a WebSocket as one message.
    pub(crate) fn wrapped(&self, frames: &[u8]) -> Vec<u8> {
        match self.web {
            Some(_) => web_frame(WHOLE, frames),
            None => frames.to_vec(),
        }
    }
}

/// Checks that the client asks for `/ws`, and answers.
fn upgrade(stream: TcpStream) -> Result<WebSocket<TcpStream>> {
    #[allow(clippy::result_large_err, reason = "the library's own type")]
    fn check(request: &Request, response: Response) -> Result<Response, ErrorResponse> {
        match request.uri().path() {
            "/ws" => Ok(response),
            path => Err(ErrorResponse::new(Some(format!("{path} instead of /ws")))),
        }
    }
    match tungstenite::accept_hdr(stream, check) {
        Ok(web) => Ok(web),
        Err(error) => bail!("its request for a WebSocket is none: {error}"),
    }
}

/// Returns a WebSocket frame of a server, which is not masked.
fn web_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..126 => bytes.push(len as u8),
        len @ 126..65_536 => {
            bytes.push(126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(payload);
    bytes
}
