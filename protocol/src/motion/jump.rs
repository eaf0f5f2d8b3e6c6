//! Jumps: the whole pose of a cube that is somewhere else at once, as coarse as the bounds allow,
//! in a few fields of bits.

use super::Codec;
use super::rotation::{Parts, STORED_MAX};
use crate::limits::{MAX_HEIGHT_QUANTA, MAX_HORIZONTAL_QUANTA};
use crate::quantize::{Pose, Position, Rotation};

/// Bits that say which component of a rotation is left out.
const LARGEST_BITS: u32 = 2;

/// Where a cube jumped to, in steps from the corner of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Jump {
    /// The steps along x, y and z.
    pub position: [u32; 3],
    /// The new rotation; `None` if the cube did not turn.
    pub rotation: Option<Turn>,
}

/// A rotation in steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Turn {
    /// The component that is left out, 0 ..= 3 for x, y, z and w.
    pub largest: u32,
    /// The steps of the other three components.
    pub stored: [u32; 3],
}

/// Lowest coordinate and size of the world along each axis.
const LOW: [i32; 3] = [-MAX_HORIZONTAL_QUANTA, -MAX_HORIZONTAL_QUANTA, 0];
const SIZE: [i32; 3] = [
    2 * MAX_HORIZONTAL_QUANTA,
    2 * MAX_HORIZONTAL_QUANTA,
    MAX_HEIGHT_QUANTA,
];

impl Jump {
    /// Returns the jump to a pose inside the world.
    pub(super) fn to(truth: Pose, turns: bool, codec: &Codec) -> Self {
        let Position { x, y, z } = truth.position;
        let step = position_step(codec);
        let coordinates = [x, y, z];
        let parts = Parts::from(truth.rotation);
        let turn_step = turn_step(codec);
        Self {
            position: std::array::from_fn(|axis| {
                ((coordinates[axis] - LOW[axis] + step / 2) / step) as u32
            }),
            rotation: turns.then(|| Turn {
                largest: parts.largest as u32,
                stored: parts
                    .stored
                    .map(|stored| ((stored + turn_step / 2) / turn_step) as u32),
            }),
        }
    }

    /// Returns the pose, inside the world whatever the fields are; `rotation` is that of before.
    pub(super) fn pose(self, rotation: Rotation, codec: &Codec) -> Pose {
        let step = position_step(codec);
        let at = |axis: usize| {
            let steps = self.position[axis].min(i32::MAX as u32) as i32;
            LOW[axis].saturating_add(steps.saturating_mul(step))
        };
        let stored =
            |steps: u32| (steps.min(STORED_MAX as u32) as i32 * turn_step(codec)).min(STORED_MAX);
        Pose {
            position: Position {
                x: at(0),
                y: at(1),
                z: at(2),
            }
            .clamped(),
            rotation: self.rotation.map_or(rotation, |turn| {
                Parts {
                    largest: turn.largest as usize & 3,
                    stored: turn.stored.map(stored),
                }
                .into()
            }),
        }
    }

    /// Calls `field` with each field and its number of bits, in the order in which they are sent.
    pub fn visit(&mut self, codec: &Codec, mut field: impl FnMut(&mut u32, u32)) {
        for (place, size) in self.position.iter_mut().zip(SIZE) {
            field(place, bits(size, position_step(codec)));
        }
        if let Some(turn) = &mut self.rotation {
            field(&mut turn.largest, LARGEST_BITS);
            for stored in &mut turn.stored {
                field(stored, bits(STORED_MAX, turn_step(codec)));
            }
        }
    }
}

/// With steps of twice the bound and one, the nearest is within the bound.
fn position_step(codec: &Codec) -> i32 {
    2 * codec.position_bound + 1
}

fn turn_step(codec: &Codec) -> i32 {
    let bits = codec.rotation_grid_bits;
    (2 * (codec.rotation_bound >> bits) + 1) << bits
}

fn bits(size: i32, step: i32) -> u32 {
    ((size + step / 2) / step).ilog2() + 1
}
