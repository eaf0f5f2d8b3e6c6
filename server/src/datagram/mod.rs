//! Datagrams beside the players' streams: one UDP socket for all of them, and one task that reads it.
//!
//! A player who asks on the stream gets a path: an id and a key ([`seal`](cubesync_protocol::seal)). A
//! packet that opens with a path's key goes to its player's room. Rooms send their datagrams themselves,
//! without waiting. An address gets something only when it has proved itself twice: its host is that of
//! the stream, whose handshake a false sender cannot complete, and its port sent a packet under the key.
//! Everything else is dropped without an answer and counted.

mod metrics;
mod path;
mod socket;
#[cfg(feature = "webrtc")]
mod webrtc;
#[cfg(not(feature = "webrtc"))]
#[path = "webrtc/off.rs"]
mod webrtc;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cubesync_protocol::{DatagramAnswer, DatagramRequest};
use cubesync_relay::by_address::Address;
use cubesync_relay::datagram::{BURST, DatagramInbox, DatagramPaths, OpenedPath};
use cubesync_relay::pace::Pace;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::net::UdpSocket;

use crate::config::Config;

pub(crate) use self::metrics::DatagramMetrics;
use self::metrics::Opening;
use self::path::{OpenPath, Paths};
use self::socket::Outgoing;
pub(crate) use self::socket::{bind, receive};
use self::webrtc::Browsers;
#[cfg(feature = "webrtc")]
pub(crate) use self::webrtc::fuzzing;

/// The ways for datagrams that this server offers.
#[derive(Debug)]
pub(crate) struct Datagrams {
    socket: Arc<UdpSocket>,
    /// The port that players are told.
    port: u16,
    paths: Arc<Paths>,
    browsers: Arc<Browsers>,
    outgoing: Outgoing,
    /// The limit on how many paths one address may open.
    openings: Pace,
    metrics: DatagramMetrics,
}

impl Datagrams {
    /// Offers a socket to as many players as may connect, and to each address as often as it may connect.
    /// `bound` is its address, and `stream` the one to which players connect.
    pub(crate) fn new(
        socket: UdpSocket,
        [bound, stream]: [SocketAddr; 2],
        config: &Config,
        metrics: DatagramMetrics,
    ) -> Self {
        let limit = config.connection_limit();
        // A browser sends two packets a tick, a datagram and an acknowledgement: as many as messages.
        let packets = Pace::with_burst(config.messages_per_address(), BURST);
        let socket = Arc::new(socket);
        let outgoing = Outgoing::new(&socket, metrics.clone());
        let browsers = Browsers::new(outgoing.clone(), bound, limit, packets, metrics.clone());
        Self {
            socket,
            port: told_port(bound, stream),
            paths: Arc::new(Paths::new(limit, metrics.clone())),
            browsers: Arc::new(browsers),
            outgoing,
            openings: Pace::new(config.max_arrivals_per_address),
            metrics,
        }
    }

    fn open_udp(&self, inbox: DatagramInbox, peer: Address) -> Result<OpenedPath, Opening> {
        let (path, key) = self.paths.open(inbox, peer)?;
        let answer = DatagramAnswer::Udp {
            port: self.port,
            path: path.id(),
            key,
        };
        let path = OpenPath::new(path, &self.paths, &self.outgoing);
        Ok(OpenedPath {
            answer,
            path: Arc::new(path),
        })
    }
}

impl DatagramPaths for Datagrams {
    fn open(
        &self,
        request: &DatagramRequest,
        inbox: DatagramInbox,
        peer: Address,
    ) -> Option<OpenedPath> {
        let opened = match request {
            _ if !self.openings.allows(peer) => Err(Opening::TooMany),
            DatagramRequest::Udp => self.open_udp(inbox, peer),
            DatagramRequest::WebRtc { offer } => self.browsers.open(offer, inbox, peer),
        };
        let outcome = opened.as_ref().err().copied().unwrap_or(Opening::Opened);
        self.metrics.openings.count(outcome);
        opened.ok()
    }
}

/// Returns the port that players are told. 0 is the port to which their stream goes, which may be another
/// one than the server's own where a container or a router maps ports.
fn told_port(bound: SocketAddr, stream: SocketAddr) -> u16 {
    let port = bound.port();
    if port == stream.port() { 0 } else { port }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.expect("the system gives random bytes");
    bytes
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
