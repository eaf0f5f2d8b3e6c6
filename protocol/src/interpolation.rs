//! The pose of a cube between two known ones.
//!
//! Positions move on a straight line, or on a cubic Hermite curve that keeps the speeds at both
//! ends, rotations on the shortest arc (K. Shoemake, "Animating Rotation with Quaternion Curves",
//! 1985).

use crate::quantize::Pose;

/// A cube that is further away than this after one tick, in metres, was put there and did not move:
/// it snaps. Six times what the default top speed, 40 m/s, covers in a tick of 30 Hz.
const TELEPORT_M: f32 = 8.0;
/// Rotations closer than this cosine of half their angle are mixed straight: the sine of the
/// angle is too small to divide by.
const NEARLY_EQUAL: f32 = 0.9995;

/// A curve stays between its ends when no speed there is more than so many times the mean one
/// (F. Fritsch, R. Carlson, "Monotone Piecewise Cubic Interpolation", 1980).
const STEEPEST: f32 = 3.0;
/// Speeds may exceed that by as much as takes the cube this far in the whole time, in metres: a cube
/// that turns back in mid-air may swing a little beyond the ends, a seventh of it.
const SWING_M: f32 = 0.05;

/// A pose to draw: metres and a unit quaternion `[x, y, z, w]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DrawnPose {
    /// The cube's centre.
    pub position: [f32; 3],
    /// The cube's rotation.
    pub rotation: [f32; 4],
}

impl From<Pose> for DrawnPose {
    fn from(pose: Pose) -> Self {
        Self {
            position: pose.position.to_metres(),
            rotation: pose.rotation.to_quaternion(),
        }
    }
}

/// Returns where a cube is on a straight line between two ends that are some ticks apart, after a
/// share of that time.
pub fn line(ends: [DrawnPose; 2], ticks: f32, share: f32) -> DrawnPose {
    along(ends, ticks, share, |_, start_m, end_m, share| {
        start_m + (end_m - start_m) * share
    })
}

/// Returns where a cube is on a curve between two ends that are some ticks apart, after a share of
/// that time; at the ends it has these velocities, in metres per tick.
pub fn curve(ends: [DrawnPose; 2], ticks: f32, velocities: [[f32; 3]; 2], share: f32) -> DrawnPose {
    along(ends, ticks, share, |axis, start_m, end_m, share| {
        let ways_m = velocities.map(|velocity| velocity[axis] * ticks);
        hermite(start_m, end_m, ways_m, share)
    })
}

/// Returns the pose on the way that `position` gives for an axis, its two ends and the share of the
/// time that has passed.
fn along(
    [start, end]: [DrawnPose; 2],
    ticks: f32,
    share: f32,
    position: impl Fn(usize, f32, f32, f32) -> f32,
) -> DrawnPose {
    let share = share.clamp(0.0, 1.0);
    if distance(start.position, end.position) > TELEPORT_M * ticks {
        return if share < 1.0 { start } else { end };
    }
    DrawnPose {
        position: std::array::from_fn(|axis| {
            position(axis, start.position[axis], end.position[axis], share)
        }),
        rotation: slerp(start.rotation, end.rotation, share),
    }
}

/// Returns a point of the curve between two points; `ways` are how far the speeds at them would get
/// in the whole time.
fn hermite(from: f32, to: f32, ways: [f32; 2], share: f32) -> f32 {
    let way = to - from;
    let lowest = (STEEPEST * way).min(0.0) - SWING_M;
    let highest = (STEEPEST * way).max(0.0) + SWING_M;
    let [start, end] = ways.map(|way| way.clamp(lowest, highest));
    let rest = 1.0 - share;
    from + way * share * share * (3.0 - 2.0 * share) + start * share * rest * rest
        - end * share * share * rest
}

fn mix<const N: usize>(from: [f32; N], to: [f32; N], share: f32) -> [f32; N] {
    std::array::from_fn(|index| from[index] + (to[index] - from[index]) * share)
}

fn distance(from: [f32; 3], to: [f32; 3]) -> f32 {
    let square = |axis: usize| (to[axis] - from[axis]).powi(2);
    (square(0) + square(1) + square(2)).sqrt()
}

