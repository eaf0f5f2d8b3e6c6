//! Rotations in whole numbers: what a spinning cube's rotation will be, and how it spins, without
//! a sine or a floating point number, so that every machine gets the same bits.

use crate::quantize::Rotation;

/// Steps from 0 to the largest value of a smallest component, as in [`Rotation`].
pub(super) const STEPS: i32 = 511;
/// Largest value of a component's ten bits on the wire.
pub(super) const STORED_MAX: i32 = 1_023;
/// Parts of a step that a [`Quaternion`] keeps: an angle of 0.01°.
const PARTS_BITS: u32 = 4;
/// Squared length of a unit [`Quaternion`]: a smallest component ends at 1/√2, that is 511 steps.
const UNIT_SQUARED: i64 = (2 * (STEPS as i64 * STEPS as i64)) << (2 * PARTS_BITS);
/// Bits behind the point of a [`Spin`].
const SPIN_BITS: u32 = 14;
/// Parts of a radian that a [`Spin`] counts in.
pub(super) const SPINS_PER_RADIAN: f32 = (1 << SPIN_BITS) as f32;
/// A spin is extrapolated over so many ticks at most: what turned that long without an update
/// is rare, and the number of doublings stays small.
const LONGEST_TURN_TICKS: u32 = 64;

/// How a cube spins: axis times half the angle of one tick, in 1/2^14 rad.
pub(super) type Spin = [i16; 3];

/// A quaternion `[x, y, z, w]` in 1/16 steps, about as long as a unit one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quaternion([i32; 4]);

/// A [`Rotation`] taken apart: which component was left out, and the ten bits of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Parts {
    pub(super) largest: usize,
    pub(super) stored: [i32; 3],
}

impl From<Rotation> for Parts {
    fn from(rotation: Rotation) -> Self {
        let packed = u32::from_le_bytes(rotation.into());
        Self {
            largest: (packed >> 30) as usize,
            stored: [20, 10, 0].map(|place| (packed >> place & STORED_MAX as u32) as i32),
        }
    }
}

impl From<Parts> for Rotation {
    fn from(Parts { largest, stored }: Parts) -> Self {
        let packed = stored.iter().fold(largest as u32 & 3, |packed, &stored| {
            packed << 10 | stored.clamp(0, STORED_MAX) as u32
        });
        packed.to_le_bytes().into()
    }
}

/// The components that are not the left-out one, in their order.
const OTHERS: [[usize; 3]; 4] = [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]];

impl From<Rotation> for Quaternion {
    fn from(rotation: Rotation) -> Self {
        let parts = Parts::from(rotation);
        let mut quaternion = [0; 4];
        let mut rest = UNIT_SQUARED;
        for (index, stored) in OTHERS[parts.largest].into_iter().zip(parts.stored) {
            quaternion[index] = (stored - STEPS) << PARTS_BITS;
            rest -= i64::from(quaternion[index]).pow(2);
        }
        // A stranger's three can be longer than a unit; its left-out component is then 0.
        quaternion[parts.largest] = (rest.max(0) as u32).isqrt() as i32;
        Self(quaternion)
    }
}

impl Quaternion {
    /// Index of the largest component, and by how much it leads the second, in steps.
    pub(super) fn largest(self) -> (usize, i32) {
        let [mut first, mut second, mut index] = [-1, -1, 0];
        for (at, component) in self.0.into_iter().enumerate() {
            let size = component.abs();
            if size > first {
                [second, first, index] = [first, size, at as i32];
            } else if size > second {
                second = size;
            }
        }
        (index as usize, (first - second) >> PARTS_BITS)
    }

    /// The nearest rotation that leaves out a given component, whose bits end in so many zeros.
    /// Where another component is larger, they may be beyond what ten bits hold.
    #[inline]
    pub(super) fn parts(self, largest: usize, grid_bits: u32) -> Parts {
        // q and -q are the same rotation; the left-out component is the positive one.
        let sign = if self.0[largest] < 0 { -1 } else { 1 };
        let bits = PARTS_BITS + grid_bits;
        let stored = |index: usize| {
            let parts = sign * self.0[index] + (STEPS << PARTS_BITS) + (1 << (bits - 1));
            (parts >> bits) << grid_bits
        };
        let [a, b, c] = OTHERS[largest];
        Parts {
            largest,
            stored: [stored(a), stored(b), stored(c)],
        }
    }

    /// Where between two stored values, in quarters, each component is that
    /// [`parts`](Self::parts) rounds: the nearer to the next one, the likelier that.
    pub(super) fn quarters(self, largest: usize, grid_bits: u32) -> [usize; 3] {
        let sign = if self.0[largest] < 0 { -1 } else { 1 };
        let bits = PARTS_BITS + grid_bits;
        let quarter = |index: usize| {
            let parts = sign * self.0[index] + (STEPS << PARTS_BITS) + (1 << (bits - 1));
            (parts >> (bits - 2) & 3) as usize
        };
        let [a, b, c] = OTHERS[largest];
        [quarter(a), quarter(b), quarter(c)]
    }

    /// The rotation after some ticks of a spin.
    pub(super) fn turned(self, spin: Spin, ticks: u32) -> Self {
        if spin == [0; 3] || ticks == 0 {
            return self;
        }
        let turn = exponential(
            spin.map(|part| i64::from(part) * i64::from(ticks.min(LONGEST_TURN_TICKS))),
        );
        Self(product(turn, self.0.map(i64::from)).map(|part| ((part + (1 << 15)) >> 16) as i32))
    }

