//! The playout delay: the time by which remote cubes are shown behind the newest ticks of the server,
//! so that the next pose is there before it is needed.
//!
//! A delay that wanders shows everything at a wrong time: at 5 m/s, 10 ms are 5 cm. So it follows
//! quantiles of half a minute, and slowly. Frames of a screen and ticks of a server drift past each
//! other, and a tick waits for the next frame up to a whole one; half a minute sees all of that.

use std::collections::VecDeque;
use std::time::Duration;

/// Time in which arrivals decide about the delay.
const WINDOW: Duration = Duration::from_secs(30);
/// Share of frames whose newest snapshot must be in time. The snapshots before it, which were read in
/// the same frame, have waited for a lost packet or for the frame, and do not count here.
const FRAMES_IN_TIME: f64 = 0.8;
/// Share of all snapshots that must be in time: where stalls are frequent, a longer delay of everything
/// is worthwhile.
const SNAPSHOTS_IN_TIME: f64 = 0.7;
/// Delay on top of these arrivals, in ticks, when they lag alike and when their lags differ by a tick or
/// more. With a whole tick there is a pose on each side. Both ends predict alike, so to show a moment
/// slightly beyond the newest tick costs little: measured on a LAN, 0.2 cm for 5 ms. Arrivals that
/// differ are not like the last ones, so they get the whole tick.
const STEADY_RESERVE_TICKS: f64 = 0.8;
const JITTER_RESERVE_TICKS: f64 = 1.0;
/// Difference of lags in ticks up to which arrivals lag alike: a frame may be half a tick.
const STEADY_TICKS: f64 = 0.5;
/// Delay on top of the first arrival and the reserve, in ticks: others may have waited longer for a frame.
const FIRST_RESERVE_TICKS: f64 = 0.1;
/// Longest delay on top of the fastest arrival, in ticks. More is worse to play with than a cube that stops
/// for a moment.
const HIGHEST_TICKS: f64 = 8.0;
/// Error of the delay that is not corrected, in ticks: a wandering delay shows more than a wrong one.
const SMALL_ERROR_TICKS: f64 = 0.1;
/// Largest change of the delay, in ticks per tick: cubes seem that much slower or faster. The last tick of
/// a difference is corrected more and more slowly.
const LARGEST_CHANGE: f64 = 0.02;
/// A gap between two frames from which on the computer slept or the tab was frozen. What has piled up
/// meanwhile says nothing about the network.
const PAUSE: Duration = Duration::from_millis(250);
/// Largest number of lags that are kept: half a minute at the highest tick rate.
const MAX_LAGS: usize = 4_096;
/// Time in which every frame's newest snapshot came too late, after which the network has changed and
/// the snapshots before do not count any more.
const CHANGED: Duration = Duration::from_secs(2);

/// The playout delay, which follows the lags of arriving snapshots.
#[derive(Debug, Clone, Default)]
pub(crate) struct PlayoutDelay {
    tick_hz: f64,
    /// The lags of recent snapshots: the time from their tick until they were read, in ticks.
    snapshots: VecDeque<Lag>,
    /// The lags of the newest snapshots of frames.
    frames: VecDeque<Lag>,
    /// The lags of the snapshots that were read in this frame.
    new: Vec<f64>,
    /// The time at which a frame's newest snapshot was not too late last.
    in_time_tick: f64,
    wanted_ticks: f64,
    /// A delay that does not follow the network.
    fixed_ticks: Option<f64>,
    /// The delay, and the tick at which it was this; `None` before the first arrival.
    current: Option<(f64, f64)>,
}

#[derive(Debug, Clone, Copy)]
struct Lag {
    ticks: f64,
    /// When the snapshot was read.
    read_tick: f64,
}

impl PlayoutDelay {
    /// Makes the delay of a room of this tick rate.
    pub(crate) fn new(tick_hz: u8) -> Self {
        Self {
            tick_hz: f64::from(tick_hz),
            ..Self::default()
        }
    }

    /// Makes a delay that stays the same.
    pub(crate) fn fixed(ticks: f64) -> Self {
        Self {
            fixed_ticks: Some(ticks),
            ..Self::default()
        }
    }

    /// Notes that a snapshot of `tick` was read when the clock was at `clock_tick`.
    pub(crate) fn arrived(&mut self, tick: u64, clock_tick: f64) {
        if self.fixed_ticks.is_some() {
            return;
        }
        let lag = clock_tick - tick as f64;
        self.new.push(lag);
        if self.current.is_none() {
            self.wanted_ticks = lag + STEADY_RESERVE_TICKS + FIRST_RESERVE_TICKS;
            self.current = Some((self.wanted_ticks, clock_tick));
            self.in_time_tick = clock_tick;
        }
    }

