//! How much may come in a second.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

/// A bucket that fills at an even rate and holds what may come at once. It remembers one moment
/// instead of a level (the "generic cell rate algorithm" of ATM networks): when it will be full.
#[derive(Debug)]
pub(crate) struct Budget {
    each: Duration,
    capacity: Duration,
    full_at: Instant,
}

impl Budget {
    /// So many in a second, of which as many come at once as fill in `burst`, one at least.
    pub(crate) fn new(per_second: NonZeroU32, burst: Duration) -> Self {
        let each = Duration::from_secs(1) / per_second.get();
        Self {
            each,
            capacity: burst.max(each),
            full_at: Instant::now(),
        }
    }

    /// Takes `count` if they are there; otherwise nothing.
    pub(crate) fn take(&mut self, count: u32, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + self.each.saturating_mul(count);
        let fits = full_at - now <= self.capacity;
        if fits {
            self.full_at = full_at;
        }
        fits
    }

    /// Whether it remembers nothing.
    pub(crate) fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(per_second: u32, burst_seconds: u64) -> (Budget, Instant) {
        let rate = NonZeroU32::new(per_second).unwrap();
        let budget = Budget::new(rate, Duration::from_secs(burst_seconds));
        let start = budget.full_at;
        (budget, start)
    }

    #[test]
    fn a_burst_may_come_at_once_and_then_the_rate() {
        let (mut budget, start) = budget(4, 2);
        let mut taken = |after: Duration| {
            let tries = std::iter::from_fn(|| budget.take(1, start + after).then_some(()));
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
        let (mut budget, now) = budget(1_000, 2);
        assert!(budget.take(1_500, now));
        assert!(!budget.take(501, now));
        assert!(budget.take(500, now));
        assert!(!budget.take(u32::MAX, now + Duration::from_secs(1_000)));
    }

    #[test]
    fn without_a_burst_there_is_one_at_a_time() {
        let (mut budget, now) = budget(1, 0);
        assert!(budget.take(1, now));
        assert!(!budget.take(1, now));
        assert!(budget.take(1, now + Duration::from_secs(1)));
    }
}
