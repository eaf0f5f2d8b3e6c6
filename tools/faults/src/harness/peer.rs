//! A peer that can say anything, on TCP or in a WebSocket.

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

use super::web::{self, End};

/// An answer that has not come after this long does not come.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a server sends at once, at most, to who reads all the time.
const READ_BYTES: usize = 64 * 1024;
/// A WebSocket's opcode for its last words.
const WS_CLOSE: u8 = 8;

/// The colour of all bad peers.
pub(crate) const RED: Colour = Colour {
    red: 0xE0,
    green: 0x20,
    blue: 0x20,
};

/// What comes next on a connection.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A message.
    Message(ServerMessage),
    /// The end.
    End(End),
}

/// How a connection ended.
#[derive(Debug)]
pub(crate) struct Ending {
    /// The server's last word, if it said one.
    pub(crate) last_word: Option<ServerMessage>,
    /// The reason in a WebSocket's close frame.
    ws_code: Option<u16>,
    /// How the bytes ended.
    pub(crate) end: End,
}

impl Ending {
    /// It was told this by a `Closing`, and then the connection ended.
    pub(crate) fn closed_with(&self, wanted: CloseCode) -> Result<String> {
        match &self.last_word {
            Some(ServerMessage::Closing { code, .. }) if *code == wanted => self.over(),
            _ => bail!("expected Closing {wanted:?}, saw {self}"),
        }
    }

    /// The connection ended, with words or without.
    pub(crate) fn over(&self) -> Result<String> {
        ensure!(self.end != End::Open, "still open: {self}");
        Ok(self.to_string())
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.last_word {
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

/// One connection.
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

    /// Connects with little room for what comes in.
    pub(crate) fn connect_tight(server: SocketAddr) -> Result<Self> {
        const RECEIVE_BUFFER_BYTES: usize = 4 * 1024;
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        socket.connect(&server.into()).context("cannot connect")?;
        Self::on(socket.into())
    }

    /// Connects over HTTP and becomes a WebSocket.
    pub(crate) fn websocket(http: SocketAddr) -> Result<Self> {
        let mut peer = Self::on(TcpStream::connect(http).context("cannot connect")?)?;
        peer.send_raw(web::upgrade(http, web::RIGHT_HEADERS).as_bytes())?;
        while web::find(&peer.raw, b"\r\n\r\n").is_none() {
            ensure!(peer.fill(PATIENCE)?.is_none(), "no WebSocket");
        }
        ensure!(peer.raw.starts_with(b"HTTP/1.1 101"), "no WebSocket");
        let head_len = web::find(&peer.raw, b"\r\n\r\n").map_or(0, |at| at + 4);
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

    /// Sends bytes, in a WebSocket as a message of their own.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        match self.is_websocket {
            true => self.send_raw(&web::ws_frame(web::BINARY, bytes)),
            false => self.send_raw(bytes),
        }
    }

    /// Sends a message.
    pub(crate) fn send(&mut self, message: &ClientMessage) -> Result<()> {
        self.send_bytes(&message.to_frame())
    }

    /// Introduces itself and waits until it is in the room.
    pub(crate) fn join(&mut self, hello: Hello) -> Result<Welcome> {
        self.send(&ClientMessage::Hello(hello))?;
        self.welcomed()
    }

    /// Waits until it is in the room.
    pub(crate) fn welcomed(&mut self) -> Result<Welcome> {
        match self.hear(PATIENCE)? {
            Heard::Message(ServerMessage::Welcome(welcome)) => Ok(welcome),
            other => bail!("expected a Welcome, saw {other:?}"),
        }
    }

    /// Leaves as one should, and waits for the end.
    pub(crate) fn leave(mut self) -> Result<()> {
        self.send(&ClientMessage::Leave)?;
        self.ending(PATIENCE)?.over()?;
        Ok(())
    }

    /// The next message or the end; `End::Open` when nothing comes in time.
    pub(crate) fn hear(&mut self, within: Duration) -> Result<Heard> {
        let deadline = Instant::now() + within;
        loop {
            while self.is_websocket
                && let Some((opcode, payload)) = web::take_ws_frame(&mut self.raw)
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
            if let Some(payload) = payload.context("the server sends no frames")? {
                let message = ServerMessage::decode(&payload).context("no message")?;
                return Ok(Heard::Message(message));
            }
            if let Some(end) = self.fill(deadline.saturating_duration_since(Instant::now()))? {
                return Ok(Heard::End(end));
            }
        }
    }

    /// The first message that is wanted, in time.
    pub(crate) fn find<T>(
        &mut self,
        within: Duration,
        wanted: impl Fn(&ServerMessage) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + within;
        loop {
            match self.hear(deadline.saturating_duration_since(Instant::now()))? {
                Heard::Message(message) => {
                    if let Some(found) = wanted(&message) {
                        return Ok(found);
                    }
                    ensure!(Instant::now() < deadline, "it did not come");
                }
                Heard::End(end) => bail!("the connection is {end:?}, it did not come"),
            }
        }
    }

    /// Reads on to the end.
    pub(crate) fn ending(&mut self, within: Duration) -> Result<Ending> {
        let deadline = Instant::now() + within;
        let mut last_word = None;
        let end = loop {
            match self.hear(deadline.saturating_duration_since(Instant::now()))? {
                Heard::Message(message) => last_word = Some(message),
                Heard::End(end) => break end,
            }
            if Instant::now() >= deadline {
                break End::Open;
            }
        };
        Ok(Ending {
            last_word,
            ws_code: self.ws_code,
            end,
        })
    }

    /// Ends the connection by a reset.
    pub(crate) fn reset(self) -> Result<()> {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?;
        Ok(())
    }

    /// Reads once. The end, if there is one: of the connection, or of the time.
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
            Err(error) if web::is_timeout(&error) => Ok(Some(End::Open)),
            Err(_) => Ok(Some(End::Reset)),
        }
    }
}
