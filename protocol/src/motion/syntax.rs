//! What the range coder says about a tick, decision by decision, and in which contexts each
//! decision is seen. One function describes both directions; see [`Decide`].

use super::Codec;
use super::jump::Jump;
use super::model::{Decide, FEATURES, Rows};
use super::rotation::Parts;
use super::state::{Correction, MotionState, Prediction, Surprise};

/// A group of decisions that share their contexts.
struct Group {
    /// Where its rows begin.
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

/// Is a moving cube surprising?
const SURPRISED: Group = Group::after(None, 1, [256, 512, 128, 384, 256, 64]);
/// Has it stopped, or jumped?
const STOPPED: Group = Group::after(Some(&SURPRISED), 2, [256, 64, 64, 128, 32, 343]);
/// Did the largest component change, and to which of the others?
const LARGEST: Group = Group::after(Some(&STOPPED), 3, [64, 8, 1, 1, 1, 1]);
/// The error along an axis.
const POSITION: Group = Group::after(Some(&LARGEST), NUMBER_NODES, [90, 144, 192, 192, 256, 128]);
/// The error of a component.
const ROTATION: Group = Group::after(Some(&POSITION), NUMBER_NODES, [105, 192, 192, 192, 128, 64]);
/// How many settled cubes woke.
const WOKEN: Group = Group::after(Some(&ROTATION), NUMBER_NODES, [8, 1, 1, 1, 1, 1]);
/// How far the next of them is, in parts of the distance to expect.
const GAP: Group = Group::after(Some(&WOKEN), NUMBER_NODES, [8, 1, 1, 1, 1, 1]);

/// What the decisions are about, and where the rows of each begin in a trained table.
pub const GROUPS: [(&str, usize); 7] = [
    ("surprised", SURPRISED.start),
    ("stopped", STOPPED.start),
    ("largest", LARGEST.start),
    ("position", POSITION.start),
    ("rotation", ROTATION.start),
    ("woken", WOKEN.start),
    ("gap", GAP.start),
];

/// Bytes of a trained table.
pub const TABLE_BYTES: usize = GAP.end();

/// Sizes of a number that have a decision of their own; the others share the last.
const UNARY_NODES: usize = 16;
const SIGN_NODE: usize = 1;
const UNARY_NODE: usize = 2;
const MANTISSA_NODE: usize = UNARY_NODE + 2 * UNARY_NODES;
const MANTISSA_NODES: usize = 8;
const NUMBER_NODES: usize = MANTISSA_NODE + MANTISSA_NODES;
/// The last size: numbers up to 2^19, more than the world's side.
const LAST_SIZE: u32 = 4 + 2 * 17 - 1;

/// A signed number: is it zero, its sign, its size in unary (two sizes to a power of two), the
/// rest in bits.
fn number(decide: &mut impl Decide, rows: &Rows, value: i32) -> i32 {
    if decide.decide(rows, 0, value == 0) {
        return 0;
    }
    let negative = decide.decide(rows, SIGN_NODE, value < 0);
    let unary = UNARY_NODE + if negative { UNARY_NODES } else { 0 };
    let (wanted, _, _) = size_of(value.unsigned_abs().saturating_sub(1));
    let mut size = 0;
    while size < LAST_SIZE
        && decide.decide(
            rows,
            unary + (size as usize).min(UNARY_NODES - 1),
            wanted > size,
        )
    {
        size += 1;
    }
    let (base, bits) = start_of(size);
    let mut rest = value.unsigned_abs().wrapping_sub(1).wrapping_sub(base);
    if bits > 0 {
        let node = MANTISSA_NODE + (size as usize - 4).min(MANTISSA_NODES - 1);
        let high = decide.decide(rows, node, rest >> (bits - 1) & 1 == 1);
        let low = decide.raw(rest & ((1 << (bits - 1)) - 1), bits - 1);
        rest = u32::from(high) << (bits - 1) | low;
    } else {
        rest = 0;
    }
    let magnitude = (base + rest + 1) as i32;
    if negative { -magnitude } else { magnitude }
}

/// A number's size: 0 ..= 3 are sizes of their own, then each power of two has two. Returns the
/// size, where it starts and the bits of the rest.
fn size_of(number: u32) -> (u32, u32, u32) {
    if number < 4 {
        return (number, number, 0);
    }
    let bits = number.ilog2() - 1;
    let half = number >> bits & 1;
    let size = (4 + 2 * (bits - 1) + half).min(LAST_SIZE);
    let (base, bits) = start_of(size);
    (size, base, bits)
}

fn start_of(size: u32) -> (u32, u32) {
    if size < 4 {
        return (size, 0);
    }
    let bits = (size - 4) / 2 + 1;
    ((2 + (size - 4) % 2) << bits, bits)
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

fn class6(value: u32) -> usize {
    class(value).min(5)
}

#[inline]
fn clip(value: i32, limit: i32) -> usize {
    (value.clamp(-limit, limit) + limit) as usize
}

#[inline]
fn sum(values: [i32; 3]) -> u32 {
    values.iter().map(|value| value.unsigned_abs()).sum()
}

fn age_class(state: &MotionState) -> usize {
    match state.age() {
        0..=4 => (state.age() as usize).saturating_sub(1),
        5..=6 => 4,
        7..=9 => 5,
        10..=15 => 6,
        _ => 7,
    }
}

/// What the decisions of one tick have in common.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TickContext {
    /// Size of the number of cubes that are not settled.
    active: usize,
    /// Whether the last two moving cubes surprised.
    before: usize,
}

impl TickContext {
    pub(super) fn new(active: usize) -> Self {
        Self {
            active: (active.checked_ilog2().map_or(0, |size| size + 1) as usize).min(7),
            before: 0,
        }
    }

