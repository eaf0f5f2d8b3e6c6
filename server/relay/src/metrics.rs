//! The metrics of rooms and sessions.

mod set;
mod steps;
mod ticks;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

pub use self::set::{CountersBy, MetricSet};
pub use self::steps::StepCounts;
pub use self::ticks::TickDuration;
use crate::ending::Ending;
use crate::label::label;

label! {
    /// The kind of the task that panicked: the label of `cubesync_panics_total`.
    pub enum Task("task") {
        /// One connection.
        Connection => "connection",
        /// One room.
        Room => "room",
        /// Anything else.
        Other => "other",
    }
}

label! {
    /// When a moving cube's sample came: the label of `cubesync_samples_total`.
    pub enum SampleTiming("timing") {
        /// Within the tick before its own, as it should.
        OnTime => "on_time",
        /// More than a tick too early.
        Early => "early",
        /// After its tick had begun.
        Late => "late",
        /// Not at all, although one was expected.
        Missing => "missing",
    }
}

label! {
    /// What a client's datagram was good for: the label of `cubesync_received_datagrams_total`.
    pub enum DatagramUse("use") {
        /// It had a sample that the stream had not brought yet.
        New => "new",
        /// It had none, or the stream was faster, or something before it was missing.
        Nothing => "nothing",
    }
}

label! {
    /// Which rule a sample broke: the label of `cubesync_corrections_total`.
    pub enum BrokenRule("reason") {
        /// The top speed.
        Speed => "speed",
        /// That players move only what is theirs.
        Authority => "authority",
    }
}

label! {
    /// The outcome of a token that was shown: the label of `cubesync_resumes_total`.
    pub enum Resumed("outcome") {
        /// Its bearer has the cube again.
        Resumed => "resumed",
        /// It stands for no cube.
        Unknown => "unknown",
    }
}

/// The metrics of rooms and sessions. Cheap to clone: the clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// All metrics of the server, in which those of other parts are registered as well.
    pub set: MetricSet,
    /// Connections of players that are being served, whatever they speak.
    pub connections: Gauge,
    /// Connections of players and for pages that have been served to their end. It is not registered: the
    /// counters of their reasons say more.
    pub ended_connections: Counter,
    /// Rooms that exist.
    pub rooms: Gauge,
    /// Rooms that do not rest.
    pub ticking: Gauge,
    /// Cubes in all rooms.
    pub cubes: Gauge,
    /// Ticks of all rooms.
    pub ticks: Counter,
    /// How long a room worked on a tick, sending included.
    pub tick_duration: TickDuration,
    /// The steps of loose cubes' mechanics.
    pub steps: StepCounts,
    /// Bytes from clients, frame headers included.
    pub received_bytes: Counter,
    /// Frames from clients.
    pub received_frames: Counter,
    /// Bytes to clients, frame headers included.
    pub sent_bytes: Counter,
    /// Frames to clients: counted when they are due, once per connection.
    pub sent_frames: Counter,
    /// Datagrams to clients.
    pub sent_datagrams: Counter,
    /// Bytes of datagrams to clients, before encryption.
    pub sent_datagram_bytes: Counter,
    /// Datagrams from clients.
    pub received_datagrams: CountersBy<DatagramUse>,
    /// Ended connections of players.
    pub disconnects: CountersBy<Ending>,
    /// Samples of moving cubes.
    pub samples: CountersBy<SampleTiming>,
    /// Samples that were corrected.
    pub corrections: CountersBy<BrokenRule>,
    /// Tokens that were shown.
    pub resumes: CountersBy<Resumed>,
    /// Tasks that panicked.
    pub panics: CountersBy<Task>,
}

/// A guard that counts in a gauge for as long as it lives, even if its task panics.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Counted {
    fn by(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let set = MetricSet::default();
        Self {
            connections: set.gauge("cubesync_connections", "Open connections"),
            ended_connections: Counter::default(),
            rooms: set.gauge("cubesync_rooms", "Rooms that exist"),
            ticking: set.gauge(
                "cubesync_rooms_ticking",
                "Rooms with something to do at each tick: one without players rests",
            ),
            cubes: set.gauge("cubesync_cubes", "Cubes in all rooms"),
            ticks: set.counter("cubesync_ticks", "Ticks of all rooms"),
            tick_duration: TickDuration::new(&set),
            steps: StepCounts::new(&set),
            received_bytes: set.counter("cubesync_received_bytes", "Bytes from clients"),
            received_frames: set.counter("cubesync_received_frames", "Frames from clients"),
            sent_bytes: set.counter("cubesync_sent_bytes", "Bytes to clients"),
            sent_frames: set.counter("cubesync_sent_frames", "Frames to clients"),
            sent_datagrams: set.counter("cubesync_sent_datagrams", "Datagrams to clients"),
            sent_datagram_bytes: set.counter(
                "cubesync_sent_datagram_bytes",
                "Bytes of datagrams to clients, before encryption",
            ),
            received_datagrams: set.counters_by(
                "cubesync_received_datagrams",
                "Datagrams from clients by what they were good for",
            ),
            samples: set.counters_by(
                "cubesync_samples",
                "Samples of moving cubes by when they came",
            ),
            corrections: set.counters_by(
                "cubesync_corrections",
                "Corrections of samples against the rules, by rule",
            ),
            disconnects: set.counters_by("cubesync_disconnects", "Ended connections by reason"),
            resumes: set.counters_by(
                "cubesync_resumes",
                "Tokens shown to come back, by whether they were good",
            ),
            panics: set.counters_by(
                "cubesync_panics",
                "Failures that ended one connection or one room",
            ),
            set,
        }
    }
}

impl Metrics {
    /// Counts a connection of a player for as long as the result lives.
    pub fn connected(&self) -> Counted {
        Counted::by(&self.connections)
    }

    /// Counts a room that ticks for as long as the result lives.
    pub fn ticking(&self) -> Counted {
        Counted::by(&self.ticking)
    }

    /// Counts bytes and frames that went out to a connection.
    pub fn count_sent(&self, bytes: u64, frames: u64) {
        self.sent_bytes.inc_by(bytes);
        self.sent_frames.inc_by(frames);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_what_was_counted() {
        let metrics = Metrics::default();
        metrics.connections.set(3);
        metrics.count_sent(17, 1);
        metrics.tick_duration.observe(0.002);
        metrics.disconnects.count(Ending::SlowReader);
        let text = metrics.set.render();
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
