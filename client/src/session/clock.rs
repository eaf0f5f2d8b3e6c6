//! The client's estimate of the server's tick clock.
//!
//! Each answered ping is a measurement of the server's clock that is wrong by at most half of its
//! round trip, so the fastest of the recent pings decides. The clock follows that measurement
//! without ever stepping backwards: it steps forward when it is far behind, and is slewed
//! otherwise.
//!
//! A room may also go on at another server, with a clock of its own. Older measurements are of the old
//! clock then, so all from before its welcome are ignored, and those that contradict the newest
//! measurement or a tick that has begun.
//!
//! Method: D. Mills, RFC 5905 (NTP), the clock filter of section 10.

use std::collections::VecDeque;
use std::time::Duration;

/// Number of measurements that are compared. With a ping each five seconds, eight cover 40 s, in
/// which two crystals drift apart by a few milliseconds at most.
const RECENT_MEASUREMENTS: usize = 8;
/// Largest error of a clock that is behind and is still slewed, in seconds. Beyond it the clock
/// steps forward.
const STEP_S: f64 = 0.1;
/// Largest drift between two recent measurements, in seconds. Two measurements of one clock differ
/// by at most this and half of both round trips.
const DRIFT_S: f64 = 0.01;
/// Largest error that is slewed so gently that no motion shows it, in seconds.
const SMALL_ERROR_S: f64 = 0.03;
/// Correction of a small error, in seconds per second.
const GENTLE_SLEW: f64 = 0.02;
/// Correction of a large error, in seconds per second. It is below 1, so that the clock never stops.
const FAST_SLEW: f64 = 0.5;

/// The clock of a server's ticks.
#[derive(Debug, Clone)]
pub struct Clock {
    tick_hz: f64,
    recent: VecDeque<Measurement>,
    /// The server's time at the epoch of the caller's time, in seconds of ticks.
    offset_s: f64,
    /// The clock's lead over `offset_s` when that was set; it is slewed away.
    error_s: f64,
    /// When `offset_s` was set.
    set_at: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Measurement {
    round_trip: Duration,
    /// The measured offset; `None` after the server's clock was set.
    offset_s: Option<f64>,
}

impl Clock {
    /// Creates a clock from a welcome that has just been read. Until the first ping is answered, it
    /// is late by the time that the welcome took to arrive.
    pub fn new(tick_hz: u8, tick: u64, since_tick_us: u32, now: Duration) -> Self {
        let tick_hz = f64::from(tick_hz);
        Self {
            tick_hz,
            recent: VecDeque::with_capacity(RECENT_MEASUREMENTS),
            offset_s: server_s(tick_hz, tick, since_tick_us) - now.as_secs_f64(),
            error_s: 0.0,
            set_at: now,
        }
    }

    /// Adds the measurement of a ping that was sent at `sent` and whose answer, the time since a
    /// tick, was read `now`.
    pub fn ping_answered(&mut self, sent: Duration, now: Duration, tick: u64, since_tick_us: u32) {
        let round_trip = now.saturating_sub(sent);
        let midway_s = (sent + round_trip / 2).as_secs_f64();
        let offset_s = server_s(self.tick_hz, tick, since_tick_us) - midway_s;
        if self.recent.len() == RECENT_MEASUREMENTS {
            self.recent.pop_front();
        }
        for other in &mut self.recent {
            let most_s = (other.round_trip + round_trip).as_secs_f64() / 2.0 + DRIFT_S;
            other.offset_s = other
                .offset_s
                .filter(|other_s| (other_s - offset_s).abs() <= most_s);
        }
        self.recent.push_back(Measurement {
            round_trip,
            offset_s: Some(offset_s),
        });
        let valid = self
            .recent
            .iter()
            .filter(|recent| recent.offset_s.is_some());
        let fastest = valid.min_by_key(|recent| recent.round_trip);
        let Some(offset_s) = fastest.and_then(|fastest| fastest.offset_s) else {
            return;
        };
        let error_s = self.offset_s + self.remaining_error_s(now) - offset_s;
        self.offset_s = offset_s;
        self.error_s = if error_s < -STEP_S { 0.0 } else { error_s };
        self.set_at = now;
    }

    /// Notes that a tick has begun at the server. Returns whether the tick was so far ahead that
    /// the server's clock must have been set, and has to be measured again.
    pub fn tick_began(&mut self, tick: u64, now: Duration) -> bool {
        let behind_s = (tick as f64 - self.tick_at(now)) / self.tick_hz;
        let is_far = behind_s > STEP_S;
        if is_far {
            self.step(behind_s, now);
        }
        is_far
    }

    /// Takes the tick and the phase of a second welcome that has just been read. All measurements are of
    /// another server's clock. Returns by how many seconds the clock was set; it may be set back. A small
    /// difference is left to the next pings.
    pub fn welcomed(&mut self, tick: u64, since_tick_us: u32, now: Duration) -> f64 {
        let way_s = self.round_trip().unwrap_or_default().as_secs_f64() / 2.0;
        let server_s = server_s(self.tick_hz, tick, since_tick_us) + way_s;
        let behind_s = server_s - self.tick_at(now) / self.tick_hz;
        let step_s = if behind_s.abs() > STEP_S {
            behind_s
        } else {
            0.0
        };
        self.step(step_s, now);
        step_s
    }

    /// Returns the server's tick at a time, with the fraction of it that has passed.
    pub fn tick_at(&self, now: Duration) -> f64 {
        (now.as_secs_f64() + self.offset_s + self.remaining_error_s(now)) * self.tick_hz
    }

