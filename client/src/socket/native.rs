//! The native socket: a TCP stream that is polled and never blocks, encrypted or not.
//!
//! Looking a name up, connecting and the TLS handshake block, so a thread does them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use cubesync_protocol::ServerAddress;

use super::tls::TlsStream;
use super::{CONNECT_TIMEOUT, SocketState, read_into};
use crate::options::{ClientOptions, bare_address};
use crate::trust::Trust;

/// Stack of the connecting thread: the system's name lookup needs more than the smallest one.
const THREAD_STACK_BYTES: usize = 256 * 1024;

/// One connection, from the lookup of its name to its end.
#[derive(Debug)]
pub struct Socket {
    state: State,
}

#[derive(Debug)]
enum State {
    Connecting {
        server: String,
        outcome: Receiver<Result<ServerStream, String>>,
        give_up_at: Duration,
    },
    Open(ServerStream),
    Closed {
        reason: String,
    },
}

#[derive(Debug)]
enum ServerStream {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

impl Socket {
    /// Starts to connect to a server, named like the one in the options.
    pub fn connect(server: &str, options: &ClientOptions, now: Duration) -> Self {
        let (sender, outcome) = mpsc::sync_channel(1);
        let (named, trust) = (server.to_owned(), options.trust.clone());
        let thread = thread::Builder::new()
            .name("connect".into())
            .stack_size(THREAD_STACK_BYTES)
            // Not joined: a lookup cannot be stopped. It ends by itself, and nobody listens.
            .spawn(move || {
                let _ = sender.send(connect(&named, &trust));
            });
        let state = match thread {
            Ok(_) => State::Connecting {
                server: bare_address(server).to_owned(),
                outcome,
                give_up_at: now + CONNECT_TIMEOUT,
            },
            Err(error) => State::Closed {
                reason: format!("cannot start a thread to connect: {error}"),
            },
        };
        Self { state }
    }

    /// Returns how far the connection is.
    pub fn poll(&mut self, now: Duration) -> SocketState<'_> {
        if let State::Connecting {
            server,
            outcome,
            give_up_at,
        } = &self.state
        {
            match outcome.try_recv() {
                Ok(Ok(stream)) => self.state = State::Open(stream),
                Ok(Err(reason)) => self.close(reason),
                Err(TryRecvError::Empty) if now < *give_up_at => {}
                Err(_) => self.close(no_answer(server)),
            }
        }
        match &self.state {
            State::Connecting { .. } => SocketState::Connecting,
            State::Open(_) => SocketState::Open,
            State::Closed { reason } => SocketState::Closed { reason },
        }
    }

    /// Returns the addresses of this end and of the server, while the connection is open.
    pub(super) fn addresses(&self) -> Option<[SocketAddr; 2]> {
        let State::Open(stream) = &self.state else {
            return None;
        };
        let tcp = match stream {
            ServerStream::Plain(tcp) => tcp,
            ServerStream::Tls(stream) => stream.tcp(),
        };
        Some([tcp.local_addr().ok()?, tcp.peer_addr().ok()?])
    }

    /// Appends bytes that have arrived to `buffer` and returns how many. Call it until it returns 0:
    /// then there are none for now, the buffer is full, or the connection is over.
    pub fn receive(&mut self, buffer: &mut BytesMut) -> usize {
        let State::Open(stream) = &mut self.state else {
            return 0;
        };
        let mut result = Err(ErrorKind::WouldBlock.into());
        let count = read_into(buffer, |room| {
            result = retry(|| stream.reader().read(room));
            *result.as_ref().unwrap_or(&0)
        });
        match result {
            Ok(0) => self.close("the server closed the connection"),
            Err(error) if error.kind() != ErrorKind::WouldBlock => self.close(broken(&error)),
            _ => {}
        }
        count
    }

