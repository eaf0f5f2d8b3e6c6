//! A peer that can send anything, over TCP or a WebSocket.

use std::fmt;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::BytesMut;
use cubesync_protocol::{
    ClientMessage, CloseCode, Colour, Hello, Message, ServerMessage, Welcome, frame,
};
use socket2::{Domain, SockRef, Socket, Type};

use super::websocket::{self, End};

/// An answer that has not arrived after this long does not arrive any more.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest number of bytes read at once.
const READ_BYTES: usize = 64 * 1024;
/// The opcode of a WebSocket's close frame.
const WS_CLOSE: u8 = 8;

/// The colour of all bad peers.
pub(crate) const RED: Colour = Colour {
    red: 0xE0,
    green: 0x20,
    blue: 0x20,
};

/// A message or the end of a connection.
#[derive(Debug)]
pub(crate) enum Received {
    /// A message.
    Message(ServerMessage),
    /// The end.
    End(End),
}

/// How a connection ended.
#[derive(Debug)]
pub(crate) struct Ending {
    /// The last message from the server, if there was one.
    pub(crate) last_message: Option<ServerMessage>,
    /// The reason in a WebSocket's close frame.
    ws_code: Option<u16>,
    /// How the bytes ended.
    pub(crate) end: End,
}

impl Ending {
    /// Checks that the connection ended after a `Closing` with this code, and describes the end.
    pub(crate) fn closed_with(&self, wanted: CloseCode) -> Result<String> {
        match &self.last_message {
            Some(ServerMessage::Closing { code, .. }) if *code == wanted => self.over(),
            _ => bail!("expected Closing {wanted:?}, saw {self}"),
        }
    }

    /// Checks that the connection ended, and describes the end.
    pub(crate) fn over(&self) -> Result<String> {
        ensure!(self.end != End::Open, "still open: {self}");
        Ok(self.to_string())
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.last_message {
            Some(ServerMessage::Closing { code, message, .. }) => {
                write!(f, "Closing {code:?} \"{message}\", ")?;
            }
            Some(ServerMessage::Reject { code, message }) => {
                write!(f, "Reject {code:?} \"{message}\", ")?;
            }
            _ => {}
        }
        if let Some(code) = self.ws_code {
            write!(f, "close frame {code}, ")?;
        }
        match self.end {
            End::Fin => write!(f, "closed"),
            End::Reset => write!(f, "reset"),
            End::Open => write!(f, "kept open"),
        }
    }
}

/// One connection of a bad peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    is_websocket: bool,
    raw: BytesMut,
    frames: BytesMut,
    ws_code: Option<u16>,
}

impl Peer {
    /// Connects over TCP.
    pub(crate) fn connect(server: SocketAddr) -> Result<Self> {
        Self::on(TcpStream::connect(server).context("cannot connect")?)
    }

    /// Connects from one of this machine's addresses.
    pub(crate) fn connect_from(source: IpAddr, server: SocketAddr) -> Result<Self> {
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        socket.connect(&server.into()).context("cannot connect")?;
        Self::on(socket.into())
    }

    /// Connects with a small receive buffer.
    pub(crate) fn connect_tight(server: SocketAddr) -> Result<Self> {
        const RECEIVE_BUFFER_BYTES: usize = 4 * 1024;
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        socket.connect(&server.into()).context("cannot connect")?;
        Self::on(socket.into())
    }

    /// Connects over a WebSocket.
    pub(crate) fn websocket(http: SocketAddr) -> Result<Self> {
        let mut peer = Self::on(TcpStream::connect(http).context("cannot connect")?)?;
        peer.send_raw(websocket::upgrade(http, websocket::RIGHT_HEADERS).as_bytes())?;
        while websocket::find(&peer.raw, b"\r\n\r\n").is_none() {
            ensure!(peer.fill(PATIENCE)?.is_none(), "no WebSocket");
        }
        ensure!(peer.raw.starts_with(b"HTTP/1.1 101"), "no WebSocket");
        let head_len = websocket::find(&peer.raw, b"\r\n\r\n").map_or(0, |at| at + 4);
        let _ = peer.raw.split_to(head_len);
        peer.is_websocket = true;
        Ok(peer)
    }

