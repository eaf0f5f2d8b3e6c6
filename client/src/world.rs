//! What a client knows of its room: keyframes and snapshots in, changes out.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use cubesync_protocol::limits::MAX_CUBES_PER_ROOM;
use cubesync_protocol::motion::{Codec, MotionError, MotionSet, MotionState};
use cubesync_protocol::{CubeId, CubeInfo, CubeKind, Event, Keyframe, Pose, Snapshot};

/// Something that changed in the room, told once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorldChange {
    /// A cube came. Not told for the cubes of the first keyframe.
    Joined(CubeInfo),
    /// A cube left.
    Left(CubeInfo),
    /// A free cube was taken.
    Taken {
        /// The free cube.
        cube: CubeId,
        /// Its holder's own cube.
        by: CubeId,
    },
    /// A held cube was let go.
    Freed {
        /// The free cube.
        cube: CubeId,
    },
    /// What is believed about cubes from a tick on. Comes for every keyframe and snapshot, after
    /// their other changes, with the cubes that joined among them.
    Moved {
        /// The tick.
        tick: u64,
        /// Up to and with this tick, what was believed before is known to have been right.
        known_until: u64,
        /// The cubes that are not as believed before.
        states: Vec<(CubeId, MotionState)>,
    },
}

/// A keyframe or snapshot that cannot be true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WorldError {
    /// Ticks must rise.
    #[error("tick {tick} came after tick {before}")]
    Tick {
        /// The message's tick.
        tick: u64,
        /// The newest tick before it.
        before: u64,
    },
    /// Deltas need something to be applied to.
    #[error("a snapshot came before the first keyframe")]
    NoKeyframe,
    /// A cube that never joined, or left.
    #[error("cube {0} is not in the room")]
    UnknownCube(CubeId),
    /// Authority over a player's cube never changes hands.
    #[error("cube {0} belongs to a player and cannot be taken or freed")]
    NotFree(CubeId),
    /// More cubes than a room can have.
    #[error("the room has more than {MAX_CUBES_PER_ROOM} cubes")]
    TooManyCubes,
    /// The surprises make no sense.
    #[error(transparent)]
    Motion(#[from] MotionError),
}

/// The room's cubes at the newest tick.
#[derive(Debug, Clone)]
pub struct World {
    /// Their motion is that of when they became known.
    cubes: BTreeMap<CubeId, CubeInfo>,
    motion: MotionSet,
    tick: Option<u64>,
}

impl World {
    /// The cubes, by rising id. Where they are now, [`pose`](Self::pose) says.
    pub fn cubes(&self) -> impl Iterator<Item = &CubeInfo> {
        self.cubes.values()
    }

    /// One cube.
    pub fn cube(&self, cube: CubeId) -> Option<&CubeInfo> {
        self.cubes.get(&cube)
    }

    /// Where a cube is believed to be at the newest tick.
    pub fn pose(&self, cube: CubeId) -> Option<Pose> {
        self.motion.pose(cube)
    }

    /// Players in the room.
    pub fn players(&self) -> usize {
        self.cubes()
            .filter(|cube| cube.kind == CubeKind::Player)
            .count()
    }

    /// Whether the first keyframe is there.
    pub fn is_known(&self) -> bool {
        self.tick.is_some()
    }

