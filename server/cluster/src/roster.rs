//! The roster: what an edge knows of the cubes of its room that it does not see, so that it can
//! become the owner. The owner sends the whole one when an edge attaches, then what changes at once,
//! except that unseen cubes move: their poses follow every `POSES_EVERY`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cubesync_protocol::limits::MAX_CUBES_PER_ROOM;
use cubesync_protocol::motion::{Codec, MotionState};
use cubesync_protocol::{CubeId, CubeInfo, CubeKind, CubePose, Pose, clean_name};
use cubesync_relay::room::CubeState;
use cubesync_relay::room::world::FREE_CUBE;
use serde::{Deserialize, Serialize};

/// The interval at which the poses of unseen cubes are sent. After a takeover a cube that nobody at
/// the new owner saw stands where it was so long ago, until its player's next sample.
const POSES_EVERY: Duration = Duration::from_secs(2);

/// The maximum number of ids that a room gives per tick in the long run, and the seconds of its life for
/// which it may have given as many at once.
const MAX_IDS_PER_TICK: u64 = 256;
const FIRST_SECONDS: u64 = 60;

/// The ids of cubes are below this.
const MAX_ID: u64 = 1 << 53;

/// A change of a roster, from the owner to an edge.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RosterUpdate {
    /// Whether the update replaces all that the edge knew.
    pub is_whole: bool,
    /// The last id that the room has given to a cube.
    pub last_id: u64,
    /// The cubes that are new or have changed.
    pub changed: Vec<CubeState>,
    /// The cubes that have left.
    pub removed: Vec<CubeId>,
    /// New poses of cubes that the edge does not see.
    pub moved: Vec<CubePose>,
}

/// Returned for an update that no room's owner sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the roster has cubes that no room has")]
pub struct RosterError;

/// An edge's roster.
#[derive(Debug, Clone, Default)]
pub struct Roster {
    cubes: BTreeMap<CubeId, CubeState>,
    last_id: u64,
}

impl Roster {
    /// Applies an update of the owner.
    ///
    /// # Errors
    /// Returns an error if no room has such cubes. The roster is of no use afterwards.
    pub fn apply(&mut self, update: RosterUpdate) -> Result<(), RosterError> {
        if update.is_whole {
            *self = Self::default();
        }
        self.last_id = self.last_id.max(update.last_id);
        for cube in update.removed {
            self.cubes.remove(&cube);
        }
        let is_good = self.last_id < MAX_ID
            && update.changed.iter().all(|state| is_possible(&state.info))
            && update
                .moved
                .iter()
                .all(|moved| moved.pose.position.is_in_bounds());
        for state in update.changed {
            self.cubes.insert(state.info.cube, state);
        }
        for moved in update.moved {
            self.set_pose(moved.cube, moved.pose);
        }
        match is_good && self.cubes.len() <= MAX_CUBES_PER_ROOM {
            true => Ok(()),
            false => Err(RosterError),
        }
    }

    /// Returns whether a room can have given so many ids by a tick. The bound grows faster than any room's
    /// ids, so what passes it once never stops a later owner.
    pub fn has_possible_ids(&self, tick: u64, tick_hz: u8) -> bool {
        let ticks = tick.saturating_add(u64::from(tick_hz) * FIRST_SECONDS);
        self.last_id <= ticks.saturating_mul(MAX_IDS_PER_TICK)
    }

    /// Notes where a cube is, unless it has left meanwhile.
    pub fn set_pose(&mut self, cube: CubeId, pose: Pose) {
        if let Some(state) = self.cubes.get_mut(&cube) {
            state.info.motion = MotionState::at_rest(pose);
        }
    }

    /// Returns the cubes by rising id, each as it was when the owner last told of it.
    pub fn cubes(&self) -> impl ExactSizeIterator<Item = &CubeState> {
        self.cubes.values()
    }

    /// Returns the last id that the room has given to a cube.
    pub fn last_id(&self) -> u64 {
        self.last_id
    }
}

fn is_possible(info: &CubeInfo) -> bool {
    let pose = info.motion.pose(&Codec::LIVE);
    let is_free = matches!(info.kind, CubeKind::Free { .. });
    info.cube.0 < MAX_ID
        && (is_free || info.cube != FREE_CUBE)
        && (is_free && info.name.is_empty() || clean_name(&info.name).as_ref() == Ok(&info.name))
        && pose.position.is_in_bounds()
}

/// The owner's side of an edge's roster: the poses that the edge was sent.
#[derive(Debug)]
pub struct RosterSender {
    poses: BTreeMap<CubeId, Pose>,
    poses_at: Instant,
}

impl RosterSender {
    /// Begins with the whole roster, for an edge that attaches.
    pub fn new(cubes: Vec<CubeState>, last_id: u64, now: Instant) -> (Self, RosterUpdate) {
        let mut sender = Self {
            poses: BTreeMap::new(),
            poses_at: now + POSES_EVERY,
        };
        let update = sender.changes(cubes, Vec::new(), last_id);
        let is_whole = true;
        (sender, RosterUpdate { is_whole, ..update })
    }

    /// Returns the update for cubes that have come, changed otherwise than by moving, or left.
    pub fn changes(
        &mut self,
        changed: Vec<CubeState>,
        removed: Vec<CubeId>,
        last_id: u64,
    ) -> RosterUpdate {
        for cube in &removed {
            self.poses.remove(cube);
        }
        for state in &changed {
            let pose = state.info.motion.pose(&Codec::LIVE);
            self.poses.insert(state.info.cube, pose);
        }
        RosterUpdate {
            last_id,
            changed,
            removed,
            ..RosterUpdate::default()
        }
    }

    /// Returns the update for cubes that have moved, if one is due and there are any. `unseen` are
    /// the cubes that the edge does not see.
    pub fn poses(
        &mut self,
        unseen: impl IntoIterator<Item = CubePose>,
        now: Instant,
    ) -> Option<RosterUpdate> {
        if now < self.poses_at {
            return None;
        }
        self.poses_at = now + POSES_EVERY;
        self.poses_at_once(unseen)
    }

    /// Returns the update for cubes that have moved, if there are any: the edge's own players who have
    /// gone where it does not see.
    pub fn poses_at_once(
        &mut self,
        unseen: impl IntoIterator<Item = CubePose>,
    ) -> Option<RosterUpdate> {
        let has_moved =
            |moved: &CubePose| self.poses.insert(moved.cube, moved.pose) != Some(moved.pose);
        let moved: Vec<_> = unseen.into_iter().filter(has_moved).collect();
        (!moved.is_empty()).then(|| RosterUpdate {
            moved,
            ..RosterUpdate::default()
        })
    }
}

#[cfg(test)]
mod tests;
