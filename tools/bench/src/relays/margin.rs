//! The margin: how long before its tick a sample is sent. It is as short as the machine's jitter allows.

use std::time::Duration;

/// The shortest margin, in microseconds.
const LEAST_US: u64 = 1_500;
/// The longest margin, in microseconds; it is also at most half a tick.
const MOST_US: u64 = 12_000;
/// A tick for which less than this share of the samples arrived in time makes the margin longer by
/// [`GROWS_US`], any other shorter by [`SHRINKS_US`]. So some samples miss about one tick in forty where
/// the jitter is larger than the shortest margin.
const IN_TIME: f64 = 0.995;
const GROWS_US: u64 = 800;
const SHRINKS_US: u64 = 20;

/// The margin of one thread's clients.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Margin {
    us: u64,
    most_us: u64,
    tick: u64,
    /// Samples of `tick` that arrived in time.
    in_time: u64,
    /// All samples of `tick`.
    samples: u64,
}

impl Margin {
    /// Returns the shortest margin, for ticks of this length.
    pub(crate) fn new(period: Duration) -> Self {
        let half_us = period.as_micros() as u64 / 2;
        Self {
            us: LEAST_US,
            most_us: MOST_US.min(half_us).max(LEAST_US),
            tick: 0,
            in_time: 0,
            samples: 0,
        }
    }

    /// Returns the margin, in microseconds.
    pub(crate) fn us(self) -> u64 {
        self.us
    }

    /// Returns the longest margin, in microseconds.
    pub(crate) fn most_us(self) -> u64 {
        self.most_us
    }

    /// Records how many samples of a tick arrived in time, in one cell.
    pub(crate) fn learn(&mut self, tick: u64, in_time: u64, samples: u64) {
        if tick > self.tick {
            if self.samples > 0 {
                self.adapt(self.in_time as f64 / self.samples as f64);
            }
            (self.tick, self.in_time, self.samples) = (tick, 0, 0);
        }
        self.in_time += in_time;
        self.samples += samples;
    }

    fn adapt(&mut self, in_time: f64) {
        self.us = if in_time < IN_TIME {
            (self.us + GROWS_US).min(self.most_us)
        } else {
            self.us.saturating_sub(SHRINKS_US).max(LEAST_US)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_margin_grows_while_samples_are_late_and_shrinks_again() {
        let mut margin = Margin::new(Duration::from_millis(10));
        for tick in 1..=100 {
            margin.learn(tick, 100, 100);
            margin.learn(tick, 80, 100);
        }
        assert_eq!(margin.us(), 5_000, "half a tick");
        margin.learn(101, 100, 100);
        assert_eq!(margin.us(), 5_000, "the tick before was late");
        margin.learn(102, 100, 100);
        assert_eq!(margin.us(), 4_980);
        for tick in 103..=1_103 {
            margin.learn(tick, 100, 100);
        }
        assert_eq!(margin.us(), LEAST_US);
    }
}
