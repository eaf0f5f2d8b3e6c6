//! Token buckets: how much may come in a second, and how much at once.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// A bucket that fills at an even rate and holds what may come at once. It remembers one moment
/// instead of a level (the "generic cell rate algorithm" of ATM networks): when it will be full.
#[derive(Debug)]
pub struct TokenBucket {
    each: Duration,
    capacity: Duration,
    full_at: Instant,
}

impl TokenBucket {
    /// Creates a full bucket that earns a token in each `each`, and holds as many as it earns in `burst`,
    /// one at least.
    pub fn new(each: Duration, burst: Duration, now: Instant) -> Self {
        Self {
            each,
            capacity: burst.max(each),
            full_at: now,
        }
    }

    /// Creates a full bucket that earns `count` tokens a second.
    pub fn per_second(count: NonZeroU32, burst: Duration, now: Instant) -> Self {
        Self::new(Duration::from_secs(1) / count.get(), burst, now)
    }

    /// Takes `count` tokens if there are as many, and returns whether there were.
    pub fn take(&mut self, count: u32, now: Instant) -> bool {
        let fits = self.holds(count, now);
        if fits {
            self.full_at = self.full_at_after(count, now);
        }
        fits
    }

    /// Takes `count` tokens, also those that are not there yet, and returns when they will be.
    pub fn overdraw(&mut self, count: u32, now: Instant) -> Instant {
        self.full_at = self.full_at_after(count, now);
        self.full_at.checked_sub(self.capacity).unwrap_or(now)
    }

    /// Returns whether it holds `count` tokens.
    pub fn holds(&self, count: u32, now: Instant) -> bool {
        self.full_at_after(count, now) - now <= self.capacity
    }

    /// Returns when it would be full if `count` tokens were taken now.
    fn full_at_after(&self, count: u32, now: Instant) -> Instant {
        self.full_at.max(now) + self.each.saturating_mul(count)
    }

    /// Returns when it will hold as many tokens as it can, or did.
    pub fn full_at(&self) -> Instant {
        self.full_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(per_second: u32, burst_seconds: u64) -> (TokenBucket, Instant) {
        let rate = NonZeroU32::new(per_second).unwrap();
        let start = Instant::now();
        let burst = Duration::from_secs(burst_seconds);
        (TokenBucket::per_second(rate, burst, start), start)
    }

    #[test]
    fn a_burst_may_come_at_once_and_then_the_rate() {
        let (mut bucket, start) = bucket(4, 2);
        let mut taken = |after: Duration| {
            let tries = std::iter::from_fn(|| bucket.take(1, start + after).then_some(()));
            tries.count()
        };
        assert_eq!(taken(Duration::ZERO), 8);
        assert_eq!(taken(Duration::from_millis(240)), 0);
        assert_eq!(taken(Duration::from_millis(250)), 1);
        assert_eq!(taken(Duration::from_millis(1_000)), 3);
        // It never holds more than a burst.
        assert_eq!(taken(Duration::from_secs(3_600)), 8);
    }

    #[test]
    fn many_are_taken_whole_or_not_at_all() {
        let (mut bucket, now) = bucket(1_000, 2);
        assert!(bucket.take(1_500, now));
        assert!(bucket.holds(500, now) && !bucket.holds(501, now));
        assert!(!bucket.take(501, now));
        assert!(bucket.take(500, now));
        assert!(!bucket.take(u32::MAX, now + Duration::from_secs(1_000)));
    }

    #[test]
    fn without_a_burst_there_is_one_at_a_time() {
        let (mut bucket, now) = bucket(1, 0);
        assert!(bucket.take(1, now));
        assert!(!bucket.take(1, now));
        assert!(bucket.take(1, now + Duration::from_secs(1)));
    }
}
