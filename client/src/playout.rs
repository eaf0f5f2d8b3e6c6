//! How far behind the server's clock remote cubes are shown, so that the next pose is there
//! before it is needed.

use std::collections::VecDeque;

/// Arrivals that are looked at: two seconds of a 30 Hz room.
const RECENT_ARRIVALS: usize = 64;
/// Of those, the latest few may come too late: a stall of the network is not worth a delay for
/// everything that follows.
const LATE_ARRIVALS: usize = 3;
/// Delay on top of the fastest arrivals, in ticks: one to have a pose on each side, one for the
/// frame in which it is read. More than the highest is worse to play with than a cube that stops
/// for a moment.
const LOWEST_TICKS: f64 = 2.0;
const HIGHEST_TICKS: f64 = 8.0;
/// How quickly the delay changes, in ticks per tick: cubes seem that much slower or faster
/// meanwhile, which nobody sees at a twentieth.
const CHANGE_RATE: f64 = 0.05;
/// A delay that is longer than wanted by more than this, which no jitter makes, is a pause: the
/// client was asleep (a computer, a frozen tab) and reads what piled up. It jumps to now, where
/// following would take minutes.
const PAUSE_TICKS: f64 = HIGHEST_TICKS - LOWEST_TICKS;

/// The playout delay, from how late snapshots arrive.
#[derive(Debug, Clone, Default)]
pub struct PlayoutDelay {
    /// How long after their tick the recent snapshots were read, in ticks.
    lags: VecDeque<f64>,
    wanted_ticks: f64,
    /// The delay, and the tick at which it was this; `None` before the first arrival.
    current: Option<(f64, f64)>,
}

impl PlayoutDelay {
    /// A snapshot of `tick` was read when the server's clock was at `clock_tick`.
    pub fn arrived(&mut self, tick: u64, clock_tick: f64) {
        if self.lags.len() == RECENT_ARRIVALS {
            self.lags.pop_front();
        }
        self.lags.push_back(clock_tick - tick as f64);
        let mut lags: Vec<f64> = self.lags.iter().copied().collect();
        lags.sort_unstable_by(f64::total_cmp);
        let fastest = lags[0];
        let latest = lags[lags.len().saturating_sub(1 + LATE_ARRIVALS)];
        let jitter = latest - fastest;
        self.wanted_ticks = fastest + (1.0 + jitter).clamp(LOWEST_TICKS, HIGHEST_TICKS);
        if self.current.is_none() {
            self.current = Some((self.wanted_ticks, clock_tick));
        }
    }

    /// Lets the delay follow what the arrivals ask for, up to now. The tick that is shown never
    /// goes back by it.
    pub fn advance(&mut self, clock_tick: f64) {
        let Some((delay_ticks, before)) = &mut self.current else {
            return;
        };
        if *delay_ticks > self.wanted_ticks + PAUSE_TICKS {
            // How late things were before does not matter any more.
            let newest = self.lags.pop_back().unwrap_or_default();
            self.lags.clear();
            self.lags.push_back(newest);
            self.wanted_ticks = newest + LOWEST_TICKS;
            *delay_ticks = self.wanted_ticks;
        }
        let change = (clock_tick - *before).max(0.0) * CHANGE_RATE;
        *delay_ticks += (self.wanted_ticks - *delay_ticks).clamp(-change, change);
        *before = clock_tick;
    }

    /// The delay, in ticks.
    pub fn ticks(&self) -> f64 {
        self.current.map_or(LOWEST_TICKS, |(ticks, _)| ticks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays `lags` of successive ticks; the delay afterwards.
    fn delay_after(lags: impl IntoIterator<Item = f64>) -> f64 {
        let mut delay = PlayoutDelay::default();
        for (tick, lag) in lags.into_iter().enumerate() {
            delay.arrived(tick as u64, tick as f64 + lag);
            delay.advance(tick as f64 + lag);
        }
        delay.ticks()
    }

    #[test]
    fn steady_arrivals_are_shown_two_ticks_after_the_fastest() {
        assert!((delay_after(vec![1.25; 100]) - 3.25).abs() < 1e-9);
    }

    #[test]
    fn jitter_raises_the_delay_within_its_bound() {
        let jittered = |jitter: f64| (0..600).map(move |tick| f64::from(tick % 2) * jitter);
        assert!((delay_after(jittered(3.0)) - 4.0).abs() < 1e-9);
        assert!((delay_after(jittered(50.0)) - HIGHEST_TICKS).abs() < 1e-9);
    }

    #[test]
    fn a_single_stall_changes_nothing() {
        let lags = (0..100).map(|tick| if tick == 50 { 30.0 } else { 0.5 });
        assert!((delay_after(lags) - 2.5).abs() < 1e-9);
    }

    #[test]
    fn after_a_pause_what_piled_up_is_skipped() {
        // Asleep for ten seconds from the first tick on; then all of it is read at once.
        let lags = (0..301).map(|tick| f64::from(300 - tick));
        assert!(delay_after(lags) <= HIGHEST_TICKS);
    }

    #[test]
    fn the_delay_changes_slowly_and_comes_back() {
        let mut delay = PlayoutDelay::default();
        let mut shown = f64::MIN;
        for tick in 0..2_000u64 {
            let lag = if tick < 300 {
                (tick % 2) as f64 * 5.0
            } else {
                0.0
            };
            delay.arrived(tick, tick as f64 + lag);
            delay.advance(tick as f64);
            assert!(tick as f64 - delay.ticks() > shown);
            shown = tick as f64 - delay.ticks();
            if tick == 299 {
                assert!((delay.ticks() - 6.0).abs() < 1e-9);
            }
        }
        assert!((delay.ticks() - 2.0).abs() < 1e-9);
    }
}
