//! Where a cube is between two known poses.
//!
//! Positions move on a straight line, rotations on the shortest arc (K. Shoemake, "Animating
//! Rotation with Quaternion Curves", 1985).

use cubesync_protocol::Pose;

/// What is further than this from one tick to the next was put there, not moved, in metres: it
/// snaps. Six times what the default top speed, 40 m/s, covers in a tick of 30 Hz.
const TELEPORT_M: f32 = 8.0;
/// Rotations closer than this cosine of half their angle are mixed straight: the sine of the
/// angle is too small to divide by.
const NEARLY_EQUAL: f32 = 0.9995;

/// A pose at a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TickPose {
    /// The tick at whose end the cube was there.
    pub tick: u64,
    /// Where it was.
    pub pose: Pose,
}

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

/// Where a cube is at a tick and a fraction between two poses, `from` the earlier one; outside
/// of them it is at the nearer one.
pub fn between(from: TickPose, to: TickPose, tick: f64) -> DrawnPose {
    let ticks = to.tick.saturating_sub(from.tick).max(1);
    let share = ((tick - from.tick as f64) / ticks as f64).clamp(0.0, 1.0) as f32;
    let (start, end) = (DrawnPose::from(from.pose), DrawnPose::from(to.pose));
    if distance(start.position, end.position) > TELEPORT_M * ticks as f32 {
        return if share < 1.0 { start } else { end };
    }
    DrawnPose {
        position: mix(start.position, end.position, share),
        rotation: slerp(start.rotation, end.rotation, share),
    }
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
    use cubesync_protocol::{Position, Rotation};
    use proptest::prelude::*;

    use super::*;

    fn at(tick: u64, x_m: f32, yaw_degrees: f32) -> TickPose {
        let (sine, cosine) = (yaw_degrees.to_radians() / 2.0).sin_cos();
        TickPose {
            tick,
            pose: Pose {
                position: Position::from_metres([x_m, 0.0, 0.5]),
                rotation: Rotation::from_quaternion([0.0, 0.0, sine, cosine]),
            },
        }
    }

    fn yaw_degrees(pose: DrawnPose) -> f32 {
        let [_, _, z, w] = pose.rotation;
        2.0 * z.atan2(w).to_degrees()
    }

    #[test]
    fn moves_and_turns_evenly() {
        for (tick, x_m, yaw) in [(10.0, 0.0, 0.0), (10.5, 1.0, 30.0), (11.75, 3.5, 105.0)] {
            let pose = between(at(10, 0.0, 0.0), at(12, 4.0, 120.0), tick);
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
        let pose = between(at(0, 0.0, 170.0), at(1, 0.0, 190.0), 0.5);
        assert!((yaw_degrees(pose).abs() - 180.0).abs() < 0.5);
    }

    #[test]
    fn stays_at_the_nearer_end_outside() {
        let (from, to) = (at(10, 1.0, 0.0), at(12, 2.0, 0.0));
        assert_eq!(between(from, to, -5.0).position[0], 1.0);
        assert_eq!(between(from, to, 99.0).position[0], 2.0);
    }

    #[test]
    fn a_teleport_snaps_and_a_gap_of_several_ticks_does_not() {
        let far = |tick| between(at(0, 0.0, 0.0), at(tick, 9.0, 0.0), tick as f64 / 2.0);
        assert_eq!(far(1).position[0], 0.0);
        assert_eq!(
            between(at(0, 0.0, 0.0), at(1, 9.0, 0.0), 1.0).position[0],
            9.0
        );
        assert_eq!(far(2).position[0], 4.5);
    }

    proptest! {
        #[test]
        fn any_two_rotations_give_a_unit_quaternion(
            from: [u8; 4], to: [u8; 4], share in 0.0f64..=1.0,
        ) {
            let pose = |tick, rotation: [u8; 4]| TickPose {
                tick,
                pose: Pose { rotation: rotation.into(), ..Pose::default() },
            };
            let [x, y, z, w] = between(pose(0, from), pose(1, to), share).rotation;
            prop_assert!(((x * x + y * y + z * z + w * w).sqrt() - 1.0).abs() < 1e-4);
        }
    }
}
