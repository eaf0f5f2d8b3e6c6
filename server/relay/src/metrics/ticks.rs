//! The durations of ticks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;

use super::MetricSet;

/// Tick durations from 50 microseconds to the length of a tick at 1 Hz.
pub(super) const TICK_BUCKETS_SECONDS: [f64; 12] = [
    50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 1.0,
];

/// Largest number of tick durations that are kept one by one: a second of 500 rooms at the highest
/// rate, 256 KiB.
const MAX_RECENT_TICKS: usize = 64 * 1024;

/// The durations of ticks: of all in buckets, of the last ones exactly. Clones count together.
#[derive(Debug, Clone)]
pub struct TickDuration {
    histogram: Histogram,
    recent_us: Arc<Mutex<Vec<u32>>>,
}

impl TickDuration {
    /// Registers a histogram to which ticks are added.
    pub fn new(set: &MetricSet) -> Self {
        let histogram = Histogram::new(TICK_BUCKETS_SECONDS);
        set.register(
            "cubesync_tick_duration",
            "Work on one tick of one room",
            Some(Unit::Seconds),
            histogram.clone(),
        );
        Self {
            histogram,
            recent_us: Arc::default(),
        }
    }

    /// Counts a tick.
    pub fn observe(&self, seconds: f64) {
        self.histogram.observe(seconds);
        let mut recent = self.recent();
        if recent.len() < MAX_RECENT_TICKS {
            // `as` saturates.
            recent.push((seconds * 1e6).round() as u32);
        }
    }

    /// Returns the durations since the last call, in microseconds and the order of their ticks; for
    /// one caller only. If nobody calls, they cost no more than `MAX_RECENT_TICKS` numbers.
    pub fn take_recent_us(&self) -> Vec<u32> {
        std::mem::take(&mut self.recent())
    }

    fn recent(&self) -> MutexGuard<'_, Vec<u32>> {
        self.recent_us
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_ticks_are_told_once_and_bounded() {
        let ticks = TickDuration::new(&MetricSet::default());
        ticks.observe(0.001_5);
        ticks.observe(1e9);
        assert_eq!(ticks.take_recent_us(), [1_500, u32::MAX]);
        for _ in 0..=MAX_RECENT_TICKS {
            ticks.observe(0.0);
        }
        assert_eq!(ticks.take_recent_us().len(), MAX_RECENT_TICKS);
    }
}
