//! The one receiver: messages of a room's streams in, cubes and changes out.
//!
//! A publisher sends each cell in a stream of its own, and far cells late. So when a cube
//! goes from one cell to another, for a moment both have it, or none. It counts as being in the
//! cell that claimed it last. A cube that no cell has is lost: it moves on as predicted until a
//! cell claims it or too much time has passed.

mod change;
mod error;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use change::Change;
pub use error::ReplicaError;
pub use stream::CellStream;

use self::error::MAX_CUBES;
use crate::cube::{CellId, CubeId};
use crate::limits::{FAR_INTERVAL_TICKS, MAX_CELLS};
use crate::message::{CubeInfo, CubeKind, Event, Keyframe, ServerMessage, Snapshot};
use crate::motion::{Codec, MotionState};
use crate::quantize::Pose;

/// A receiver's copy of a room's streams: the cells in sight, and the cubes in them.
#[derive(Debug, Clone, Default)]
pub struct Replica {
    /// The newest tick of all messages.
    tick: u64,
    cells: BTreeMap<CellId, Cell>,
    /// The cell that each cube is in; `None` for the lost ones.
    places: BTreeMap<CubeId, Option<CellId>>,
    lost: BTreeMap<CubeId, Lost>,
    updates: u64,
}

/// A cell in sight. It keeps all cubes of its stream, also those that another cell has claimed: the
/// stream may be late, and its next message still counts them.
#[derive(Debug, Clone)]
struct Cell {
    stream: CellStream,
    /// The cubes, each with the motion with which it came in.
    cubes: BTreeMap<CubeId, CubeInfo>,
}

/// A cube that is in no cell.
#[derive(Debug, Clone)]
struct Lost {
    info: CubeInfo,
    /// The tick at which it was lost.
    since: u64,
    /// Its state at `tick`.
    state: MotionState,
    tick: u64,
}

