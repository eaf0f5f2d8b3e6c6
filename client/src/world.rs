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
    updates: u64,
}

impl World {
    /// What the player of this cube knows at first: nothing.
    pub fn new(own: CubeId) -> Self {
        Self {
            own,
            is_known: false,
            cubes: BTreeMap::new(),
            sight: Sight::default(),
            updates: 0,
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

    /// The newest tick that was told of.
    pub fn tick(&self) -> u64 {
        self.sight.tick()
    }

    /// Players in sight.
    pub fn players(&self) -> usize {
        self.cubes()
            .filter(|cube| cube.kind == CubeKind::Player)
            .count()
    }

    /// Returns the number of updates so far.
    pub fn updates(&self) -> u64 {
        self.updates
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
        let mut changes = Vec::with_capacity(snapshot.events.len() + 1);
        let mut moved = Vec::new();
        for event in snapshot.events {
            if let Event::Joined(info) | Event::Entered(info) = &event {
                self.sight.enter(cell, info.cube, info.motion);
                moved.push(info.cube);
            }
            if let Event::Placed { cube, motion } = event {
                self.sight.place(cell, cube, motion);
                moved.push(cube);
            }
            self.apply(cell, event, &mut changes)?;
        }
        let surprised = self.sight.surprise(cell, &snapshot.residuals)?;
        self.updates += surprised.len() as u64;
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
            Event::Placed { .. } => {}
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
    use cubesync_protocol::limits::FAR_INTERVAL_TICKS;
    use cubesync_protocol::motion::MotionSet;

    use super::*;
    use crate::testing::{moving, pose};

    /// Cells from this one on are far.
    const FAR: u16 = 100;

    fn cube(id: u64, kind: CubeKind) -> CubeInfo {
        CubeInfo {
            cube: CubeId(id),
            kind,
            name: format!("name {id}"),
            colour: Colour::from([1, 2, 3]),
            motion: MotionState::at_rest(Pose::default()),
        }
    }

    fn player(id: u64) -> CubeInfo {
        cube(id, CubeKind::Player)
    }

    fn free(id: u64, holder: Option<u64>) -> CubeInfo {
        let holder = holder.map(CubeId);
        cube(id, CubeKind::Free { holder })
    }

    fn keyframe(cell: u16, tick: u64, cubes: Vec<CubeInfo>) -> Keyframe {
        Keyframe {
            cell: CellId(cell),
            interval_ticks: if cell < FAR { 1 } else { FAR_INTERVAL_TICKS },
            tick,
            cubes,
        }
    }

    fn snapshot(cell: u16, tick: u64, events: Vec<Event>) -> Snapshot {
        Snapshot {
            cell: CellId(cell),
            tick,
            events,
            residuals: Bytes::new(),
        }
    }

    /// At tick 5 player 1, whose world it is, and others are in cell 0; cell 1 and the far cell
    /// are empty.
    fn world(others: Vec<CubeInfo>) -> World {
        let mut world = World::new(CubeId(1));
        let mut cubes = others;
        cubes.push(player(1));
        cubes.sort_by_key(|cube| cube.cube);
        let changes = world.keyframe(keyframe(0, 5, cubes)).unwrap();
        assert!(matches!(changes[..], [WorldChange::Moved { .. }]));
        for cell in [1, FAR] {
            let changes = world.keyframe(keyframe(cell, 5, vec![])).unwrap();
            assert_eq!(told(changes), []);
        }
        world
    }

    /// The changes besides the motion.
    fn told(mut changes: Vec<WorldChange>) -> Vec<WorldChange> {
        assert!(matches!(changes.pop(), Some(WorldChange::Moved { .. })));
        changes
    }

    /// What is told of a snapshot with these events.
    fn after(world: &mut World, cell: u16, tick: u64, events: Vec<Event>) -> Vec<WorldChange> {
        told(world.snapshot(snapshot(cell, tick, events)).unwrap())
    }

    fn exited(id: u64) -> Event {
        Event::Exited { cube: CubeId(id) }
    }

    fn ids(world: &World) -> Vec<u64> {
        world.cubes().map(|info| info.cube.0).collect()
    }

    #[test]
    fn a_snapshots_events_are_told_in_their_order() {
        let mut world = world(vec![free(0, None), player(2)]);
        let (cube, by) = (CubeId(0), CubeId(3));
        let events = vec![
            Event::Joined(player(3)),
            Event::Taken { cube, by },
            Event::Freed { cube },
            Event::Left { cube: CubeId(2) },
            Event::Entered(player(4)),
            Event::Ghost { cube: CubeId(3) },
        ];
        assert_eq!(
            after(&mut world, 0, 6, events),
            [
                WorldChange::Joined(player(3)),
                WorldChange::Taken { cube, by },
                WorldChange::Freed { cube },
                WorldChange::Left(player(2)),
                WorldChange::Appeared(player(4)),
            ]
        );
        assert_eq!(world.players(), 2);
        after(&mut world, 0, 7, vec![Event::Returned { cube: CubeId(3) }]);
        assert_eq!(world.players(), 3);
    }

    #[test]
    fn nothing_is_told_before_the_own_cube_is_in_sight() {
        let mut world = World::new(CubeId(1));
        assert_eq!(world.keyframe(keyframe(0, 5, vec![player(2)])), Ok(vec![]));
        assert_eq!(world.heartbeat(5), Ok(vec![]));
        assert!(!world.is_known());
        let changes = world.keyframe(keyframe(1, 6, vec![player(1)])).unwrap();
        assert!(world.is_known());
        let states = [1, 2].map(|id| (CubeId(id), MotionState::at_rest(Pose::default())));
        let expected = WorldChange::Moved {
            tick: 6,
            known_until: 6,
            states: states.to_vec(),
        };
        assert_eq!(changes, [expected]);
        let appeared = world.keyframe(keyframe(2, 6, vec![player(3)])).unwrap();
        assert_eq!(told(appeared), [WorldChange::Appeared(player(3))]);
    }

    #[test]
    fn cubes_surprise_after_the_events_and_move_as_believed_without_a_message() {
        let known = |id, motion| CubeInfo {
            motion,
            ..player(id)
        };
        let running = moving(0.0, 0.25);
        let mut world = world(vec![known(2, running), player(4)]);
        // The server's side: three silent ticks, then one leaves, one comes in and moves at once.
        let mut server = MotionSet::new(&Codec::LIVE);
        server.insert(CubeId(1), MotionState::at_rest(Pose::default()));
        server.insert(CubeId(2), running);
        server.advance_to(4);
        server.insert(CubeId(3), MotionState::at_rest(pose(2.0)));
        let joined = known(3, MotionState::at_rest(pose(2.0)));
        let mut residuals = Vec::new();
        let truth = |cube| match cube {
            CubeId(1) => Pose::default(),
            CubeId(2) => pose(1.0),
            _ => pose(2.5),
        };
        assert_eq!(server.encode_tick(truth, &mut residuals), 1);
        let events = vec![Event::Left { cube: CubeId(4) }, Event::Joined(joined)];
        let mut changes = world
            .snapshot(Snapshot {
                residuals: residuals.into(),
                ..snapshot(0, 9, events)
            })
            .unwrap();
        let Some(WorldChange::Moved {
            tick: 9,
            known_until: 8,
            states,
        }) = changes.pop()
        else {
            panic!("{changes:?}");
        };
        assert!(states.iter().all(|&(cube, _)| cube == CubeId(3)));
        assert_eq!(states.last().unwrap().1.pose(&Codec::LIVE), pose(2.5));
        assert_eq!(world.updates(), 1);
        assert_eq!(world.pose(CubeId(2)), Some(pose(1.0)));
        assert_eq!(world.pose(CubeId(4)), None);
        world.snapshot(snapshot(0, 13, vec![])).unwrap();
        assert_eq!(world.pose(CubeId(2)), Some(pose(2.0)));
        world.heartbeat(15).unwrap();
        assert_eq!(world.pose(CubeId(2)), Some(pose(2.5)));
    }

    #[test]
    fn how_long_beliefs_were_right_depends_on_the_message() {
        let mut world = world(vec![]);
        let known_until =
            |changes: Result<Vec<WorldChange>, WorldError>| match changes.unwrap().pop() {
                Some(WorldChange::Moved { known_until, .. }) => known_until,
                other => panic!("{other:?}"),
            };
        assert_eq!(known_until(world.snapshot(snapshot(0, 10, vec![]))), 9);
        assert_eq!(known_until(world.snapshot(snapshot(FAR, 12, vec![]))), 8);
        assert_eq!(known_until(world.keyframe(keyframe(0, 20, vec![]))), 10);
        assert_eq!(known_until(world.heartbeat(30)), 30);
        // Where the cubes of a new cell come from may have told late.
        assert_eq!(known_until(world.keyframe(keyframe(2, 31, vec![]))), 27);
        assert_eq!(known_until(world.keyframe(keyframe(3, 90, vec![]))), 31);
    }

    #[test]
    fn a_later_keyframe_tells_what_was_missed() {
        let mut world = world(vec![free(0, Some(1)), player(2)]);
        let cubes = vec![free(0, Some(3)), player(1), player(3)];
        let changes = world.keyframe(keyframe(0, 9, cubes)).unwrap();
        let (cube, by) = (CubeId(0), CubeId(3));
        assert_eq!(
            told(changes),
            [
                WorldChange::Appeared(player(3)),
                WorldChange::Freed { cube },
                WorldChange::Taken { cube, by },
            ]
        );
        assert_eq!(told(world.heartbeat(13).unwrap()), []);
        let gone = WorldChange::Disappeared(player(2));
        assert_eq!(told(world.heartbeat(14).unwrap()), [gone]);
    }

    #[test]
    fn a_join_that_the_keyframe_had_is_not_told_again() {
        let mut world = world(vec![]);
        let again = vec![Event::Joined(player(1))];
        assert_eq!(after(&mut world, 0, 6, again), []);
    }

    #[test]
    fn a_cube_that_crosses_tells_nothing_in_either_order_of_the_frames() {
        let frames = [
            snapshot(0, 6, vec![exited(2)]),
            snapshot(1, 6, vec![Event::Entered(player(2))]),
        ];
        for order in [[0, 1], [1, 0]] {
            let mut world = world(vec![player(2)]);
            for frame in order.map(|index| frames[index].clone()) {
                assert_eq!(told(world.snapshot(frame).unwrap()), []);
                assert_eq!(ids(&world), [1, 2]);
            }
            let left = vec![Event::Left { cube: CubeId(2) }];
            assert_eq!(after(&mut world, 0, 7, left.clone()), []);
            assert_eq!(
                after(&mut world, 1, 7, left),
                [WorldChange::Left(player(2))]
            );
        }
    }

    #[test]
    fn a_crossing_tells_a_holder_that_differs() {
        let mut world = world(vec![free(0, None)]);
        let (cube, by) = (CubeId(0), CubeId(2));
        let taken = vec![Event::Entered(free(0, Some(2)))];
        assert_eq!(
            after(&mut world, 1, 6, taken),
            [WorldChange::Taken { cube, by }]
        );
    }

    #[test]
    fn a_far_cell_may_claim_a_cube_later_but_not_too_late() {
        for (late_ticks, is_in_time) in [(4, true), (5, false)] {
            let mut world = world(vec![player(2)]);
            assert_eq!(after(&mut world, 0, 7, vec![exited(2)]), []);
            assert_eq!(
                told(world.heartbeat(7 + late_ticks).unwrap()).len(),
                usize::from(!is_in_time)
            );
            let entered = vec![Event::Entered(player(2))];
            let expected = match is_in_time {
                true => vec![],
                false => vec![WorldChange::Appeared(player(2))],
            };
            assert_eq!(after(&mut world, FAR, 7 + late_ticks, entered), expected);
            assert_eq!(ids(&world), [1, 2]);
        }
    }

    #[test]
    fn a_lost_cube_moves_on_as_believed_and_disappears_once() {
        let running = CubeInfo {
            motion: moving(0.0, 0.25),
            ..player(2)
        };
        for is_out_of_sight in [false, true] {
            let mut world = world(vec![]);
            world
                .keyframe(keyframe(2, 6, vec![running.clone()]))
                .unwrap();
            world.heartbeat(8).unwrap();
            if is_out_of_sight {
                world.out_of_sight(&[CellId(2)]).unwrap();
            } else {
                assert_eq!(after(&mut world, 2, 8, vec![exited(2)]), []);
            }
            assert_eq!(told(world.heartbeat(12).unwrap()), []);
            assert_eq!(world.pose(CubeId(2)), Some(pose(1.5)));
            let changes = told(world.heartbeat(13).unwrap());
            let [WorldChange::Disappeared(info)] = &changes[..] else {
                panic!("{changes:?}");
            };
            assert_eq!(info.motion.pose(&Codec::LIVE), pose(1.75));
            assert_eq!(told(world.heartbeat(99).unwrap()), []);
            assert_eq!(ids(&world), [1]);
        }
    }

    #[test]
    fn what_a_far_cell_tells_of_a_cube_that_has_gone_on_is_old_news() {
        let mut world = world(vec![]);
        let entered = || Event::Entered(player(2));
        assert_eq!(
            after(&mut world, FAR, 8, vec![entered()]),
            [WorldChange::Appeared(player(2))]
        );
        assert_eq!(after(&mut world, 0, 9, vec![entered()]), []);
        let stale = vec![Event::Ghost { cube: CubeId(2) }, exited(2)];
        assert_eq!(after(&mut world, FAR, 12, stale), []);
        assert_eq!(world.players(), 2);
        // Through the far cell and back between two of its ticks.
        assert_eq!(after(&mut world, 0, 13, vec![exited(2)]), []);
        assert_eq!(after(&mut world, 1, 15, vec![entered()]), []);
        assert_eq!(after(&mut world, FAR, 16, vec![exited(2)]), []);
        assert_eq!(told(world.heartbeat(99).unwrap()), []);
        assert_eq!(ids(&world), [1, 2]);
        // Nor does it tell of cubes that were never in sight.
        let unknown = vec![exited(7), Event::Left { cube: CubeId(8) }];
        assert_eq!(after(&mut world, FAR, 100, unknown), []);
    }

    #[test]
    fn what_cannot_be_true_is_named() {
        let known = world(vec![free(0, None)]);
        let error = |snapshot| known.clone().snapshot(snapshot).unwrap_err();
        let (cube, by) = (CubeId(1), CubeId(1));
        let before = 5;
        let tick = |tick| SightError::Tick { tick, before }.into();
        assert_eq!(error(snapshot(0, 5, vec![])), tick(5));
        assert_eq!(known.clone().heartbeat(4), Err(tick(4)));
        assert_eq!(known.clone().keyframe(keyframe(9, 4, vec![])), Err(tick(4)));
        assert_eq!(
            error(snapshot(0, 6, vec![Event::Taken { cube, by }])),
            WorldError::NotFree(cube)
        );
        let mut moved = snapshot(0, 6, vec![]);
        moved.residuals = Bytes::from_static(&[0xFF; 40]);
        assert!(matches!(
            error(moved),
            WorldError::Sight(SightError::Motion(_))
        ));
        let unknown = SightError::UnknownCell(CellId(2)).into();
        assert_eq!(error(snapshot(2, 6, vec![])), unknown);
        let out_of_sight = known.clone().out_of_sight(&[CellId(0), CellId(2)]);
        assert_eq!(out_of_sight, Err(unknown));
    }

    #[test]
    fn what_a_stranger_makes_a_client_keep_is_bounded() {
        let mut known = world(vec![]);
        let joins = |from: u64| (0..5_000).map(move |id| Event::Joined(player(from + id)));
        assert!(known.snapshot(snapshot(0, 6, joins(10).collect())).is_ok());
        let mut twice = known.clone();
        let again = keyframe(2, 6, (0..5_000).map(|id| player(20_000 + id)).collect());
        let too_many = Err(SightError::TooManyCubes.into());
        assert_eq!(twice.keyframe(again.clone()), too_many);
        // Nor as cubes that one cell after the other loses in the same tick.
        known.out_of_sight(&[CellId(0)]).unwrap();
        assert_eq!(known.keyframe(again), too_many);

        let mut wide = world(vec![]);
        let cells = (2..2_000).filter(|&cell| cell != FAR);
        let result = cells
            .map(|cell| wide.keyframe(keyframe(cell, 6, vec![])))
            .find(Result::is_err);
        assert_eq!(result, Some(Err(SightError::TooManyCells.into())));
    }
}
