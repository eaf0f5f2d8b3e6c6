//! The time of the cluster as a function of this machine's. It runs as fast, within 2 %, and never
//! back.

use std::time::{Duration, Instant};

/// Corrections change the rate of time by a 50th at most. A room at 30 Hz does not notice ticks
/// that are 0.7 ms longer or shorter.
const SLEW: u64 = 50;

/// The latest valid time, 146 years after the cluster's start. Later ones are not believed.
pub(super) const MAX_TIME_NS: u64 = 1 << 62;

/// A mapping of instants to times.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeline {
    /// The stretch before the current one: times of earlier instants must not change.
    before: Stretch,
    current: Stretch,
}

/// A stretch in which time runs as the machine's from `begins` on, except for a gradual correction.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    begins: Instant,
    at_ns: u64,
    /// The time to gain or lose, at a rate of a 50th of the time that passes.
    correction_ns: i64,
}

impl Timeline {
    /// Creates a timeline whose time is `at_ns` now.
    pub(super) fn new(now: Instant, at_ns: u64) -> Self {
        let current = Stretch {
            begins: now,
            at_ns: at_ns.min(MAX_TIME_NS),
            correction_ns: 0,
        };
        Self {
            before: current,
            current,
        }
    }

    /// Returns the time at an instant.
    pub(super) fn time_ns(&self, instant: Instant) -> u64 {
        match instant < self.current.begins {
            true => self.before.time_ns(instant),
            false => self.current.time_ns(instant),
        }
    }

    /// Returns the first instant at which that time is reached.
    pub(super) fn instant(&self, time_ns: u64) -> Instant {
        if time_ns > self.current.at_ns {
            self.current.instant(time_ns)
        } else if time_ns > self.before.time_ns(self.current.begins) {
            self.current.begins
        } else {
            self.before.instant(time_ns).min(self.current.begins)
        }
    }

    /// Begins to correct by `missing_ns`. A correction in progress is abandoned.
    pub(super) fn slew(&mut self, now: Instant, missing_ns: i64) {
        let now = now.max(self.current.begins);
        self.go_on(now, self.time_ns(now), missing_ns);
    }

    /// Steps to another time, if that is later.
    pub(super) fn step(&mut self, now: Instant, to_ns: u64) {
        let now = now.max(self.current.begins);
        let to_ns = to_ns.min(MAX_TIME_NS).max(self.time_ns(now));
        self.go_on(now, to_ns, 0);
    }

    fn go_on(&mut self, now: Instant, at_ns: u64, correction_ns: i64) {
        self.before = self.current;
        self.current = Stretch {
            begins: now,
            at_ns,
            correction_ns,
        };
    }
}

impl Stretch {
    fn time_ns(&self, instant: Instant) -> u64 {
        match instant.checked_duration_since(self.begins) {
            Some(since) => self
                .at_ns
                .saturating_add(self.passed_ns(nanoseconds(since))),
            None => {
                let until = self.begins.duration_since(instant);
                self.at_ns.saturating_sub(nanoseconds(until))
            }
        }
    }

    fn instant(&self, time_ns: u64) -> Instant {
        let Some(passed_ns) = time_ns.checked_sub(self.at_ns) else {
            let until = Duration::from_nanos(self.at_ns - time_ns);
            return self.begins.checked_sub(until).unwrap_or(self.begins);
        };
        // Time first runs slower or faster, then as the machine's. The integers round, so nearby
        // instants are checked too.
        let correction_ns = self.correction_ns.unsigned_abs();
        let (rate, end_ns) = match self.correction_ns >= 0 {
            true => (SLEW + 1, passed_ns.saturating_sub(correction_ns)),
            false => (SLEW - 1, passed_ns.saturating_add(correction_ns)),
        };
        let slewing = u128::from(passed_ns) * u128::from(SLEW) / u128::from(rate);
        let slewing_ns = u64::try_from(slewing).unwrap_or(u64::MAX);
        let mut since_ns = match self.correction_ns >= 0 {
            true => slewing_ns.max(end_ns),
            false => slewing_ns.min(end_ns),
        };
        while since_ns > 0 && self.passed_ns(since_ns - 1) >= passed_ns {
            since_ns -= 1;
        }
        while self.passed_ns(since_ns) < passed_ns && since_ns < u64::MAX {
            since_ns += 1;
        }
        let since = Duration::from_nanos(since_ns);
        self.begins.checked_add(since).unwrap_or(self.begins)
    }

    /// Returns how much time has passed since the beginning of the stretch.
    fn passed_ns(&self, since_ns: u64) -> u64 {
        let corrected_ns = (since_ns / SLEW).min(self.correction_ns.unsigned_abs());
        match self.correction_ns >= 0 {
            true => since_ns.saturating_add(corrected_ns),
            false => since_ns - corrected_ns,
        }
    }
}

/// Returns a duration in nanoseconds, 584 years at most.
pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_correction_takes_fifty_times_as_long_and_then_ends() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut timeline = Timeline::new(start, 0);
        timeline.slew(start, 10_000_000);
        assert_eq!(timeline.time_ns(after(100)), 102_000_000);
        assert_eq!(timeline.time_ns(after(1_000)), 1_010_000_000);
        timeline.slew(after(1_000), -1_000_000);
        assert_eq!(timeline.time_ns(after(1_010)), 1_019_800_000);
        assert_eq!(timeline.time_ns(after(3_000)), 3_009_000_000);
        assert_eq!(timeline.instant(3_009_000_000), after(3_000));
    }

    #[test]
    fn nobody_steps_back_or_to_the_end_of_time() {
        let start = Instant::now();
        let mut timeline = Timeline::new(start, 1_000);
        timeline.step(start, 500);
        assert_eq!(timeline.time_ns(start), 1_000);
        timeline.step(start, u64::MAX);
        assert_eq!(timeline.time_ns(start), MAX_TIME_NS);
        let later = start + Duration::from_secs(3_600);
        assert_eq!(timeline.time_ns(later), MAX_TIME_NS + 3_600_000_000_000);
        // No instant is that late; what matters is that there is a result.
        assert!(timeline.instant(u64::MAX) > start);
    }

    #[derive(Debug, Clone)]
    enum Act {
        Slew(i64),
        Step(u64),
        Look,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            (-250_000_000_i64..=250_000_000).prop_map(Act::Slew),
            (0..10_000_000_000_u64).prop_map(Act::Step),
            Just(Act::Look),
        ]
    }

    proptest! {
        #[test]
        fn time_never_goes_back_and_every_time_has_its_first_instant(
            acts in prop::collection::vec((act(), 0..3_000_000_000_u64), 1..20)
        ) {
            let mut now = Instant::now() + Duration::from_secs(3_600);
            let mut timeline = Timeline::new(now, 1_000_000_000);
            let mut last_ns = 0;
            for (act, pause_ns) in acts {
                match act {
                    Act::Slew(missing_ns) => timeline.slew(now, missing_ns),
                    Act::Step(to_ns) => timeline.step(now, to_ns),
                    Act::Look => {}
                }
                now += Duration::from_nanos(pause_ns);
                let time_ns = timeline.time_ns(now);
                prop_assert!(time_ns >= last_ns);
                last_ns = time_ns;
                for time_ns in [time_ns, time_ns + 33_333_333, time_ns.saturating_sub(33_333_333)] {
                    let instant = timeline.instant(time_ns);
                    prop_assert!(timeline.time_ns(instant) >= time_ns);
                    let before = instant - Duration::from_nanos(1);
                    prop_assert!(timeline.time_ns(before) < time_ns);
                }
            }
        }
    }
}