    /// Is a cube that is not settled surprising?
    pub(super) fn surprised(
        &mut self,
        decide: &mut impl Decide,
        state: &MotionState,
        surprised: bool,
    ) -> bool {
        let history = usize::from(state.history());
        let speed = class(sum(state.speed()));
        let spin = spin_class(state);
        let [position_error, _] = state.position_errors().map(widen);
        let [rotation_error, _] = state.rotation_errors().map(widen);
        let position_size = class(sum(position_error));
        let rotation_size = class(sum(rotation_error));
        let rows = SURPRISED.rows([
            history,
            speed * 64 + spin * 8 + position_size,
            self.before * 32 + self.active * 4 + (history >> 1 & 3),
            height_class(state.base().position.z) * 12
                + clip(state.speed()[2], 1) * 4
                + (history >> 1 & 3),
            position_size * 32 + rotation_size * 4 + (history >> 1 & 3),
            age_class(state) * 8 + speed,
        ]);
        let surprised = decide.decide(&rows, 0, surprised);
        self.before = (self.before << 1 | usize::from(surprised)) & 3;
        surprised
    }

    /// How many settled cubes woke.
    pub(super) fn woken(&self, decide: &mut impl Decide, woken: usize) -> usize {
        let rows = WOKEN.rows([self.active, 0, 0, 0, 0, 0]);
        number(decide, &rows, woken as i32).max(0) as usize
    }

