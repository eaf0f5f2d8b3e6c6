//! The predicted state of one cube: where it was at its last update, how it moves since then, and
//! the little history that says what to expect of it.

mod wire;

use serde::{Deserialize, Serialize};

use super::Codec;
use super::jump::Jump;
use super::residual::{Correction, Residual};
use super::rotation::{Parts, Quaternion, SPINS_PER_RADIAN, STORED_MAX, Spin};
use crate::limits::{MAX_HEIGHT_QUANTA, MAX_HORIZONTAL_QUANTA};
use crate::quantize::{Pose, Position};

/// Parts of a quantum that a velocity is counted in.
const VELOCITY_PARTS: i32 = 256;
/// A cube that is off by more along an axis, 4 m, has jumped and is predicted to stand.
const JUMP: i32 = 2_048;
/// Top speed along an axis: 8 m a tick.
const TOP_VELOCITY: i32 = 4_096 * VELOCITY_PARTS;
/// A smaller acceleration counts as none: 2 quanta per tick and tick. What is below is mostly the
/// error of the velocities (measured at 20 and 30 Hz: 1/8 costs 12 % more, 1 and 2 are alike).
const LEAST_ACCELERATION: i32 = 2 * VELOCITY_PARTS;
/// A larger acceleration counts as none: 1 m per tick and tick.
const TOP_ACCELERATION: i32 = 512 * VELOCITY_PARTS;
/// An acceleration is predicted to end after so many ticks.
const LONGEST_ACCELERATION_TICKS: u32 = 64;
/// After so many ticks without an update a cube that does not move is settled: its history is
/// forgotten, and it costs nothing until it wakes.
pub(super) const SETTLED_AFTER: u32 = 24;

/// The predicted state of one cube at a tick: where it is, how it moves and what to expect of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "wire::Motion", into = "wire::Motion")]
pub struct MotionState {
    /// Where the cube was at the last update.
    base: Pose,
    /// `base.rotation`, unpacked, which saves each prediction a square root.
    orientation: Quaternion,
    /// Quanta / [`VELOCITY_PARTS`] per tick.
    velocity: [i32; 3],
    /// The same per tick and tick.
    acceleration: [i32; 3],
    spin: Spin,
    /// Ticks since the last update.
    age: u32,
    /// The last eight ticks, the newest lowest: a bit is 1 if the tick had an update.
    history: u8,
    /// The position errors of the last two updates, the newer first, cut to a byte.
    position_errors: [[i8; 3]; 2],
    rotation_errors: [[i8; 3]; 2],
}

/// The pose that a state predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prediction {
    pub(super) position: Position,
    pub(super) quaternion: Quaternion,
    /// The component that its rotation leaves out.
    pub(super) largest: usize,
}

impl MotionState {
    /// Returns the state of a cube that stands and has stood for long.
    pub fn at_rest(pose: Pose) -> Self {
        Self {
            base: Pose {
                position: pose.position.clamped(),
                rotation: pose.rotation,
            },
            orientation: pose.rotation.into(),
            velocity: [0; 3],
            acceleration: [0; 3],
            spin: [0; 3],
            age: SETTLED_AFTER,
            history: 0,
            position_errors: [[0; 3]; 2],
            rotation_errors: [[0; 3]; 2],
        }
    }

    /// Returns the predicted pose.
    pub fn pose(&self, codec: &Codec) -> Pose {
        if self.is_still() {
            return self.base;
        }
        let prediction = self.prediction();
        let parts = prediction
            .quaternion
            .parts(prediction.largest, codec.rotation_grid_bits);
        Pose {
            position: prediction.position,
            rotation: parts.into(),
        }
    }

    /// Returns the predicted velocity, in quanta per tick.
    pub fn velocity(&self) -> [f32; 3] {
        self.velocity_now()
            .map(|parts| parts as f32 / VELOCITY_PARTS as f32)
    }

    /// Returns the predicted turn of a tick: its axis, times its angle in radians.
    pub fn turn(&self) -> [f32; 3] {
        // A spin is half the angle.
        self.spin
            .map(|parts| 2.0 * f32::from(parts) / SPINS_PER_RADIAN)
    }

    /// Whether the cube is predicted to stand and costs nothing until it wakes.
    pub fn is_settled(&self) -> bool {
        self.is_still() && self.age >= SETTLED_AFTER
    }

    /// Whether the other cube moves like this one, and will for ever if both get the same updates.
    /// What is expected of them may differ.
    pub fn moves_like(&self, other: &Self) -> bool {
        let motion = |state: &Self| (state.velocity, state.acceleration, state.spin, state.age);
        self.base == other.base && motion(self) == motion(other)
    }

    /// Returns the state at tick `to` of a cube that has this state at tick `from`; it is this
    /// one if `to` is not later.
    pub fn advanced(mut self, from: u64, to: u64) -> Self {
        self.advance(ticks_between(from, to));
        self
    }

