//! The cubes whose states sender and receivers predict alike, and one tick of them as bytes.

use super::Codec;
use super::model::{Decide, Modelled};
use super::range::{RangeDecoder, RangeEncoder};
use super::residual::Residual;
use super::state::{MotionState, Prediction, ticks_between};
use super::syntax::TickContext;
use crate::cube::CubeId;
use crate::quantize::Pose;

/// Why bytes are not what an encoder wrote. The set may have applied a part of them: replace it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MotionError {
    /// The bytes do not end where the cubes do.
    #[error("the motion of a tick has bytes left over")]
    Trailing,
    /// A number is larger than any encoder writes.
    #[error("a number in the motion of a tick is out of range")]
    Number,
    /// A cube is named that is not in the set.
    #[error("the motion of a tick names a cube that is not there")]
    Cube,
}

/// The predicted states of cubes at a tick, by rising id.
///
/// Sender and receiver start from equal sets and do the same to them: [`insert`](Self::insert),
/// [`remove`](Self::remove), [`advance_to`](Self::advance_to), and one encodes a tick, the other
/// decodes it. Then the sets are equal again, to the bit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MotionSet {
    codec: &'static Codec,
    tick: u64,
    cubes: Vec<Cube>,
    /// Which cubes are not settled, rising.
    active: Vec<u32>,
}

/// A cube of a set. Its state is apart, so that one who comes or goes moves 16 bytes of each other cube and
/// not 96.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cube {
    id: CubeId,
    state: Box<MotionState>,
}

/// The cubes that had an update when a tick was encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Updated {
    /// The number of cubes. When it is 0, nothing was encoded.
    pub count: usize,
    /// The cube, if there was only one.
    pub sole: Option<CubeId>,
}

/// The updates of a tick, by rising index of the cube.
type Updates = Vec<Update>;

#[derive(Debug, Clone, Copy)]
struct Update {
    index: u32,
    residual: Residual,
    prediction: Prediction,
}

impl MotionSet {
    /// Returns a set without cubes, at tick 0.
    pub fn new(codec: &'static Codec) -> Self {
        Self {
            codec,
            tick: 0,
            cubes: Vec::new(),
            active: Vec::new(),
        }
    }

    /// Returns a set without cubes, at a tick.
    pub fn at_tick(codec: &'static Codec, tick: u64) -> Self {
        Self {
            tick,
            ..Self::new(codec)
        }
    }

    /// The tick that all states belong to.
    pub fn tick(&self) -> u64 {
        self.tick
    }

    /// Advances every cube as predicted up to a tick; does nothing if that is not later than
    /// [`tick`](Self::tick). In one step or in many, the result is the same.
    pub fn advance_to(&mut self, tick: u64) {
        let ticks = ticks_between(self.tick, tick);
        self.tick = self.tick.max(tick);
        let cubes = &mut self.cubes;
        self.active.retain(|&index| {
            let state = &mut cubes[index as usize].state;
            state.advance(ticks);
            !state.is_settled()
        });
    }

    /// Adds a cube, or replaces it and returns its state until now. Cheapest by rising id.
    pub fn insert(&mut self, id: CubeId, state: MotionState) -> Option<MotionState> {
        let index = self.cubes.partition_point(|cube| cube.id < id);
        let before = match self.cubes.get_mut(index).filter(|cube| cube.id == id) {
            Some(known) => {
                let before = std::mem::replace(&mut *known.state, state);
                self.settle(index);
                Some(before)
            }
            None => {
                let state = Box::new(state);
                self.cubes.insert(index, Cube { id, state });
                let place = self.place(index);
                for active in &mut self.active[place..] {
                    *active += 1;
                }
                None
            }
        };
        if !state.is_settled() {
            let place = self.place(index);
            self.active.insert(place, index as u32);
        }
        before
    }

    /// Takes a cube out and returns its state.
    pub fn remove(&mut self, id: CubeId) -> Option<MotionState> {
        let index = self.find(id)?;
        self.settle(index);
        let place = self.place(index);
        for active in &mut self.active[place..] {
            *active -= 1;
        }
        Some(*self.cubes.remove(index).state)
    }

    /// Takes a cube out of those that are not settled.
    fn settle(&mut self, index: usize) {
        let place = self.place(index);
        if self.active.get(place) == Some(&(index as u32)) {
            self.active.remove(place);
        }
    }

    /// Returns the place of a cube among those that are not settled, or where it would be.
    fn place(&self, index: usize) -> usize {
        self.active
            .partition_point(|&active| (active as usize) < index)
    }

    /// Returns the predicted state of a cube.
    pub fn get(&self, id: CubeId) -> Option<&MotionState> {
        self.find(id).map(|index| &*self.cubes[index].state)
    }

    /// Returns the predicted state of a cube at a tick that is not earlier than
    /// [`tick`](Self::tick).
    pub fn state_at(&self, id: CubeId, tick: u64) -> Option<MotionState> {
        let state = self.get(id)?;
        Some(state.advanced(self.tick, tick))
    }

