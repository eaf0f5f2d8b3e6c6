//! When the recent ticks arrived: what a net graph draws.

use std::collections::VecDeque;
use std::time::Duration;

use cubesync_protocol::limits::HEARTBEAT_INTERVAL;

/// How long arrivals are kept.
pub const ARRIVALS_KEPT: Duration = Duration::from_secs(4);

/// How a tick arrived that the server told of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arrival {
    /// The tick.
    pub tick: u64,
    /// From the tick on the server's clock until it was read, in ticks.
    pub lag_ticks: f64,
    /// The playout delay by then, in ticks. A longer lag is late: the tick was shown already,
    /// as it was believed to be.
    pub delay_ticks: f64,
    /// Bytes that came with it. Ticks that are read together share theirs evenly.
    pub bytes: u64,
}

/// The arrivals of the last [`ARRIVALS_KEPT`] in one session.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arrivals {
    recent: VecDeque<Arrival>,
    late_ticks: u64,
    missing_ticks: u64,
    /// Arrivals whose bytes are not yet known.
    new: usize,
    bytes: u64,
}

impl Arrival {
    /// Whether the tick came after it was shown.
    pub fn is_late(&self) -> bool {
        self.lag_ticks > self.delay_ticks
    }
}

impl Arrivals {
    /// The arrivals, by rising tick.
    pub(crate) fn recent(&self) -> impl DoubleEndedIterator<Item = &Arrival> {
        self.recent.iter()
    }

    /// Ticks that came after they were shown, since the session's beginning.
    pub(crate) fn late_ticks(&self) -> u64 {
        self.late_ticks
    }

    /// Ticks that the server left out because they were not read in time, since the session's
    /// beginning. A tick in which nothing surprising happened is none.
    pub(crate) fn missing_ticks(&self) -> u64 {
        self.missing_ticks
    }

    /// A tick was told of when the server's clock was at `clock_tick`, and tells of cells one by
    /// one: only the first counts. `delay_ticks` is the playout delay.
    pub(crate) fn arrived(&mut self, tick: u64, clock_tick: f64, delay_ticks: f64, tick_hz: u8) {
        let hz = f64::from(tick_hz);
        if let Some(newest) = self.recent.back() {
            if tick <= newest.tick {
                return;
            }
            let silent = tick - newest.tick - 1;
            // Something comes at least with every heartbeat.
            if silent as f64 > 1.5 * HEARTBEAT_INTERVAL.as_secs_f64() * hz {
                self.missing_ticks += silent;
            }
        }
        let arrival = Arrival {
            tick,
            lag_ticks: clock_tick - tick as f64,
            delay_ticks,
            bytes: 0,
        };
        self.late_ticks += u64::from(arrival.is_late());
        self.recent.push_back(arrival);
        self.new += 1;
        let oldest = clock_tick - ARRIVALS_KEPT.as_secs_f64() * hz;
        while self.recent.len() > 1 && (self.recent[0].tick as f64) < oldest {
            self.recent.pop_front();
        }
    }

    /// All that could be read was read, with so many bytes.
    pub(crate) fn read(&mut self, bytes: u64) {
        self.bytes += bytes;
        let new = self.new.min(self.recent.len());
        if new > 0 {
            let share = self.bytes / new as u64;
            let newest = self.recent.iter_mut().rev().take(new);
            newest.for_each(|arrival| arrival.bytes = share);
            (self.new, self.bytes) = (0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(lags: &[(u64, f64)]) -> Arrivals {
        let mut arrivals = Arrivals::default();
        for &(tick, lag_ticks) in lags {
            arrivals.arrived(tick, tick as f64 + lag_ticks, 2.5, 30);
        }
        arrivals
    }

    #[test]
    fn a_tick_that_comes_after_it_was_shown_is_late() {
        let arrivals = arrivals(&[(10, 0.5), (11, 3.0), (11, 3.5), (12, 2.5)]);
        assert_eq!(arrivals.late_ticks(), 1);
        let late: Vec<_> = arrivals.recent().map(Arrival::is_late).collect();
        assert_eq!(late, [false, true, false]);
    }

    #[test]
    fn silence_misses_nothing_and_a_gap_longer_than_heartbeats_does() {
        assert_eq!(arrivals(&[(10, 0.5), (40, 0.5)]).missing_ticks(), 0);
        assert_eq!(arrivals(&[(10, 0.5), (110, 0.5)]).missing_ticks(), 99);
    }

    #[test]
    fn ticks_that_are_read_together_share_their_bytes() {
        let mut arrivals = arrivals(&[(10, 0.5)]);
        arrivals.read(40);
        arrivals.read(7);
        for tick in [11, 12] {
            arrivals.arrived(tick, 13.0, 2.5, 30);
        }
        arrivals.read(53);
        let bytes: Vec<_> = arrivals.recent().map(|arrival| arrival.bytes).collect();
        assert_eq!(bytes, [40, 30, 30]);
    }

    #[test]
    fn only_the_last_seconds_are_kept() {
        let many: Vec<_> = (0..1_000).map(|tick| (tick, 0.5)).collect();
        let arrivals = arrivals(&many);
        assert_eq!(arrivals.recent().count(), 120);
    }
}
