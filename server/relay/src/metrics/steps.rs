//! The steps of loose cubes' mechanics.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;

use super::MetricSet;
use super::ticks::TICK_BUCKETS_SECONDS;

/// Counts of the steps of all rooms' mechanics. Clones count together.
#[derive(Debug, Clone)]
pub struct StepCounts {
    duration: Histogram,
    /// Ticks whose step was not over in time: loose cubes were slower than real ones.
    pub late_ticks: Counter,
    moves: Counter,
}

impl StepCounts {
    /// Registers the metrics.
    pub fn new(set: &MetricSet) -> Self {
        let duration = Histogram::new(TICK_BUCKETS_SECONDS);
        set.register(
            "cubesync_loose_step_duration",
            "Work on one step of the loose cubes of one room",
            Some(Unit::Seconds),
            duration.clone(),
        );
        Self {
            duration,
            late_ticks: set.counter(
                "cubesync_loose_late_ticks",
                "Ticks whose step of loose cubes was not over in time",
            ),
            moves: set.counter(
                "cubesync_loose_moves",
                "Loose cubes that a step has moved, of all steps",
            ),
        }
    }

    /// Counts a step that took so long and has moved so many cubes.
    pub fn count(&self, took: Duration, moved: usize) {
        self.duration.observe(took.as_secs_f64());
        self.moves.inc_by(moved as u64);
    }
}