    /// Returns the predicted pose of a cube.
    pub fn pose(&self, id: CubeId) -> Option<Pose> {
        self.get(id).map(|state| state.pose(self.codec))
    }

    /// Returns the predicted pose of every cube, by rising id.
    pub fn poses(&self) -> impl ExactSizeIterator<Item = (CubeId, Pose)> {
        self.iter().map(|(id, state)| (id, state.pose(self.codec)))
    }

    /// Returns the predicted state of every cube, by rising id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (CubeId, &MotionState)> {
        self.cubes.iter().map(|cube| (cube.id, &*cube.state))
    }

    /// Returns the predicted state of every cube that is not settled, by rising id.
    pub fn active(&self) -> impl ExactSizeIterator<Item = (CubeId, &MotionState)> {
        self.active.iter().map(|&index| {
            let cube = &self.cubes[index as usize];
            (cube.id, &*cube.state)
        })
    }

    /// Returns the number of cubes.
    pub fn len(&self) -> usize {
        self.cubes.len()
    }

    /// Whether there are no cubes.
    pub fn is_empty(&self) -> bool {
        self.cubes.is_empty()
    }

    /// Compares every cube with its true pose, appends the residuals to `out` and updates the states
    /// with them. Returns the number of updates; when 0, nothing was appended.
    pub fn encode_tick(&mut self, truth: impl FnMut(CubeId) -> Pose, out: &mut Vec<u8>) -> usize {
        self.encode(0..self.cubes.len() as u32, truth, out).count
    }

    /// Does the same when cubes that are settled and not among `touched` are known to be where they
    /// were, and costs nothing for those. Returns which cubes had an update.
    pub fn encode_touched(
        &mut self,
        touched: impl IntoIterator<Item = CubeId>,
        truth: impl FnMut(CubeId) -> Pose,
        out: &mut Vec<u8>,
    ) -> Updated {
        let touched = touched.into_iter().filter_map(|id| self.find(id));
        let mut candidates = self.active.clone();
        candidates.extend(touched.map(|index| index as u32));
        candidates.sort_unstable();
        candidates.dedup();
        self.encode(candidates.into_iter(), truth, out)
    }

    /// Returns the state that a cube would have after an update with its true pose.
    pub fn foresee(&self, id: CubeId, truth: Pose) -> Option<MotionState> {
        let mut state = *self.get(id)?;
        if let Some((residual, prediction)) = state.residual(truth, self.codec) {
            state.apply(residual, prediction, self.codec);
        }
        Some(state)
    }

    /// Decodes what [`encode_tick`](Self::encode_tick) appended, updates the states with it, and
    /// calls `updated` with each cube that had an update.
    ///
    /// # Errors
    /// [`MotionError`]: no encoder wrote these bytes. The set may have applied a part of them:
    /// replace it.
    pub fn decode_tick(
        &mut self,
        bytes: &[u8],
        mut updated: impl FnMut(CubeId),
    ) -> Result<(), MotionError> {
        self.read(bytes, &mut updated)
    }

    /// Compares every cube with its true pose and shows each decision that
    /// [`encode_tick`](Self::encode_tick) would code to `decide`, which trains a table. Updates the
    /// states and returns the number of updates.
    pub fn train_tick(
        &mut self,
        truth: impl FnMut(CubeId) -> Pose,
        decide: &mut impl Decide,
    ) -> usize {
        let (moving, woken) = self.updates(0..self.cubes.len() as u32, truth);
        if moving.is_empty() && woken.is_empty() {
            return 0;
        }
        self.code_tick(decide, &moving, &woken, &mut |_| {})
            .expect("updates are of cubes of the set");
        moving.len() + woken.len()
    }

    /// Compares every cube with its true pose and returns the residuals by rising id; the states
    /// stay as they are. For encodings other than this codec's.
    pub fn residuals(
        &self,
        mut truth: impl FnMut(CubeId) -> Pose,
    ) -> impl Iterator<Item = (CubeId, Residual)> {
        self.cubes.iter().filter_map(move |cube| {
            let (residual, _) = cube.state.residual(truth(cube.id), self.codec)?;
            Some((cube.id, residual))
        })
    }

    /// Updates the state of a cube with a residual. False if the cube is not in the set.
    pub fn apply(&mut self, id: CubeId, residual: Residual) -> bool {
        let Some(index) = self.find(id) else {
            return false;
        };
        let state = &mut self.cubes[index].state;
        let was_settled = state.is_settled();
        state.apply(residual, state.prediction(), self.codec);
        if was_settled {
            self.wake(&[index as u32]);
        }
        true
    }

    /// Candidates are indices, rising, those of the moving cubes among them.
    fn encode(
        &mut self,
        candidates: impl Iterator<Item = u32>,
        truth: impl FnMut(CubeId) -> Pose,
        out: &mut Vec<u8>,
    ) -> Updated {
        let (moving, woken) = self.updates(candidates, truth);
        let count = moving.len() + woken.len();
        let mut sole = None;
        if count > 0 {
            let first = moving.iter().chain(&woken).next();
            sole = first.filter(|_| count == 1).map(|update| update.index);
            self.write(&moving, &woken, out);
        }
        Updated {
            count,
            sole: sole.map(|index| self.cubes[index as usize].id),
        }
    }

    /// Returns the updates of the moving cubes and of the settled ones.
    fn updates(
        &self,
        candidates: impl Iterator<Item = u32>,
        mut truth: impl FnMut(CubeId) -> Pose,
    ) -> (Updates, Updates) {
        let (mut moving, mut woken) = (Updates::new(), Updates::new());
        for index in candidates {
            let cube = &self.cubes[index as usize];
            if let Some((residual, prediction)) = cube.state.residual(truth(cube.id), self.codec) {
                let is_settled = cube.state.is_settled();
                let updates = if is_settled { &mut woken } else { &mut moving };
                updates.push(Update {
                    index,
                    residual,
                    prediction,
                });
            }
        }
        (moving, woken)
    }

    // These two are not generic, so that they are compiled here, where all they call can be
    // inlined: in the caller's crate they took a sixth more instructions.
    fn write(&mut self, moving: &Updates, woken: &Updates, out: &mut Vec<u8>) {
        let coder = RangeEncoder::new(out);
        let table = self.codec.table;
        let mut decide = Modelled { coder, table };
        self.code_tick(&mut decide, moving, woken, &mut |_| {})
            .expect("updates are of cubes of the set");
        decide.coder.finish();
    }

    fn read(&mut self, bytes: &[u8], updated: &mut dyn FnMut(CubeId)) -> Result<(), MotionError> {
        let coder = RangeDecoder::new(bytes);
        let table = self.codec.table;
        let mut decide = Modelled { coder, table };
        self.read_from(&mut decide, updated)?;
        match decide.coder.is_at_end() {
            true => Ok(()),
            false => Err(MotionError::Trailing),
        }
    }

    /// Takes a tick whose decisions are those that `decide` returns.
    pub(super) fn read_from(
        &mut self,
        decide: &mut impl Decide,
        updated: &mut dyn FnMut(CubeId),
    ) -> Result<(), MotionError> {
        self.code_tick(decide, &Updates::new(), &Updates::new(), updated)
    }

    /// Encodes or decodes one tick; there are no updates yet when it decodes.
    fn code_tick(
        &mut self,
        decide: &mut impl Decide,
        moving: &Updates,
        woken: &Updates,
        updated: &mut dyn FnMut(CubeId),
    ) -> Result<(), MotionError> {
        let mut context = TickContext::new(self.active.len());
        let mut updates = moving.iter().peekable();
        for &index in &self.active {
            let cube = &mut self.cubes[index as usize];
            let update = updates.next_if(|update| update.index == index);
            if context.updated(decide, &cube.state, update.is_some()) {
                cube.code(decide, &context, update, self.codec);
                updated(cube.id);
            }
        }
        let count = context.woken(decide, woken.len());
        if count > self.cubes.len() - self.active.len() {
            return Err(MotionError::Number);
        }
        let mut next = 0;
        let mut indices = Vec::with_capacity(count);
        for done in 0..count {
            let update = woken.get(done);
            let wanted = update.map_or(next, |update| update.index);
            let left = self.cubes.len() - next as usize;
            let gap = context.gap(decide, count - done, left, (wanted - next) as usize);
            let index = (next as usize).saturating_add(gap);
            let cube = self.cubes.get_mut(index).ok_or(MotionError::Cube)?;
            if !cube.state.is_settled() {
                return Err(MotionError::Cube);
            }
            cube.code(decide, &context, update, self.codec);
            updated(cube.id);
            indices.push(index as u32);
            next = index as u32 + 1;
        }
        self.wake(&indices);
        Ok(())
    }

    /// Merges cubes that are no longer settled into the moving ones.
    fn wake(&mut self, woken: &[u32]) {
        if !woken.is_empty() {
            self.active.extend(woken);
            self.active.sort_unstable();
        }
    }

    fn find(&self, id: CubeId) -> Option<usize> {
        self.cubes.binary_search_by_key(&id, |cube| cube.id).ok()
    }
}

impl Cube {
    /// Codes the residual of the cube, which has an update, and applies it.
    fn code(
        &mut self,
        decide: &mut impl Decide,
        context: &TickContext,
        update: Option<&Update>,
        codec: &Codec,
    ) {
        let (residual, prediction) = match update {
            Some(update) => (update.residual, update.prediction),
            None => (Residual::Stopped, self.state.prediction()),
        };
        let residual = context.residual(decide, &self.state, &prediction, residual, codec);
        self.state.apply(residual, prediction, codec);
    }
}
