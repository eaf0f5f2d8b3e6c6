//! The times of the room's ticks and the owners of its cubes, shared by the clients of all threads.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};

use cubesync_protocol::CubeId;

use crate::workload::Workload;

/// The room of a run.
#[derive(Debug)]
pub(crate) struct Room {
    /// The time of tick 0, in the workload's microseconds: the earliest that follows from any answer.
    origin_us: AtomicI64,
    /// The owner of each cube, by client number.
    owners: RwLock<HashMap<CubeId, usize>>,
    /// The tick of step 0.
    first_tick: OnceLock<u64>,
    hz: u32,
}

impl Room {
    /// Returns the room of a server that was just started for this workload.
    pub(crate) fn new(workload: &Workload) -> Self {
        Self {
            origin_us: AtomicI64::new(i64::MAX),
            owners: RwLock::default(),
            first_tick: OnceLock::new(),
            hz: workload.hz,
        }
    }

    /// Learns the times of the ticks from an answer that arrived at `now_us`.
    pub(crate) fn observe(&self, now_us: u64, tick: u64, since_tick_us: u32) {
        let tick_us = tick as i64 * 1_000_000 / i64::from(self.hz);
        let origin_us = now_us as i64 - i64::from(since_tick_us) - tick_us;
        self.origin_us.fetch_min(origin_us, Ordering::Relaxed);
    }

    /// Returns the time at which a tick begins, in the workload's microseconds.
    pub(crate) fn begins_us(&self, tick: u64) -> u64 {
        let origin_us = self.origin_us.load(Ordering::Relaxed);
        let tick_us = tick as i64 * 1_000_000 / i64::from(self.hz);
        u64::try_from(origin_us + tick_us).unwrap_or(0)
    }

    /// Returns the ticks that begin in a window, in the workload's microseconds.
    pub(crate) fn ticks(&self, window_us: &Range<u64>) -> Range<u64> {
        self.first_tick_after(window_us.start)..self.first_tick_after(window_us.end)
    }

    /// Returns the tick of step 0. The first caller sets it for all threads: the first tick after `at_us`.
    pub(crate) fn set_first_tick(&self, at_us: u64) -> u64 {
        *self.first_tick.get_or_init(|| self.first_tick_after(at_us))
    }

    /// Returns the step that belongs to a tick; `None` before the first one.
    pub(crate) fn step(&self, tick: u64) -> Option<usize> {
        let first = *self.first_tick.get()?;
        tick.checked_sub(first).map(|step| step as usize)
    }

    /// Sets the owner of a cube.
    pub(crate) fn set_owner(&self, cube: CubeId, client: usize) {
        let owners = self.owners.write();
        let mut owners = owners.unwrap_or_else(PoisonError::into_inner);
        owners.insert(cube, client);
    }

    /// Returns the owner of a cube.
    pub(crate) fn owner(&self, cube: CubeId) -> Option<usize> {
        let owners = self.owners.read().unwrap_or_else(PoisonError::into_inner);
        owners.get(&cube).copied()
    }

    fn first_tick_after(&self, at_us: u64) -> u64 {
        let origin_us = self.origin_us.load(Ordering::Relaxed);
        let since_us = u64::try_from(at_us as i64 - origin_us).unwrap_or(0);
        (since_us * u64::from(self.hz)).div_ceil(1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::motions::Motion;

    #[test]
    fn earliest_answer_sets_the_times_of_the_ticks() {
        let workload = Workload::new(Motion::Idle, 2, 20, Duration::from_secs(1), 1.0);
        let room = Room::new(&workload);
        // Tick 3 began at 160,000, which one answer told at once and another late.
        room.observe(165_000, 3, 5_000);
        room.observe(180_000, 3, 9_000);
        assert_eq!(room.begins_us(4), 210_000);
        assert_eq!(room.step(5), None);
        assert_eq!(room.set_first_tick(210_001), 5);
        assert_eq!(room.set_first_tick(999_999), 5);
        assert_eq!((room.step(4), room.step(7)), (None, Some(2)));
        assert_eq!(room.ticks(&(210_000..310_001)), 4..7);

        room.set_owner(CubeId(1 << 40), 0);
        assert_eq!(
            (room.owner(CubeId(1 << 40)), room.owner(CubeId(0))),
            (Some(0), None)
        );
    }
}