    /// The spin that turns `from` into this in one tick; none when it is too far to tell, beyond
    /// some 120°.
    pub(super) fn spin_from(self, from: Self) -> Option<[i32; 3]> {
        let [x, y, z, w] = from.0.map(i64::from);
        let [x, y, z, w] = product(self.0.map(i64::from), [-x, -y, -z, w]);
        let sign = if w < 0 { -1 } else { 1 };
        let sine = [x, y, z].map(|part| sign * (part << SPIN_BITS) / UNIT_SQUARED);
        let squared = sine.iter().map(|part| part * part).sum::<i64>() >> SPIN_BITS;
        if w.abs() < UNIT_SQUARED / 2 {
            return None;
        }
        // asin(s) / s = 1 + s²/6 + 3 s⁴/40 + ...
        let ratio = (1 << SPIN_BITS) + squared / 6 + ((3 * squared * squared / 40) >> SPIN_BITS);
        Some(sine.map(|part| ((part * ratio) >> SPIN_BITS) as i32))
    }
}

/// The unit quaternion, in 1/2^16, of a rotation vector in 1/2^14 rad of half the angle.
fn exponential(vector: [i64; 3]) -> [i64; 4] {
    let squared = vector.iter().map(|part| part * part).sum::<i64>();
    if squared > 1 << (2 * SPIN_BITS) {
        // The series below is for up to 1 rad: take half of it twice.
        let half = exponential(vector.map(|part| part / 2));
        return product(half, half).map(|part| part >> 16);
    }
    let t = squared >> 8;
    let t2 = (t * t) >> 20;
    let t3 = (t2 * t) >> 20;
    let cosine = (1 << 20) - t / 2 + t2 / 24 - t3 / 720;
    let sine_ratio = (1 << 20) - t / 6 + t2 / 120 - t3 / 5_040;
    let [x, y, z] = vector.map(|part| (part * sine_ratio) >> 18);
    [x, y, z, cosine >> 4]
}

/// First `b`, then `a`.
fn product(a: [i64; 4], b: [i64; 4]) -> [i64; 4] {
    let [ax, ay, az, aw] = a;
    let [bx, by, bz, bw] = b;
    [
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The angle between two rotations, in degrees.
    fn degrees(a: Quaternion, b: Quaternion) -> f64 {
        let [a, b] = [a, b].map(|q| q.0.map(f64::from));
        let length = |q: [f64; 4]| q.iter().map(|part| part * part).sum::<f64>().sqrt();
        let chord = |sign: f64| {
            let parts = (0..4).map(|at| a[at] / length(a) - sign * b[at] / length(b));
            parts.map(|part| part * part).sum::<f64>().sqrt()
        };
        4.0 * (chord(1.0).min(chord(-1.0)) / 2.0).asin().to_degrees()
    }

    fn rotations() -> impl Strategy<Value = Rotation> {
        prop::array::uniform4(-1.0f32..1.0).prop_map(Rotation::from_quaternion)
    }

    /// As `turned`, with the sines of this machine.
    fn turned_in_floats(from: Quaternion, spin: Spin, ticks: u32) -> Quaternion {
        let vector = spin.map(|part| f64::from(part) / 16_384.0 * f64::from(ticks));
        let angle = vector.iter().map(|part| part * part).sum::<f64>().sqrt();
        let [x, y, z] = vector.map(|part| part / angle * angle.sin());
        let [ax, ay, az, aw] = [x, y, z, angle.cos()];
        let [bx, by, bz, bw] = from.0.map(f64::from);
        let turned = [
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
            aw * bw - ax * bx - ay * by - az * bz,
        ];
        Quaternion(turned.map(|part| part.round() as i32))
    }

    proptest! {
        #[test]
        fn any_four_bytes_come_back_through_their_parts(bytes: [u8; 4]) {
            let rotation = Rotation::from(bytes);
            prop_assert_eq!(Rotation::from(Parts::from(rotation)), rotation);
            let parts = Parts::from(rotation);
            prop_assert_eq!(Quaternion::from(rotation).parts(parts.largest, 0), parts);
        }

        #[test]
        fn turning_in_whole_numbers_is_turning(
            from in rotations(),
            spin in prop::array::uniform3(-2_000i16..2_000),
            ticks in 1u32..20,
        ) {
            prop_assume!(spin != [0; 3]);
            let from = Quaternion::from(from);
            let exact = turned_in_floats(from, spin, ticks);
            prop_assert!(degrees(from.turned(spin, ticks), exact) < 0.1);
        }

        #[test]
        fn a_spin_is_found_again(
            from in rotations(), spin in prop::array::uniform3(-4_000i16..4_000),
        ) {
            let from = Quaternion::from(from);
            let found = from.turned(spin, 1).spin_from(from).unwrap();
            for (found, spin) in found.into_iter().zip(spin) {
                prop_assert!((found - i32::from(spin)).abs() <= 16, "{} for {}", found, spin);
            }
        }

        #[test]
        fn no_spin_leaves_what_a_rotation_can_be(
            bytes: [u8; 4], spin: [i16; 3], ticks: u32, largest in 0usize..4,
        ) {
            let turned = Quaternion::from(Rotation::from(bytes)).turned(spin, ticks);
            // Three tens of bits near their maximum are longer than a unit, by less than a half.
            prop_assert!(turned.0.iter().all(|part| part.abs() < 20_000));
            let parts = turned.parts(largest, 0);
            prop_assert!(parts.stored.iter().all(|stored| (-800..1_900).contains(stored)));
        }
    }

    #[test]
    fn what_is_too_far_to_tell_has_no_spin() {
        let half_turn = Rotation::from_quaternion([0.0, 0.0, 1.0, 0.0]);
        let none = Quaternion::from(Rotation::IDENTITY);
        assert_eq!(Quaternion::from(half_turn).spin_from(none), None);
    }
}
