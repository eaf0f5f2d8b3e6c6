//! The cells in sight: which of them each cube is in, and how all cubes are believed to move.
//!
//! Cells are told of one by one, and far ones late: when a cube goes from one to another, for a
//! moment both have it, or none. It is in the cell that claimed it last; where none has it, it is
//! lost, and moves on as believed until one claims it or too much time has passed.

use std::collections::BTreeMap;

use cubesync_protocol::limits::{FAR_INTERVAL_TICKS, MAX_CELLS, MAX_CUBES_PER_ROOM};
use cubesync_protocol::motion::{Codec, MotionError, MotionSet, MotionState};
use cubesync_protocol::{CellId, CubeId, Keyframe};

/// Cubes in all cells, at most: each in the cell where it is, and perhaps still in one that tells
/// late.
const MAX_CUBES: usize = 2 * MAX_CUBES_PER_ROOM;

/// Something about cells that cannot be true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SightError {
    /// Ticks must rise.
    #[error("tick {tick} came after tick {before}")]
    Tick {
        /// The message's tick.
        tick: u64,
        /// The newest tick before it.
        before: u64,
    },
    /// Nothing can happen in a cell without a keyframe.
    #[error("cell {} is not in sight", .0.0)]
    UnknownCell(CellId),
    /// More cells than a room can have.
    #[error("there are more than {MAX_CELLS} cells in sight")]
    TooManyCells,
    /// More cubes than the cells of a room can have.
    #[error("there are more than {MAX_CUBES} cubes in sight")]
    TooManyCubes,
    /// The residuals make no sense.
    #[error(transparent)]
    Motion(#[from] MotionError),
}

/// The cells in sight and the cubes in them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sight {
    /// The newest tick that was heard of.
    tick: u64,
    cells: BTreeMap<CellId, Cell>,
    /// Which cell each cube is in.
    places: BTreeMap<CubeId, CellId>,
    /// The cubes that are in none.
    lost: BTreeMap<CubeId, Lost>,
}

#[derive(Debug, Clone)]
struct Cell {
    interval_ticks: u8,
    /// At the tick that the cell was last told of.
    motion: MotionSet,
}

#[derive(Debug, Clone, Copy)]
struct Lost {
    /// The tick at which it was lost.
    since: u64,
    /// What is believed about it, and at which tick.
    tick: u64,
    state: MotionState,
}

impl Sight {
    /// The newest tick that was heard of.
    pub(crate) fn tick(&self) -> u64 {
        self.tick
    }

    /// The server told of a tick.
    ///
    /// # Errors
    /// [`SightError::Tick`].
    pub(crate) fn hear(&mut self, tick: u64) -> Result<(), SightError> {
        if tick < self.tick {
            let before = self.tick;
            return Err(SightError::Tick { tick, before });
        }
        self.tick = tick;
        Ok(())
    }

    /// Starts or replaces a cell, which claims all its cubes. Returns up to which tick what was
    /// believed about these is known to have been right.
    ///
    /// # Errors
    /// [`SightError`].
    pub(crate) fn start(&mut self, keyframe: &Keyframe) -> Result<u64, SightError> {
        let Keyframe { cell, tick, .. } = *keyframe;
        let before = self.tick;
        self.hear(tick)?;
        let mut motion = MotionSet::at_tick(&Codec::LIVE, tick);
        for info in &keyframe.cubes {
            motion.insert(info.cube, info.motion);
        }
        let new = Cell {
            interval_ticks: keyframe.interval_ticks,
            motion,
        };
        let known_until = match self.cells.insert(cell, new) {
            Some(old) => {
                self.lose_all(cell, &old);
                old.motion.tick()
            }
            // The cell they come from may have told late.
            None => before.min(tick.saturating_sub(FAR_INTERVAL_TICKS.into())),
        };
        if self.cells.len() > MAX_CELLS {
            return Err(SightError::TooManyCells);
        }
        for info in &keyframe.cubes {
            self.claim(cell, info.cube);
        }
        Ok(known_until)
    }

    /// A cell goes on to a tick, as believed. Returns up to which tick that is known to have been
    /// right.
    ///
    /// # Errors
    /// [`SightError`].
    pub(crate) fn advance(&mut self, cell: CellId, tick: u64) -> Result<u64, SightError> {
        let known = self.cells.get_mut(&cell);
        let known = known.ok_or(SightError::UnknownCell(cell))?;
        let before = known.motion.tick();
        if tick <= before {
            return Err(SightError::Tick { tick, before });
        }
        known.motion.advance_to(tick);
        let known_until = tick.saturating_sub(known.interval_ticks.into());
        self.hear(tick)?;
        Ok(known_until.max(before))
    }

