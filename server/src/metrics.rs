//! What the server counts, in Prometheus' text form.

mod cluster;
mod labels;
mod process;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use self::labels::{
    CorrectionLabels, DisconnectLabels, DoorLabels, HttpCutLabels, PanicLabels, ReloadLabels,
    ResponseLabels, ResumeLabels, SampleLabels,
};
pub(crate) use self::labels::{Door, Task};
use crate::admission::Count;
use crate::cluster::Cluster;
use crate::ending::{Ending, HttpEnding};
use crate::label::Label;
use crate::logging;
use crate::room::fanout::Written;
use crate::room::world::SampleCounts;

/// Tick durations from 50 microseconds to the length of a tick at 1 Hz.
const TICK_BUCKETS_SECONDS: [f64; 12] = [
    50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 1.0,
];

/// Tick durations kept for whoever asks what the last ones were: a second of 500 rooms at the
/// highest rate, 256 KiB.
const MAX_RECENT_TICKS: usize = 64 * 1024;

/// How an attempt to read the certificate again can end: badly or well.
const RELOADS: [&str; 2] = ["failed", "ok"];

/// Of a metric that has one value or none.
type NoLabels = [(&'static str, &'static str); 0];

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
#[derive(Debug, Clone)]
pub struct Metrics {
    started: SystemTime,
    /// Connections of players that are being served, whatever they speak.
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
    corrections: Family<CorrectionLabels, Counter>,
    resumes: Family<ResumeLabels, Counter>,
    http_responses: Family<ResponseLabels, Counter>,
    http_cuts: Family<HttpCutLabels, Counter>,
    accept_errors: Family<DoorLabels, Counter>,
    panics: Family<PanicLabels, Counter>,
    /// Without a certificate there is none.
    certificate_expiry: Family<NoLabels, Gauge>,
    certificate_reloads: Family<ReloadLabels, Counter>,
}

/// A connection that is being served; dropping it ends that, also when its task panics.
#[derive(Debug)]
pub(crate) struct Connected(Gauge);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Default for Metrics {
    /// Nothing is counted yet. What rarely happens is there from the start, so that whoever compares
    /// with earlier values sees the first time as well.
    fn default() -> Self {
        let metrics = Self {
            started: SystemTime::now(),
            connections: Gauge::default(),
            rooms: Gauge::default(),
            cubes: Gauge::default(),
            ticks: Counter::default(),
            tick_duration: TickDuration::default(),
            received_bytes: Counter::default(),
            received_frames: Counter::default(),
            sent_bytes: Counter::default(),
            sent_frames: Counter::default(),
            disconnects: Family::default(),
            samples: Family::default(),
            corrections: Family::default(),
            resumes: Family::default(),
            http_responses: Family::default(),
            http_cuts: Family::default(),
            accept_errors: Family::default(),
            panics: Family::default(),
            certificate_expiry: Family::default(),
            certificate_reloads: Family::default(),
        };
        for reason in Ending::ALL.iter().copied() {
            metrics
                .disconnects
                .get_or_create(&DisconnectLabels { reason })
                .inc_by(0);
        }
        for reason in HttpEnding::ALL.iter().copied() {
            metrics
                .http_cuts
                .get_or_create(&HttpCutLabels { reason })
                .inc_by(0);
        }
        for listener in Door::ALL.iter().copied() {
            metrics
                .accept_errors
                .get_or_create(&DoorLabels { listener })
                .inc_by(0);
        }
        for outcome in RELOADS {
            metrics
                .certificate_reloads
                .get_or_create(&ReloadLabels { outcome })
                .inc_by(0);
        }
        for task in Task::ALL.iter().copied() {
            metrics
                .panics
                .get_or_create(&PanicLabels { task })
                .inc_by(0);
        }
        metrics
    }
}

impl Metrics {
    /// Counts a connection of a player for as long as the result lives.
    pub(crate) fn connected(&self) -> Connected {
        self.connections.inc();
        Connected(self.connections.clone())
    }

    /// Counts an ended connection.
    pub fn disconnected(&self, reason: Ending) {
        self.disconnects
            .get_or_create(&DisconnectLabels { reason })
            .inc();
    }

    /// Ended connections by reason; reasons that never occurred are missing.
    pub fn disconnects(&self) -> impl Iterator<Item = (Ending, u64)> {
        let count = |reason| {
            let counter = self.disconnects.get(&DisconnectLabels { reason });
            counter.map_or(0, |counter| counter.get())
        };
        let counts = Ending::ALL
            .iter()
            .copied()
            .map(move |reason| (reason, count(reason)));
        counts.filter(|(_, count)| *count > 0)
    }

    /// Counts an HTTP connection that ended otherwise than by being served.
    pub(crate) fn http_cut(&self, reason: HttpEnding) {
        self.http_cuts
            .get_or_create(&HttpCutLabels { reason })
            .inc();
    }

    /// Counts an answer.
    pub(crate) fn http_response(&self, status: u16) {
        let labels = ResponseLabels { status };
        self.http_responses.get_or_create(&labels).inc();
    }

    /// Counts a connection that could not be accepted.
    pub(crate) fn accept_failed(&self, listener: Door) {
        let labels = DoorLabels { listener };
        self.accept_errors.get_or_create(&labels).inc();
    }

