//! The number of a room's tick, from the time.

use std::sync::Arc;
use std::time::Instant;

use super::backplane::TimeSource;

/// Returns the runtime's time, which a simulation may control.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Tick numbers from time: tick n begins n tick lengths after time 0, which on several servers is
/// the same instant.
#[derive(Debug)]
pub(super) struct TickClock {
    time: Arc<dyn TimeSource>,
    hz: u32,
    tick: u64,
}

impl TickClock {
    /// Creates a clock in the tick of the time `now`.
    pub(super) fn new(time: Arc<dyn TimeSource>, hz: u8, now: Instant) -> Self {
        let mut clock = Self {
            time,
            hz: hz.into(),
            tick: 0,
        };
        clock.tick = clock.tick_at(now);
        clock
    }

    /// Returns the tick that the clock is in.
    pub(super) fn tick(&self) -> u64 {
        self.tick
    }

    /// Returns the time at which a tick begins.
    pub(super) fn begins(&self, tick: u64) -> Instant {
        let nanoseconds = (tick as u128 * 1_000_000_000).div_ceil(u128::from(self.hz));
        let nanoseconds = u64::try_from(nanoseconds).unwrap_or(u64::MAX);
        self.time.instant(nanoseconds)
    }

    /// Moves to the newest tick that has begun, at least by one, and returns it.
    pub(super) fn advance(&mut self, now: Instant) -> u64 {
        self.tick = self.tick_at(now).max(self.tick + 1);
        self.tick
    }

    /// Returns the microseconds since the clock's tick began.
    pub(super) fn since_tick_us(&self, now: Instant) -> u32 {
        let since = now
            .saturating_duration_since(self.begins(self.tick))
            .as_micros();
        u32::try_from(since).unwrap_or(u32::MAX)
    }

    fn tick_at(&self, now: Instant) -> u64 {
        let nanoseconds = self.time.time_ns(now);
        let begun = u128::from(nanoseconds) * u128::from(self.hz) / 1_000_000_000;
        u64::try_from(begun).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::backplane::TimeSince;
    use super::*;

    fn clock(start: Instant, hz: u8) -> TickClock {
        TickClock::new(Arc::new(TimeSince(start)), hz, start)
    }

    #[test]
    fn ticks_follow_the_clock_and_never_repeat() {
        let start = Instant::now();
        let mut clock = clock(start, 30);
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
        let clock = clock(start, 128);
        let month = Duration::from_secs(30 * 24 * 3600);
        assert_eq!(clock.begins(month.as_secs() * 128), start + month);
    }
}