    /// Forgets all lags if those of another server, of which `tick` is the first one, are not like them: it
    /// may number its ticks differently.
    pub(crate) fn go_on(&mut self, tick: u64, clock_tick: f64) {
        let lag = clock_tick - tick as f64;
        if (lag - self.ticks()).abs() > HIGHEST_TICKS {
            *self = Self {
                tick_hz: self.tick_hz,
                fixed_ticks: self.fixed_ticks,
                ..Self::default()
            };
        }
    }

    /// Moves the delay towards what the recent arrivals need, after a frame in which the snapshots so far
    /// were read. If nothing was seen to move (`is_still`), it goes there at once.
    pub(crate) fn advance(&mut self, clock_tick: f64, is_still: impl FnOnce() -> bool) {
        let Some((delay_ticks, before)) = self.current else {
            return;
        };
        let ticks = (clock_tick - before).max(0.0);
        if !self.new.is_empty() {
            self.keep_new(clock_tick, ticks, delay_ticks);
            self.measure();
        }
        let off = self.wanted_ticks - delay_ticks;
        let missing = off - off.clamp(-SMALL_ERROR_TICKS, SMALL_ERROR_TICKS);
        let change = missing.clamp(-1.0, 1.0) * (ticks * LARGEST_CHANGE).min(1.0);
        let is_far = missing.abs() > HIGHEST_TICKS;
        let delay_ticks = if is_far || (missing != 0.0 && is_still()) {
            self.wanted_ticks
        } else {
            delay_ticks + change
        };
        self.current = Some((delay_ticks, clock_tick));
    }

    /// Returns the delay, in ticks.
    pub(crate) fn ticks(&self) -> f64 {
        let learnt = self.current.map(|(ticks, _)| ticks);
        self.fixed_ticks.or(learnt).unwrap_or(STEADY_RESERVE_TICKS)
    }

    /// Adds what was read in a frame, `ticks` after the frame before.
    fn keep_new(&mut self, clock_tick: f64, ticks: f64, delay_ticks: f64) {
        let newest = self.new.iter().copied().fold(f64::INFINITY, f64::min);
        let lag = |ticks| Lag {
            ticks,
            read_tick: clock_tick,
        };
        if ticks > PAUSE.as_secs_f64() * self.tick_hz {
            self.new.clear();
            self.new.push(newest);
            self.in_time_tick = clock_tick;
        }
        if newest <= delay_ticks {
            self.in_time_tick = clock_tick;
        }
        let window_ticks = WINDOW.as_secs_f64() * self.tick_hz;
        let changed_ticks = CHANGED.as_secs_f64() * self.tick_hz;
        let mut oldest = clock_tick - window_ticks;
        if clock_tick - self.in_time_tick > changed_ticks {
            oldest = self.in_time_tick;
        }
        self.frames.push_back(lag(newest));
        self.snapshots.extend(self.new.drain(..).map(lag));
        for lags in [&mut self.frames, &mut self.snapshots] {
            while lags.len() > 1 && lags[0].read_tick <= oldest || lags.len() > MAX_LAGS {
                lags.pop_front();
            }
        }
    }

    fn measure(&mut self) {
        let latest = [
            quantile(&self.frames, FRAMES_IN_TIME),
            quantile(&self.snapshots, SNAPSHOTS_IN_TIME),
        ];
        let latest = latest[0].max(latest[1]);
        let fastest = quantile(&self.frames, 0.0);
        let jitter = ((latest - fastest - STEADY_TICKS) / STEADY_TICKS).clamp(0.0, 1.0);
        let reserve = STEADY_RESERVE_TICKS + (JITTER_RESERVE_TICKS - STEADY_RESERVE_TICKS) * jitter;
        self.wanted_ticks = (latest + reserve).min(fastest + HIGHEST_TICKS);
    }
}

