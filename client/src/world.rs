//! What a client knows of its room: keyframes and snapshots in, changes out.

use std::collections::BTreeMap;

use cubesync_protocol::motion::{Codec, MotionState};
use cubesync_protocol::{CellId, CubeId, CubeInfo, CubeKind, Event, Keyframe, Pose, Snapshot};

use crate::sight::{Sight, SightError};

/// Something that changed in what is in sight, told once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorldChange {
    /// A cube came into the room.
    Joined(CubeInfo),
    /// A cube left the room.
    Left(CubeInfo),
    /// A cube came into sight. Not told for the cubes that were in sight from the beginning.
    Appeared(CubeInfo),
    /// A cube went out of sight.
    Disappeared(CubeInfo),
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
    /// What is believed about cubes from a tick on. Comes for every keyframe, snapshot and
    /// heartbeat, after their other changes, with the cubes that came among them.
    Moved {
        /// The tick.
        tick: u64,
        /// Up to and with this tick, what was believed before is known to have been right.
        known_until: u64,
        /// The cubes that are not as believed before.
        states: Vec<(CubeId, MotionState)>,
    },
}

/// A message that cannot be true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WorldError {
    /// It makes no sense in its cell.
    #[error(transparent)]
    Sight(#[from] SightError),
    /// Authority over a player's cube never changes hands.
    #[error("cube {0} belongs to a player and cannot be taken or freed")]
    NotFree(CubeId),
}

/// The cubes in sight at the newest tick.
///
/// Until the own cube is among them, nothing is told.
#[derive(Debug, Clone)]
pub struct World {
    own: CubeId,
    is_known: bool,
    /// Their motion is that of when they became known.
    cubes: BTreeMap<CubeId, CubeInfo>,
    sight: Sight,
    surprises: u64,
}