    /// Sends as much from the front of `buffer` as possible without waiting, removes it, and returns
    /// how many bytes that were. Call it once a frame, even with nothing in the buffer: encryption may
    /// hold the last bytes back until the socket takes more.
    pub fn send(&mut self, buffer: &mut BytesMut) -> usize {
        let mut sent_bytes = 0;
        if let State::Open(stream) = &mut self.state {
            // The next read reports what is wrong with the connection.
            let _ = stream.writer().flush();
        }
        while let State::Open(stream) = &mut self.state
            && !buffer.is_empty()
        {
            match retry(|| stream.writer().write(buffer)) {
                Ok(count) => {
                    buffer.advance(count);
                    sent_bytes += count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => self.close(broken(&error)),
            }
        }
        sent_bytes
    }

    /// Closes the connection. Bytes that were sent still arrive.
    pub fn close(&mut self, reason: impl Into<String>) {
        self.state = State::Closed {
            reason: reason.into(),
        };
    }
}

impl ServerStream {
    fn reader(&mut self) -> &mut dyn Read {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream,
        }
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream,
        }
    }
}

/// Returns the address of a server that another one named, encrypted if the given one is.
pub(crate) fn neighbour(address: &ServerAddress, given: &str) -> String {
    let scheme = if given.starts_with(ClientOptions::TLS) {
        ClientOptions::TLS
    } else {
        ""
    };
    format!("{scheme}{}", address.tcp)
}

/// Connects. The thread runs this.
fn connect(named: &str, trust: &Trust) -> Result<ServerStream, String> {
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let server = bare_address(named);
    let stream = dial(server, deadline)?;
    if server == named {
        let prepared = stream.set_nonblocking(true);
        prepared.map_err(|error| unreachable(server, &error))?;
        return Ok(ServerStream::Plain(stream));
    }
    let stream = TlsStream::open(trust.config()?, stream, server, deadline)?;
    Ok(ServerStream::Tls(Box::new(stream)))
}

/// Tries every address of the name.
fn dial(server: &str, deadline: Instant) -> Result<TcpStream, String> {
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    let addresses = server
        .to_socket_addrs()
        .map_err(|error| format!("the name {host} was not found ({error})"))?;
    let mut reason = format!("the name {host} has no address");
    for address in addresses {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(no_answer(server));
        }
        match open(&address, left) {
            Ok(stream) => return Ok(stream),
            Err(error) => reason = unreachable(server, &error),
        }
    }
    Err(reason)
}

fn open(address: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(address, timeout)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn no_answer(server: &str) -> String {
    let seconds = CONNECT_TIMEOUT.as_secs();
    format!("no answer from {server} within {seconds} s")
}

fn unreachable(server: &str, error: &io::Error) -> String {
    /// EMFILE and ENFILE, on every Unix.
    const OUT_OF_FILES: [i32; 2] = [24, 23];
    match error.kind() {
        ErrorKind::ConnectionRefused => format!("no server runs at {server}"),
        ErrorKind::TimedOut => no_answer(server),
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable | ErrorKind::NetworkDown => {
            format!("{server} cannot be reached from this network")
        }
        _ if cfg!(unix)
            && error
                .raw_os_error()
                .is_some_and(|os| OUT_OF_FILES.contains(&os)) =>
        {
            "too many open files; raise the limit with `ulimit -n`".to_owned()
        }
        _ => format!("cannot connect to {server}: {error}"),
    }
}

fn broken(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
            "the server or the network cut the connection".to_owned()
        }
        _ => format!("the connection broke: {error}"),
    }
}

