//! What the server's listeners and pages share.

use std::net::SocketAddr;

use cubesync_relay::Host;
use cubesync_relay::pace::Pace;

use crate::cluster::Neighbours;
use crate::config::Config;
use crate::metrics::ServerMetrics;
use crate::tls::{Fingerprint, Tls};

/// Where a running server listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Clients, over TCP.
    pub tcp: SocketAddr,
    /// Pages and metrics.
    pub http: SocketAddr,
    /// The line protocol, where it is on.
    pub text: Option<SocketAddr>,
    /// Whether the first two are encrypted, and with which certificate.
    pub tls: Option<Fingerprint>,
}

/// What the server's listeners and pages share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) addresses: Addresses,
    pub(crate) host: Host,
    /// Of pages, by address.
    pub(crate) requests: Pace,
    pub(crate) metrics: ServerMetrics,
    /// The other servers, where this is one of several.
    pub(crate) neighbours: Neighbours,
    /// How the connections of clients and pages are encrypted, where they are.
    pub(crate) tls: Option<Tls>,
}
