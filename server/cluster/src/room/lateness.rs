//! The delay of a peer server's updates, and how much later they are shown because of it.
//!
//! Updates that come in time are shown at their own tick: then all servers believe the same, and
//! nothing is sent twice. A server that is always late is shown as many ticks later as it needs,
//! like a player behind a slow line.

/// The number of times in a row that a server may be late before the room stops waiting for it.
const MAX_MISSED: u32 = 3;

/// The seconds for which a server must have been early enough before it is shown earlier.
const EARLY_SECONDS: u64 = 2;

/// The divisor of a second that gives the longest delay of a server.
const MAX_DELAY_PART: u64 = 2;

/// The lateness of one peer server.
#[derive(Debug, Default)]
pub(super) struct Lateness {
    /// The number of ticks by which its cubes are shown later.
    pub(super) delay_ticks: u64,
    /// The number of times in a row that it was late.
    missed: u32,
    /// The newest tick that it had completed when it began to be late.
    tick_when_missed: u64,
    /// The number of ticks for which it was in time, and by how many it could have been shown
    /// earlier.
    early: (u64, u64),
}

impl Lateness {
    /// Returns whether to wait for it at a tick, when it has completed all ticks up to and with
    /// `told`.
    pub(super) fn is_awaited(&self, told: u64, tick: u64) -> bool {
        told + self.delay_ticks < tick && self.missed < MAX_MISSED
    }

    /// Ends the wait for a tick. Returns whether the delay has changed.
    pub(super) fn awaited(&mut self, told: u64, tick: u64, tick_hz: u64) -> bool {
        let Some(early_ticks) = (told + self.delay_ticks).checked_sub(tick) else {
            return self.missed(told, tick, tick_hz);
        };
        self.missed = 0;
        let (ticks, least) = self.early;
        self.early = (ticks + 1, least.min(early_ticks));
        if ticks == 0 {
            self.early.1 = early_ticks;
        }
        if self.early.0 < EARLY_SECONDS * tick_hz {
            return false;
        }
        let least = std::mem::take(&mut self.early).1.min(self.delay_ticks);
        self.delay_ticks -= least;
        least > 0
    }

    fn missed(&mut self, told: u64, tick: u64, tick_hz: u64) -> bool {
        self.early = (0, 0);
        if self.missed == 0 {
            self.tick_when_missed = told;
        }
        self.missed += 1;
        // A server that sends nothing at all is not late.
        let delay_ticks = tick - told;
        let is_late = self.missed >= MAX_MISSED && told > self.tick_when_missed;
        if is_late && delay_ticks <= tick_hz.div_ceil(MAX_DELAY_PART) {
            self.delay_ticks = delay_ticks;
            self.missed = 0;
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HZ: u64 = 20;

    #[test]
    fn who_is_always_late_is_shown_later_and_earlier_again_when_that_is_enough() {
        let mut lateness = Lateness::default();
        let mut run = |ticks: std::ops::Range<u64>, late: u64| {
            let mut changes = 0;
            for tick in ticks {
                changes += u32::from(lateness.awaited(tick - late, tick, HZ));
            }
            (changes, lateness.delay_ticks)
        };
        assert_eq!(run(100..200, 0), (0, 0));
        assert_eq!(run(200..203, 2), (1, 2));
        assert_eq!(run(203..300, 2), (0, 2));
        assert_eq!(run(300..400, 1), (1, 1));
        assert_eq!(run(400..500, 0), (1, 0));
    }

    #[test]
    fn one_late_tick_changes_nothing() {
        let mut lateness = Lateness::default();
        for tick in 100..300 {
            let told = if tick % 10 < 2 { tick - 1 } else { tick };
            assert!(!lateness.awaited(told, tick, HZ));
        }
    }

    #[test]
    fn who_says_nothing_is_not_waited_for() {
        let mut lateness = Lateness::default();
        for tick in 101..104 {
            assert!(lateness.is_awaited(100, tick));
            assert!(!lateness.awaited(100, tick, HZ));
        }
        for tick in 104..200 {
            assert!(!lateness.is_awaited(100, tick));
            assert!(!lateness.awaited(100, tick, HZ));
        }
        assert!(!lateness.awaited(200, 200, HZ));
        assert!(lateness.is_awaited(200, 201));
    }
}
