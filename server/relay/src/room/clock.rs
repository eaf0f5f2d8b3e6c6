//! The number of a room's tick, from the time.

use std::time::{Duration, Instant};

/// Returns the runtime's time, which a simulation may control.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Tick numbers from time: tick n begins n tick lengths after the room's tick 0.
#[derive(Debug)]
pub(super) struct TickClock {
    /// The number of a tick, and when it began.
    start: (u64, Instant),
    hz: u32,
    tick: u64,
}

impl TickClock {
    /// Creates a clock in tick `tick`, which began at `began`.
    pub(super) fn new(hz: u8, tick: u64, began: Instant) -> Self {
        Self {
            start: (tick, began),
            hz: hz.into(),
            tick,
        }
    }

    /// Returns the tick that the clock is in.
    pub(super) fn tick(&self) -> u64 {
        self.tick
    }

    /// Returns the time at which a tick begins.
    pub(super) fn begins(&self, tick: u64) -> Instant {
        let (first, began) = self.start;
        let ticks = u128::from(tick.saturating_sub(first));
        let nanoseconds = (ticks * 1_000_000_000).div_ceil(u128::from(self.hz));
        let nanoseconds = u64::try_from(nanoseconds).unwrap_or(u64::MAX);
        began + Duration::from_nanos(nanoseconds)
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
        let (first, began) = self.start;
        let nanoseconds = now.saturating_duration_since(began).as_nanos();
        let begun = nanoseconds * u128::from(self.hz) / 1_000_000_000;
        first.saturating_add(u64::try_from(begun).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_follow_the_clock_and_never_repeat() {
        let start = Instant::now();
        let mut clock = TickClock::new(30, 0, start);
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
        let clock = TickClock::new(128, 0, start);
        let month = Duration::from_secs(30 * 24 * 3600);
        assert_eq!(clock.begins(month.as_secs() * 128), start + month);
    }

    #[test]
    fn a_clock_goes_on_from_any_tick() {
        let start = Instant::now();
        let mut clock = TickClock::new(20, 700, start);
        assert_eq!(clock.begins(701), start + Duration::from_millis(50));
        assert_eq!(clock.advance(start + Duration::from_millis(1_520)), 730);
        assert_eq!(
            clock.since_tick_us(start + Duration::from_millis(1_520)),
            20_000
        );
    }
}