impl Replica {
    /// Takes in a message. One that is not about cubes in sight changes nothing.
    ///
    /// # Errors
    /// [`ReplicaError`]; the replica is not to be used any further.
    pub fn take_in(&mut self, message: &ServerMessage) -> Result<Vec<Change>, ReplicaError> {
        match message {
            ServerMessage::Keyframe(keyframe) => self.keyframe(keyframe),
            ServerMessage::Snapshot(snapshot) => self.snapshot(snapshot),
            ServerMessage::Heartbeat { tick } => self.heartbeat(*tick),
            ServerMessage::OutOfSight { cells } => {
                self.out_of_sight(cells)?;
                Ok(Vec::new())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Takes in a keyframe. What differs from before is reported as if snapshots had come.
    ///
    /// # Errors
    /// [`ReplicaError`]; the replica is not to be used any further.
    pub fn keyframe(&mut self, keyframe: &Keyframe) -> Result<Vec<Change>, ReplicaError> {
        let Keyframe { cell, tick, .. } = *keyframe;
        let before = self.tick;
        self.begin_tick(tick)?;
        let new = Cell {
            stream: CellStream::from(keyframe),
            cubes: BTreeMap::new(),
        };
        let known_until = match self.cells.insert(cell, new) {
            Some(old) => {
                let until = old.stream.tick();
                self.lose_all(cell, old);
                until
            }
            // The stream of the cell that its cubes come from may be late.
            None => before.min(tick.saturating_sub(FAR_INTERVAL_TICKS.into())),
        };
        if self.cells.len() > MAX_CELLS {
            return Err(ReplicaError::TooManyCells);
        }
        let mut changes = Vec::new();
        let mut moved = Vec::with_capacity(keyframe.cubes.len());
        for info in &keyframe.cubes {
            self.claim(cell, info, Change::Appeared, &mut changes);
            moved.push(info.cube);
        }
        // Before all others: a cube that appeared may hold one already. The other change is of an id that
        // has another cube now.
        changes
            .sort_by_key(|change| !matches!(change, Change::Appeared(_) | Change::Disappeared(_)));
        self.check()?;
        let states = self.states_in(cell, &moved);
        Ok(self.finish(known_until, states, changes))
    }

    /// Takes in a snapshot.
    ///
    /// # Errors
    /// [`ReplicaError`]; the replica is not to be used any further.
    pub fn snapshot(&mut self, snapshot: &Snapshot) -> Result<Vec<Change>, ReplicaError> {
        let id = snapshot.cell;
        let known_until = self.cell(id)?.stream.begin(snapshot.tick)?;
        self.begin_tick(snapshot.tick)?;
        let mut changes = Vec::with_capacity(snapshot.events.len() + 1);
        let mut moved = Vec::new();
        let mut has_new = false;
        for event in &snapshot.events {
            has_new |= matches!(event, Event::Joined(_) | Event::Entered(_));
            if let Event::Joined(_) | Event::Entered(_) | Event::Placed { .. } = event {
                moved.push(event.cube());
            }
            self.apply(id, event, &mut changes)?;
        }
        if has_new {
            self.check()?;
        }
        let placed = moved.len();
        let stream = &mut self.cell(id)?.stream;
        stream.decode(&snapshot.residuals, |cube| moved.push(cube))?;
        self.updates += (moved.len() - placed) as u64;
        let states = self.states_in(id, &moved);
        Ok(self.finish(known_until, states, changes))
    }

    /// Takes in a heartbeat: everything has gone on as predicted up to a tick.
    ///
    /// # Errors
    /// [`ReplicaError`]; the replica is not to be used any further.
    pub fn heartbeat(&mut self, tick: u64) -> Result<Vec<Change>, ReplicaError> {
        self.begin_tick(tick)?;
        Ok(self.finish(tick, Vec::new(), Vec::new()))
    }

    /// Takes in that cells are out of sight. If no other cell claims their cubes, a later message
    /// reports that these have disappeared.
    ///
    /// # Errors
    /// [`ReplicaError`]; the replica is not to be used any further.
    pub fn out_of_sight(&mut self, cells: &[CellId]) -> Result<(), ReplicaError> {
        for &cell in cells {
            let old = self.cells.remove(&cell);
            self.lose_all(cell, old.ok_or(ReplicaError::UnknownCell(cell))?);
        }
        Ok(())
    }

    /// Returns the newest tick of all messages.
    pub fn tick(&self) -> u64 {
        self.tick
    }

    /// Returns the number of residuals that came so far.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Returns the cubes by rising id, with the motion with which they came into their cell;
    /// [`state`](Self::state) is the motion now.
    pub fn cubes(&self) -> impl Iterator<Item = &CubeInfo> {
        let places = self.places.iter();
        places.filter_map(|(&cube, &place)| self.info(cube, place))
    }

    /// Returns one cube, as [`cubes`](Self::cubes) returns it.
    pub fn cube(&self, cube: CubeId) -> Option<&CubeInfo> {
        self.info(cube, *self.places.get(&cube)?)
    }

    /// Returns the number of players in sight.
    pub fn players(&self) -> usize {
        let is_player = |cube: &&CubeInfo| cube.kind == CubeKind::Player;
        self.cubes().filter(is_player).count()
    }

    /// Returns the predicted state of a cube at the newest tick.
    pub fn state(&self, cube: CubeId) -> Option<MotionState> {
        self.state_at(cube, self.tick)
    }

    /// Returns the predicted state of a cube at a tick that is not earlier than the newest one.
    pub fn state_at(&self, cube: CubeId, tick: u64) -> Option<MotionState> {
        match self.places.get(&cube)? {
            Some(cell) => self.cells.get(cell)?.stream.motion().state_at(cube, tick),
            None => self.lost.get(&cube).map(|lost| lost.state_at(tick)),
        }
    }

    /// Returns the predicted pose of a cube at the newest tick.
    pub fn pose(&self, cube: CubeId) -> Option<Pose> {
        let state = self.state(cube)?;
        Some(state.pose(&Codec::LIVE))
    }

    /// Returns the change that reports the predicted states of all cubes at the newest tick.
    pub fn everything(&self) -> Change {
        let state = |&cube| Some((cube, self.state(cube)?));
        Change::Moved {
            tick: self.tick,
            known_until: self.tick,
            states: self.places.keys().filter_map(state).collect(),
        }
    }

    /// Returns the cells in sight and their streams.
    pub fn streams(&self) -> impl Iterator<Item = (CellId, &CellStream)> {
        self.cells.iter().map(|(&id, cell)| (id, &cell.stream))
    }

    /// Returns the stream of a cell in sight.
    pub fn stream(&self, cell: CellId) -> Option<&CellStream> {
        self.cells.get(&cell).map(|cell| &cell.stream)
    }

    /// Returns a keyframe from which another receiver can go on with the stream of a cell: of a
    /// tick, or of the stream's newest one if that is later.
    pub fn keyframe_of(&self, cell: CellId, tick: u64) -> Option<Keyframe> {
        let Cell { stream, cubes } = self.cells.get(&cell)?;
        let tick = tick.max(stream.tick());
        let info = |info: &CubeInfo| {
            Some(CubeInfo {
                motion: stream.motion().state_at(info.cube, tick)?,
                ..info.clone()
            })
        };
        Some(Keyframe {
            cell,
            interval_ticks: stream.interval_ticks(),
            tick,
            cubes: cubes.values().filter_map(info).collect(),
        })
    }

    /// Applies an event of a cell. It changes a cube only if the cube is in that cell; from any other
    /// cell it is old news.
    fn apply(
        &mut self,
        id: CellId,
        event: &Event,
        changes: &mut Vec<Change>,
    ) -> Result<(), ReplicaError> {
        let cube = event.cube();
        let is_here = self.is_in(id, cube);
        let (tick, cell) = (self.tick, self.cell(id)?);
        let state = cell.stream.motion().get(cube).copied();
        cell.stream.apply(event);
        match event {
            Event::Joined(info) => self.claim(id, info, Change::Joined, changes),
            Event::Entered(info) => self.claim(id, info, Change::Appeared, changes),
            Event::Left { .. } | Event::Exited { .. } => {
                let info = cell.cubes.remove(&cube).filter(|_| is_here);
                if let (Some(info), Some(state)) = (info, state) {
                    if matches!(event, Event::Exited { .. }) {
                        self.lose(info, tick, state);
                    } else {
                        self.places.remove(&cube);
                        changes.push(Change::Left(with_motion(info, state)));
                    }
                }
            }
            Event::Taken { by, .. } => {
                if cell.set_holder(cube, Some(*by), is_here)? {
                    changes.push(Change::Taken { cube, by: *by });
                }
            }
            Event::Freed { .. } => {
                if cell.set_holder(cube, None, is_here)? {
                    changes.push(Change::Freed { cube });
                }
            }
            Event::Ghost { .. } => cell.set_kind(cube, CubeKind::Ghost),
            Event::Returned { .. } => cell.set_kind(cube, CubeKind::Player),
            Event::Placed { .. } => {}
        }
        Ok(())
    }

    /// Lets a cell claim a cube. For a known cube only a change of its holder is reported. A known id with
    /// another name or colour is another cube, of another owner of the room.
    fn claim(
        &mut self,
        id: CellId,
        info: &CubeInfo,
        came: fn(CubeInfo) -> Change,
        changes: &mut Vec<Change>,
    ) {
        let cube = info.cube;
        match self.cube(cube) {
            None => changes.push(came(info.clone())),
            Some(old) if old.name != info.name || old.colour != info.colour => {
                let motion = self.state(cube).unwrap_or(old.motion);
                let gone = with_motion(old.clone(), motion);
                changes.extend([Change::Disappeared(gone), came(info.clone())]);
            }
            Some(old) if old.holder() != info.holder() => {
                changes.extend(old.holder().map(|_| Change::Freed { cube }));
                changes.extend(info.holder().map(|by| Change::Taken { cube, by }));
            }
            Some(_) => {}
        }
        if let Some(cell) = self.cells.get_mut(&id) {
            cell.cubes.insert(cube, info.clone());
            self.places.insert(cube, Some(id));
            self.lost.remove(&cube);
        }
    }

    /// Forgets lost cubes and reports what a message has changed.
    fn finish(
        &mut self,
        known_until: u64,
        states: Vec<(CubeId, MotionState)>,
        mut changes: Vec<Change>,
    ) -> Vec<Change> {
        self.forget_lost(&mut changes);
        changes.push(Change::Moved {
            tick: self.tick,
            known_until,
            states,
        });
        changes
    }

    /// Advances to the tick of a message.
    fn begin_tick(&mut self, tick: u64) -> Result<(), ReplicaError> {
        if tick < self.tick {
            let before = self.tick;
            return Err(ReplicaError::Tick { tick, before });
        }
        self.tick = tick;
        Ok(())
    }

    /// Checks the limit on cubes, so that a hostile publisher cannot fill this receiver's memory.
    fn check(&self) -> Result<(), ReplicaError> {
        let cells = self.cells.values();
        let in_streams: usize = cells.map(|cell| cell.stream.motion().len()).sum();
        match in_streams.max(self.places.len()) {
            ..=MAX_CUBES => Ok(()),
            _ => Err(ReplicaError::TooManyCubes),
        }
    }

    /// Forgets the cubes that have been lost for too long.
    fn forget_lost(&mut self, changes: &mut Vec<Change>) {
        let tick = self.tick;
        let is_over = |lost: &Lost| tick - lost.since > FAR_INTERVAL_TICKS.into();
        let over = self.lost.iter().filter(|(_, lost)| is_over(lost));
        let over: Vec<_> = over.map(|(&cube, _)| cube).collect();
        for cube in over {
            self.places.remove(&cube);
            let lost = self.lost.remove(&cube);
            changes.extend(lost.map(|lost| {
                let state = lost.state_at(tick);
                Change::Disappeared(with_motion(lost.info, state))
            }));
        }
    }

    fn lose(&mut self, info: CubeInfo, tick: u64, state: MotionState) {
        let (cube, since) = (info.cube, self.tick);
        let lost = Lost {
            info,
            since,
            state,
            tick,
        };
        self.places.insert(cube, None);
        self.lost.insert(cube, lost);
    }

    fn lose_all(&mut self, id: CellId, old: Cell) {
        let tick = old.stream.tick();
        for (cube, info) in old.cubes {
            if self.is_in(id, cube)
                && let Some(state) = old.stream.motion().get(cube)
            {
                self.lose(info, tick, *state);
            }
        }
    }

    /// Returns the states of those of `cubes` that are in a cell.
    fn states_in(&self, cell: CellId, cubes: &[CubeId]) -> Vec<(CubeId, MotionState)> {
        let here = cubes.iter().filter(|&&cube| self.is_in(cell, cube));
        here.filter_map(|&cube| Some((cube, self.state(cube)?)))
            .collect()
    }

    fn is_in(&self, cell: CellId, cube: CubeId) -> bool {
        self.places.get(&cube) == Some(&Some(cell))
    }

    fn info(&self, cube: CubeId, place: Option<CellId>) -> Option<&CubeInfo> {
        match place {
            Some(cell) => self.cells.get(&cell)?.cubes.get(&cube),
            None => self.lost.get(&cube).map(|lost| &lost.info),
        }
    }

    fn cell(&mut self, cell: CellId) -> Result<&mut Cell, ReplicaError> {
        let known = self.cells.get_mut(&cell);
        known.ok_or(ReplicaError::UnknownCell(cell))
    }
}

impl Cell {
    fn set_kind(&mut self, cube: CubeId, kind: CubeKind) {
        if let Some(info) = self.cubes.get_mut(&cube) {
            info.kind = kind;
        }
    }

    /// Changes the holder of a free cube. Returns whether the cube is in this cell, and not only
    /// in its stream.
    fn set_holder(
        &mut self,
        cube: CubeId,
        new: Option<CubeId>,
        is_here: bool,
    ) -> Result<bool, ReplicaError> {
        match self.cubes.get_mut(&cube).map(|info| &mut info.kind) {
            Some(CubeKind::Free { holder }) => {
                *holder = new;
                Ok(is_here)
            }
            Some(CubeKind::Player | CubeKind::Ghost) if is_here => Err(ReplicaError::NotFree(cube)),
            _ => Ok(false),
        }
    }
}

impl Lost {
    fn state_at(&self, tick: u64) -> MotionState {
        self.state.advanced(self.tick, tick)
    }
}

fn with_motion(info: CubeInfo, motion: MotionState) -> CubeInfo {
    CubeInfo { motion, ..info }
}