    /// Advances the state; in one step or in many, the result is the same.
    pub(super) fn advance(&mut self, ticks: u32) {
        self.age = self.age.saturating_add(ticks);
        self.history = u32::from(self.history).checked_shl(ticks).unwrap_or(0) as u8;
        if self.is_settled() {
            *self = Self::at_rest(self.base);
        }
    }

    /// Whether the cube is predicted to stand, though it may have stopped just now.
    pub fn is_still(&self) -> bool {
        self.velocity == [0; 3] && self.acceleration == [0; 3] && self.spin == [0; 3]
    }

    pub(super) fn base(&self) -> Pose {
        self.base
    }

    pub(super) fn orientation(&self) -> Quaternion {
        self.orientation
    }

    /// Quanta per tick, rounded.
    pub(super) fn speed(&self) -> [i32; 3] {
        self.velocity_now()
            .map(|parts| (parts + VELOCITY_PARTS / 2).div_euclid(VELOCITY_PARTS))
    }

    pub(super) fn acceleration(&self) -> [i32; 3] {
        self.acceleration
    }

    pub(super) fn spin(&self) -> Spin {
        self.spin
    }

    pub(super) fn age(&self) -> u32 {
        self.age
    }

    pub(super) fn history(&self) -> u8 {
        self.history
    }

    pub(super) fn position_errors(&self) -> [[i8; 3]; 2] {
        self.position_errors
    }

    pub(super) fn rotation_errors(&self) -> [[i8; 3]; 2] {
        self.rotation_errors
    }

    pub(super) fn prediction(&self) -> Prediction {
        let quaternion = self.orientation.turned(self.spin, self.age);
        // Near a tie the base may leave out another component than one would now.
        let largest = match quaternion == self.orientation {
            true => Parts::from(self.base.rotation).largest,
            false => quaternion.largest().0,
        };
        Prediction {
            position: self.position(),
            quaternion,
            largest,
        }
    }

    fn velocity_now(&self) -> [i32; 3] {
        let accelerated = self.age.min(LONGEST_ACCELERATION_TICKS) as i32;
        std::array::from_fn(|axis| self.velocity[axis] + self.acceleration[axis] * accelerated)
    }

    fn position(&self) -> Position {
        let Position { x, y, z } = self.base.position;
        let age = i64::from(self.age);
        // A velocity grows from the next tick on.
        let accelerated = i64::from(self.age.min(LONGEST_ACCELERATION_TICKS));
        let moved = |base: i32, axis: usize, low: i32, high: i32| {
            let parts = i64::from(self.velocity[axis]) * age
                + i64::from(self.acceleration[axis])
                    * (accelerated * (accelerated + 1) / 2 + accelerated * (age - accelerated))
                + i64::from(VELOCITY_PARTS / 2);
            let moved = i64::from(base) + parts.div_euclid(i64::from(VELOCITY_PARTS));
            moved.clamp(i64::from(low), i64::from(high)) as i32
        };
        let side = MAX_HORIZONTAL_QUANTA;
        Position {
            x: moved(x, 0, -side, side),
            y: moved(y, 1, -side, side),
            z: moved(z, 2, 0, MAX_HEIGHT_QUANTA),
        }
    }

    /// Compares the true pose with the predicted one; `None` if it is within the codec's bounds.
    pub(super) fn residual(&self, truth: Pose, codec: &Codec) -> Option<(Residual, Prediction)> {
        if truth == self.base && self.is_still() {
            return None;
        }
        let truth = Pose {
            position: truth.position.clamped(),
            rotation: truth.rotation,
        };
        let prediction = self.prediction();
        let parts = Parts::from(truth.rotation);
        let expected = prediction
            .quaternion
            .parts(parts.largest, codec.rotation_grid_bits);
        let off = offsets(truth.position, prediction.position);
        let turned = differences(parts.stored, expected.stored);
        // Two rotations that leave out different components can be as near as one likes; only a
        // codec without loss tells them apart.
        let same_component = codec.rotation_bound > 0 || parts.largest == prediction.largest;
        if same_component
            && is_within(off, codec.position_bound)
            && is_within(turned, codec.rotation_bound)
        {
            return None;
        }
        if !self.is_still() && self.is_at_base(truth, codec) {
            return Some((Residual::Stopped, prediction));
        }
        if off.iter().any(|off| off.abs() > JUMP) {
            let turns = !same_component || !is_within(turned, codec.rotation_bound);
            return Some((Residual::Jumped(Jump::to(truth, turns, codec)), prediction));
        }
        let correction = Correction {
            position: off.map(|off| sent(off, codec.position_bound)),
            largest: parts.largest,
            rotation: turned.map(|off| sent(off, codec.rotation_bound) >> codec.rotation_grid_bits),
        };
        Some((Residual::Error(correction), prediction))
    }