    /// Counts a panic.
    pub(crate) fn panicked(&self, task: Task) {
        self.panics.get_or_create(&PanicLabels { task }).inc();
    }

    /// Counts a token that was shown, and whether it was good.
    pub(crate) fn resumed(&self, is_good: bool) {
        let outcome = if is_good { "resumed" } else { "unknown" };
        self.resumes.get_or_create(&ResumeLabels { outcome }).inc();
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
            too_fast,
            not_theirs,
        } = counts;
        let timings = [
            ("on_time", on_time),
            ("early", early),
            ("late", late),
            ("missing", missing),
        ];
        for (timing, count) in timings.into_iter().filter(|(_, count)| *count > 0) {
            let labels = SampleLabels { timing };
            self.samples.get_or_create(&labels).inc_by(count);
        }
        let reasons = [("speed", too_fast), ("authority", not_theirs)];
        for (reason, count) in reasons.into_iter().filter(|(_, count)| *count > 0) {
            let labels = CorrectionLabels { reason };
            self.corrections.get_or_create(&labels).inc_by(count);
        }
    }

    /// Notes when the certificate that is served from now on ends to be valid.
    pub(crate) fn certificate_expires(&self, ends: SystemTime) {
        let since = ends.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        self.certificate_expiry.get_or_create(&[]).set(seconds);
    }

    /// Counts an attempt to read the certificate again.
    pub(crate) fn certificate_reloaded(&self, is_good: bool) {
        let outcome = RELOADS[usize::from(is_good)];
        self.certificate_reloads
            .get_or_create(&ReloadLabels { outcome })
            .inc();
    }

    /// Everything in Prometheus' text form; `open` and `limit` are numbers of connections.
    pub(crate) fn render(&self, open: Count, limit: usize, cluster: Option<&Cluster>) -> String {
        let mut whole = Registry::default();
        process::register(&mut whole, self.started);
        let registry = whole.sub_registry_with_prefix("cubesync");
        let number = |value: usize| {
            let gauge = Gauge::<i64>::default();
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            gauge
        };
        let gauges = [
            ("connections", "Open connections", self.connections.clone()),
            (
                "pending_connections",
                "Connections that have not introduced themselves yet",
                number(open.pending),
            ),
            ("connections_limit", "Connections at most", number(limit)),
            ("rooms", "Rooms that exist", self.rooms.clone()),
            ("cubes", "Cubes in all rooms", self.cubes.clone()),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge);
        }
        registry.register_with_unit(
            "tick_duration",
            "Work on one tick of one room",
            Unit::Seconds,
            self.tick_duration.histogram.clone(),
        );
        let counters = [
            ("ticks", "Ticks of all rooms", &self.ticks),
            ("received_bytes", "Bytes from clients", &self.received_bytes),
            (
                "received_frames",
                "Frames from clients",
                &self.received_frames,
            ),
            ("sent_bytes", "Bytes to clients", &self.sent_bytes),
            ("sent_frames", "Frames to clients", &self.sent_frames),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "samples",
            "Samples of moving cubes by when they came",
            self.samples.clone(),
        );
        registry.register(
            "corrections",
            "Corrections of samples against the rules, by rule",
            self.corrections.clone(),
        );
        registry.register(
            "disconnects",
            "Ended connections by reason",
            self.disconnects.clone(),
        );
        registry.register(
            "resumes",
            "Tokens shown to come back, by whether they were good",
            self.resumes.clone(),
        );
        registry.register(
            "http_responses",
            "Answers to requests by status",
            self.http_responses.clone(),
        );
        registry.register(
            "http_cuts",
            "HTTP connections that ended otherwise than by being served, by reason",
            self.http_cuts.clone(),
        );
        registry.register(
            "accept_errors",
            "Connections that could not be accepted, by listener",
            self.accept_errors.clone(),
        );
        registry.register(
            "panics",
            "Failures that ended one connection or one room",
            self.panics.clone(),
        );
        registry.register_with_unit(
            "certificate_expiry_timestamp",
            "When the certificate that is served expires, in Unix time",
            Unit::Seconds,
            self.certificate_expiry.clone(),
        );
        registry.register(
            "certificate_reloads",
            "Attempts to read the certificate again, by outcome",
            self.certificate_reloads.clone(),
        );
        registry.register(
            "logs_suppressed",
            "Lines of the log that were left out because there were too many",
            ConstCounter::new(logging::suppressed()),
        );
        if let Some(cluster) = cluster {
            cluster::register(registry, cluster);
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &whole)
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
        for (index, reason) in Ending::ALL.iter().copied().enumerate() {
            (0..=index).for_each(|_| metrics.disconnected(reason));
        }
        let counts = metrics.disconnects().map(|(_, count)| count);
        assert!(counts.eq(1..=Ending::ALL.len() as u64));
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
        metrics.disconnected(Ending::SlowReader);
        let text = metrics.render(
            Count {
                open: 3,
                pending: 1,
            },
            9,
            None,
        );
        for line in [
            "cubesync_connections 3",
            "cubesync_pending_connections 1",
            "cubesync_connections_limit 9",
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