    /// A cube came into a cell, which claims it.
    pub(crate) fn enter(&mut self, cell: CellId, cube: CubeId, state: MotionState) {
        if let Some(known) = self.cells.get_mut(&cell) {
            known.motion.insert(cube, state);
            self.claim(cell, cube);
        }
    }

    /// A cube of a cell moves otherwise than was believed.
    pub(crate) fn place(&mut self, cell: CellId, cube: CubeId, state: MotionState) {
        let known = self.cells.get_mut(&cell);
        if let Some(known) = known.filter(|known| known.motion.get(cube).is_some()) {
            known.motion.insert(cube, state);
        }
    }

    /// A cube went from a cell to another one.
    pub(crate) fn exit(&mut self, cell: CellId, cube: CubeId) {
        let state = self.take_out(cell, cube);
        if self.is_in(cell, cube)
            && let Some(state) = state
        {
            self.lose(cube, self.tick, state);
        }
    }

    /// A cube went from a cell and for good; what was believed about it if it was in that cell.
    pub(crate) fn leave(&mut self, cell: CellId, cube: CubeId) -> Option<MotionState> {
        let state = self.take_out(cell, cube);
        if !self.is_in(cell, cube) {
            return None;
        }
        self.places.remove(&cube);
        state
    }

    /// Takes in the residuals of a cell; which cubes they are about.
    ///
    /// # Errors
    /// [`SightError::Motion`].
    pub(crate) fn surprise(
        &mut self,
        cell: CellId,
        bytes: &[u8],
    ) -> Result<Vec<CubeId>, SightError> {
        let mut surprised = Vec::new();
        if let Some(known) = self.cells.get_mut(&cell)
            && !bytes.is_empty()
        {
            let told = |cube| surprised.push(cube);
            known.motion.decode_tick(bytes, told)?;
        }
        Ok(surprised)
    }

    /// Nothing more is told of a cell.
    ///
    /// # Errors
    /// [`SightError::UnknownCell`].
    pub(crate) fn end(&mut self, cell: CellId) -> Result<(), SightError> {
        let old = self.cells.remove(&cell);
        self.lose_all(cell, &old.ok_or(SightError::UnknownCell(cell))?);
        Ok(())
    }

    /// Forgets the cubes that have been lost for too long, and names them.
    pub(crate) fn forget_lost(&mut self) -> Vec<(CubeId, MotionState)> {
        let is_over = |lost: &Lost| self.tick - lost.since > FAR_INTERVAL_TICKS.into();
        let over = self.lost.iter().filter(|(_, lost)| is_over(lost));
        let over: Vec<_> = over
            .map(|(&cube, lost)| (cube, lost.at(self.tick)))
            .collect();
        for (cube, _) in &over {
            self.lost.remove(cube);
        }
        over
    }

    /// Whether there are not too many cubes.
    ///
    /// # Errors
    /// [`SightError::TooManyCubes`].
    pub(crate) fn check(&self) -> Result<(), SightError> {
        let told: usize = self.cells.values().map(|cell| cell.motion.len()).sum();
        let known = self.places.len() + self.lost.len();
        match told.max(known) {
            ..=MAX_CUBES => Ok(()),
            _ => Err(SightError::TooManyCubes),
        }
    }

    /// Whether a cube is in a cell.
    pub(crate) fn is_in(&self, cell: CellId, cube: CubeId) -> bool {
        self.places.get(&cube) == Some(&cell)
    }

    /// What is believed about a cube at the newest tick.
    pub(crate) fn state(&self, cube: CubeId) -> Option<MotionState> {
        if let Some(lost) = self.lost.get(&cube) {
            return Some(lost.at(self.tick));
        }
        let cell = self.cells.get(self.places.get(&cube)?)?;
        cell.motion.state_at(cube, self.tick)
    }

    fn claim(&mut self, cell: CellId, cube: CubeId) {
        self.lost.remove(&cube);
        self.places.insert(cube, cell);
    }

    fn lose(&mut self, cube: CubeId, tick: u64, state: MotionState) {
        self.places.remove(&cube);
        let since = self.tick;
        self.lost.insert(cube, Lost { since, tick, state });
    }

    fn lose_all(&mut self, cell: CellId, old: &Cell) {
        for (cube, state) in old.motion.iter() {
            if self.is_in(cell, cube) {
                self.lose(cube, old.motion.tick(), *state);
            }
        }
    }

    fn take_out(&mut self, cell: CellId, cube: CubeId) -> Option<MotionState> {
        self.cells.get_mut(&cell)?.motion.remove(cube)
    }
}

impl Lost {
    fn at(&self, tick: u64) -> MotionState {
        self.state.advanced(self.tick, tick)
    }
}