    fn is_at_base(&self, truth: Pose, codec: &Codec) -> bool {
        let parts = Parts::from(truth.rotation);
        let base = match truth.rotation == self.base.rotation {
            true => parts,
            false if codec.rotation_bound == 0 => return false,
            false => self.orientation.parts(parts.largest, 0),
        };
        is_within(
            offsets(truth.position, self.base.position),
            codec.position_bound,
        ) && is_within(differences(parts.stored, base.stored), codec.rotation_bound)
    }

    /// Updates the state with a residual. Any residual leads to a state within bounds.
    pub(super) fn apply(&mut self, residual: Residual, prediction: Prediction, codec: &Codec) {
        // A gain over more ticks is nothing anyway, and this fits every type below.
        let age = self.age.clamp(1, 1 << 16) as i32;
        match residual {
            Residual::Stopped => self.stop(),
            Residual::Error(correction) => self.correct(correction, prediction, age, codec),
            Residual::Jumped(jump) => {
                let parts = prediction
                    .quaternion
                    .parts(prediction.largest, codec.rotation_grid_bits);
                self.stop();
                self.base = jump.pose(parts.into(), codec);
                self.orientation = self.base.rotation.into();
                self.position_errors = [[i8::MAX; 3], self.position_errors[0]];
                self.rotation_errors = [[0; 3], self.rotation_errors[0]];
            }
        }
        self.age = 0;
        self.history |= 1;
    }

    fn stop(&mut self) {
        self.velocity = [0; 3];
        self.acceleration = [0; 3];
        self.spin = [0; 3];
    }

    fn correct(&mut self, correction: Correction, prediction: Prediction, age: i32, codec: &Codec) {
        let off = correction.position;
        let Position { x, y, z } = prediction.position;
        let position = Position {
            x: x.saturating_add(off[0]),
            y: y.saturating_add(off[1]),
            z: z.saturating_add(off[2]),
        }
        .clamped();
        let off = offsets(position, prediction.position);
        let velocity_now = self.velocity_now();
        // Most cubes have another update in the next tick, and a division takes as long as all else
        // here.
        let per_tick = |parts: i32| if age == 1 { parts } else { parts / age };
        for (axis, off) in off.into_iter().enumerate() {
            // The error is taken for a velocity that was wrong since the last update. Only a
            // stranger sends more than a jump.
            let gained = per_tick(off.clamp(-JUMP, JUMP) * VELOCITY_PARTS);
            let velocity = velocity_now[axis] + gained;
            let acceleration =
                self.acceleration[axis] + per_tick(gained * codec.acceleration_gain / 256);
            self.velocity[axis] = velocity.clamp(-TOP_VELOCITY, TOP_VELOCITY);
            self.acceleration[axis] = match acceleration.abs() {
                LEAST_ACCELERATION..=TOP_ACCELERATION => acceleration,
                _ => 0,
            };
        }
        self.base.position = position;
        self.position_errors = [correction.position.map(cut), self.position_errors[0]];
        self.rotation_errors = [correction.rotation.map(cut), self.rotation_errors[0]];

        let is_turned = correction.rotation != [0; 3] || correction.largest != prediction.largest;
        if !is_turned && self.spin == [0; 3] {
            return;
        }
        let mut parts = prediction
            .quaternion
            .parts(correction.largest & 3, codec.rotation_grid_bits);
        for (stored, steps) in parts.stored.iter_mut().zip(correction.rotation) {
            *stored = stored
                .saturating_add(steps.saturating_mul(1 << codec.rotation_grid_bits))
                .clamp(0, STORED_MAX);
        }
        self.base.rotation = parts.into();
        self.orientation = self.base.rotation.into();
        self.spin = match self.orientation.spin_from(prediction.quaternion) {
            Some(turn) => std::array::from_fn(|axis| {
                let spin = i32::from(self.spin[axis]) + per_tick(turn[axis]);
                spin.clamp(i16::MIN.into(), i16::MAX.into()) as i16
            }),
            None => [0; 3],
        };
    }
}

fn cut(steps: i32) -> i8 {
    steps.clamp(-127, 127) as i8
}

/// Returns how many ticks a state has to advance. After more than [`u32::MAX`] of them everything
/// has come to rest at any rate.
pub(super) fn ticks_between(from: u64, to: u64) -> u32 {
    u32::try_from(to.saturating_sub(from)).unwrap_or(u32::MAX)
}

fn offsets(a: Position, b: Position) -> [i32; 3] {
    [a.x - b.x, a.y - b.y, a.z - b.z]
}

fn differences(a: [i32; 3], b: [i32; 3]) -> [i32; 3] {
    std::array::from_fn(|axis| a[axis] - b[axis])
}

fn is_within(off: [i32; 3], bound: i32) -> bool {
    off.iter().all(|off| off.abs() <= bound)
}

/// Returns the part of an error that is sent: nothing within the bound, else all of it.
fn sent(off: i32, bound: i32) -> i32 {
    if off.abs() <= bound { 0 } else { off }
}