fn slerp(from: [f32; 4], to: [f32; 4], share: f32) -> [f32; 4] {
    let dot: f32 = from.iter().zip(to).map(|(from, to)| from * to).sum();
    // q and -q are the same rotation: the nearer of both is the shorter way.
    let to = to.map(|component| component * dot.signum());
    let cosine = dot.abs().min(1.0);
    let mixed = if cosine > NEARLY_EQUAL {
        mix(from, to, share)
    } else {
        let angle = cosine.acos();
        let weight = |share: f32| (share * angle).sin();
        std::array::from_fn(|index| weight(1.0 - share) * from[index] + weight(share) * to[index])
    };
    let length = mixed
        .iter()
        .map(|component| component * component)
        .sum::<f32>()
        .sqrt();
    mixed.map(|component| component / length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::quantize::{Position, Rotation};

    fn at(x_m: f32, yaw_degrees: f32) -> DrawnPose {
        let (sine, cosine) = (yaw_degrees.to_radians() / 2.0).sin_cos();
        let pose = Pose {
            position: Position::from_metres([x_m, 0.0, 0.5]),
            rotation: Rotation::from_quaternion([0.0, 0.0, sine, cosine]),
        };
        pose.into()
    }

    fn yaw_degrees(pose: DrawnPose) -> f32 {
        let [_, _, z, w] = pose.rotation;
        2.0 * z.atan2(w).to_degrees()
    }

    #[test]
    fn moves_and_turns_evenly() {
        for (share, x_m, yaw) in [(0.0, 0.0, 0.0), (0.25, 1.0, 30.0), (0.875, 3.5, 105.0)] {
            let pose = line([at(0.0, 0.0), at(4.0, 120.0)], 2.0, share);
            assert!((pose.position[0] - x_m).abs() < 1e-3);
            assert!(
                (yaw_degrees(pose) - yaw).abs() < 0.5,
                "{}",
                yaw_degrees(pose)
            );
        }
    }

    #[test]
    fn turns_the_shortest_way() {
        let pose = line([at(0.0, 170.0), at(0.0, 190.0)], 1.0, 0.5);
        assert!((yaw_degrees(pose).abs() - 180.0).abs() < 0.5);
    }

    #[test]
    fn a_curve_keeps_the_speeds_at_its_ends() {
        // Two metres in two ticks, at first as fast as that, and at rest at the end.
        let ends = [at(0.0, 0.0), at(2.0, 0.0)];
        let velocities = [[1.0, 0.0, 0.0], [0.0; 3]];
        let share = |tick: f64| (tick - 10.0) as f32 / 2.0;
        let x_m = |tick| curve(ends, 2.0, velocities, share(tick)).position[0];
        for (tick, expected_m) in [(9.0, 0.0), (10.0, 0.0), (11.0, 1.25), (12.0, 2.0)] {
            assert!((x_m(tick) - expected_m).abs() < 1e-6, "at {tick}");
        }
        assert!((x_m(10.001) - 0.001).abs() < 1e-5);
        assert!((x_m(11.999) - 2.0).abs() < 1e-5);
    }

    #[test]
    fn stays_at_the_nearer_end_outside() {
        let ends = [at(1.0, 0.0), at(2.0, 0.0)];
        assert_eq!(line(ends, 2.0, -7.5).position[0], 1.0);
        assert_eq!(line(ends, 2.0, 44.5).position[0], 2.0);
    }

    #[test]
    fn a_teleport_snaps_and_a_gap_of_several_ticks_does_not() {
        let ends = [at(0.0, 0.0), at(9.0, 0.0)];
        assert_eq!(line(ends, 1.0, 0.5).position[0], 0.0);
        assert_eq!(line(ends, 1.0, 1.0).position[0], 9.0);
        assert_eq!(line(ends, 2.0, 0.5).position[0], 4.5);
    }

    proptest! {
        #[test]
        fn a_curve_hardly_leaves_the_space_between_its_ends(
            way_m in -5.0f32..5.0, start: f32, end: f32, share in 0.0f32..=1.0,
        ) {
            let ends = [0.0, way_m].map(|x_m| at(x_m, 0.0));
            let velocities = [start, end].map(|speed| [speed, 0.0, 0.0]);
            let x_m = curve(ends, 1.0, velocities, share).position[0];
            let slack_m = SWING_M / 4.0 + 0.002;
            prop_assert!(x_m >= way_m.min(0.0) - slack_m && x_m <= way_m.max(0.0) + slack_m);
        }

        #[test]
        fn any_two_rotations_give_a_unit_quaternion(
            from: [u8; 4], to: [u8; 4], share in 0.0f32..=1.0,
        ) {
            let pose = |rotation: [u8; 4]| Pose { rotation: rotation.into(), ..Pose::default() };
            let ends = [from, to].map(|rotation| pose(rotation).into());
            let [x, y, z, w] = line(ends, 1.0, share).rotation;
            prop_assert!(((x * x + y * y + z * z + w * w).sqrt() - 1.0).abs() < 1e-4);
        }
    }
}
