//! The syntax of a tick: the decisions that the range coder takes, and the contexts in which each
//! of them is seen. One function describes both directions; see [`Decide`].

use super::Codec;
use super::jump::Jump;
use super::model::{Decide, FEATURES, Rows};
use super::number::{NUMBER_NODES, number};
use super::residual::{Correction, Residual};
use super::rotation::STEPS;
use super::state::{MotionState, Prediction};

/// A group of decisions that share their contexts.
struct Group {
    /// Where the group's rows begin.
    start: usize,
    /// Decisions per context.
    nodes: usize,
    /// Contexts of each feature.
    sizes: [usize; FEATURES],
}

impl Group {
    const fn after(before: Option<&Group>, nodes: usize, sizes: [usize; FEATURES]) -> Self {
        let start = match before {
            Some(group) => group.end(),
            None => 0,
        };
        Self {
            start,
            nodes,
            sizes,
        }
    }

    const fn end(&self) -> usize {
        let mut end = self.start;
        let mut feature = 0;
        while feature < FEATURES {
            end += self.sizes[feature] * self.nodes;
            feature += 1;
        }
        end
    }

    #[inline]
    fn rows(&self, contexts: [usize; FEATURES]) -> Rows {
        let mut start = self.start;
        std::array::from_fn(|feature| {
            let (context, size) = (contexts[feature], self.sizes[feature]);
            debug_assert!(context < size, "feature {feature}: {context} of {size}");
            let row = start + context.min(size - 1) * self.nodes;
            start += size * self.nodes;
            row as u32
        })
    }
}

/// Does a moving cube have an update?
const UPDATED: Group = Group::after(None, 1, [256, 512, 128, 384, 256, 128]);
/// Has the cube stopped, or jumped?
const STOPPED: Group = Group::after(Some(&UPDATED), 2, [256, 64, 64, 128, 32, 343]);
/// Is another component of the rotation left out, and which?
const LARGEST: Group = Group::after(Some(&STOPPED), 3, [64, 8, 1, 1, 1, 1]);
/// The error along an axis.
const POSITION: Group = Group::after(Some(&LARGEST), NUMBER_NODES, [90, 144, 192, 192, 256, 384]);
/// The error of a component.
const ROTATION: Group = Group::after(Some(&POSITION), NUMBER_NODES, [140, 192, 192, 192, 128, 64]);
/// How many settled cubes woke.
const WOKEN: Group = Group::after(Some(&ROTATION), NUMBER_NODES, [8, 1, 1, 1, 1, 1]);
/// How far the next of them is, in parts of the expected distance.
const GAP: Group = Group::after(Some(&WOKEN), NUMBER_NODES, [8, 1, 1, 1, 1, 1]);

/// The subject of each group of decisions, and where its rows begin in a trained table.
pub const GROUPS: [(&str, usize); 7] = [
    ("updated", UPDATED.start),
    ("stopped", STOPPED.start),
    ("largest", LARGEST.start),
    ("position", POSITION.start),
    ("rotation", ROTATION.start),
    ("woken", WOKEN.start),
    ("gap", GAP.start),
];

/// Bytes of a trained table.
pub const TABLE_BYTES: usize = GAP.end();

/// The low bits of a waking cube's distance are coded plainly, at most so many.
const GAP_BITS_MAX: u32 = 16;

/// The context that the decisions of one tick share.
#[derive(Debug, Clone, Copy)]
pub(super) struct TickContext {
    /// Size of the number of cubes that are not settled.
    active: usize,
    /// One bit for each of the last two moving cubes: 1 if it had an update.
    before: usize,
}

impl TickContext {
    pub(super) fn new(active: usize) -> Self {
        let size = active.checked_ilog2().map_or(0, |size| size + 1);
        Self {
            active: (size as usize).min(7),
            before: 0,
        }
    }

    /// Codes whether a cube that is not settled has an update.
    pub(super) fn updated(
        &mut self,
        decide: &mut impl Decide,
        state: &MotionState,
        updated: bool,
    ) -> bool {
        let cube = CubeContext::new(state, state.base().position.z);
        let rows = UPDATED.rows([
            cube.history,
            cube.speed * 64 + cube.spin * 8 + cube.position_size,
            self.before * 32 + self.active * 4 + cube.recent(),
            cube.height * 12 + clip(cube.speeds[2], 1) * 4 + cube.recent(),
            cube.position_size * 32 + cube.rotation_size * 4 + cube.recent(),
            (cube.age * 8 + cube.speed) * 2 + usize::from(cube.acceleration != [0; 3]),
        ]);
        let updated = decide.decide(&rows, 0, updated);
        self.before = (self.before << 1 | usize::from(updated)) & 3;
        updated
    }

    /// Codes how many settled cubes woke.
    pub(super) fn woken(&self, decide: &mut impl Decide, woken: usize) -> usize {
        let rows = WOKEN.rows([self.active, 0, 0, 0, 0, 0]);
        number(decide, &rows, woken as i32).max(0) as usize
    }