/// Returns a quantile of some lags, of which there is at least one.
fn quantile(lags: &VecDeque<Lag>, quantile: f64) -> f64 {
    let mut ticks: Vec<f64> = lags.iter().map(|lag| lag.ticks).collect();
    let index = ((ticks.len() - 1) as f64 * quantile) as usize;
    // Selecting would be faster, but a browser would have to load it, and the lead sorts already.
    ticks.sort_unstable_by(f64::total_cmp);
    ticks[index]
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK_HZ: u8 = 30;

    /// Plays frames of half a tick, in which what has come of ticks with these lags is read. `delays`
    /// gets the delay after each frame.
    fn play(lags: impl IntoIterator<Item = f64>, mut delays: impl FnMut(f64)) -> PlayoutDelay {
        let mut delay = PlayoutDelay::new(TICK_HZ);
        let mut on_the_way: VecDeque<(u64, f64)> = VecDeque::new();
        for (tick, lag) in lags.into_iter().enumerate() {
            // Nothing overtakes on a stream.
            let before = on_the_way.back().map_or(0.0, |&(_, at)| at);
            on_the_way.push_back((tick as u64, before.max(tick as f64 + lag)));
            for part in [0.0, 0.5] {
                let now = tick as f64 + part;
                while let Some(&(tick, at)) = on_the_way.front()
                    && at <= now
                {
                    on_the_way.pop_front();
                    delay.arrived(tick, now);
                }
                delay.advance(now, || false);
                delays(delay.ticks());
            }
        }
        delay
    }

    fn delay_after(lags: impl IntoIterator<Item = f64>) -> f64 {
        play(lags, |_| {}).ticks()
    }

    #[test]
    fn steady_arrivals_are_shown_soon() {
        let delay = delay_after(vec![1.0; 100]);
        assert!((delay - 1.9).abs() < 1e-9, "{delay}");
    }

    #[test]
    fn jitter_raises_the_delay_within_its_bound() {
        let jittered = |jitter: f64| (0..1_800).map(move |tick| f64::from(tick % 2) * jitter);
        // Of two ticks that are read in one frame, the newer one counts.
        let delay = delay_after(jittered(0.5));
        assert!((delay - 1.3).abs() <= SMALL_ERROR_TICKS + 1e-9, "{delay}");
        let delay = delay_after((0..1_800).map(|tick| f64::from(tick / 20 % 2) * 20.0));
        assert!(
            (delay - HIGHEST_TICKS).abs() < SMALL_ERROR_TICKS + 1e-9,
            "{delay}"
        );
    }

    #[test]
    fn rare_stalls_change_nothing() {
        // Twenty times a minute nothing comes for a sixth of a second.
        let lags = (0..1_800).map(|tick| match tick % 90 {
            stalled @ 40..45 => 45.5 - f64::from(stalled),
            _ => 0.5,
        });
        let mut longest = 0.0;
        play(lags, |delay| longest = delay.max(longest));
        assert!(longest <= 1.4 + 1e-9, "{longest}");
    }

    #[test]
    fn frames_that_drift_past_the_ticks_do_not_move_the_delay() {
        // 59.94 frames a second read ticks of 30 Hz: in 16.7 s each tick waits longer, up to a frame.
        let mut delay = PlayoutDelay::new(TICK_HZ);
        let (mut next, mut shortest, mut longest) = (0u64, f64::INFINITY, 0.0f64);
        for frame in 1..7_200 {
            let now = f64::from(frame) * 1.001 / 60.0 * 30.0;
            while next as f64 <= now {
                delay.arrived(next, now);
                next += 1;
            }
            delay.advance(now, || false);
            if frame > 1_200 {
                shortest = delay.ticks().min(shortest);
                longest = delay.ticks().max(longest);
            }
        }
        assert!(longest - shortest < 0.05, "{shortest} to {longest}");
        assert!((1.0..1.5).contains(&longest), "{longest}");
    }

    #[test]
    fn after_a_pause_the_delay_is_as_before() {
        let before = play(vec![0.5; 300], |_| {});
        // Asleep for ten seconds; then all of it is read at once.
        let mut delay = before.clone();
        for tick in 300..600 {
            delay.arrived(tick, 600.5);
        }
        delay.advance(600.5, || false);
        assert!((delay.ticks() - before.ticks()).abs() < 1e-9);
        for tick in 601..900 {
            delay.arrived(tick, tick as f64 + 0.5);
            delay.advance(tick as f64 + 0.5, || false);
        }
        assert!((delay.ticks() - before.ticks()).abs() < 1e-9);
    }

    #[test]
    fn the_delay_changes_so_slowly_that_nobody_sees_it_and_follows_a_changed_network() {
        let lags = (0..2_000).map(|tick| {
            if (300..1_000).contains(&tick) {
                4.0
            } else {
                0.5
            }
        });
        let (mut before, mut all) = (None, Vec::new());
        play(lags, |delay| {
            let change = delay - before.replace(delay).unwrap_or(delay);
            let is_slow = change.abs() <= LARGEST_CHANGE / 2.0 + 1e-9;
            assert!(is_slow || all.len() < 3, "{change}");
            all.push(delay);
        });
        let at = |tick: usize| all[2 * tick];
        assert!(
            (at(900) - 4.8).abs() <= SMALL_ERROR_TICKS + 0.05,
            "{}",
            at(900)
        );
        assert!(
            (at(1_999) - 1.3).abs() <= SMALL_ERROR_TICKS + 0.05,
            "{}",
            at(1_999)
        );
    }

    #[test]
    fn while_nothing_moves_the_delay_jumps() {
        let mut delay = play(vec![0.5; 30], |_| {});
        for tick in 30..60 {
            delay.arrived(tick, tick as f64 + 3.0);
            delay.advance(tick as f64 + 3.0, || true);
        }
        assert!(
            (delay.ticks() - 4.0).abs() <= SMALL_ERROR_TICKS,
            "{}",
            delay.ticks()
        );
    }
}
