//! The playout delay: the time by which remote cubes are shown behind the server's clock, so that
//! the next pose is there before it is needed.

use std::collections::VecDeque;

/// Number of arrivals that decide about the delay: four seconds of a 30 Hz room.
const RECENT_ARRIVALS: usize = 128;
/// Share of arrivals that must be in time. The others are stalls, for which a longer delay of
/// everything is not worthwhile.
const IN_TIME: f64 = 0.8;
/// Delay on top of these arrivals, in ticks: one to have a pose on each side, and half of one in
/// reserve, since the next arrivals are not the last ones. Measured with `cargo bench-motion`:
/// without the reserve errors are a third larger under jitter and a sixth under loss.
const RESERVE_TICKS: f64 = 1.5;
/// Delay on top of the fastest arrival, in ticks. A network without jitter leaves a tick, and the
/// frame in which it is read. More than the highest is worse to play with than a cube that stops
/// for a moment.
const LOWEST_TICKS: f64 = 1.75;
const HIGHEST_TICKS: f64 = 8.0;
/// Growth and shrinkage of the delay, in ticks per tick. Meanwhile cubes seem that much slower or
/// faster. A late update shows more than a slow cube, so the delay grows faster than it shrinks.
const GROWTH: f64 = 0.05;
const SHRINKAGE: f64 = 0.02;
/// Largest excess of the delay that jitter can make. A larger one is a pause: the computer slept or
/// the tab was frozen, and the client reads what has piled up. The delay then jumps to its target,
/// since shrinking would take minutes.
const PAUSE_TICKS: f64 = HIGHEST_TICKS - LOWEST_TICKS;

/// The playout delay, which follows the lags of arriving snapshots.
#[derive(Debug, Clone, Default)]
pub(crate) struct PlayoutDelay {
    /// The lags of recent snapshots: the time from their tick until they were read, in ticks.
    lags: VecDeque<f64>,
    wanted_ticks: f64,
    /// The delay, and the tick at which it was this; `None` before the first arrival.
    current: Option<(f64, f64)>,
}

impl PlayoutDelay {
    /// Notes that a snapshot of `tick` was read when the server's clock was at `clock_tick`.
    pub(crate) fn arrived(&mut self, tick: u64, clock_tick: f64) {
        if self.lags.len() == RECENT_ARRIVALS {
            self.lags.pop_front();
        }
        self.lags.push_back(clock_tick - tick as f64);
        let mut lags: Vec<f64> = self.lags.iter().copied().collect();
        lags.sort_unstable_by(f64::total_cmp);
        let fastest = lags[0];
        let latest = lags[((lags.len() - 1) as f64 * IN_TIME) as usize];
        let wanted = latest - fastest + RESERVE_TICKS;
        self.wanted_ticks = fastest + wanted.clamp(LOWEST_TICKS, HIGHEST_TICKS);
        if self.current.is_none() {
            self.current = Some((self.wanted_ticks, clock_tick));
        }
    }

    /// Moves the delay towards what the recent arrivals need. The shown tick never goes back.
    pub(crate) fn advance(&mut self, clock_tick: f64) {
        let Some((delay_ticks, before)) = &mut self.current else {
            return;
        };
        if *delay_ticks > self.wanted_ticks + PAUSE_TICKS {
            // The lags from before the pause do not matter any more.
            let newest = self.lags.pop_back().unwrap_or_default();
            self.lags.clear();
            self.lags.push_back(newest);
            self.wanted_ticks = newest + LOWEST_TICKS;
            *delay_ticks = self.wanted_ticks;
        }
        let ticks = (clock_tick - *before).max(0.0);
        let missing = self.wanted_ticks - *delay_ticks;
        *delay_ticks += missing.clamp(-ticks * SHRINKAGE, ticks * GROWTH);
        *before = clock_tick;
    }

    /// Returns the delay, in ticks.
    pub(crate) fn ticks(&self) -> f64 {
        self.current.map_or(LOWEST_TICKS, |(ticks, _)| ticks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays ticks with these lags, and returns the delay afterwards.
    fn delay_after(lags: impl IntoIterator<Item = f64>) -> f64 {
        let mut delay = PlayoutDelay::default();
        for (tick, lag) in lags.into_iter().enumerate() {
            delay.arrived(tick as u64, tick as f64 + lag);
            delay.advance(tick as f64 + lag);
        }
        delay.ticks()
    }

    #[test]
    fn steady_arrivals_are_shown_soon() {
        assert!((delay_after(vec![1.25; 100]) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn jitter_raises_the_delay_within_its_bound() {
        let jittered = |jitter: f64| (0..600).map(move |tick| f64::from(tick % 2) * jitter);
        assert!((delay_after(jittered(3.0)) - 4.5).abs() < 1e-9);
        assert!((delay_after(jittered(50.0)) - HIGHEST_TICKS).abs() < 1e-9);
    }

    #[test]
    fn a_single_stall_changes_nothing() {
        let lags = (0..100).map(|tick| if tick == 50 { 30.0 } else { 0.5 });
        assert!((delay_after(lags) - 2.25).abs() < 1e-9);
    }

    #[test]
    fn after_a_pause_the_delay_skips_the_ticks_that_piled_up() {
        // Asleep for ten seconds from the first tick on; then all of it is read at once.
        let lags = (0..301).map(|tick| f64::from(300 - tick));
        assert!(delay_after(lags) <= HIGHEST_TICKS);
    }

    #[test]
    fn the_delay_grows_faster_than_it_shrinks_and_comes_back() {
        let mut delay = PlayoutDelay::default();
        let mut before = LOWEST_TICKS;
        for tick in 0..2_000u64 {
            let lag = if tick < 300 {
                (tick % 2) as f64 * 5.0
            } else {
                0.0
            };
            delay.arrived(tick, tick as f64 + lag);
            delay.advance(tick as f64);
            let change = delay.ticks() - std::mem::replace(&mut before, delay.ticks());
            assert!(
                (-SHRINKAGE - 1e-9..=GROWTH + 1e-9).contains(&change),
                "{change}"
            );
            if tick == 200 {
                assert!((delay.ticks() - 6.5).abs() < 1e-9);
            }
        }
        assert!((delay.ticks() - LOWEST_TICKS).abs() < 1e-9);
    }
}
