//! What the server counts, in Prometheus' text form.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Tick durations from 50 microseconds to the length of a tick at 1 Hz.
const TICK_BUCKETS_SECONDS: [f64; 12] = [
    50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 1.0,
];

/// Why a connection ended: the label of `cubesync_disconnects_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Disconnect {
    /// The peer closed.
    Left,
    /// The network broke, or the peer vanished with a reset.
    Lost,
    /// Nothing came for too long.
    Silent,
    /// What came was no message of the protocol.
    BadMessage,
    /// More messages came than the limit allows.
    TooManyMessages,
    /// The peer did not read what it was sent.
    SlowReader,
    /// The server stopped.
    ShuttingDown,
    /// No `Hello` in time.
    HelloTimeout,
    /// The handshake was refused; the peer was told why.
    Rejected,
    /// Too many connections in all or from one address; the peer was told.
    ConnectionLimit,
}

impl EncodeLabelValue for Disconnect {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
        let reason = match self {
            Self::Left => "left",
            Self::Lost => "lost",
            Self::Silent => "silent",
            Self::BadMessage => "bad_message",
            Self::TooManyMessages => "too_many_messages",
            Self::SlowReader => "slow_reader",
            Self::ShuttingDown => "shutting_down",
            Self::HelloTimeout => "hello_timeout",
            Self::Rejected => "rejected",
            Self::ConnectionLimit => "connection_limit",
        };
        EncodeLabelValue::encode(&reason, encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DisconnectLabels {
    reason: Disconnect,
}

/// All counters. Cheap to clone: the clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Open connections, of TCP and of the text protocol.
    pub connections: Gauge,
    /// Rooms that exist.
    pub rooms: Gauge,
    /// Cubes in all rooms.
    pub cubes: Gauge,
    /// Ticks of all rooms.
    pub ticks: Counter,
    /// How long a room worked on a tick, fan-out included.
    pub tick_duration: Histogram,
    /// Bytes from clients, frame headers included.
    pub received_bytes: Counter,
    /// Frames from clients.
    pub received_frames: Counter,
    /// Bytes to clients, frame headers included.
    pub sent_bytes: Counter,
    /// Frames to clients: counted when they are due, once per connection.
    pub sent_frames: Counter,
    disconnects: Family<DisconnectLabels, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            connections: Gauge::default(),
            rooms: Gauge::default(),
            cubes: Gauge::default(),
            ticks: Counter::default(),
            tick_duration: Histogram::new(TICK_BUCKETS_SECONDS),
            received_bytes: Counter::default(),
            received_frames: Counter::default(),
            sent_bytes: Counter::default(),
            sent_frames: Counter::default(),
            disconnects: Family::default(),
        }
    }
}

impl Metrics {
    /// Counts an ended connection.
    pub fn disconnected(&self, reason: Disconnect) {
        self.disconnects
            .get_or_create(&DisconnectLabels { reason })
            .inc();
    }

    /// Everything in Prometheus' text form.
    pub fn render(&self) -> String {
        let mut registry = Registry::with_prefix("cubesync");
        registry.register("connections", "Open connections", self.connections.clone());
        registry.register("rooms", "Rooms that exist", self.rooms.clone());
        registry.register("cubes", "Cubes in all rooms", self.cubes.clone());
        registry.register("ticks", "Ticks of all rooms", self.ticks.clone());
        registry.register_with_unit(
            "tick_duration",
            "Work on one tick of one room",
            Unit::Seconds,
            self.tick_duration.clone(),
        );
        let traffic = [
            ("received_bytes", "Bytes from clients", &self.received_bytes),
            (
                "received_frames",
                "Frames from clients",
                &self.received_frames,
            ),
            ("sent_bytes", "Bytes to clients", &self.sent_bytes),
            ("sent_frames", "Frames to clients", &self.sent_frames),
        ];
        for (name, help, counter) in traffic {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "disconnects",
            "Ended connections by reason",
            self.disconnects.clone(),
        );
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)
            .expect("writing to a string cannot fail");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_every_counter_and_reason() {
        let metrics = Metrics::default();
        metrics.connections.set(3);
        metrics.sent_bytes.inc_by(17);
        metrics.tick_duration.observe(0.002);
        metrics.disconnected(Disconnect::SlowReader);
        let text = metrics.render();
        for line in [
            "cubesync_connections 3",
            "cubesync_sent_bytes_total 17",
            "cubesync_tick_duration_seconds_count 1",
            "cubesync_tick_duration_seconds_bucket{le=\"0.0025\"} 1",
            "cubesync_disconnects_total{reason=\"slow_reader\"} 1",
        ] {
            assert!(
                text.lines().any(|other| other == line),
                "{line} is missing in:\n{text}"
            );
        }
    }
}
