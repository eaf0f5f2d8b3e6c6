//! The moments at which a walker's samples of the ticks were taken.

use crate::play::TICK_HZ;

/// The moments at which a walker's samples of the ticks were taken, from its frames.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    /// Ticks with their part that has passed, and times.
    points: Vec<(f64, f64)>,
}

impl Timeline {
    /// Adds a frame of the walker at this time, with the tick by its clock and its lead.
    pub(crate) fn add(&mut self, time_s: f64, clock_tick: f64, lead_s: f64) {
        let tick = clock_tick + lead_s * f64::from(TICK_HZ);
        self.points.push((tick, time_s));
    }

    /// Returns when the sample of a tick was taken, linearly between frames.
    pub(crate) fn sampled_at(&self, tick: f64) -> Option<f64> {
        let next = self.points.partition_point(|(at, _)| *at <= tick);
        let &(from, from_s) = self.points.get(next.checked_sub(1)?)?;
        let &(to, to_s) = self.points.get(next)?;
        Some(from_s + (to_s - from_s) * (tick - from) / (to - from))
    }
}
