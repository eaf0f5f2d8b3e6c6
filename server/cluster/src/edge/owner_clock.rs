//! When the owner's ticks begin, as an edge sees them.

use std::time::{Duration, Instant};

/// The share of a tick's lateness by which the estimate follows it: late ticks are mostly the network's.
const FOLLOWS: u32 = 64;

/// The share by which the clocks of two machines may differ in speed, and the time for which a tick may seem
/// early because the first ones came late.
const CLOCKS_DIFFER: u32 = 1_000;
const AHEAD: Duration = Duration::from_secs(2);

/// An estimate of when the owner's ticks begin, from those that came soonest.
#[derive(Debug)]
pub(super) struct OwnerClock {
    tick_length: Duration,
    newest: Option<(u64, Instant)>,
    /// The first tick that came, and when.
    first: Option<(u64, Instant)>,
}

impl OwnerClock {
    /// Creates the clock of a room whose owner has not been heard.
    pub(super) fn new(tick_hz: u8) -> Self {
        Self {
            tick_length: Duration::from_secs(1) / u32::from(tick_hz.max(1)),
            newest: None,
            first: None,
        }
    }

    /// Notes that a tick had begun at `at`.
    pub(super) fn began(&mut self, tick: u64, at: Instant) {
        let expected = self.newest.map(|(newest, began)| {
            let ticks = u32::try_from(tick.saturating_sub(newest)).unwrap_or(u32::MAX);
            began + self.tick_length.saturating_mul(ticks)
        });
        let began = match expected {
            Some(expected) if at > expected => expected + (at - expected) / FOLLOWS,
            _ => at,
        };
        self.newest = Some((tick, began));
        self.first.get_or_insert((tick, began));
    }

    /// Returns whether a tick can have begun by `at`: ticks rise, and no clock is faster than ours by more than
    /// a thousandth.
    pub(super) fn can_be(&self, tick: u64, at: Instant) -> bool {
        let is_newer = self.newest.is_none_or(|(newest, _)| tick > newest);
        let has_begun = self.first.is_none_or(|(first, began)| {
            let elapsed = at.saturating_duration_since(began);
            let most = elapsed + elapsed / CLOCKS_DIFFER + AHEAD;
            let ticks = most.as_nanos() / self.tick_length.as_nanos();
            u128::from(tick.saturating_sub(first)) <= ticks
        });
        is_newer && has_begun
    }

    /// Returns the newest tick and when it began.
    pub(super) fn newest(&self) -> Option<(u64, Instant)> {
        self.newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_tick_is_far_ahead_of_our_own_clock_and_none_comes_again() {
        let start = Instant::now();
        let mut clock = OwnerClock::new(30);
        let year = 365 * 24 * 3_600 * 30;
        assert!(clock.can_be(year, start), "a room may be old");
        clock.began(year, start);
        let at = start + Duration::from_secs(3_600);
        let now = year + 3_600 * 30;
        for (tick, expected) in [
            (now, true),
            (now + 60, true),
            (now + 200, false),
            (now + year, false),
            (1 << 63, false),
            (u64::MAX, false),
            (year + 1, true),
            (year, false),
            (0, false),
        ] {
            assert_eq!(clock.can_be(tick, at), expected, "{tick}");
        }
    }

    #[test]
    fn late_ticks_hardly_move_the_clock_and_early_ones_do() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut clock = OwnerClock::new(10);
        assert_eq!(clock.newest(), None);
        clock.began(100, at(10));
        clock.began(101, at(174));
        assert_eq!(clock.newest(), Some((101, at(111))));
        clock.began(102, at(205));
        assert_eq!(clock.newest(), Some((102, at(205))));
    }
}