    /// Takes in a keyframe. What differs from the cubes known before is told as if their
    /// snapshots had come.
    ///
    /// # Errors
    /// [`WorldError`]; the world is not to be used any further.
    pub fn keyframe(&mut self, keyframe: Keyframe) -> Result<Vec<WorldChange>, WorldError> {
        let Keyframe { tick, cubes } = keyframe;
        let known_until = match self.tick {
            Some(before) if tick < before => return Err(WorldError::Tick { tick, before }),
            before => before.unwrap_or(tick),
        };
        if cubes.len() > MAX_CUBES_PER_ROOM {
            return Err(WorldError::TooManyCubes);
        }
        let is_first = self.tick.replace(tick).is_none();
        self.motion = MotionSet::new(&Codec::LIVE);
        for info in &cubes {
            self.motion.insert(info.cube, info.motion);
        }
        let new: BTreeMap<_, _> = cubes.into_iter().map(|cube| (cube.cube, cube)).collect();
        let old = std::mem::replace(&mut self.cubes, new);
        let mut changes = Vec::new();
        if !is_first {
            self.tell_difference(old, &mut changes);
        }
        changes.push(WorldChange::Moved {
            tick,
            known_until,
            states: self.motion.iter().map(|(id, state)| (id, *state)).collect(),
        });
        Ok(changes)
    }

    /// Takes in a snapshot.
    ///
    /// # Errors
    /// [`WorldError`]; the world is not to be used any further.
    pub fn snapshot(&mut self, snapshot: Snapshot) -> Result<Vec<WorldChange>, WorldError> {
        let tick = snapshot.tick;
        let before = match self.tick.replace(tick) {
            None => return Err(WorldError::NoKeyframe),
            Some(before) if tick <= before => return Err(WorldError::Tick { tick, before }),
            Some(before) => before,
        };
        // In longer than a lifetime at any rate everything has come to rest.
        self.motion
            .advance(u32::try_from(tick - before).unwrap_or(u32::MAX));
        let mut changes = Vec::with_capacity(snapshot.events.len() + 1);
        let mut surprised = Vec::new();
        for event in snapshot.events {
            if let Event::Joined(info) = &event {
                surprised.push(info.cube);
            }
            changes.extend(self.apply(event)?);
        }
        if !snapshot.surprises.is_empty() {
            self.motion
                .decode_tick(&snapshot.surprises, |cube| surprised.push(cube))?;
        }
        let states = surprised
            .into_iter()
            .filter_map(|cube| self.motion.get(cube).map(|state| (cube, *state)));
        changes.push(WorldChange::Moved {
            tick,
            known_until: tick.saturating_sub(1),
            states: states.collect(),
        });
        Ok(changes)
    }

    fn apply(&mut self, event: Event) -> Result<Option<WorldChange>, WorldError> {
        Ok(Some(match event {
            Event::Joined(info) => {
                let count = self.cubes.len();
                match self.cubes.entry(info.cube) {
                    // The keyframe of the same moment had it already.
                    Entry::Occupied(mut known) => {
                        self.motion.insert(info.cube, info.motion);
                        known.insert(info);
                        return Ok(None);
                    }
                    Entry::Vacant(_) if count >= MAX_CUBES_PER_ROOM => {
                        return Err(WorldError::TooManyCubes);
                    }
                    Entry::Vacant(place) => {
                        self.motion.insert(info.cube, info.motion);
                        WorldChange::Joined(place.insert(info).clone())
                    }
                }
            }
            Event::Left { cube } => {
                let left = self.cubes.remove(&cube);
                let mut left = left.ok_or(WorldError::UnknownCube(cube))?;
                left.motion = self.motion.remove(cube).unwrap_or(left.motion);
                WorldChange::Left(left)
            }
            Event::Taken { cube, by } => {
                *self.holder(cube)? = Some(by);
                WorldChange::Taken { cube, by }
            }
            Event::Freed { cube } => {
                *self.holder(cube)? = None;
                WorldChange::Freed { cube }
            }
            Event::Ghost { cube } => {
                self.known(cube)?.kind = CubeKind::Ghost;
                return Ok(None);
            }
            Event::Returned { cube } => {
                self.known(cube)?.kind = CubeKind::Player;
                return Ok(None);
            }
        }))
    }

