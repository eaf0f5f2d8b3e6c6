//! The cubes that sender and receivers believe in, and one tick of them as bytes.

use super::model::{Decide, Modelled, Table};
use super::range::{RangeDecoder, RangeEncoder};
use super::state::{MotionState, Prediction, Surprise, ticks_between};
use super::syntax::TickContext;
use super::varint::{read_head, read_surprise, write_surprise};
use super::{Codec, Encoding};
use crate::cube::CubeId;
use crate::quantize::Pose;

/// Bytes are not what an encoder wrote. The set has then believed a part of them: replace it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MotionError {
    /// The bytes end too early.
    #[error("the motion of a tick ends too early")]
    Short,
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

#[derive(Debug, Clone, PartialEq, Eq)]
struct Cube {
    id: CubeId,
    state: MotionState,
}

/// The surprises of a tick, by rising index of the cube.
type Plan = Vec<Planned>;

#[derive(Debug, Clone, Copy)]
struct Planned {
    index: u32,
    surprise: Surprise,
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

    /// Adds a cube, or replaces it and returns what was believed before. Cheapest by rising id.
    pub fn insert(&mut self, id: CubeId, state: MotionState) -> Option<MotionState> {
        let before = self.remove(id);
        let index = self.cubes.partition_point(|cube| cube.id < id);
        self.cubes.insert(index, Cube { id, state });
        let at = self
            .active
            .partition_point(|&active| (active as usize) < index);
        for active in &mut self.active[at..] {
            *active += 1;
        }
        if !state.is_settled() {
            self.active.insert(at, index as u32);
        }
        before
    }

    /// Takes a cube out.
    pub fn remove(&mut self, id: CubeId) -> Option<MotionState> {
        let index = self.find(id)?;
        let at = self
            .active
            .partition_point(|&active| (active as usize) < index);
        if self.active.get(at) == Some(&(index as u32)) {
            self.active.remove(at);
        }
        for active in &mut self.active[at..] {
            *active -= 1;
        }
        Some(self.cubes.remove(index).state)
    }

    /// Returns the predicted state of a cube.
    pub fn get(&self, id: CubeId) -> Option<&MotionState> {
        self.find(id).map(|index| &self.cubes[index].state)
    }

    /// Returns the predicted state of a cube at a tick that is not earlier than
    /// [`tick`](Self::tick).
    pub fn state_at(&self, id: CubeId, tick: u64) -> Option<MotionState> {
        let state = self.get(id)?;
        Some(state.advanced(self.tick, tick))
    }

    /// Where a cube is believed to be.
    pub fn pose(&self, id: CubeId) -> Option<Pose> {
        self.get(id).map(|state| state.pose(self.codec))
    }

    /// Where every cube is believed to be, by rising id.
    pub fn poses(&self) -> impl ExactSizeIterator<Item = (CubeId, Pose)> {
        self.iter().map(|(id, state)| (id, state.pose(self.codec)))
    }

