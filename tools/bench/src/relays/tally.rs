//! The counts of the clients of one generator thread during the measurement.

use std::ops::Range;

use hdrhistogram::Histogram;

use crate::audit::Findings;
use crate::score::Score;

/// The longest latency that is distinguished, in microseconds: a minute.
const LONGEST_US: u64 = 60_000_000;

/// The counts of one thread; [`merge`](Self::merge) adds them up.
#[derive(Debug)]
pub(crate) struct Tally {
    /// The time of the measurement, in the workload's microseconds.
    pub(crate) window_us: Range<u64>,
    /// Updates that reached a receiver, and for cubesync those that did not.
    pub(crate) score: Score,
    /// The results of the checks of what clients receive.
    pub(crate) findings: Findings,
    /// TCP payload received, in bytes.
    pub(crate) bytes: u64,
    /// Times from a sample to its arrival, in microseconds, by the number of ways between two servers on
    /// which it went: none if sender and receiver are at the room's owner, two if both are at edges.
    pub(crate) latency_us: [Histogram<u64>; 3],
}

impl Tally {
    /// Returns empty counts.
    pub(crate) fn new() -> Self {
        Self {
            window_us: 0..0,
            score: Score::default(),
            findings: Findings::default(),
            bytes: 0,
            latency_us: [(); 3].map(|()| histogram(LONGEST_US)),
        }
    }

    /// Counts bytes that arrived at `now_us`.
    pub(crate) fn received(&mut self, now_us: u64, len_bytes: usize) {
        if self.window_us.contains(&now_us) {
            self.bytes += len_bytes as u64;
        }
    }

    /// Counts updates that arrived at `now_us` and were sampled at `sampled_us`.
    pub(crate) fn delivered(&mut self, now_us: u64, sampled_us: u64, count: u64) {
        if self.window_us.contains(&now_us) {
            self.score.delivered += count;
            self.latency(0, now_us, sampled_us, count);
        }
    }

    /// Records a latency whose delivery is counted elsewhere.
    pub(crate) fn latency(&mut self, hops: usize, now_us: u64, sampled_us: u64, count: u64) {
        let latency_us = now_us.saturating_sub(sampled_us);
        self.latency_us[hops].saturating_record_n(latency_us, count);
    }

    /// Adds another thread's counts.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.score += other.score;
        self.findings += other.findings;
        self.bytes += other.bytes;
        for (own, other) in self.latency_us.iter_mut().zip(&other.latency_us) {
            *own += other;
        }
    }
}

/// Returns a histogram of microseconds with a resolution of 1 %.
pub(crate) fn histogram(longest_us: u64) -> Histogram<u64> {
    Histogram::new_with_bounds(1, longest_us, 2).expect("the bounds are in order")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_arrivals_in_the_window_count() {
        let mut tally = Tally::new();
        tally.window_us = 100..200;
        for now_us in [99, 100, 199, 200] {
            tally.received(now_us, 10);
            tally.delivered(now_us, now_us - 50, 3);
        }
        assert_eq!((tally.bytes, tally.score.delivered), (20, 6));
        assert_eq!(tally.latency_us[0].len(), 6);
        assert_eq!(tally.latency_us[0].max(), 50);
        let mut sum = Tally::new();
        sum.merge(&tally);
        sum.merge(&tally);
        assert_eq!((sum.bytes, sum.score.delivered), (40, 12));
    }
}
