//! How late another server's news come, and how much later they are shown.
//!
//! News that come in time are shown at their own tick: then everybody believes the same and nobody is
//! told twice. A server that is always late is shown as many ticks later as it takes, like a player
//! behind a slow line.

/// Who is late so often in a row is waited for no more.
const MAX_MISSED: u32 = 3;

/// For so many seconds a server must have been early enough, until it is shown earlier.
const EARLY_SECONDS: u64 = 2;

/// The part of a second that a server is shown late, at most.
const MAX_DELAY_PART: u64 = 2;

/// Of one other server.
#[derive(Debug, Default)]
pub(super) struct Lateness {
    /// Its ticks are shown so many later.
    pub(super) delay_ticks: u64,
    /// How often in a row it was late.
    missed: u32,
    /// What it had told when it began to be late.
    tick_when_missed: u64,
    /// For how many ticks it was in time, and by how many it could have been shown earlier.
    early: (u64, u64),
}

impl Lateness {
    /// Whether to wait for it at a tick, when it has told everything up to and with `told`.
    pub(super) fn is_awaited(&self, told: u64, tick: u64) -> bool {
        told + self.delay_ticks < tick && self.missed < MAX_MISSED
    }

    /// The wait for a tick is over; whether the delay changes.
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
        // Who says nothing at all is not late.
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