    /// All cubes by rising id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (CubeId, &MotionState)> {
        self.cubes.iter().map(|cube| (cube.id, &cube.state))
    }

    /// The cubes that are not settled, by rising id.
    pub fn active(&self) -> impl ExactSizeIterator<Item = (CubeId, &MotionState)> {
        self.active.iter().map(|&index| {
            let cube = &self.cubes[index as usize];
            (cube.id, &cube.state)
        })
    }

    /// How many cubes there are.
    pub fn len(&self) -> usize {
        self.cubes.len()
    }

    /// Whether there are no cubes.
    pub fn is_empty(&self) -> bool {
        self.cubes.is_empty()
    }

    /// Compares every cube with its true pose and appends the surprises to `out`; they are
    /// believed from then on. Returns how many there were; when 0, nothing was appended.
    pub fn encode_tick(&mut self, truth: impl FnMut(CubeId) -> Pose, out: &mut Vec<u8>) -> usize {
        self.encode(0..self.cubes.len() as u32, truth, out)
    }

    /// The same when cubes that are settled and not among `touched` are known to be where they
    /// were: it costs no more than the others.
    pub fn encode_touched(
        &mut self,
        touched: impl IntoIterator<Item = CubeId>,
        truth: impl FnMut(CubeId) -> Pose,
        out: &mut Vec<u8>,
    ) -> usize {
        let touched = touched.into_iter().filter_map(|id| self.find(id));
        let mut candidates = self.active.clone();
        candidates.extend(touched.map(|index| index as u32));
        candidates.sort_unstable();
        candidates.dedup();
        self.encode(candidates.into_iter(), truth, out)
    }

    /// What would be believed about a cube once it was told that it is there.
    pub fn foresee(&self, id: CubeId, truth: Pose) -> Option<MotionState> {
        let mut state = *self.get(id)?;
        if let Some((surprise, prediction)) = state.surprise(truth, self.codec) {
            state.apply(surprise, prediction, self.codec);
        }
        Some(state)
    }

    /// Decodes what [`encode_tick`](Self::encode_tick) appended, and names the cubes that
    /// surprised.
    ///
    /// # Errors
    /// [`MotionError`]: no encoder wrote these bytes. The set has then believed a part of them:
    /// replace it.
    pub fn decode_tick(
        &mut self,
        bytes: &[u8],
        mut changed: impl FnMut(CubeId),
    ) -> Result<(), MotionError> {
        match self.codec.encoding {
            Encoding::Varints => self.read_varints(bytes, &mut changed),
            Encoding::Range(table) => self.read_range(bytes, table, &mut changed),
        }
    }

    /// Like [`encode_tick`](Self::encode_tick), but only shows each decision that the range
    /// coder would take: for the training of its table.
    pub fn train_tick(
        &mut self,
        truth: impl FnMut(CubeId) -> Pose,
        decide: &mut impl Decide,
    ) -> usize {
        let (moving, woken) = self.plan(0..self.cubes.len() as u32, truth);
        if moving.is_empty() && woken.is_empty() {
            return 0;
        }
        self.code_tick(decide, &moving, &woken, &mut |_| {})
            .expect("a plan names cubes of the set");
        moving.len() + woken.len()
    }

    /// Candidates are indices, rising, those of the moving cubes among them.
    fn encode(
        &mut self,
        candidates: impl Iterator<Item = u32>,
        truth: impl FnMut(CubeId) -> Pose,
        out: &mut Vec<u8>,
    ) -> usize {
        match self.codec.encoding {
            Encoding::Varints => self.write_varints(candidates, truth, out),
            Encoding::Range(table) => {
                let (moving, woken) = self.plan(candidates, truth);
                let count = moving.len() + woken.len();
                if count > 0 {
                    self.write_range(&moving, &woken, table, out);
                }
                count
            }
        }
    }

    /// The surprises of the moving cubes and of the settled ones.
    fn plan(
        &self,
        candidates: impl Iterator<Item = u32>,
        mut truth: impl FnMut(CubeId) -> Pose,
    ) -> (Plan, Plan) {
        let (mut moving, mut woken) = (Plan::new(), Plan::new());
        for index in candidates {
            let cube = &self.cubes[index as usize];
            if let Some((surprise, prediction)) = cube.state.surprise(truth(cube.id), self.codec) {
                let is_settled = cube.state.is_settled();
                let plan = if is_settled { &mut woken } else { &mut moving };
                plan.push(Planned {
                    index,
                    surprise,
                    prediction,
                });
            }
        }
        (moving, woken)
    }

    fn write_varints(
        &mut self,
        candidates: impl Iterator<Item = u32>,
        mut truth: impl FnMut(CubeId) -> Pose,
        out: &mut Vec<u8>,
    ) -> usize {
        let (mut count, mut next, mut woken) = (0, 0, Vec::new());
        for index in candidates {
            let Cube { id, state } = &mut self.cubes[index as usize];
            let Some((surprise, prediction)) = state.surprise(truth(*id), self.codec) else {
                continue;
            };
            if state.is_settled() {
                woken.push(index);
            }
            write_surprise(out, index - next, surprise, prediction.largest, self.codec);
            state.apply(surprise, prediction, self.codec);
            (count, next) = (count + 1, index + 1);
        }
        self.wake(&woken);
        count
    }

    fn read_varints(
        &mut self,
        mut bytes: &[u8],
        changed: &mut dyn FnMut(CubeId),
    ) -> Result<(), MotionError> {
        let mut next = 0;
        let mut woken = Vec::new();
        while !bytes.is_empty() {
            let (skipped, head) = read_head(&mut bytes)?;
            let index = skipped.saturating_add(next);
            let cube = self.cubes.get_mut(index as usize);
            let cube = cube.ok_or(MotionError::Cube)?;
            let prediction = cube.state.prediction();
            let surprise = read_surprise(&mut bytes, head, prediction.largest, self.codec)?;
            if cube.state.is_settled() {
                woken.push(index);
            }
            cube.state.apply(surprise, prediction, self.codec);
            changed(cube.id);
            next = index + 1;
        }
        self.wake(&woken);
        Ok(())
    }

    // These two are not generic, so that they are compiled here, where all they call can be
    // inlined: in the caller's crate they took a sixth more instructions.
    fn write_range(&mut self, moving: &Plan, woken: &Plan, table: Table, out: &mut Vec<u8>) {
        let coder = RangeEncoder::new(out);
        let mut decide = Modelled { coder, table };
        self.code_tick(&mut decide, moving, woken, &mut |_| {})
            .expect("a plan names cubes of the set");
        decide.coder.finish();
    }

    fn read_range(
        &mut self,
        bytes: &[u8],
        table: Table,
        changed: &mut dyn FnMut(CubeId),
    ) -> Result<(), MotionError> {
        let coder = RangeDecoder::new(bytes);
        let mut decide = Modelled { coder, table };
        self.code_tick(&mut decide, &Plan::new(), &Plan::new(), changed)?;
        match decide.coder.is_at_end() {
            true => Ok(()),
            false => Err(MotionError::Trailing),
        }
    }

    /// Encodes or decodes one tick; the plans are empty when it decodes.
    fn code_tick(
        &mut self,
        decide: &mut impl Decide,
        moving: &Plan,
        woken: &Plan,
        changed: &mut dyn FnMut(CubeId),
    ) -> Result<(), MotionError> {
        let mut context = TickContext::new(self.active.len());
        let mut planned = moving.iter().peekable();
        for &index in &self.active {
            let cube = &mut self.cubes[index as usize];
            let wanted = planned.next_if(|planned| planned.index == index);
            if context.surprised(decide, &cube.state, wanted.is_some()) {
                cube.say(decide, &context, wanted, self.codec);
                changed(cube.id);
            }
        }
        let count = context.woken(decide, woken.len());
        if count > self.cubes.len() - self.active.len() {
            return Err(MotionError::Number);
        }
        let mut next = 0;
        let mut indices = Vec::with_capacity(count);
        for done in 0..count {
            let planned = woken.get(done);
            let wanted = planned.map_or(next, |planned| planned.index);
            let left = self.cubes.len() - next as usize;
            let gap = context.gap(decide, count - done, left, (wanted - next) as usize);
            let index = (next as usize).saturating_add(gap);
            let cube = self.cubes.get_mut(index).ok_or(MotionError::Cube)?;
            if !cube.state.is_settled() {
                return Err(MotionError::Cube);
            }
            cube.say(decide, &context, planned, self.codec);
            changed(cube.id);
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
    fn say(
        &mut self,
        decide: &mut impl Decide,
        context: &TickContext,
        planned: Option<&Planned>,
        codec: &Codec,
    ) {
        let (surprise, prediction) = match planned {
            Some(planned) => (planned.surprise, planned.prediction),
            None => (Surprise::Stopped, self.state.prediction()),
        };
        let surprise = context.surprise(decide, &self.state, &prediction, surprise, codec);
        self.state.apply(surprise, prediction, codec);
    }
}
