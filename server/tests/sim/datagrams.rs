//! The simulated way for datagrams: UDP without encryption that loses, duplicates and, since each takes a
//! time of its own, reorders.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cubesync_client::session::Session;
use cubesync_protocol::limits::MAX_DATAGRAM_BYTES;
use cubesync_protocol::{DatagramAnswer, DatagramKey, DatagramRequest, PathId};
use cubesync_relay::by_address::Address;
use cubesync_relay::datagram::{DatagramInbox, DatagramPath, DatagramPaths, OpenedPath};
use turmoil::net::UdpSocket;

use crate::player::PORT;

/// Bytes in front of a client's datagram: the name of its path.
const NAME_BYTES: usize = 8;
const MAX_PACKET_BYTES: usize = NAME_BYTES + MAX_DATAGRAM_BYTES;

/// What happens to datagrams.
#[derive(Debug, Clone)]
pub struct Losses {
    random: fastrand::Rng,
    /// The share that is lost.
    loss: f64,
    /// The share that comes twice.
    duplicates: f64,
    /// The time from which on all are lost.
    blocked_from: Duration,
}

impl Losses {
    /// Chooses losses.
    pub fn new(mut random: fastrand::Rng) -> Self {
        let from = Duration::from_millis(random.u64(5_000..40_000));
        Self {
            loss: [0.0, 0.02, 0.1, 0.5][random.usize(..4)],
            duplicates: [0.0, 0.2][random.usize(..2)],
            blocked_from: [Duration::MAX, from][random.usize(..2)],
            random,
        }
    }

    /// Returns how many copies of a datagram arrive.
    fn copies(&mut self) -> usize {
        let is_blocked = turmoil::sim_elapsed().unwrap() >= self.blocked_from;
        if is_blocked || self.random.f64() < self.loss {
            0
        } else {
            1 + usize::from(self.random.f64() < self.duplicates)
        }
    }
}

/// The server's paths.
#[derive(Debug)]
pub struct Paths {
    socket: UdpSocket,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    random: fastrand::Rng,
    open: BTreeMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    inbox: DatagramInbox,
    losses: Losses,
    /// The address from which the client's newest datagram came.
    client: Option<SocketAddr>,
}

#[derive(Debug)]
struct Path {
    paths: Arc<Paths>,
    id: u64,
}

/// What a server offers: its paths.
#[derive(Debug)]
pub struct Offer(pub Arc<Paths>);

impl Paths {
    /// Binds the socket of a server.
    pub async fn bind(mut random: fastrand::Rng) -> turmoil::Result<Arc<Self>> {
        let open = BTreeMap::new();
        // A server that starts again has other ids, so that it drops what was sent to its predecessor.
        let started = turmoil::sim_elapsed().unwrap_or_default();
        let random = fastrand::Rng::with_seed(random.u64(..) ^ started.as_nanos() as u64);
        Ok(Arc::new(Self {
            socket: UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?,
            state: Mutex::new(State { random, open }),
        }))
    }

    /// Delivers the next datagram of a client.
    pub async fn receive(&self) {
        let mut packet = [0; MAX_PACKET_BYTES];
        let Ok((len_bytes, client)) = self.socket.recv_from(&mut packet).await else {
            return;
        };
        let (id, datagram) = packet[..len_bytes].split_at(NAME_BYTES);
        let id = u64::from_be_bytes(id.try_into().unwrap());
        let inbox = {
            let mut state = self.state.lock().unwrap();
            // The path of a session that has ended is gone.
            let Some(open) = state.open.get_mut(&id) else {
                return;
            };
            open.client = Some(client);
            open.inbox.clone()
        };
        assert!(inbox.deliver(datagram), "a client sends whole uplinks");
    }
}

impl DatagramPaths for Offer {
    fn open(
        &self,
        request: &DatagramRequest,
        inbox: DatagramInbox,
        _peer: Address,
    ) -> Option<OpenedPath> {
        assert_eq!(*request, DatagramRequest::Udp);
        let paths = Arc::clone(&self.0);
        let mut state = paths.state.lock().unwrap();
        let id = state.random.u64(..);
        let open = Open {
            inbox,
            losses: Losses::new(state.random.fork()),
            client: None,
        };
        state.open.insert(id, open);
        drop(state);
        let answer = DatagramAnswer::Udp {
            port: PORT,
            path: PathId(id),
            key: DatagramKey([0; 32]),
        };
        let path = Arc::new(Path { paths, id });
        Some(OpenedPath { answer, path })
    }
}

impl DatagramPath for Path {
    fn send(&self, datagram: &[u8]) -> bool {
        assert!(datagram.len() <= MAX_DATAGRAM_BYTES);
        let mut state = self.paths.state.lock().unwrap();
        let open = state.open.get_mut(&self.id).expect("the path is open");
        let Some(client) = open.client else {
            return false;
        };
        for _ in 0..open.losses.copies() {
            // The client may be gone.
            let _ = self.paths.socket.try_send_to(datagram, client);
        }
        true
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        self.paths.state.lock().unwrap().open.remove(&self.id);
    }
}

/// A player's end of a path.
pub struct Client {
    socket: UdpSocket,
    server: SocketAddr,
    path: PathId,
    losses: RefCell<Losses>,
}

impl Client {
    /// Opens the end of a path to a server.
    pub async fn open(server: &str, path: PathId, random: fastrand::Rng) -> turmoil::Result<Self> {
        Ok(Self {
            socket: UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?,
            server: SocketAddr::new(turmoil::lookup(server), PORT),
            path,
            losses: RefCell::new(Losses::new(random)),
        })
    }

    /// Receives what has arrived.
    pub fn receive(&self, now: Duration, session: &mut Session) {
        let mut datagram = [0; MAX_DATAGRAM_BYTES];
        while let Ok((len_bytes, _)) = self.socket.try_recv_from(&mut datagram) {
            session.receive_datagram(now, &datagram[..len_bytes]);
        }
    }

    /// Sends what the session wants to send.
    pub fn send(&self, session: &mut Session) {
        while let Some(datagram) = session.next_datagram() {
            let packet = [&self.path.0.to_be_bytes()[..], &datagram].concat();
            for _ in 0..self.losses.borrow_mut().copies() {
                // The server may be gone.
                let _ = self.socket.try_send_to(&packet, self.server);
            }
        }
    }
}
