//! The state that listeners and pages share.

use std::net::SocketAddr;

use cubesync_relay::Host;
use cubesync_relay::pace::Pace;

use crate::cluster::Neighbours;
use crate::config::Config;
use crate::metrics::ServerMetrics;
use crate::once::Once;
use crate::tls::{Fingerprint, Tls};
use crate::watch::Watches;

/// The addresses at which a running server listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// The port for clients, over TCP.
    pub tcp: SocketAddr,
    /// The port for datagrams, if they are on.
    pub udp: Option<SocketAddr>,
    /// The port for pages, WebSockets and metrics.
    pub http: SocketAddr,
    /// The port of the text protocol, if it is on.
    pub text: Option<SocketAddr>,
    /// The certificate of the first two ports, if they are encrypted.
    pub tls: Option<Fingerprint>,
}

/// The state that listeners and pages share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) addresses: Addresses,
    pub(crate) host: Host,
    /// The watches through which pages see rooms.
    pub(crate) watches: Watches,
    /// The limit on arrivals at the text port, by address.
    pub(crate) text_arrivals: Pace,
    /// The limit on requests for pages, by address.
    pub(crate) requests: Pace,
    /// The limit on the bytes of answers to them, by address.
    pub(crate) answer_bytes: Pace,
    /// Limits how many of them are rooms as `/cubes.json`.
    pub(crate) room_bytes: Pace,
    /// The refused origins of pages that were logged.
    pub(crate) refused_origins: Once,
    pub(crate) metrics: ServerMetrics,
    /// The other servers, where this is one of several.
    pub(crate) neighbours: Neighbours,
    /// The encryption of clients' and pages' connections, if it is on.
    pub(crate) tls: Option<Tls>,
}