    /// Codes how many cubes are skipped before the next that woke, when `woken` more of them are among
    /// the `left` cubes that follow.
    pub(super) fn gap(
        &self,
        decide: &mut impl Decide,
        woken: usize,
        left: usize,
        gap: usize,
    ) -> usize {
        // Half the mean distance, as a Golomb code would have it.
        let mean_bits = (left / (woken + 1)).checked_ilog2().unwrap_or(0);
        let bits = mean_bits.saturating_sub(1).min(GAP_BITS_MAX);
        let rows = GAP.rows([woken.min(7), 0, 0, 0, 0, 0]);
        let high = number(decide, &rows, (gap >> bits) as i32).max(0) as usize;
        let low = decide.raw((gap & ((1 << bits) - 1)) as u32, bits) as usize;
        // A stranger's gap may be any; none is longer than what is left.
        high.min(left >> bits) << bits | low
    }

    /// Codes the residual of a cube that has an update.
    pub(super) fn residual(
        &self,
        decide: &mut impl Decide,
        state: &MotionState,
        prediction: &Prediction,
        residual: Residual,
        codec: &Codec,
    ) -> Residual {
        let cube = CubeContext::new(state, prediction.position.z);
        let [x, y, z] = cube.speeds.map(|speed| clip(speed, 3));
        let rows = STOPPED.rows([
            cube.history,
            cube.speed * 8 + cube.spin,
            cube.position_size * 8 + cube.rotation_size,
            cube.height * 4 + cube.recent(),
            self.before * 8 + cube.age,
            x * 49 + y * 7 + z,
        ]);
        if !state.is_still() && decide.decide(&rows, 0, residual == Residual::Stopped) {
            return Residual::Stopped;
        }
        if decide.decide(&rows, 1, matches!(residual, Residual::Jumped(_))) {
            return jumped(decide, residual, codec);
        }
        let wanted = match residual {
            Residual::Error(correction) => correction,
            _ => Correction::default(),
        };
        let position = cube.position(decide, wanted.position);
        let moved = class(sum(position));
        let largest = cube.largest(decide, prediction, moved, wanted.largest);
        let turning = turning(state, prediction, largest, codec);
        let rotation = cube.rotation(decide, turning, position, wanted.rotation);
        Residual::Error(Correction {
            position,
            largest,
            rotation,
        })
    }
}

/// The properties of a cube that its decisions depend on, in classes.
struct CubeContext {
    /// Bit n is 1 if the cube had an update n ticks ago. Bit 0 is now, and always 0.
    history: usize,
    speeds: [i32; 3],
    acceleration: [i32; 3],
    speed: usize,
    spin: usize,
    age: usize,
    height: usize,
    /// The last two errors in position, and the class of the newer.
    errors: [[i32; 3]; 2],
    position_size: usize,
    /// The same of the rotation.
    turns: [[i32; 3]; 2],
    rotation_size: usize,
}

/// How one component of a rotation is expected to turn.
#[derive(Clone, Copy)]
struct Turning {
    /// Where it is expected, in steps from 0.
    at: i32,
    /// How far that is from the last update.
    by: i32,
    /// Where between two values.
    quarter: usize,
}

impl CubeContext {
    fn new(state: &MotionState, z: i32) -> Self {
        let speeds = state.speed();
        let errors = state.position_errors().map(|errors| errors.map(i32::from));
        let turns = state.rotation_errors().map(|errors| errors.map(i32::from));
        Self {
            history: state.history().into(),
            speeds,
            acceleration: state.acceleration(),
            speed: class(sum(speeds)),
            // A spin of 16 moves a component by 0.7 steps.
            spin: class(sum(state.spin().map(|part| i32::from(part) / 16))),
            age: age_class(state.age()),
            height: (z >> 4).clamp(0, 31) as usize,
            errors,
            position_size: class(sum(errors[0])),
            turns,
            rotation_size: class(sum(turns[0])),
        }
    }

    /// Two bits: whether the cube had an update in each of the last two ticks.
    fn recent(&self) -> usize {
        self.history >> 1 & 3
    }

    /// Returns the class of the speed in two bits.
    fn pace(&self) -> usize {
        self.speed.div_ceil(2).min(3)
    }

    /// Codes the errors along the three axes.
    fn position(&self, decide: &mut impl Decide, wanted: [i32; 3]) -> [i32; 3] {
        let [newer, older] = self.errors;
        let all = class(sum(newer) + sum(older));
        let mut errors = [0; 3];
        for axis in 0..3 {
            let vertical = usize::from(axis == 2);
            // East and west are alike: count errors along the motion.
            let flips = axis < 2 && (self.speeds[axis], newer[axis]) < (0, 0);
            let sign = if flips { -1 } else { 1 };
            let before = sign * newer[axis];
            let speed = class(self.speeds[axis].unsigned_abs());
            let rows = POSITION.rows([
                vertical * 45 + clip(before, 4) * 5 + clip(sign * older[axis], 2),
                (vertical * 8 + speed) * 9 + clip(before, 1) * 3 + self.age.min(2),
                others(axis, errors),
                (vertical * 32 + self.height) * 3 + clip(self.speeds[2], 1),
                ((vertical * 8 + all) * 4 + self.age.min(3)) * 4 + self.pace(),
                ((vertical * 8 + self.rotation_size) * 8 + self.spin) * 3
                    + clip(sign * self.acceleration[axis], 1),
            ]);
            errors[axis] = sign * number(decide, &rows, sign * wanted[axis]);
        }
        errors
    }