    /// Returns the time in ticks on a clock that runs at the room's rate and is never corrected. Only
    /// differences of it mean anything; what follows it does not waver with the estimate.
    pub fn steady_tick_at(&self, now: Duration) -> f64 {
        now.as_secs_f64() * self.tick_hz
    }

    /// Returns the median of the recent round trips, or `None` before the first.
    pub fn round_trip(&self) -> Option<Duration> {
        let mut round_trips: Vec<_> = self.recent.iter().map(|recent| recent.round_trip).collect();
        round_trips.sort_unstable();
        round_trips.get(round_trips.len() / 2).copied()
    }

    /// Sets the clock forward, and ignores all measurements from before.
    fn step(&mut self, step_s: f64, now: Duration) {
        self.offset_s += self.remaining_error_s(now) + step_s;
        self.error_s = 0.0;
        for before in &mut self.recent {
            before.offset_s = None;
        }
    }

    fn remaining_error_s(&self, now: Duration) -> f64 {
        let slew = if self.error_s.abs() < SMALL_ERROR_S {
            GENTLE_SLEW
        } else {
            FAST_SLEW
        };
        let corrected_s = now.saturating_sub(self.set_at).as_secs_f64() * slew;
        self.error_s.signum() * (self.error_s.abs() - corrected_s).max(0.0)
    }
}

/// Returns a server's time in seconds of ticks.
pub(super) fn server_s(tick_hz: f64, tick: u64, since_tick_us: u32) -> f64 {
    tick as f64 / tick_hz + f64::from(since_tick_us) / 1e6
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Returns a 20 Hz clock that was at tick 100 at time zero.
    fn clock() -> Clock {
        Clock::new(20, 100, 0, Duration::ZERO)
    }

    #[test]
    fn ticks_pass_at_the_rooms_rate() {
        let clock = Clock::new(20, 100, 25_000, ms(1_000));
        assert_eq!(clock.tick_at(ms(1_000)), 100.5);
        assert_eq!(clock.tick_at(ms(2_000)), 120.5);
    }

    #[test]
    fn a_clock_far_behind_steps_forward_to_the_middle_of_the_round_trip() {
        let mut clock = clock();
        // In the middle, at 500 ms, the server was at tick 200.
        clock.ping_answered(ms(400), ms(600), 200, 0);
        assert!((clock.tick_at(ms(600)) - 202.0).abs() < 1e-9);
        assert_eq!(clock.round_trip(), Some(ms(200)));
    }

    #[test]
    fn the_fastest_recent_ping_decides() {
        let mut clock = clock();
        clock.ping_answered(ms(1_000), ms(1_010), 130, 0);
        let before = clock.tick_at(ms(5_000));
        // A slow ping that measures a third of a second more.
        clock.ping_answered(ms(2_000), ms(2_900), 165, 0);
        assert!((clock.tick_at(ms(5_000)) - before).abs() < 1e-6);
        assert_eq!(clock.round_trip(), Some(ms(900)));
        for _ in 0..RECENT_MEASUREMENTS {
            clock.ping_answered(ms(3_000), ms(3_900), 190, 0);
        }
        assert!((clock.tick_at(ms(60_000)) - (190.0 + 56.55 * 20.0)).abs() < 1e-6);
    }

    #[test]
    fn a_small_error_is_slewed_away() {
        let mut clock = clock();
        // The server is 20 ms ahead of the clock, which is 0.4 ticks.
        clock.ping_answered(ms(1_000), ms(1_000), 120, 20_000);
        assert!((clock.tick_at(ms(1_000)) - 120.0).abs() < 1e-6);
        assert!((clock.tick_at(ms(1_500)) - 130.2).abs() < 1e-6);
        assert!((clock.tick_at(ms(2_000)) - 140.4).abs() < 1e-6);
    }

    #[test]
    fn a_server_whose_clock_is_set_is_followed_at_once() {
        let mut clock = clock();
        clock.ping_answered(ms(1_000), ms(1_010), 120, 0);
        assert!(!clock.tick_began(140, ms(2_020)), "as expected");
        // The server's clock is set forward by a second; a tick shows it first.
        assert!(clock.tick_began(161, ms(2_060)));
        assert!((clock.tick_at(ms(2_060)) - 161.0).abs() < 1e-6);
        assert!(!clock.tick_began(161, ms(2_060)));
        // The measurement from before was faster, and is ignored now.
        clock.ping_answered(ms(2_200), ms(2_260), 164, 40_000);
        assert!((clock.tick_at(ms(4_000)) - 200.2).abs() < 0.01);
        // The clock is set again; an answered ping shows it first.
        clock.ping_answered(ms(5_000), ms(5_060), 231, 0);
        assert!((clock.tick_at(ms(6_030)) - 251.0).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn never_steps_backwards(
            pings in prop::collection::vec(
                (0u64..2_000, 0u64..500, 0u64..400, 0u32..60_000, any::<bool>()), 1..40),
        ) {
            let mut clock = clock();
            let mut now = Duration::ZERO;
            let mut before = clock.tick_at(now);
            for (wait_ms, round_trip_ms, tick, since_tick_us, is_ping) in pings {
                now += ms(wait_ms);
                prop_assert!(clock.tick_at(now) >= before);
                before = clock.tick_at(now);
                if is_ping {
                    clock.ping_answered(now.saturating_sub(ms(round_trip_ms)), now, tick, since_tick_us);
                } else {
                    clock.tick_began(tick, now);
                }
                prop_assert!(clock.tick_at(now) >= before - 1e-6);
                before = clock.tick_at(now);
            }
        }
    }
}
