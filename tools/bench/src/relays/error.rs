//! The distance of a receiver's state from the truth.

use cubesync_protocol::{Pose, Rotation};

/// The distance of a state from the truth.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Error {
    /// The distance along the axis where it is largest.
    pub(crate) quanta: u32,
    /// The angle between the two rotations.
    pub(crate) degrees: f32,
}

impl Error {
    /// Returns the larger of both distances and of both angles.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            quanta: self.quanta.max(other.quanta),
            degrees: self.degrees.max(other.degrees),
        }
    }

    /// Returns twice the distance and twice the angle.
    pub(crate) fn twice(self) -> Self {
        Self {
            quanta: 2 * self.quanta,
            degrees: 2.0 * self.degrees,
        }
    }

    /// Returns the distance between two poses.
    pub(crate) fn between(predicted: Pose, truth: Pose) -> Self {
        let (a, b) = (predicted.position, truth.position);
        let axes = [a.x.abs_diff(b.x), a.y.abs_diff(b.y), a.z.abs_diff(b.z)];
        Self {
            quanta: axes.into_iter().max().unwrap_or(0),
            degrees: angle_degrees(predicted.rotation, truth.rotation),
        }
    }

    /// Returns whether neither is larger than in `bound`.
    pub(crate) fn is_within(self, bound: Self) -> bool {
        self.quanta <= bound.quanta && self.degrees <= bound.degrees
    }
}

fn angle_degrees(a: Rotation, b: Rotation) -> f32 {
    if a == b {
        return 0.0;
    }
    // The chord between two unit quaternions is 2 sin(angle / 4), and exact for small angles.
    let (a, b) = (a.to_quaternion(), b.to_quaternion());
    let chord = |sign: f32| {
        let parts = a.iter().zip(b).map(|(a, b)| (a - sign * b).powi(2));
        parts.sum::<f32>().sqrt()
    };
    4.0 * (chord(1.0).min(chord(-1.0)) / 2.0).asin().to_degrees()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles_between_rotations_are_exact_when_small_and_when_large() {
        let turned = |degrees: f32| {
            let (sine, cosine) = (degrees.to_radians() / 2.0).sin_cos();
            Rotation::from_quaternion([0.0, 0.0, sine, cosine])
        };
        for degrees in [1.0, 90.0, 170.0] {
            let measured = angle_degrees(Rotation::IDENTITY, turned(degrees));
            assert!((measured - degrees).abs() < 0.3, "{degrees}: {measured}");
        }
        assert_eq!(angle_degrees(turned(5.0), turned(5.0)), 0.0);
    }
}
