//! What is counted of datagrams.

use cubesync_relay::label::label;
use cubesync_relay::metrics::{CountersBy, MetricSet};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

label! {
    /// What became of a packet that came: the label of `cubesync_udp_received_total`.
    pub(crate) enum Received("outcome") {
        /// It went to its player's room.
        Taken => "taken",
        /// It belongs to a browser's path, and holds no datagram: a handshake or an acknowledgement.
        Upkeep => "upkeep",
        /// It is no packet of ours.
        Foreign => "foreign",
        /// It names a path that is not open: a stranger's, or one that was closed a moment ago.
        NoPath => "no_path",
        /// It came from another host than the path's stream.
        OtherHost => "other_host",
        /// It was not sealed or signed with the path's key.
        Forged => "forged",
        /// It may have come before.
        Replayed => "replayed",
        /// Its player sent too many, and then it was not even opened, or it says nothing valid.
        Refused => "refused",
    }
}

label! {
    /// What became of a packet for a player: the label of `cubesync_udp_sent_total`.
    pub(crate) enum Sending("outcome") {
        /// The system has it.
        Sent => "sent",
        /// The system's buffer had no place.
        Full => "full",
        /// The system refused it.
        Failed => "failed",
    }
}

label! {
    /// The answer to a player who asked for a path: the label of `cubesync_datagram_openings_total`.
    pub(crate) enum Opening("outcome") {
        /// The player has one.
        Opened => "opened",
        /// There are as many paths as there may be.
        Full => "full",
        /// The player's address asks too often.
        TooMany => "too_many",
        /// The server does not offer this kind.
        NotOffered => "not_offered",
        /// A browser's offer is not of one data channel, or not whole.
        BadOffer => "bad_offer",
    }
}

/// The metrics of datagrams.
#[derive(Debug, Clone)]
pub(crate) struct DatagramMetrics {
    /// UDP packets that came.
    pub(crate) received: CountersBy<Received>,
    /// Their bytes.
    pub(crate) received_bytes: Counter,
    /// UDP packets for players.
    pub(crate) sent: CountersBy<Sending>,
    /// The bytes of those that were sent.
    pub(crate) sent_bytes: Counter,
    pub(super) openings: CountersBy<Opening>,
    /// The number of open paths by which something authentic has come.
    pub(crate) paths: Gauge,
}

/// A path in the gauge of paths, which counts it until this is dropped.
#[derive(Debug)]
pub(super) struct CountedPath(Gauge);

impl DatagramMetrics {
    /// Registers them.
    pub(crate) fn new(set: &MetricSet) -> Self {
        Self {
            received: set.counters_by(
                "cubesync_udp_received",
                "UDP packets that came, by what became of them",
            ),
            received_bytes: set.counter(
                "cubesync_udp_received_bytes",
                "Bytes of UDP packets that came, without UDP's and IP's headers",
            ),
            sent: set.counters_by(
                "cubesync_udp_sent",
                "UDP packets for players, by what became of them",
            ),
            sent_bytes: set.counter(
                "cubesync_udp_sent_bytes",
                "Bytes of UDP packets that were sent, without UDP's and IP's headers",
            ),
            openings: set.counters_by(
                "cubesync_datagram_openings",
                "Answers to players who asked for datagrams",
            ),
            paths: set.gauge(
                "cubesync_datagram_paths",
                "Players from whom datagrams have come by a path that is open",
            ),
        }
    }
}

impl CountedPath {
    /// Counts a path in the gauge, by which something authentic has come.
    pub(super) fn new(paths: &Gauge) -> Self {
        paths.inc();
        Self(paths.clone())
    }
}

impl Drop for CountedPath {
    fn drop(&mut self) {
        self.0.dec();
    }
}
