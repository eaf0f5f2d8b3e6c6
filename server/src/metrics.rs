//! What the server counts, in Prometheus' text form.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::logging;
use crate::room::fanout::Written;
use crate::room::uplink::SampleCounts;

/// Tick durations from 50 microseconds to the length of a tick at 1 Hz.
const TICK_BUCKETS_SECONDS: [f64; 12] = [
    50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 1.0,
];

/// Tick durations kept for whoever asks what the last ones were: a second of 500 rooms at the
/// highest rate, 256 KiB.
const MAX_RECENT_TICKS: usize = 64 * 1024;

/// Why a connection ended: the label of `cubesync_disconnects_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Disconnect {
    /// The peer said that it leaves.
    Left,
    /// The peer closed without a word.
    Closed,
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
    /// The player came back on another connection.
    Replaced,
    /// The server stopped.
    ShuttingDown,
    /// No `Hello` in time.
    HelloTimeout,
    /// The handshake was refused; the peer was told why.
    Rejected,
    /// Too many connections in all or from one address; the peer was told. It stays the last: the
    /// length of [`Disconnect::ALL`] is known from it.
    ConnectionLimit,
}

impl Disconnect {
    /// Every reason.
    pub const ALL: [Self; Self::ConnectionLimit as usize + 1] = [
        Self::Left,
        Self::Closed,
        Self::Lost,
        Self::Silent,
        Self::BadMessage,
        Self::TooManyMessages,
        Self::SlowReader,
        Self::Replaced,
        Self::ShuttingDown,
        Self::HelloTimeout,
        Self::Rejected,
        Self::ConnectionLimit,
    ];

    /// Whether the player may be on their way back.
    pub fn is_accident(self) -> bool {
        matches!(
            self,
            Self::Closed | Self::Lost | Self::Silent | Self::SlowReader
        )
    }

    /// The reason as it stands in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Closed => "closed",
            Self::Lost => "lost",
            Self::Silent => "silent",
            Self::BadMessage => "bad_message",
            Self::TooManyMessages => "too_many_messages",
            Self::SlowReader => "slow_reader",
            Self::Replaced => "replaced",
            Self::ShuttingDown => "shutting_down",
            Self::HelloTimeout => "hello_timeout",
            Self::Rejected => "rejected",
            Self::ConnectionLimit => "connection_limit",
        }
    }
}

impl EncodeLabelValue for Disconnect {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SampleLabels {
    timing: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DisconnectLabels {
    reason: Disconnect,
}

/// How long ticks took: all of them in buckets, and the last ones exactly. Clones count together.
#[derive(Debug, Clone)]
pub struct TickDuration {
    histogram: Histogram,
    recent_us: Arc<Mutex<Vec<u32>>>,
}

impl TickDuration {
    /// Counts a tick.
    pub fn observe(&self, seconds: f64) {
        self.histogram.observe(seconds);
        let mut recent = self.recent();
        if recent.len() < MAX_RECENT_TICKS {
            // `as` saturates.
            recent.push((seconds * 1e6).round() as u32);
        }
    }

    /// The durations since the last call, in microseconds and the order of their ticks; for one
    /// caller only. Nobody asking costs no more than [`MAX_RECENT_TICKS`].
    pub(crate) fn take_recent_us(&self) -> Vec<u32> {
        std::mem::take(&mut self.recent())
    }

    fn recent(&self) -> std::sync::MutexGuard<'_, Vec<u32>> {
        self.recent_us
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for TickDuration {
    fn default() -> Self {
        Self {
            histogram: Histogram::new(TICK_BUCKETS_SECONDS),
            recent_us: Arc::default(),
        }
    }
}

/// All counters. Cheap to clone: the clones count together.
#[derive(Debug, Clone, Default)]
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
    pub tick_duration: TickDuration,
    /// Bytes from clients, frame headers included.
    pub received_bytes: Counter,
    /// Frames from clients.
    pub received_frames: Counter,
    /// Bytes to clients, frame headers included.
    pub sent_bytes: Counter,
    /// Frames to clients: counted when they are due, once per connection.
    pub sent_frames: Counter,
    disconnects: Family<DisconnectLabels, Counter>,
    samples: Family<SampleLabels, Counter>,
}

impl Metrics {
    /// Counts an ended connection.
    pub fn disconnected(&self, reason: Disconnect) {
        self.disconnects
            .get_or_create(&DisconnectLabels { reason })
            .inc();
    }

    /// Ended connections by reason; reasons that never occurred are missing.
    pub fn disconnects(&self) -> impl Iterator<Item = (Disconnect, u64)> {
        Disconnect::ALL.into_iter().filter_map(|reason| {
            let counter = self.disconnects.get(&DisconnectLabels { reason })?;
            Some((reason, counter.get()))
        })
    }

    /// Counts what went out to a connection.
    pub(crate) fn count_written(&self, written: Written) {
        self.sent_bytes.inc_by(written.bytes);
        self.sent_frames.inc_by(written.frames);
    }

    /// Counts how samples came.
    pub(crate) fn count_samples(&self, counts: SampleCounts) {
        let SampleCounts {
            on_time,
            early,
            late,
            missing,
        } = counts;
        let counted = [
            ("on_time", on_time),
            ("early", early),
            ("late", late),
            ("missing", missing),
        ];
        for (timing, count) in counted {
            if count > 0 {
                self.samples
                    .get_or_create(&SampleLabels { timing })
                    .inc_by(count);
            }
        }
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
            self.tick_duration.histogram.clone(),
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
            "samples",
            "Samples of moving cubes by when they came",
            self.samples.clone(),
        );
        registry.register(
            "disconnects",
            "Ended connections by reason",
            self.disconnects.clone(),
        );
        registry.register(
            "logs_suppressed",
            "Lines of the log that were left out because there were too many",
            ConstCounter::new(logging::suppressed()),
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
    fn every_reason_is_listed_once_and_counted() {
        let metrics = Metrics::default();
        assert_eq!(metrics.disconnects().count(), 0);
        for (index, reason) in Disconnect::ALL.into_iter().enumerate() {
            (0..=index).for_each(|_| metrics.disconnected(reason));
        }
        let counts = metrics.disconnects().map(|(_, count)| count);
        assert!(counts.eq(1..=Disconnect::ALL.len() as u64));
    }

    #[test]
    fn recent_ticks_are_told_once_and_bounded() {
        let ticks = TickDuration::default();
        ticks.observe(0.001_5);
        ticks.observe(1e9);
        assert_eq!(ticks.take_recent_us(), [1_500, u32::MAX]);
        for _ in 0..=MAX_RECENT_TICKS {
            ticks.observe(0.0);
        }
        assert_eq!(ticks.take_recent_us().len(), MAX_RECENT_TICKS);
    }

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