    fn on(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            is_websocket: false,
            raw: BytesMut::new(),
            frames: BytesMut::new(),
            ws_code: None,
        })
    }

    /// Sends bytes as they are.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("cannot send")
    }

    /// Sends bytes, over a WebSocket as a message of their own.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        match self.is_websocket {
            true => self.send_raw(&websocket::ws_frame(websocket::BINARY, bytes)),
            false => self.send_raw(bytes),
        }
    }

    /// Sends a message.
    pub(crate) fn send(&mut self, message: &ClientMessage) -> Result<()> {
        self.send_bytes(&message.to_frame())
    }

    /// Sends `hello` and waits for the `Welcome`.
    pub(crate) fn join(&mut self, hello: Hello) -> Result<Welcome> {
        self.send(&ClientMessage::Hello(hello))?;
        self.welcomed()
    }

    /// Waits for the `Welcome`.
    pub(crate) fn welcomed(&mut self) -> Result<Welcome> {
        match self.receive(PATIENCE)? {
            Received::Message(ServerMessage::Welcome(welcome)) => Ok(welcome),
            other => bail!("expected a Welcome, saw {other:?}"),
        }
    }

    /// Leaves and waits for the end of the connection.
    pub(crate) fn leave(mut self) -> Result<()> {
        self.send(&ClientMessage::Leave)?;
        self.ending(PATIENCE)?.over()?;
        Ok(())
    }

    /// Returns the next message or the end; `End::Open` if nothing arrives in time.
    pub(crate) fn receive(&mut self, within: Duration) -> Result<Received> {
        let deadline = Instant::now() + within;
        loop {
            while self.is_websocket
                && let Some((opcode, payload)) = websocket::take_ws_frame(&mut self.raw)
            {
                match opcode {
                    WS_CLOSE => {
                        self.ws_code = payload.first_chunk().map(|c| u16::from_be_bytes(*c))
                    }
                    _ => self.frames.extend_from_slice(&payload),
                }
            }
            if !self.is_websocket {
                self.frames.unsplit(self.raw.split());
            }
            let payload = frame::split(&mut self.frames, ServerMessage::MAX_PAYLOAD_BYTES);
            if let Some(payload) = payload.context("the server sends a bad frame")? {
                let message =
                    ServerMessage::decode(&payload).context("the server sends a bad message")?;
                return Ok(Received::Message(message));
            }
            if let Some(end) = self.fill(deadline.saturating_duration_since(Instant::now()))? {
                return Ok(Received::End(end));
            }
        }
    }

    /// Returns the first value that `wanted` finds in a message.
    pub(crate) fn find<T>(
        &mut self,
        within: Duration,
        wanted: impl Fn(&ServerMessage) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + within;
        loop {
            match self.receive(deadline.saturating_duration_since(Instant::now()))? {
                Received::Message(message) => {
                    if let Some(found) = wanted(&message) {
                        return Ok(found);
                    }
                    ensure!(Instant::now() < deadline, "it did not come");
                }
                Received::End(end) => bail!("the connection is {end:?}, it did not come"),
            }
        }
    }

    /// Reads to the end of the connection, for `within` at most.
    pub(crate) fn ending(&mut self, within: Duration) -> Result<Ending> {
        let deadline = Instant::now() + within;
        let mut last_message = None;
        let end = loop {
            match self.receive(deadline.saturating_duration_since(Instant::now()))? {
                Received::Message(message) => last_message = Some(message),
                Received::End(end) => break end,
            }
            if Instant::now() >= deadline {
                break End::Open;
            }
        };
        Ok(Ending {
            last_message,
            ws_code: self.ws_code,
            end,
        })
    }

    /// Ends the connection by a reset.
    pub(crate) fn reset(self) -> Result<()> {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?;
        Ok(())
    }

    /// Reads once. Returns the end of the connection, or `End::Open` if nothing arrives in time.
    fn fill(&mut self, within: Duration) -> Result<Option<End>> {
        if within.is_zero() {
            return Ok(Some(End::Open));
        }
        self.stream.set_read_timeout(Some(within))?;
        let mut chunk = [0; READ_BYTES];
        match self.stream.read(&mut chunk) {
            Ok(0) => Ok(Some(End::Fin)),
            Ok(count) => {
                self.raw.extend_from_slice(&chunk[..count]);
                Ok(None)
            }
            Err(error) if websocket::is_timeout(&error) => Ok(Some(End::Open)),
            Err(_) => Ok(Some(End::Reset)),
        }
    }
}