    /// How many cubes are skipped before the next that woke, when `woken` more of them are among
    /// the `left` cubes that follow.
    pub(super) fn gap(
        &self,
        decide: &mut impl Decide,
        woken: usize,
        left: usize,
        gap: usize,
    ) -> usize {
        let bits = (left / (woken + 1))
            .checked_ilog2()
            .unwrap_or(0)
            .saturating_sub(1)
            .min(16);
        let rows = GAP.rows([woken.min(7), 0, 0, 0, 0, 0]);
        let high = number(decide, &rows, (gap >> bits) as i32).max(0) as usize;
        // A stranger's gap may be any; none is longer than what is left.
        high.min(left) << bits | decide.raw((gap & ((1 << bits) - 1)) as u32, bits) as usize
    }
}

#[inline]
fn widen(errors: [i8; 3]) -> [i32; 3] {
    errors.map(i32::from)
}

fn spin_class(state: &MotionState) -> usize {
    // A spin of 16 moves a component by 0.7 steps.
    class(sum(state.spin().map(|part| i32::from(part) / 16)))
}

fn height_class(z: i32) -> usize {
    (z >> 4).clamp(0, 31) as usize
}

/// How a cube differs from what was believed. The caller has told that it does.
pub(super) fn surprise(
    decide: &mut impl Decide,
    state: &MotionState,
    prediction: &Prediction,
    tick: &TickContext,
    surprise: Surprise,
    codec: &Codec,
) -> Surprise {
    let history = usize::from(state.history());
    let speeds = state.speed();
    let speed = class(sum(speeds));
    let spin = spin_class(state);
    let age = age_class(state);
    let [newer, older] = state.position_errors().map(widen);
    let position_size = class(sum(newer));
    let [turn_newer, turn_older] = state.rotation_errors().map(widen);
    let rotation_size = class(sum(turn_newer));
    let height = height_class(prediction.position.z);

    let rows = STOPPED.rows([
        history,
        speed * 8 + spin,
        position_size * 8 + rotation_size,
        height * 4 + (history >> 1 & 3),
        tick.before * 8 + age,
        clip(speeds[0], 3) * 49 + clip(speeds[1], 3) * 7 + clip(speeds[2], 3),
    ]);
    if !state.is_still() && decide.decide(&rows, 0, surprise == Surprise::Stopped) {
        return Surprise::Stopped;
    }
    if decide.decide(&rows, 1, matches!(surprise, Surprise::Jumped(_))) {
        return jumped(decide, surprise, codec);
    }
    let wanted = match surprise {
        Surprise::Error(correction) => correction,
        _ => Correction::default(),
    };

    let mut position = [0; 3];
    for axis in 0..3 {
        let vertical = usize::from(axis == 2);
        // East and west are alike: count errors along the motion.
        let flip = axis < 2 && (speeds[axis], newer[axis]) < (0, 0);
        let sign = if flip { -1 } else { 1 };
        let (before, before_that) = (sign * newer[axis], sign * older[axis]);
        let along = speeds[axis] * sign;
        let other = match axis {
            0 => [0, 0],
            1 => [position[0], 0],
            _ => [position[0], position[1]],
        };
        let rows = POSITION.rows([
            vertical * 45 + clip(before, 4) * 5 + clip(before_that, 2),
            (vertical * 8 + class(along.unsigned_abs())) * 9 + clip(before, 1) * 3 + age.min(2),
            axis_class(axis, other),
            (vertical * 32 + height) * 3 + clip(speeds[2], 1),
            ((vertical * 8 + class(sum(newer) + sum(older))) * 4 + age.min(3)) * 4
                + speed.div_ceil(2).min(3),
            (vertical * 8 + rotation_size) * 8 + spin,
        ]);
        position[axis] = sign * number(decide, &rows, sign * wanted.position[axis]);
    }
    let moved = class(sum(position));

    let (_, lead) = prediction.quaternion.largest();
    let expected = prediction.largest;
    let rows = LARGEST.rows([class(lead.unsigned_abs()) * 8 + spin, moved, 0, 0, 0, 0]);
    let mut largest = expected;
    if decide.decide(&rows, 0, wanted.largest != expected) {
        // The other three in rising order after the expected one.
        let distance = (wanted.largest + 4 - expected) % 4;
        let first = decide.decide(&rows, 1, distance == 1);
        let distance = match first {
            true => 1,
            false if decide.decide(&rows, 2, distance == 2) => 2,
            false => 3,
        };
        largest = (expected + distance) % 4;
    }

    let predicted: Parts = prediction.quaternion.parts(largest, 0);
    let base = state.orientation().parts(largest, 0);
    let mut rotation = [0; 3];
    for index in 0..3 {
        let turning = predicted.stored[index] - base.stored[index];
        let flip = (turning, turn_newer[index]) < (0, 0);
        let sign = if flip { -1 } else { 1 };
        let (before, before_that) = (sign * turn_newer[index], sign * turn_older[index]);
        let other = match index {
            0 => [0, 0],
            1 => [rotation[0], 0],
            _ => [rotation[0], rotation[1]],
        };
        let size = (predicted.stored[index] - 511).unsigned_abs() as usize / 64;
        let rows = ROTATION.rows([
            clip(before, 4).min(6) * 15 + clip(before_that, 2) * 3 + vertical_class(position[2]),
            (class(turning.unsigned_abs()) * 3 + clip(before, 1)) * 8 + moved,
            (moved * 8 + rotation_size) * 3 + vertical_class(position[2]),
            axis_class(index, other),
            (class(sum(turn_newer) + sum(turn_older)) * 4 + age.min(3)) * 4
                + speed.div_ceil(2).min(3),
            size.min(7) * 8 + spin,
        ]);
        rotation[index] = sign * number(decide, &rows, sign * wanted.rotation[index]);
    }
    Surprise::Error(Correction {
        position,
        largest,
        rotation,
    })
}

fn jumped(decide: &mut impl Decide, surprise: Surprise, codec: &Codec) -> Surprise {
    let mut jump = match surprise {
        Surprise::Jumped(jump) => jump,
        _ => Jump::default(),
    };
    let turns = decide.raw(jump.rotation.is_some().into(), 1) == 1;
    jump.rotation = turns.then(|| jump.rotation.unwrap_or_default());
    jump.visit(codec, |field, bits| *field = decide.raw(*field, bits));
    Surprise::Jumped(jump)
}

fn axis_class(axis: usize, other: [i32; 2]) -> usize {
    (axis * 8 + class(other[0].unsigned_abs())) * 8 + class(other[1].unsigned_abs())
}

fn vertical_class(error: i32) -> usize {
    class6(error.unsigned_abs()).min(2)
}