    fn tell_difference(&self, old: BTreeMap<CubeId, CubeInfo>, changes: &mut Vec<WorldChange>) {
        let joined = self.cubes().filter(|cube| !old.contains_key(&cube.cube));
        let joined: Vec<_> = joined.cloned().map(WorldChange::Joined).collect();
        let mut left = Vec::new();
        for (cube, was) in old {
            let holder = self.cube(cube).map(holder_of);
            match (holder_of(&was), holder.unwrap_or_default()) {
                (before, after) if before == after => {}
                (before, after) => {
                    changes.extend(before.map(|_| WorldChange::Freed { cube }));
                    changes.extend(after.map(|by| WorldChange::Taken { cube, by }));
                }
            }
            if holder.is_none() {
                left.push(WorldChange::Left(was));
            }
        }
        changes.extend(left);
        // Before all others: a cube that joined may hold one already.
        changes.splice(0..0, joined);
    }

    fn known(&mut self, cube: CubeId) -> Result<&mut CubeInfo, WorldError> {
        self.cubes
            .get_mut(&cube)
            .ok_or(WorldError::UnknownCube(cube))
    }

    fn holder(&mut self, cube: CubeId) -> Result<&mut Option<CubeId>, WorldError> {
        match &mut self.known(cube)?.kind {
            CubeKind::Free { holder } => Ok(holder),
            CubeKind::Player | CubeKind::Ghost => Err(WorldError::NotFree(cube)),
        }
    }
}

impl Default for World {
    fn default() -> Self {
        Self {
            cubes: BTreeMap::new(),
            motion: MotionSet::new(&Codec::LIVE),
            tick: None,
        }
    }
}

