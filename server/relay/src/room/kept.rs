//! How a room's loose cubes outlive it: the room notes now and then how they are.

use std::time::Duration;

use super::Room;
use crate::mechanics::KeptCube;

/// Time between two notes: what a server that is killed forgets at most.
const KEEP_EVERY: Duration = Duration::from_secs(30);

impl Room {
    /// Notes how the loose cubes are, if that has not been done for a while.
    pub(super) fn keep_when_due(&mut self) {
        let (tick, tick_hz) = (self.clock.tick(), self.connections.settings.tick_hz);
        let Some(loose) = &mut self.loose else {
            return;
        };
        if tick.saturating_sub(loose.kept_at) >= KEEP_EVERY.as_secs() * u64::from(tick_hz) {
            loose.kept_at = tick;
            self.keep();
        }
    }

    /// Notes how the loose cubes are, for a room that begins with them.
    pub(super) fn keep(&self) {
        let Some(kept) = self.loose.as_ref().and_then(|loose| loose.kept()) else {
            return;
        };
        let states = self.world.cubes().map(|cube| cube.cube);
        let states = states.filter_map(|cube| self.cube_state(cube));
        let cubes = states.filter_map(|state| self.world.kept(state.info.cube, &state.info.motion));
        kept.send_replace(cubes.collect::<Vec<KeptCube>>());
    }
}