impl World {
    /// What the player of this cube knows at first: nothing.
    pub fn new(own: CubeId) -> Self {
        Self {
            own,
            is_known: false,
            cubes: BTreeMap::new(),
            sight: Sight::default(),
            surprises: 0,
        }
    }

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
        let state = self.sight.state(cube)?;
        Some(state.pose(&Codec::LIVE))
    }

    /// Players in sight.
    pub fn players(&self) -> usize {
        self.cubes()
            .filter(|cube| cube.kind == CubeKind::Player)
            .count()
    }

    /// How many surprises came so far.
    pub fn surprises(&self) -> u64 {
        self.surprises
    }

    /// Whether the own cube has been in sight.
    pub fn is_known(&self) -> bool {
        self.is_known
    }

    /// Takes in a keyframe. What differs from what was known is told as if snapshots had come.
    ///
    /// # Errors
    /// [`WorldError`]; the world is not to be used any further.
    pub fn keyframe(&mut self, keyframe: Keyframe) -> Result<Vec<WorldChange>, WorldError> {
        let known_until = self.sight.start(&keyframe)?;
        let Keyframe { cell, cubes, .. } = keyframe;
        let moved: Vec<_> = cubes.iter().map(|info| info.cube).collect();
        let mut changes = Vec::new();
        for info in cubes {
            self.claimed(info, WorldChange::Appeared, &mut changes);
        }
        // Before all others: a cube that appeared may hold one already.
        changes.sort_by_key(|change| !matches!(change, WorldChange::Appeared(_)));
        let states = self.states(cell, &moved);
        self.tell(known_until, states, changes)
    }

    /// Takes in a snapshot.
    ///
    /// # Errors
    /// [`WorldError`]; the world is not to be used any further.
    pub fn snapshot(&mut self, snapshot: Snapshot) -> Result<Vec<WorldChange>, WorldError> {
        let cell = snapshot.cell;
        let known_until = self.sight.advance(cell, snapshot.tick)?;
        let exits = last_exits(&snapshot.events);
        let mut changes = Vec::with_capacity(snapshot.events.len() + 1);
        let mut moved = Vec::new();
        for (index, event) in snapshot.events.into_iter().enumerate() {
            if let Event::Joined(info) | Event::Entered(info) = &event {
                // A far cell tells late: where the cube went to has perhaps claimed it already.
                let passes = exits.get(&info.cube).is_some_and(|&exit| exit > index);
                self.sight.enter(cell, info.cube, info.motion, passes);
                if passes {
                    continue;
                }
                moved.push(info.cube);
            }
            self.apply(cell, event, &mut changes)?;
        }
        let surprised = self.sight.surprise(cell, &snapshot.surprises)?;
        self.surprises += surprised.len() as u64;
        moved.extend(surprised);
        let states = self.states(cell, &moved);
        self.tell(known_until, states, changes)
    }

    /// Takes in a heartbeat: everything has gone on as believed up to a tick.
    ///
    /// # Errors
    /// [`WorldError`]; the world is not to be used any further.
    pub fn heartbeat(&mut self, tick: u64) -> Result<Vec<WorldChange>, WorldError> {
        self.sight.hear(tick)?;
        self.tell(tick, Vec::new(), Vec::new())
    }

    /// Takes in that cells are out of sight. Their cubes are told of later, if no other cell has
    /// them.
    ///
    /// # Errors
    /// [`WorldError`]; the world is not to be used any further.
    pub fn out_of_sight(&mut self, cells: &[CellId]) -> Result<(), WorldError> {
        for &cell in cells {
            self.sight.end(cell)?;
        }
        Ok(())
    }

    /// Only events of the cell that a cube is in count: those of others are old news.
    fn apply(
        &mut self,
        cell: CellId,
        event: Event,
        changes: &mut Vec<WorldChange>,
    ) -> Result<(), WorldError> {
        match event {
            Event::Joined(info) => self.claimed(info, WorldChange::Joined, changes),
            Event::Entered(info) => self.claimed(info, WorldChange::Appeared, changes),
            Event::Exited { cube } => self.sight.exit(cell, cube),
            Event::Left { cube } => {
                if let Some(state) = self.sight.leave(cell, cube) {
                    let left = self.take_out(cube, state);
                    changes.extend(left.map(WorldChange::Left));
                }
            }
            Event::Taken { cube, by } => {
                if let Some(holder) = self.holder(cell, cube)? {
                    *holder = Some(by);
                    changes.push(WorldChange::Taken { cube, by });
                }
            }
            Event::Freed { cube } => {
                if let Some(holder) = self.holder(cell, cube)? {
                    *holder = None;
                    changes.push(WorldChange::Freed { cube });
                }
            }
            Event::Ghost { cube } => self.become_kind(cell, cube, CubeKind::Ghost),
            Event::Returned { cube } => self.become_kind(cell, cube, CubeKind::Player),
        }
        Ok(())
    }

    /// A cell claims a cube: one that is known is told of as far as its holder differs.
    fn claimed(
        &mut self,
        info: CubeInfo,
        came: fn(CubeInfo) -> WorldChange,
        changes: &mut Vec<WorldChange>,
    ) {
        let cube = info.cube;
        let Some(known) = self.cubes.get_mut(&cube) else {
            changes.push(came(info.clone()));
            self.cubes.insert(cube, info);
            return;
        };
        let (before, after) = (holder_of(known), holder_of(&info));
        if before != after {
            changes.extend(before.map(|_| WorldChange::Freed { cube }));
            changes.extend(after.map(|by| WorldChange::Taken { cube, by }));
        }
        *known = info;
    }

    /// What is believed about those of some cubes that are in a cell.
    fn states(&self, cell: CellId, cubes: &[CubeId]) -> Vec<(CubeId, MotionState)> {
        let here = cubes.iter().filter(|&&cube| self.sight.is_in(cell, cube));
        here.filter_map(|&cube| Some((cube, self.sight.state(cube)?)))
            .collect()
    }

    /// Ends a message.
    fn tell(
        &mut self,
        known_until: u64,
        states: Vec<(CubeId, MotionState)>,
        mut changes: Vec<WorldChange>,
    ) -> Result<Vec<WorldChange>, WorldError> {
        self.sight.check()?;
        for (cube, state) in self.sight.forget_lost() {
            let lost = self.take_out(cube, state);
            changes.extend(lost.map(WorldChange::Disappeared));
        }
        let tick = self.sight.tick();
        if self.is_known {
            changes.push(WorldChange::Moved {
                tick,
                known_until,
                states,
            });
            return Ok(changes);
        }
        self.is_known = self.cubes.contains_key(&self.own);
        let state = |&cube| Some((cube, self.sight.state(cube)?));
        let everything = self.is_known.then(|| WorldChange::Moved {
            tick,
            known_until: tick,
            states: self.cubes.keys().filter_map(state).collect(),
        });
        Ok(everything.into_iter().collect())
    }

    fn take_out(&mut self, cube: CubeId, motion: MotionState) -> Option<CubeInfo> {
        let info = self.cubes.remove(&cube)?;
        Some(CubeInfo { motion, ..info })
    }

    fn become_kind(&mut self, cell: CellId, cube: CubeId, kind: CubeKind) {
        if let Some(known) = self.known(cell, cube) {
            known.kind = kind;
        }
    }

    fn holder(
        &mut self,
        cell: CellId,
        cube: CubeId,
    ) -> Result<Option<&mut Option<CubeId>>, WorldError> {
        match self.known(cell, cube).map(|known| &mut known.kind) {
            None => Ok(None),
            Some(CubeKind::Free { holder }) => Ok(Some(holder)),
            Some(CubeKind::Player | CubeKind::Ghost) => Err(WorldError::NotFree(cube)),
        }
    }

    /// A cube that is in a cell.
    fn known(&mut self, cell: CellId, cube: CubeId) -> Option<&mut CubeInfo> {
        let is_here = self.sight.is_in(cell, cube);
        self.cubes.get_mut(&cube).filter(|_| is_here)
    }
}

/// Where in a snapshot cubes go to another cell for the last time.
fn last_exits(events: &[Event]) -> BTreeMap<CubeId, usize> {
    let exits = events.iter().enumerate();
    exits
        .filter_map(|(index, event)| match event {
            Event::Exited { cube } => Some((*cube, index)),
            _ => None,
        })
        .collect()
}

/// Who holds a cube.
pub fn holder_of(info: &CubeInfo) -> Option<CubeId> {
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