    /// Codes the component of the rotation that is left out.
    fn largest(
        &self,
        decide: &mut impl Decide,
        prediction: &Prediction,
        moved: usize,
        wanted: usize,
    ) -> usize {
        let expected = prediction.largest;
        let (_, lead) = prediction.quaternion.largest();
        let lead = class(lead.unsigned_abs());
        let rows = LARGEST.rows([lead * 8 + self.spin, moved, 0, 0, 0, 0]);
        if !decide.decide(&rows, 0, wanted != expected) {
            return expected;
        }
        // The next, the one after it, or the one after that.
        let wanted = (wanted + 4 - expected) % 4;
        let distance = match decide.decide(&rows, 1, wanted == 1) {
            true => 1,
            false if decide.decide(&rows, 2, wanted == 2) => 2,
            false => 3,
        };
        (expected + distance) % 4
    }

    /// Codes the errors of the rotation's components.
    fn rotation(
        &self,
        decide: &mut impl Decide,
        turning: [Turning; 3],
        position: [i32; 3],
        wanted: [i32; 3],
    ) -> [i32; 3] {
        let [newer, older] = self.turns;
        let all = class(sum(newer) + sum(older));
        let moved = class(sum(position));
        let risen = class(position[2].unsigned_abs()).min(2);
        let mut errors = [0; 3];
        for (index, Turning { at, by, quarter }) in turning.into_iter().enumerate() {
            let flips = (by, newer[index]) < (0, 0);
            let sign = if flips { -1 } else { 1 };
            let quarter = if flips { 3 - quarter } else { quarter };
            let before = sign * newer[index];
            let size = (at.unsigned_abs() as usize / 64).min(7);
            let rows = ROTATION.rows([
                clip(before, 3) * 20 + clip(sign * older[index], 2) * 4 + quarter,
                (class(by.unsigned_abs()) * 3 + clip(before, 1)) * 8 + moved,
                (moved * 8 + self.rotation_size) * 3 + risen,
                others(index, errors),
                (all * 4 + self.age.min(3)) * 4 + self.pace(),
                size * 8 + self.spin,
            ]);
            errors[index] = sign * number(decide, &rows, sign * wanted[index]);
        }
        errors
    }
}

fn turning(
    state: &MotionState,
    prediction: &Prediction,
    largest: usize,
    codec: &Codec,
) -> [Turning; 3] {
    let expected = prediction.quaternion.parts(largest, 0).stored;
    let base = state.orientation().parts(largest, 0).stored;
    let quarters = prediction
        .quaternion
        .quarters(largest, codec.rotation_grid_bits);
    std::array::from_fn(|index| Turning {
        at: expected[index] - STEPS,
        by: expected[index] - base[index],
        quarter: quarters[index],
    })
}

/// Codes a jump. Jumps are rare: their fields are coded plainly.
fn jumped(decide: &mut impl Decide, residual: Residual, codec: &Codec) -> Residual {
    let mut jump = match residual {
        Residual::Jumped(jump) => jump,
        _ => Jump::default(),
    };
    let turns = decide.raw(jump.rotation.is_some().into(), 1) == 1;
    jump.rotation = turns.then(|| jump.rotation.unwrap_or_default());
    jump.visit(codec, |field, bits| *field = decide.raw(*field, bits));
    Residual::Jumped(jump)
}

/// Returns the sizes of the errors that were coded before this one, as a context.
fn others(index: usize, errors: [i32; 3]) -> usize {
    let size = |other: usize| match other < index {
        true => class(errors[other].unsigned_abs()),
        false => 0,
    };
    (index * 8 + size(0)) * 8 + size(1)
}

/// 0, 1, 2, 3-4, 5-8, 9-16, 17-64, more.
#[inline]
fn class(value: u32) -> usize {
    match value {
        0..=2 => value as usize,
        3..=4 => 3,
        5..=8 => 4,
        9..=16 => 5,
        17..=64 => 6,
        _ => 7,
    }
}

fn age_class(age: u32) -> usize {
    match age {
        0..=4 => (age as usize).saturating_sub(1),
        5..=6 => 4,
        7..=9 => 5,
        10..=15 => 6,
        _ => 7,
    }
}

#[inline]
fn clip(value: i32, limit: i32) -> usize {
    (value.clamp(-limit, limit) + limit) as usize
}

#[inline]
fn sum(values: [i32; 3]) -> u32 {
    values.iter().map(|value| value.unsigned_abs()).sum()
}
