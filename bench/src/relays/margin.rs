//! How long before its tick a sample is to reach the server: as short as the machine's jitter
//! allows.

use std::time::Duration;

/// At least this, in microseconds.
const LEAST_US: u64 = 1_500;
/// At most this, in microseconds, and half a tick.
const MOST_US: u64 = 12_000;
/// A tick that less than this part of the samples has reached in time makes the margin longer by
/// [`GROWS_US`], any other shorter by [`SHRINKS_US`]: so about one tick in forty is missed by some
/// where the jitter is larger than the least margin.
const IN_TIME: f64 = 0.995;
const GROWS_US: u64 = 800;
const SHRINKS_US: u64 = 20;

/// The margin of one thread's clients.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Margin {
    us: u64,
    most_us: u64,
}

impl Margin {
    /// The least, for ticks of this length.
    pub(crate) fn new(period: Duration) -> Self {
        let half_us = period.as_micros() as u64 / 2;
        Self {
            us: LEAST_US,
            most_us: MOST_US.min(half_us).max(LEAST_US),
        }
    }

    /// The margin now, in microseconds.
    pub(crate) fn us(self) -> u64 {
        self.us
    }

    /// The longest it may become, in microseconds.
    pub(crate) fn most_us(self) -> u64 {
        self.most_us
    }

    /// This part of a tick's samples was there in time.
    pub(crate) fn adapt(&mut self, in_time: f64) {
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
        for _ in 0..100 {
            margin.adapt(0.9);
        }
        assert_eq!(margin.us(), 5_000, "half a tick");
        margin.adapt(1.0);
        assert_eq!(margin.us(), 4_980);
        for _ in 0..1_000 {
            margin.adapt(1.0);
        }
        assert_eq!(margin.us(), LEAST_US);
    }
}
