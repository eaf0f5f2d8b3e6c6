//! A sample of the server's state, for the charts.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::time::Instant;

use crate::datagram::DatagramMetrics;
use cubesync_relay::metrics::Metrics;

/// The figures of one second.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Sample {
    /// The Unix time.
    pub(super) time_s: f64,
    pub(super) connections: i64,
    /// The number of players who also have datagrams.
    pub(super) datagram_paths: i64,
    pub(super) rooms: usize,
    pub(super) players: usize,
    /// The number of players in each of the fullest rooms.
    pub(super) players_by_room: BTreeMap<String, usize>,
    /// The tick times of the last ten seconds; `None` if no room with players ticked.
    pub(super) tick: Option<TickTimes>,
    pub(super) received: Traffic,
    pub(super) sent: Traffic,
}

/// The durations of ticks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct TickTimes {
    count: usize,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

/// Bytes, frames and datagrams per second, with the headers of frames and without those of the network.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Traffic {
    bytes_per_s: f64,
    frames_per_s: f64,
    datagrams_per_s: f64,
}

/// The counters at one instant, from which rates are computed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counters {
    at: Instant,
    received_bytes: u64,
    received_frames: u64,
    sent_bytes: u64,
    sent_frames: u64,
    received_datagrams: u64,
    sent_datagrams: u64,
}

impl TickTimes {
    pub(super) fn of(mut ticks_us: Vec<u32>) -> Option<Self> {
        let count = ticks_us.len();
        // The smallest value that at least this share of all does not exceed (nearest rank).
        let mut percentile_ms = |percent: usize| {
            let rank = (count * percent).div_ceil(100).checked_sub(1)?;
            let (_, us, _) = ticks_us.select_nth_unstable(rank);
            Some(rounded(f64::from(*us) / 1_000.0))
        };
        Some(Self {
            count,
            p50_ms: percentile_ms(50)?,
            p99_ms: percentile_ms(99)?,
            max_ms: percentile_ms(100)?,
        })
    }
}

impl Counters {
    pub(super) fn read(metrics: &Metrics, datagrams: &DatagramMetrics) -> Self {
        Self {
            at: Instant::now(),
            received_bytes: metrics.received_bytes.get() + datagrams.received_bytes.get(),
            received_frames: metrics.received_frames.get(),
            sent_bytes: metrics.sent_bytes.get() + datagrams.sent_bytes.get(),
            sent_frames: metrics.sent_frames.get(),
            received_datagrams: metrics
                .received_datagrams
                .counts()
                .map(|(_, count)| count)
                .sum(),
            sent_datagrams: metrics.sent_datagrams.get(),
        }
    }

    pub(super) fn received_since(&self, before: &Self) -> Traffic {
        Traffic {
            bytes_per_s: self.rate(before, |counters| counters.received_bytes),
            frames_per_s: self.rate(before, |counters| counters.received_frames),
            datagrams_per_s: self.rate(before, |counters| counters.received_datagrams),
        }
    }

    pub(super) fn sent_since(&self, before: &Self) -> Traffic {
        Traffic {
            bytes_per_s: self.rate(before, |counters| counters.sent_bytes),
            frames_per_s: self.rate(before, |counters| counters.sent_frames),
            datagrams_per_s: self.rate(before, |counters| counters.sent_datagrams),
        }
    }

    /// Returns a counter's increase per second. Two readings are never of the same instant.
    fn rate(&self, before: &Self, counter: impl Fn(&Self) -> u64) -> f64 {
        let count = counter(self).saturating_sub(counter(before));
        rounded(count as f64 / (self.at - before.at).as_secs_f64())
    }
}

/// Returns the Unix time in seconds, rounded as in samples.
pub(super) fn unix_time_s() -> f64 {
    // Only a wrong clock is before 1970.
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    rounded(time.unwrap_or_default().as_secs_f64())
}

/// Rounds to three decimals, which keeps the JSON short.
fn rounded(number: f64) -> f64 {
    (number * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn percentiles_have_the_nearest_rank() {
        assert_eq!(TickTimes::of(Vec::new()), None);
        let times = |count, p50_ms, p99_ms, max_ms| {
            Some(TickTimes {
                count,
                p50_ms,
                p99_ms,
                max_ms,
            })
        };
        assert_eq!(TickTimes::of(vec![1_500]), times(1, 1.5, 1.5, 1.5));
        let backwards = (1..=200).map(|us| us * 1_000).rev().collect();
        assert_eq!(TickTimes::of(backwards), times(200, 100.0, 198.0, 200.0));
    }

    #[test]
    fn rates_are_per_second_of_the_time_that_passed() {
        let metrics = Metrics::default();
        let datagrams = DatagramMetrics::new(&metrics.set);
        let before = Counters::read(&metrics, &datagrams);
        metrics.sent_bytes.inc_by(2_400);
        metrics.sent_frames.inc_by(30);
        datagrams.sent_bytes.inc_by(600);
        metrics.sent_datagrams.inc_by(15);
        let after = Counters {
            at: before.at + Duration::from_millis(1_500),
            ..Counters::read(&metrics, &datagrams)
        };
        let sent = after.sent_since(&before);
        assert_eq!((sent.bytes_per_s, sent.frames_per_s), (2_000.0, 20.0));
        assert_eq!(sent.datagrams_per_s, 10.0);
        assert_eq!(after.received_since(&before), Traffic::default());
    }
}
