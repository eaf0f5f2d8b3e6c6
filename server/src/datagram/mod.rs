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

use std::net::IpAddr;
use std::sync::Arc;

use cubesync_protocol::{DatagramAnswer, DatagramRequest};
use cubesync_relay::datagram::{DatagramInbox, DatagramPaths, OpenedPath};
use cubesync_relay::pace::Pace;
use tokio::net::UdpSocket;

use crate::config::Config;
use crate::shared::Addresses;

pub(crate) use self::metrics::DatagramMetrics;
use self::metrics::Opening;
use self::path::{OpenPath, Paths};
pub(crate) use self::socket::{bind, receive};

/// The ways for datagrams that this server offers.
#[derive(Debug)]
pub(crate) struct Datagrams {
    socket: Arc<UdpSocket>,
    /// The port that players are told.
    port: u16,
    paths: Arc<Paths>,
    /// The limit on how many paths one address may open.
    openings: Pace,
    metrics: DatagramMetrics,
}

impl Datagrams {
    /// Offers a socket to as many players as may connect, and to each address as often as it may connect.
    pub(crate) fn new(
        socket: UdpSocket,
        addresses: Addresses,
        config: &Config,
        metrics: DatagramMetrics,
    ) -> Self {
        let limit = config.connection_limit();
        Self {
            socket: Arc::new(socket),
            port: told_port(addresses),
            paths: Arc::new(Paths::new(limit, metrics.clone())),
            openings: Pace::new(config.max_arrivals_per_address),
            metrics,
        }
    }

    fn open_udp(&self, inbox: DatagramInbox, peer: IpAddr) -> Result<OpenedPath, Opening> {
        let (path, key) = self.paths.open(inbox, peer)?;
        let answer = DatagramAnswer::Udp {
            port: self.port,
            path: path.id(),
            key,
        };
        let path = OpenPath::new(path, &self.paths, &self.socket, &self.metrics);
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
        peer: IpAddr,
    ) -> Option<OpenedPath> {
        let opened = match request {
            _ if !self.openings.allows(peer) => Err(Opening::TooMany),
            DatagramRequest::Udp => self.open_udp(inbox, peer),
            DatagramRequest::WebRtc { .. } => Err(Opening::NotOffered),
        };
        let outcome = opened.as_ref().err().copied().unwrap_or(Opening::Opened);
        self.metrics.openings.count(outcome);
        opened.ok()
    }
}

/// Returns the port that players are told. 0 is the port to which their stream goes, which may be another
/// one than the server's own where a container or a router maps ports.
fn told_port(addresses: Addresses) -> u16 {
    let udp = addresses.udp.map_or(0, |udp| udp.port());
    if udp == addresses.tcp.port() { 0 } else { udp }
}
