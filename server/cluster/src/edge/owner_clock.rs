//! When the owner's ticks begin, as an edge sees them.

use std::time::{Duration, Instant};

/// The share of a tick's lateness by which the estimate follows it: late ticks are mostly the network's.
const FOLLOWS: u32 = 64;

/// An estimate of when the owner's ticks begin, from those that came soonest.
#[derive(Debug)]
pub(super) struct OwnerClock {
    tick_length: Duration,
    newest: Option<(u64, Instant)>,
}

impl OwnerClock {
    /// Creates the clock of a room whose owner has not been heard.
    pub(super) fn new(tick_hz: u8) -> Self {
        Self {
            tick_length: Duration::from_secs(1) / u32::from(tick_hz.max(1)),
            newest: None,
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
