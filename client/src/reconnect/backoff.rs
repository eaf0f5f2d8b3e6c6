//! The waits between tries to connect.
//!
//! Each wait is random between the shortest and three times the last one ("decorrelated jitter":
//! M. Brooker, "Exponential Backoff and Jitter", 2015), so that clients that lost the same server
//! do not all come back at once.

use std::time::Duration;

const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(10);
/// Least length of a session after which the waits are [`reset`](Backoff::reset).
pub const LASTING: Duration = Duration::from_secs(10);

/// The waits of one client.
#[derive(Debug, Clone)]
pub struct Backoff {
    random: fastrand::Rng,
    last: Duration,
}

impl Backoff {
    /// Creates waits that depend on the seed alone.
    pub fn new(seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            last: SHORTEST,
        }
    }

    /// Makes the next wait short again.
    pub fn reset(&mut self) {
        self.last = SHORTEST;
    }

    /// Returns the wait after one more failed try.
    pub fn next_wait(&mut self) -> Duration {
        let span = (3 * self.last).saturating_sub(SHORTEST);
        self.last = (SHORTEST + span.mul_f64(self.random.f64())).min(LONGEST);
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_in_their_range_and_grow() {
        for seed in 0..100 {
            let mut backoff = Backoff::new(seed);
            let waits: Vec<_> = (0..50).map(|_| backoff.next_wait()).collect();
            assert!(waits.iter().all(|wait| (SHORTEST..=LONGEST).contains(wait)));
            assert!(waits[0] <= 3 * SHORTEST);
            assert!(waits.iter().max().unwrap() > &(4 * SHORTEST));
        }
    }

    #[test]
    fn after_a_reset_the_next_wait_is_short() {
        let mut backoff = Backoff::new(1);
        for _ in 0..50 {
            for _ in 0..20 {
                backoff.next_wait();
            }
            backoff.reset();
            assert!(backoff.next_wait() <= 3 * SHORTEST);
        }
    }

    #[test]
    fn clients_with_other_seeds_wait_differently() {
        let waits = |seed| Backoff::new(seed).next_wait();
        assert_ne!(waits(1), waits(2));
        assert_eq!(waits(1), waits(1));
    }
}
