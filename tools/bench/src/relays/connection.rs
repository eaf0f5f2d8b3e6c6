//! One client's socket in the generator: it never blocks and keeps only incomplete messages.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, bail};
use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

use crate::dialect::Dialect;
use crate::tally::Tally;

/// Connections from one source address at most: Linux has about 28,000 ports for outgoing ones.
const CONNECTIONS_PER_ADDRESS: usize = 20_000;

/// A client's socket and state.
#[derive(Debug)]
pub(crate) struct Connection<State> {
    /// The socket, for its registration.
    pub(crate) stream: TcpStream,
    /// The state of the dialect.
    pub(crate) state: State,
    /// The beginning of an incomplete message.
    pending: Vec<u8>,
    outgoing: Vec<u8>,
    /// Whether the connection has not ended yet.
    pub(crate) is_open: bool,
}

impl<State> Connection<State> {
    /// Connects the client with this number.
    pub(crate) fn connect(
        dialect: &mut impl Dialect<Client = State>,
        client: usize,
        server: SocketAddr,
    ) -> Result<Self> {
        let socket = Socket::new(
            Domain::for_address(server),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        let part = client / CONNECTIONS_PER_ADDRESS;
        if part > 0 && server.ip().is_loopback() {
            let source = Ipv4Addr::new(127, 0, 0, u8::try_from(part + 1)?);
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        socket
            .connect(&server.into())
            .with_context(|| format!("client {client} cannot connect to {server}"))?;
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let mut outgoing = Vec::new();
        let state = dialect.connected(client, &mut outgoing);
        let mut connection = Self {
            stream: TcpStream::from_std(socket.into()),
            state,
            pending: Vec::new(),
            outgoing,
            is_open: true,
        };
        connection.flush()?;
        Ok(connection)
    }

    /// Returns whether the kernel has taken everything that was to be sent.
    pub(crate) fn is_flushed(&self) -> bool {
        self.outgoing.is_empty()
    }

    /// Sends bytes, now or when the socket takes them.
    ///
    /// # Errors
    /// The connection is lost.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.outgoing.extend_from_slice(bytes);
        self.flush()
    }

    /// Writes waiting bytes.
    ///
    /// # Errors
    /// The connection is lost.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            match self.stream.write(&self.outgoing) {
                Ok(written) => drop(self.outgoing.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads once, handles what arrived, and returns whether there may be more.
    ///
    /// # Errors
    /// The connection is lost.
    pub(crate) fn read(
        &mut self,
        dialect: &mut impl Dialect<Client = State>,
        scratch: &mut Scratch,
        now_us: impl Fn() -> u64,
        tally: &mut Tally,
    ) -> Result<bool> {
        let count = match self.stream.read(&mut scratch.received) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        let now_us = now_us();
        tally.received(now_us, count);
        let fresh = &scratch.received[..count];
        let is_pending = !self.pending.is_empty();
        if is_pending {
            self.pending.extend_from_slice(fresh);
        }
        let whole = if is_pending { &self.pending } else { fresh };
        scratch.answer.clear();
        let taken = dialect.receive(&mut self.state, whole, now_us, tally, &mut scratch.answer)?;
        if is_pending {
            self.pending.drain(..taken);
        } else {
            self.pending.extend_from_slice(&fresh[taken..]);
        }
        if !scratch.answer.is_empty() {
            self.send(&scratch.answer)?;
        }
        // A stream socket that gave less than asked is empty (epoll(7), question 9).
        Ok(count == scratch.received.len())
    }
}

/// Memory that the connections of a thread share, so that thousands need none of their own.
#[derive(Debug)]
pub(crate) struct Scratch {
    received: Vec<u8>,
    answer: Vec<u8>,
}

impl Scratch {
    /// Bytes read at once: enough for a crowded room's tick, small enough to be fair.
    const READ_BYTES: usize = 256 * 1024;

    /// Returns the memory for one thread.
    pub(crate) fn new() -> Self {
        Self {
            received: vec![0; Self::READ_BYTES],
            answer: Vec::new(),
        }
    }
}
