//! The arrivals of the recent ticks, for a net graph.

use std::collections::VecDeque;
use std::time::Duration;

use cubesync_protocol::limits::HEARTBEAT_INTERVAL;

/// Time for which arrivals are kept.
pub const ARRIVALS_KEPT: Duration = Duration::from_secs(4);

/// The way on which a tick came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Way {
    /// The connection.
    #[default]
    Stream,
    /// A datagram.
    Datagram,
}

/// The arrival of a tick.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TickArrival {
    /// The tick.
    pub tick: u64,
    /// The time from the tick on the server's clock until it was read, in ticks.
    pub lag_ticks: f64,
    /// The playout delay at the arrival, in ticks. A tick with a longer lag is late: it was shown
    /// already, as predicted.
    pub delay_ticks: f64,
    /// The way on which the tick came.
    pub way: Way,
    /// The bytes that came with the tick. Ticks that are read together share theirs evenly.
    pub bytes: u64,
}

/// The arrivals of the last [`ARRIVALS_KEPT`] in one session.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arrivals {
    recent: VecDeque<TickArrival>,
    /// The way that is being read.
    way: Way,
    late_ticks: u64,
    missing_ticks: u64,
    /// The number of arrivals whose bytes are not yet known.
    new: usize,
    /// The bytes that were read since the last arrival.
    bytes: u64,
}

impl TickArrival {
    /// Whether the tick arrived after it was shown.
    pub fn is_late(&self) -> bool {
        self.lag_ticks > self.delay_ticks
    }
}

impl Arrivals {
    /// Returns the arrivals, by rising tick.
    pub(crate) fn recent(&self) -> impl DoubleEndedIterator<Item = &TickArrival> {
        self.recent.iter()
    }

    /// Returns the number of ticks that arrived after they were shown, since the session's
    /// beginning.
    pub(crate) fn late_ticks(&self) -> u64 {
        self.late_ticks
    }

    /// Returns the number of ticks that the server left out because they were not read in time, since
    /// the session's beginning. A tick without updates is not one of them.
    pub(crate) fn missing_ticks(&self) -> u64 {
        self.missing_ticks
    }

    /// Notes that another way is read from now on.
    pub(crate) fn begin(&mut self, way: Way) {
        self.way = way;
    }

    /// Notes that a tick was read when the server's clock was at `clock_tick` and the playout delay
    /// was `delay_ticks`. A tick arrives cell by cell, and only the first message counts.
    pub(crate) fn arrived(&mut self, tick: u64, clock_tick: f64, delay_ticks: f64, tick_hz: u8) {
        let hz = f64::from(tick_hz);
        if let Some(newest) = self.recent.back() {
            if tick <= newest.tick {
                return;
            }
            let silent = tick - newest.tick - 1;
            // Without updates there are at least heartbeats.
            if silent as f64 > 1.5 * HEARTBEAT_INTERVAL.as_secs_f64() * hz {
                self.missing_ticks += silent;
            }
        }
        let arrival = TickArrival {
            tick,
            lag_ticks: clock_tick - tick as f64,
            delay_ticks,
            way: self.way,
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

    /// Notes that the socket was read to its end, and how many bytes that were.
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
        let late: Vec<_> = arrivals.recent().map(TickArrival::is_late).collect();
        assert_eq!(late, [false, true, false]);
    }

    #[test]
    fn ticks_are_missing_only_in_a_gap_longer_than_heartbeats() {
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
    fn each_tick_has_the_way_on_which_it_came_first() {
        let mut arrivals = arrivals(&[(10, 0.5)]);
        for (way, tick) in [(Way::Datagram, 11), (Way::Stream, 11), (Way::Stream, 12)] {
            arrivals.begin(way);
            arrivals.arrived(tick, 13.0, 2.5, 30);
        }
        let ways: Vec<_> = arrivals.recent().map(|arrival| arrival.way).collect();
        assert_eq!(ways, [Way::Stream, Way::Datagram, Way::Stream]);
    }

    #[test]
    fn only_the_last_seconds_are_kept() {
        let many: Vec<_> = (0..1_000).map(|tick| (tick, 0.5)).collect();
        let arrivals = arrivals(&many);
        assert_eq!(arrivals.recent().count(), 120);
    }
}