fn holder_of(info: &CubeInfo) -> Option<CubeId> {
    match info.kind {
        CubeKind::Free { holder } => holder,
        CubeKind::Player | CubeKind::Ghost => None,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use cubesync_protocol::Colour;

    use super::*;
    use crate::testing::{moving, pose};

    fn cube(id: u32, kind: CubeKind) -> CubeInfo {
        CubeInfo {
            cube: CubeId(id),
            kind,
            name: format!("name {id}"),
            colour: Colour::from([1, 2, 3]),
            motion: MotionState::at_rest(Pose::default()),
        }
    }

    fn player(id: u32) -> CubeInfo {
        cube(id, CubeKind::Player)
    }

    fn free(id: u32, holder: Option<u32>) -> CubeInfo {
        let holder = holder.map(CubeId);
        cube(id, CubeKind::Free { holder })
    }

    fn world(tick: u64, cubes: Vec<CubeInfo>) -> World {
        let mut world = World::default();
        let changes = world.keyframe(Keyframe { tick, cubes }).unwrap();
        assert!(matches!(changes[..], [WorldChange::Moved { .. }]));
        world
    }

    fn snapshot(tick: u64, events: Vec<Event>) -> Snapshot {
        Snapshot {
            tick,
            events,
            surprises: Bytes::new(),
        }
    }

    /// The changes besides the poses.
    fn told(mut changes: Vec<WorldChange>) -> Vec<WorldChange> {
        assert!(matches!(changes.pop(), Some(WorldChange::Moved { .. })));
        changes
    }

    #[test]
    fn a_snapshots_events_are_told_in_their_order() {
        let mut world = world(5, vec![free(0, None), player(1)]);
        let (cube, by) = (CubeId(0), CubeId(2));
        let events = vec![
            Event::Joined(player(2)),
            Event::Taken { cube, by },
            Event::Freed { cube },
            Event::Left { cube: CubeId(1) },
        ];
        let changes = world.snapshot(snapshot(6, events)).unwrap();
        assert_eq!(
            told(changes),
            [
                WorldChange::Joined(player(2)),
                WorldChange::Taken { cube, by },
                WorldChange::Freed { cube },
                WorldChange::Left(player(1)),
            ]
        );
        assert_eq!(world.players(), 1);
    }

    #[test]
    fn cubes_surprise_after_the_events_and_move_as_believed_without_a_message() {
        let known = |id, motion| CubeInfo {
            motion,
            ..player(id)
        };
        let running = moving(0.0, 0.25);
        let mut world = world(5, vec![known(1, running), player(2)]);
        // The server's side: three silent ticks, then one leaves, one comes in and moves at once.
        let mut server = MotionSet::new(&Codec::LIVE);
        server.insert(CubeId(1), running);
        server.advance(4);
        server.insert(CubeId(3), MotionState::at_rest(pose(2.0)));
        let joined = known(3, MotionState::at_rest(pose(2.0)));
        let mut surprises = Vec::new();
        let truth = |cube| match cube {
            CubeId(1) => pose(1.0),
            _ => pose(2.5),
        };
        assert_eq!(server.encode_tick(truth, &mut surprises), 1);
        let events = vec![Event::Left { cube: CubeId(2) }, Event::Joined(joined)];
        let mut changes = world
            .snapshot(Snapshot {
                surprises: surprises.into(),
                ..snapshot(9, events)
            })
            .unwrap();
        let Some(WorldChange::Moved {
            tick: 9, states, ..
        }) = changes.pop()
        else {
            panic!("{changes:?}");
        };
        assert!(states.iter().all(|&(cube, _)| cube == CubeId(3)));
        assert_eq!(states.last().unwrap().1.pose(&Codec::LIVE), pose(2.5));
        assert_eq!(world.pose(CubeId(1)), Some(pose(1.0)));
        assert_eq!(world.pose(CubeId(2)), None);
        world.snapshot(snapshot(13, vec![])).unwrap();
        assert_eq!(world.pose(CubeId(1)), Some(pose(2.0)));
    }

    #[test]
    fn a_later_keyframe_tells_what_was_missed() {
        let mut world = world(5, vec![free(0, Some(1)), player(1), player(2)]);
        let cubes = vec![free(0, Some(3)), player(2), player(3)];
        let changes = world.keyframe(Keyframe { tick: 9, cubes }).unwrap();
        let (cube, by) = (CubeId(0), CubeId(3));
        assert_eq!(
            changes[..4],
            [
                WorldChange::Joined(player(3)),
                WorldChange::Freed { cube },
                WorldChange::Taken { cube, by },
                WorldChange::Left(player(1)),
            ]
        );
        let WorldChange::Moved {
            tick: 9,
            known_until: 5,
            states,
        } = &changes[4]
        else {
            panic!("{:?}", changes[4]);
        };
        assert_eq!(states.len(), 3);
        assert_eq!(changes.len(), 5);
    }

    #[test]
    fn a_join_that_the_keyframe_had_is_not_told_again() {
        let mut world = world(5, vec![player(1)]);
        let again = snapshot(6, vec![Event::Joined(player(1))]);
        assert_eq!(told(world.snapshot(again).unwrap()), []);
    }

    #[test]
    fn what_cannot_be_true_is_named() {
        let known = world(5, vec![free(0, None), player(1)]);
        let error = |snapshot| known.clone().snapshot(snapshot).unwrap_err();
        let (cube, by) = (CubeId(1), CubeId(1));
        assert_eq!(
            error(snapshot(5, vec![])),
            WorldError::Tick { tick: 5, before: 5 }
        );
        assert_eq!(
            error(snapshot(6, vec![Event::Taken { cube, by }])),
            WorldError::NotFree(cube)
        );
        let cube = CubeId(9);
        assert_eq!(
            error(snapshot(6, vec![Event::Left { cube }])),
            WorldError::UnknownCube(cube)
        );
        let mut moved = snapshot(6, vec![]);
        moved.surprises = Bytes::from_static(&[0xFF; 40]);
        assert!(matches!(error(moved), WorldError::Motion(_)));
        let first = World::default().snapshot(snapshot(1, vec![]));
        assert_eq!(first, Err(WorldError::NoKeyframe));
        let joins = (1..=MAX_CUBES_PER_ROOM as u32).map(|id| Event::Joined(player(id + 1)));
        assert_eq!(
            error(snapshot(6, joins.collect())),
            WorldError::TooManyCubes
        );
    }
}
