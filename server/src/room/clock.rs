//! Which tick a room is in: a whole number from time.

use std::time::{Duration, Instant};

/// The runtime's time: it goes as the system's does, or as a simulation lets it.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Tick numbers from time: tick n begins n tick lengths after the start.
#[derive(Debug, Clone, Copy)]
pub(super) struct TickClock {
    start: Instant,
    hz: u32,
    tick: u64,
}

impl TickClock {
    /// A clock at tick 0, which begins at `start`.
    pub(super) fn new(start: Instant, hz: u8) -> Self {
        Self {
            start,
            hz: hz.into(),
            tick: 0,
        }
    }

    /// The tick the clock is in.
    pub(super) fn tick(&self) -> u64 {
        self.tick
    }

    /// When a tick begins.
    pub(super) fn begins(&self, tick: u64) -> Instant {
        let nanoseconds = tick as u128 * 1_000_000_000 / u128::from(self.hz);
        let whole = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        self.start + whole
    }

    /// The newest tick that has begun; later than the last one, whatever the clock does.
    pub(super) fn advance(&mut self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.start).as_nanos();
        let begun = elapsed * u128::from(self.hz) / 1_000_000_000;
        self.tick = u64::try_from(begun).unwrap_or(u64::MAX).max(self.tick + 1);
        self.tick
    }

    /// Microseconds since the clock's tick began.
    pub(super) fn since_tick_us(&self, now: Instant) -> u32 {
        let since = now
            .saturating_duration_since(self.begins(self.tick))
            .as_micros();
        u32::try_from(since).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_follow_the_clock_and_never_repeat() {
        let start = Instant::now();
        let mut clock = TickClock {
            start,
            hz: 30,
            tick: 0,
        };
        assert_eq!(clock.advance(start + Duration::from_millis(34)), 1);
        assert_eq!(
            clock.advance(start + Duration::from_millis(34)),
            2,
            "a timer that fired early"
        );
        assert_eq!(
            clock.advance(start + Duration::from_secs(10)),
            300,
            "after a pause"
        );
        assert_eq!(clock.begins(300), start + Duration::from_secs(10));
        assert_eq!(
            clock.since_tick_us(start + Duration::from_millis(10_005)),
            5_000
        );
    }

    #[test]
    fn a_month_of_ticks_does_not_drift() {
        let start = Instant::now();
        let clock = TickClock {
            start,
            hz: 128,
            tick: 0,
        };
        let month = Duration::from_secs(30 * 24 * 3600);
        assert_eq!(clock.begins(month.as_secs() * 128), start + month);
    }
}
