//! The native socket: a TCP stream that is polled and never blocks, encrypted or not.
//!
//! Only the lookup of a name blocks, so a thread does it. It cannot be stopped, and nobody waits for
//! it: it ends when the system's own patience does. All else is done a frame at a time.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use cubesync_protocol::ServerAddress;
use rustls::pki_types::ServerName;

use super::address::Address;
use super::dial::{Dial, Encryption};
use super::foreign::instead_of_frames;
use super::stream::ServerStream;
use super::{CONNECT_TIMEOUT, SocketState, read_into};
use crate::options::ClientOptions;
use crate::trust::Trust;

/// Longest time for the lookup of a name, after which come [`CONNECT_TIMEOUT`]'s. A system asks each of
/// its name servers for 5 s (`man resolv.conf`): the third answers in time, if two do not.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(12);
/// Stack of the thread for the lookup: the system's needs more than the smallest one.
const THREAD_STACK_BYTES: usize = 256 * 1024;

/// One connection, from the lookup of its name to its end.
#[derive(Debug)]
pub struct Socket {
    /// The server as a person is told of it.
    server: String,
    give_up_at: Duration,
    state: State,
}

#[derive(Debug)]
enum State {
    Resolving(Receiver<Result<Resolved, String>>),
    Dialing(Box<Dial>),
    Open {
        stream: ServerStream,
        /// Whether the server has sent anything.
        has_heard: bool,
    },
    Closed {
        reason: String,
    },
}

/// What must be known before the first try to connect.
#[derive(Debug)]
struct Resolved {
    addresses: Vec<SocketAddr>,
    encryption: Option<Encryption>,
}

impl Socket {
    /// Starts to connect to a server, named like the one in the options.
    pub fn connect(server: &str, options: &ClientOptions, now: Duration) -> Self {
        let (server, state) = match Address::in_full(server) {
            Ok(address) => (
                address.to_string(),
                resolving(address, options.trust.clone()),
            ),
            Err(reason) => (server.to_owned(), State::Closed { reason }),
        };
        Self {
            server,
            give_up_at: now + LOOKUP_TIMEOUT,
            state,
        }
    }

