//! The bursts in which a link loses packets.

use std::time::Duration;

/// The state of a link that loses packets in bursts.
#[derive(Debug)]
pub(super) struct Bursts {
    random: fastrand::Rng,
    is_bad: bool,
    until: Duration,
}

impl Bursts {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            // The first state ends at once, so that the second, a good one, is drawn.
            is_bad: true,
            until: Duration::ZERO,
        }
    }

    /// Returns whether the link is in its bad state. Times must not fall.
    pub(super) fn is_bad(&mut self, now: Duration, good: Duration, bad: Duration) -> bool {
        while self.until <= now {
            self.is_bad = !self.is_bad;
            let mean = if self.is_bad { bad } else { good };
            // At least a microsecond, so that the loop ends.
            let times = -(1.0 - self.random.f64()).ln();
            self.until += mean.mul_f64(times) + Duration::from_micros(1);
        }
        self.is_bad
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_states_last_as_long_as_asked_on_average() {
        let (good, bad) = (Duration::from_secs(2), Duration::from_millis(100));
        let mut bursts = Bursts::new(7);
        let states: Vec<_> = (0..4_000_000)
            .map(|ms| bursts.is_bad(Duration::from_millis(ms), good, bad))
            .collect();
        let bad_ms = states.iter().filter(|is_bad| **is_bad).count() as f64;
        let begins = |pair: &&[bool]| !pair[0] && pair[1];
        let count = states.windows(2).filter(begins).count() as f64;
        assert!(
            (0.9..1.1).contains(&(bad_ms / count / 100.0)),
            "{bad_ms} {count}"
        );
        assert!((0.9..1.1).contains(&(4_000.0 / 2.1 / count)), "{count}");
    }
}
