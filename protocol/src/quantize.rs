//! Poses as whole numbers: positions in quanta of 1/512 m, rotations as the smallest three
//! components of a unit quaternion in 32 bits.
//!
//! Whole numbers have no NaN, no infinity and no rounding that differs between machines, and a
//! bound on them is one comparison. The world is right-handed with z up; the floor is z = 0.
//!
//! Method: Glenn Fiedler, "Snapshot Compression" (2015).

use serde::{Deserialize, Serialize};

use crate::limits::{MAX_HEIGHT_QUANTA, MAX_HORIZONTAL_QUANTA};

/// Quanta in a metre; one quantum is about 2 mm.
pub const QUANTA_PER_METRE: f32 = 512.0;

/// A cube's centre, in quanta.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Position {
    /// East, ± [`MAX_HORIZONTAL_QUANTA`].
    pub x: i32,
    /// North, ± [`MAX_HORIZONTAL_QUANTA`].
    pub y: i32,
    /// Up, 0 ..= [`MAX_HEIGHT_QUANTA`].
    pub z: i32,
}

impl Position {
    /// Returns the nearest position inside the world to a point in metres; NaN counts as 0.
    pub fn from_metres(metres: [f32; 3]) -> Self {
        // `as` saturates and turns NaN into 0.
        let [x, y, z] = metres.map(|metre| (metre * QUANTA_PER_METRE).round() as i32);
        Self { x, y, z }.clamped()
    }

    /// Returns the point in metres.
    pub fn to_metres(self) -> [f32; 3] {
        [self.x, self.y, self.z].map(|quanta| quanta as f32 / QUANTA_PER_METRE)
    }

    /// Whether the position is inside the world.
    pub fn is_in_bounds(self) -> bool {
        self == self.clamped()
    }

    /// Returns the nearest position inside the world.
    pub fn clamped(self) -> Self {
        let horizontal = |quanta: i32| quanta.clamp(-MAX_HORIZONTAL_QUANTA, MAX_HORIZONTAL_QUANTA);
        Self {
            x: horizontal(self.x),
            y: horizontal(self.y),
            z: self.z.clamp(0, MAX_HEIGHT_QUANTA),
        }
    }

    /// Returns the straight distance to another position, in quanta, rounded down.
    pub fn distance(self, other: Self) -> u64 {
        let square = |a: i32, b: i32| i64::from(a).abs_diff(i64::from(b)).pow(2);
        // Positions from the wire may be any i32: the sum of three squares of 33-bit numbers
        // can pass 64 bits.
        square(self.x, other.x)
            .saturating_add(square(self.y, other.y))
            .saturating_add(square(self.z, other.z))
            .isqrt()
    }
}

/// Steps from 0 to the largest value a smallest component can have, 1/√2.
const ROTATION_STEPS: i32 = 511;
const ROTATION_BITS: u32 = 10;
const ROTATION_MASK: u32 = (1 << ROTATION_BITS) - 1;

/// A unit quaternion without its largest component: two bits say which one that was (x, y, z, w
/// = 0 ..= 3), then three times ten bits hold the others in x, y, z, w order. The error is below
/// 0.3°. On the wire it is four bytes, little endian; any four bytes are a valid rotation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "[u8; 4]", into = "[u8; 4]")]
pub struct Rotation(u32);

impl Rotation {
    /// No rotation.
    pub const IDENTITY: Self = Self(
        3 << (3 * ROTATION_BITS)
            | (ROTATION_STEPS as u32) << (2 * ROTATION_BITS)
            | (ROTATION_STEPS as u32) << ROTATION_BITS
            | ROTATION_STEPS as u32,
    );

    /// Returns the nearest rotation to a quaternion `[x, y, z, w]` of any length; one without a
    /// direction (zero, NaN, infinite) becomes the identity.
    pub fn from_quaternion(quaternion: [f32; 4]) -> Self {
        let length = quaternion
            .iter()
            .map(|component| component * component)
            .sum::<f32>()
            .sqrt();
        if !length.is_normal() {
            return Self::IDENTITY;
        }
        let largest = (0..4)
            .max_by(|&a, &b| quaternion[a].abs().total_cmp(&quaternion[b].abs()))
            .expect("four components have a largest");
        // q and -q are the same rotation: choose the one whose left-out component is positive.
        let scale = (ROTATION_STEPS as f32) * std::f32::consts::SQRT_2 / length
            * quaternion[largest].signum();
        let packed = (0..4)
            .filter(|&index| index != largest)
            .fold(0, |packed, index| {
                let steps = (quaternion[index] * scale).round() as i32;
                let steps = steps.clamp(-ROTATION_STEPS, ROTATION_STEPS) + ROTATION_STEPS;
                packed << ROTATION_BITS | steps as u32
            });
        Self((largest as u32) << (3 * ROTATION_BITS) | packed)
    }