    /// Returns how far the connection is.
    pub fn poll(&mut self, now: Duration) -> SocketState<'_> {
        if let State::Resolving(outcome) = &self.state {
            match outcome.try_recv() {
                Ok(resolved) => self.dial(resolved, now),
                Err(TryRecvError::Empty) if now < self.give_up_at => {}
                Err(_) => self.close(not_looked_up(&self.server)),
            }
        }
        if let State::Dialing(dial) = &mut self.state {
            match dial.poll(now) {
                Some(Ok(stream)) => {
                    self.state = State::Open {
                        stream,
                        has_heard: false,
                    }
                }
                Some(Err(reason)) => self.close(reason),
                None if now >= self.give_up_at => {
                    let reason = dial.give_up(now);
                    self.close(reason);
                }
                None => {}
            }
        }
        match &self.state {
            State::Resolving(_) | State::Dialing(_) => SocketState::Connecting,
            State::Open { .. } => SocketState::Open,
            State::Closed { reason } => SocketState::Closed { reason },
        }
    }

    fn dial(&mut self, resolved: Result<Resolved, String>, now: Duration) {
        self.give_up_at = now + CONNECT_TIMEOUT;
        let dial = resolved.and_then(|found| {
            let Resolved {
                addresses,
                encryption,
            } = found;
            Dial::new(&self.server, addresses, encryption, now)
        });
        self.state = match dial {
            Ok(dial) => State::Dialing(Box::new(dial)),
            Err(reason) => State::Closed { reason },
        };
    }

    /// Returns the addresses of this end and of the server, while the connection is open.
    pub(super) fn addresses(&self) -> Option<[SocketAddr; 2]> {
        let State::Open { stream, .. } = &self.state else {
            return None;
        };
        let tcp = stream.tcp();
        Some([tcp.local_addr().ok()?, tcp.peer_addr().ok()?])
    }

    /// Appends bytes that have arrived to `buffer` and returns how many. Call it until it returns 0:
    /// then there are none for now, the buffer is full, or the connection is over. It is over as well
    /// when the first bytes are those of another protocol.
    pub fn receive(&mut self, buffer: &mut BytesMut) -> usize {
        let State::Open { stream, has_heard } = &mut self.state else {
            return 0;
        };
        let start = buffer.len();
        let mut result = Err(ErrorKind::WouldBlock.into());
        let count = read_into(buffer, |room| {
            result = retry(|| stream.reader().read(room));
            *result.as_ref().unwrap_or(&0)
        });
        if count > 0 && !std::mem::replace(has_heard, true) {
            let foreign = instead_of_frames(&buffer[start..], &self.server);
            if let Some(reason) = foreign {
                buffer.truncate(start);
                self.close(reason);
                return 0;
            }
        }
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
        if let State::Open { stream, .. } = &mut self.state {
            // The next read reports what is wrong with the connection.
            let _ = stream.writer().flush();
        }
        while let State::Open { stream, .. } = &mut self.state
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

impl ClientOptions {
    /// Checks that the server is an address. What that names may still not exist.
    ///
    /// # Errors
    /// It is not; says so to a person, with an example.
    pub fn check_address(&self) -> Result<(), String> {
        Address::in_full(&self.server).map(drop)
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

/// Starts the thread that looks a name up. Reading the system's certificates takes a while as well.
fn resolving(address: Address, trust: Trust) -> State {
    let (sender, outcome) = mpsc::sync_channel(1);
    let thread = thread::Builder::new()
        .name("resolve".into())
        .stack_size(THREAD_STACK_BYTES)
        .spawn(move || {
            let _ = sender.send(resolve(&address, &trust));
        });
    match thread {
        Ok(_) => State::Resolving(outcome),
        Err(error) => State::Closed {
            reason: format!("cannot start a thread to look the name up: {error}"),
        },
    }
}

fn resolve(address: &Address, trust: &Trust) -> Result<Resolved, String> {
    let addresses = address.resolve()?;
    let encryption = match address.is_encrypted() {
        true => {
            let host = address.certified_host();
            let name = ServerName::try_from(host.to_owned())
                .map_err(|_| format!("no certificate can be for the name {host}"))?;
            let config = trust.config()?;
            Some(Encryption { config, name })
        }
        false => None,
    };
    Ok(Resolved {
        addresses,
        encryption,
    })
}

fn not_looked_up(server: &str) -> String {
    let seconds = LOOKUP_TIMEOUT.as_secs();
    format!("the name in {server} was not looked up within {seconds} s; is this machine online?")
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
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

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

        peer.write_all(b"\0welcome").unwrap();
        drop(peer);
        while socket.poll(Duration::ZERO) == SocketState::Open {
            socket.receive(&mut buffer);
        }
        assert_eq!(&buffer[..], b"\0welcome");
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
        let writer = thread::spawn(move || peer.write_all(&vec![0; 2 * MAX_INCOMING_BYTES]));
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

    /// Connects to a service that answers a hello with these bytes, and returns the reason for the end.
    fn answered_with(bytes: &[u8]) -> String {
        let (mut socket, mut peer) = pair();
        peer.write_all(bytes).unwrap();
        let mut buffer = BytesMut::new();
        while socket.poll(Duration::ZERO) == SocketState::Open {
            assert_eq!(
                socket.receive(&mut buffer),
                0,
                "foreign bytes are no frames"
            );
        }
        let server = socket.server.clone();
        reason(&mut socket).replace(&server, "SERVER")
    }

    #[test]
    fn another_service_is_described_by_its_answer() {
        assert_eq!(
            answered_with(b"SSH-2.0-OpenSSH_9.2\r\n"),
            "something that is no cubesync server answers at SERVER: SSH-2.0-OpenSSH_9.2"
        );
        let pages = answered_with(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        assert!(
            pages.starts_with("a web server answers at SERVER"),
            "{pages}"
        );
    }

    #[test]
    fn after_a_slow_lookup_there_is_as_much_time_to_connect_as_after_a_quick_one() {
        let (sender, outcome) = mpsc::sync_channel(1);
        let mut socket = Socket {
            server: "example:1".into(),
            give_up_at: LOOKUP_TIMEOUT,
            state: State::Resolving(outcome),
        };
        let looked_up = LOOKUP_TIMEOUT - Duration::from_millis(1);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addresses = vec![listener.local_addr().unwrap()];
        let encryption = None;
        let resolved = Resolved {
            addresses,
            encryption,
        };
        sender.send(Ok(resolved)).unwrap();
        socket.poll(looked_up);
        assert_eq!(socket.give_up_at, looked_up + CONNECT_TIMEOUT);
        while socket.poll(LOOKUP_TIMEOUT) == SocketState::Connecting {
            thread::yield_now();
        }
        assert_eq!(socket.poll(LOOKUP_TIMEOUT), SocketState::Open);
    }

    #[test]
    fn a_lookup_that_takes_too_long_is_given_up_by_the_callers_time() {
        let (_sender, outcome) = mpsc::sync_channel(1);
        let mut socket = Socket {
            server: "example:1".into(),
            give_up_at: LOOKUP_TIMEOUT,
            state: State::Resolving(outcome),
        };
        let before = LOOKUP_TIMEOUT - Duration::from_millis(1);
        assert_eq!(socket.poll(before), SocketState::Connecting);
        let reason = "the name in example:1 was not looked up within 12 s; is this machine online?";
        assert_eq!(socket.poll(LOOKUP_TIMEOUT), SocketState::Closed { reason });
    }
}
