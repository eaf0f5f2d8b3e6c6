//! Connects to the first address of a server that answers, without ever waiting.

use std::io::{self, ErrorKind};
use std::net::{self, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::CONNECT_TIMEOUT;
use super::address::lacks_zone;
use super::race::Race;
use super::stream::ServerStream;
use super::tls::TlsStream;

/// Largest number of events that are read at once. The others come with the next poll.
const EVENTS: usize = 16;

/// How to encrypt, and the name that the server's certificate must have.
#[derive(Debug, Clone)]
pub(super) struct Encryption {
    /// The certificates that are accepted.
    pub(super) config: Arc<ClientConfig>,
    /// The server's name.
    pub(super) name: ServerName<'static>,
}

/// The tries to reach a server at its addresses. An encrypted try has succeeded after its handshake:
/// what accepts connections and speaks no TLS does not win. Dropping a dial closes all sockets.
#[derive(Debug)]
pub(super) struct Dial {
    /// The server as a person wrote it.
    server: String,
    is_only: bool,
    encryption: Option<Encryption>,
    race: Race,
    poll: Poll,
    events: Events,
    tries: Vec<Try>,
    next_token: usize,
}

#[derive(Debug)]
struct Try {
    token: Token,
    address: SocketAddr,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Connecting(TcpStream),
    Encrypting(Box<TlsStream>),
    /// It has ended, and its place in the list is about to go.
    Over,
}

impl Dial {
    /// Starts with the addresses of a server, in the order in which the system prefers them.
    ///
    /// # Errors
    /// The system has no descriptors left.
    pub(super) fn new(
        server: &str,
        addresses: Vec<SocketAddr>,
        encryption: Option<Encryption>,
        now: Duration,
    ) -> Result<Self, String> {
        Ok(Self {
            server: server.to_owned(),
            is_only: addresses.len() == 1,
            encryption,
            race: Race::new(addresses, now),
            poll: Poll::new().map_err(|error| unreachable(server, &error))?,
            events: Events::with_capacity(EVENTS),
            tries: Vec::new(),
            next_token: 0,
        })
    }

    /// Starts the tries that are due and returns the stream of the first that succeeds. `None`: call it
    /// again a frame later.
    ///
    /// # Errors
    /// All tries have failed; the text says how to a person.
    pub(super) fn poll(&mut self, now: Duration) -> Option<Result<ServerStream, String>> {
        if let Some(stream) = self.advance(now) {
            return Some(Ok(stream));
        }
        while let Some(address) = self.race.next(now) {
            if let Err(reason) = self.start(address) {
                self.race.failed(address, reason, now);
            }
        }
        (self.race.is_lost()).then(|| Err(self.race.verdict(&self.server)))
    }

    /// Ends all tries and describes for a person what each address said.
    pub(super) fn give_up(&mut self, now: Duration) -> String {
        for ended in std::mem::take(&mut self.tries) {
            let label = self.label(&ended.address);
            let reason = match ended.stage {
                Stage::Connecting(_) => no_answer(&label),
                Stage::Encrypting(_) | Stage::Over => no_tls_answer(&label),
            };
            self.race.failed(ended.address, reason, now);
        }
        self.race.verdict(&self.server)
    }

    fn start(&mut self, address: SocketAddr) -> Result<(), String> {
        if let Some(reason) = lacks_zone(&address) {
            return Err(reason);
        }
        let token = Token(self.next_token);
        self.next_token += 1;
        let connecting = TcpStream::connect(address).and_then(|mut stream| {
            let registry = self.poll.registry();
            registry.register(&mut stream, token, Interest::WRITABLE)?;
            Ok(stream)
        });
        let stream = connecting.map_err(|error| unreachable(&self.label(&address), &error))?;
        self.tries.push(Try {
            token,
            address,
            stage: Stage::Connecting(stream),
        });
        Ok(())
    }

    /// Takes each try as far as it comes now.
    fn advance(&mut self, now: Duration) -> Option<ServerStream> {
        // An interrupted call has no events: they come with the next one.
        let _ = self.poll.poll(&mut self.events, Some(Duration::ZERO));
        let ready: Vec<_> = self.events.iter().map(|event| event.token()).collect();
        let mut tries = std::mem::take(&mut self.tries);
        let mut won = None;
        for one in &mut tries {
            let stage = std::mem::replace(&mut one.stage, Stage::Over);
            let outcome = match stage {
                Stage::Connecting(stream) if ready.contains(&one.token) => {
                    self.connected(stream, &one.address, now)
                }
                Stage::Encrypting(stream) => Self::encrypted(stream, &self.label(&one.address)),
                stage => Ok(Progress::Pending(stage)),
            };
            match outcome {
                Ok(Progress::Pending(stage)) => one.stage = stage,
                Ok(Progress::Done(stream)) => {
                    won = Some(stream);
                    break;
                }
                Err(reason) => self.race.failed(one.address, reason, now),
            }
        }
        tries.retain(|one| !matches!(one.stage, Stage::Over));
        self.tries = tries;
        won
    }

    /// Looks whether a socket that the system reports as ready is connected.
    fn connected(
        &mut self,
        mut stream: TcpStream,
        address: &SocketAddr,
        now: Duration,
    ) -> Result<Progress, String> {
        let label = self.label(address);
        let failed = |error: io::Error| unreachable(&label, &error);
        if let Some(error) = stream.take_error().map_err(failed)? {
            return Err(failed(error));
        }
        match stream.peer_addr() {
            Err(error) if error.kind() == ErrorKind::NotConnected => {
                return Ok(Progress::Pending(Stage::Connecting(stream)));
            }
            peer => peer.map_err(failed)?,
        };
        let deregistered = self.poll.registry().deregister(&mut stream);
        deregistered.map_err(failed)?;
        let stream = net::TcpStream::from(stream);
        stream.set_nodelay(true).map_err(failed)?;
        let Some(Encryption { config, name }) = self.encryption.clone() else {
            return Ok(Progress::Done(ServerStream::Plain(stream)));
        };
        self.race.answered(now);
        let stream = TlsStream::new(config, name, stream, &label)?;
        Self::encrypted(Box::new(stream), &label)
    }

    /// Takes a handshake as far as it comes now.
    fn encrypted(mut stream: Box<TlsStream>, label: &str) -> Result<Progress, String> {
        Ok(match stream.shake_hands(label)? {
            true => Progress::Done(ServerStream::Tls(stream)),
            false => Progress::Pending(Stage::Encrypting(stream)),
        })
    }

    /// Returns how a person is told of an address: by what they wrote, if there is only one.
    fn label(&self, address: &SocketAddr) -> String {
        match self.is_only {
            true => self.server.clone(),
            false => address.to_string(),
        }
    }
}

/// What has become of a try.
enum Progress {
    Pending(Stage),
    Done(ServerStream),
}

fn no_answer(server: &str) -> String {
    let seconds = CONNECT_TIMEOUT.as_secs();
    format!("no answer from {server} within {seconds} s")
}

fn no_tls_answer(server: &str) -> String {
    format!("{server} did not answer in TLS in time; does it speak TLS?")
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use socket2::{Domain, Socket, Type};

    use super::*;

    const QUARTER: Duration = Duration::from_millis(250);

    /// A listener that answers no more: its queue is full, and what comes then is dropped.
    struct Silent {
        address: SocketAddr,
        _listener: Socket,
        _queued: Vec<Socket>,
    }

    impl Silent {
        fn new() -> Self {
            let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            listener.bind(&any.into()).unwrap();
            listener.listen(0).unwrap();
            let address = listener.local_addr().unwrap();
            let queued = (0..4).map(|_| {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                socket.set_nonblocking(true).unwrap();
                let _ = socket.connect(&address);
                socket
            });
            Self {
                address: address.as_socket().unwrap(),
                _queued: queued.collect(),
                _listener: listener,
            }
        }
    }

    /// Returns an address at which nobody listens.
    fn refusing() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.local_addr().unwrap()
    }

    fn dial(addresses: &[SocketAddr]) -> Dial {
        let addresses = addresses.to_vec();
        Dial::new("game.example:1", addresses, None, Duration::ZERO).unwrap()
    }

    /// Polls at one moment until the dial has an outcome.
    fn outcome(dial: &mut Dial, now: Duration) -> Result<ServerStream, String> {
        loop {
            if let Some(outcome) = dial.poll(now) {
                return outcome;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_silent_address_is_left_for_the_next_one_after_a_quarter_of_a_second() {
        let (silent, listener) = (Silent::new(), TcpListener::bind("127.0.0.1:0").unwrap());
        let good = listener.local_addr().unwrap();
        let mut dial = dial(&[silent.address, good]);
        assert!(dial.poll(Duration::ZERO).is_none());
        assert_eq!(dial.tries.len(), 1);
        let stream = outcome(&mut dial, QUARTER).unwrap();
        assert_eq!(stream.tcp().peer_addr().unwrap(), good);
    }

    #[test]
    fn an_address_that_refuses_is_left_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let good = listener.local_addr().unwrap();
        let mut dial = dial(&[refusing(), good]);
        let stream = outcome(&mut dial, Duration::ZERO).unwrap();
        assert_eq!(stream.tcp().peer_addr().unwrap(), good);
    }

    #[test]
    fn what_each_address_said_is_told_when_the_time_is_up() {
        let (one, refusing, other) = (Silent::new(), refusing(), Silent::new());
        let mut dial = dial(&[one.address, refusing, other.address]);
        assert!(dial.poll(Duration::ZERO).is_none());
        // The refusal lets the third try begin at once.
        while dial.tries.last().map(|last| last.address) != Some(other.address) {
            assert!(dial.poll(QUARTER).is_none());
        }
        assert_eq!(
            dial.give_up(CONNECT_TIMEOUT),
            format!(
                "none of the 3 addresses of game.example:1 can be reached: no server runs at \
                 {refusing}; no answer from {} within 5 s; no answer from {} within 5 s",
                one.address, other.address
            )
        );
        assert!(dial.tries.is_empty(), "all sockets are closed");
    }

    #[test]
    fn a_single_silent_address_is_told_by_the_name_that_a_person_wrote() {
        let silent = Silent::new();
        let mut dial = dial(&[silent.address]);
        assert!(dial.poll(Duration::ZERO).is_none());
        let reason = "no answer from game.example:1 within 5 s";
        assert_eq!(dial.give_up(CONNECT_TIMEOUT), reason);
    }

    #[test]
    fn a_link_local_address_without_its_interface_is_not_tried() {
        let mut dial = dial(&["[fe80::1]:7".parse().unwrap()]);
        let reason = outcome(&mut dial, Duration::ZERO).unwrap_err();
        assert!(reason.contains("fe80::1 is link-local"), "{reason}");
    }
}