/// Repeats a call that a signal interrupts.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::MAX_INCOMING_BYTES;
    use super::*;

    fn listener() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap().to_string();
        (listener, server)
    }

    #[test]
    fn a_neighbour_is_spoken_to_as_the_first_server_was() {
        let address = ServerAddress {
            tcp: "b.example:14900".into(),
            web: "b.example:8080".into(),
        };
        assert_eq!(neighbour(&address, "a.example:14900"), address.tcp);
        assert_eq!(
            neighbour(&address, "tls://a.example:14900"),
            "tls://b.example:14900"
        );
    }

    /// Polls until the socket is no longer connecting; the time stands still.
    fn connected(server: &str) -> Socket {
        let options = ClientOptions::new(server, "Anna");
        let mut socket = Socket::connect(server, &options, Duration::ZERO);
        while socket.poll(Duration::ZERO) == SocketState::Connecting {
            thread::yield_now();
        }
        socket
    }

    fn pair() -> (Socket, TcpStream) {
        let (listener, server) = listener();
        let socket = connected(&server);
        (socket, listener.accept().unwrap().0)
    }

    fn reason(socket: &mut Socket) -> String {
        match socket.poll(Duration::ZERO) {
            SocketState::Closed { reason } => reason.to_owned(),
            state => panic!("{state:?}"),
        }
    }

    #[test]
    fn bytes_flow_both_ways_and_the_end_comes_after_the_last() {
        let (mut socket, mut peer) = pair();
        let mut buffer = BytesMut::new();
        assert_eq!(socket.receive(&mut buffer), 0);
        assert_eq!(socket.poll(Duration::ZERO), SocketState::Open);

        assert_eq!(socket.send(&mut BytesMut::from(&b"hello"[..])), 5);
        let mut read = [0; 5];
        peer.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"hello");

        peer.write_all(b"welcome").unwrap();
        drop(peer);
        while socket.poll(Duration::ZERO) == SocketState::Open {
            socket.receive(&mut buffer);
        }
        assert_eq!(&buffer[..], b"welcome");
        assert_eq!(reason(&mut socket), "the server closed the connection");
    }

    #[test]
    fn bytes_that_do_not_fit_stay_in_the_buffer_and_are_sent_later() {
        let (mut socket, mut peer) = pair();
        let all: Vec<u8> = (0..32 * 1024 * 1024u32).map(|index| index as u8).collect();
        let mut buffer = BytesMut::from(&all[..]);
        assert!(socket.send(&mut buffer) < all.len());
        let reader = thread::spawn(move || {
            let mut read = Vec::new();
            peer.read_to_end(&mut read).unwrap();
            read
        });
        while !buffer.is_empty() {
            socket.send(&mut buffer);
            thread::yield_now();
        }
        socket.close("done");
        assert_eq!(reader.join().unwrap(), all);
    }

    #[test]
    fn a_full_buffer_takes_no_more() {
        let (mut socket, mut peer) = pair();
        let writer = thread::spawn(move || peer.write_all(&vec![7; 2 * MAX_INCOMING_BYTES]));
        let mut buffer = BytesMut::new();
        while buffer.len() < MAX_INCOMING_BYTES {
            socket.receive(&mut buffer);
        }
        assert_eq!(socket.receive(&mut buffer), 0);
        assert_eq!(buffer.len(), MAX_INCOMING_BYTES);
        drop(socket);
        let _ = writer.join();
    }

    #[test]
    fn failures_have_plain_reasons() {
        let (listener, server) = listener();
        drop(listener);
        assert_eq!(
            reason(&mut connected(&server)),
            format!("no server runs at {server}")
        );
        let wrong = reason(&mut connected("no such host:1"));
        assert!(
            wrong.starts_with("the name no such host was not found"),
            "{wrong}"
        );
    }

    #[test]
    fn gives_up_after_five_seconds_of_the_callers_time() {
        // Nobody accepts and nothing is sent, yet the system connects: take the state apart.
        let (_sender, outcome) = mpsc::sync_channel(1);
        let mut socket = Socket {
            state: State::Connecting {
                server: "example:1".into(),
                outcome,
                give_up_at: CONNECT_TIMEOUT,
            },
        };
        let before = CONNECT_TIMEOUT - Duration::from_millis(1);
        assert_eq!(socket.poll(before), SocketState::Connecting);
        let reason = "no answer from example:1 within 5 s";
        assert_eq!(socket.poll(CONNECT_TIMEOUT), SocketState::Closed { reason });
    }
}