    /// Returns the unit quaternion `[x, y, z, w]`.
    pub fn to_quaternion(self) -> [f32; 4] {
        let largest = (self.0 >> (3 * ROTATION_BITS)) as usize;
        let mut quaternion = [0.0; 4];
        let mut rest = 1.0;
        let others = (0..4).filter(|&index| index != largest);
        for (index, place) in others.zip([2, 1, 0]) {
            let steps = (self.0 >> (place * ROTATION_BITS)) & ROTATION_MASK;
            let steps = (steps as i32 - ROTATION_STEPS) as f32;
            quaternion[index] = steps / (ROTATION_STEPS as f32 * std::f32::consts::SQRT_2);
            rest -= quaternion[index] * quaternion[index];
        }
        quaternion[largest] = rest.max(0.0).sqrt();
        // A stranger's three components may be near their maximum, which is longer than a unit.
        let length = quaternion
            .iter()
            .map(|component| component * component)
            .sum::<f32>()
            .sqrt();
        quaternion.map(|component| component / length)
    }
}

impl Default for Rotation {
    fn default() -> Self {
        Self::IDENTITY
    }
}

impl std::fmt::Debug for Rotation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Rotation")
            .field(&self.to_quaternion())
            .finish()
    }
}

impl From<[u8; 4]> for Rotation {
    fn from(bytes: [u8; 4]) -> Self {
        Self(u32::from_le_bytes(bytes))
    }
}

impl From<Rotation> for [u8; 4] {
    fn from(rotation: Rotation) -> Self {
        rotation.0.to_le_bytes()
    }
}

/// The position and the rotation of a cube.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Pose {
    /// The cube's centre.
    pub position: Position,
    /// The turn from world axes to the cube's.
    pub rotation: Rotation,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The angle between two rotations, in degrees; in f64, since a cosine near 1 hides small
    /// angles from f32.
    fn angle_degrees(a: [f32; 4], b: [f32; 4]) -> f64 {
        let [a, b] = [a, b].map(|q| q.map(f64::from));
        let length = |q: [f64; 4]| q.iter().map(|c| c * c).sum::<f64>().sqrt();
        let dot = a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>().abs() / (length(a) * length(b));
        2.0 * dot.min(1.0).acos().to_degrees()
    }

    #[test]
    fn identity_is_exact() {
        assert_eq!(
            Rotation::from_quaternion([0.0, 0.0, 0.0, 1.0]),
            Rotation::IDENTITY
        );
        assert_eq!(Rotation::IDENTITY.to_quaternion(), [0.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn quaternions_without_a_direction_become_the_identity() {
        for component in [0.0, f32::NAN, f32::INFINITY, f32::MAX] {
            assert_eq!(
                Rotation::from_quaternion([component; 4]),
                Rotation::IDENTITY
            );
        }
    }

    #[test]
    fn points_outside_the_world_are_clamped_into_it() {
        let position = Position::from_metres([f32::INFINITY, f32::NAN, -4.0]);
        assert_eq!(
            position,
            Position {
                x: MAX_HORIZONTAL_QUANTA,
                y: 0,
                z: 0
            }
        );
        assert!(
            !Position {
                x: i32::MIN,
                y: 0,
                z: 0
            }
            .is_in_bounds()
        );
        assert!(
            !Position {
                x: 0,
                y: 0,
                z: MAX_HEIGHT_QUANTA + 1
            }
            .is_in_bounds()
        );
    }

    #[test]
    fn distance_of_the_farthest_positions_does_not_overflow() {
        let low = Position {
            x: i32::MIN,
            y: i32::MIN,
            z: i32::MIN,
        };
        let high = Position {
            x: i32::MAX,
            y: i32::MAX,
            z: i32::MAX,
        };
        assert_eq!(low.distance(high), u64::MAX.isqrt());
        let start = Position { x: 1, y: 1, z: 1 };
        assert_eq!(start.distance(Position { x: 4, y: 5, z: 1 }), 5);
    }

    proptest! {
        #[test]
        fn a_point_comes_back_within_half_a_quantum(
            x in -256.0f32..256.0, y in -256.0f32..256.0, z in 0.0f32..32.0,
        ) {
            let back = Position::from_metres([x, y, z]).to_metres();
            for (was, is) in [x, y, z].into_iter().zip(back) {
                prop_assert!((was - is).abs() <= 0.5 / QUANTA_PER_METRE + 1e-5);
            }
        }

        #[test]
        fn a_rotation_comes_back_within_three_tenths_of_a_degree(
            quaternion in prop::array::uniform4(-1.0f32..1.0),
        ) {
            prop_assume!(quaternion.iter().any(|component| component.abs() > 0.01));
            let back = Rotation::from_quaternion(quaternion).to_quaternion();
            prop_assert!(angle_degrees(quaternion, back) < 0.3);
        }

        #[test]
        fn any_four_bytes_are_a_unit_quaternion(bytes: [u8; 4]) {
            let quaternion = Rotation::from(bytes).to_quaternion();
            let length = quaternion.iter().map(|c| c * c).sum::<f32>().sqrt();
            prop_assert!((length - 1.0).abs() < 1e-5);
        }
    }
}
