//! What the tests of both ends need.

use super::sender::Sample;
use crate::cube::{CubeId, CubePose};
use crate::motion::{Codec, MotionSet, MotionState};
use crate::quantize::{Pose, Position};

/// The server's side of a client's samples.
pub(super) struct Listener {
    pub(super) believed: MotionSet,
}

impl Listener {
    pub(super) fn new() -> Self {
        Self {
            believed: MotionSet::new(&Codec::LIVE),
        }
    }

    pub(super) fn hear(&mut self, sample: &Sample) {
        assert!(sample.tick > self.believed.tick(), "{sample:?}");
        self.believed.advance_to(sample.tick);
        for placed in &sample.placed {
            let rest = MotionState::at_rest(placed.pose);
            assert_eq!(self.believed.insert(placed.cube, rest), None);
        }
        if !sample.surprises.is_empty() {
            let decoded = self.believed.decode_tick(&sample.surprises, |_| {});
            decoded.expect("an encoder wrote it");
        }
    }

    /// Where a cube is believed to be; `None` before it was placed.
    pub(super) fn x_m(&self, cube: CubeId) -> Option<f32> {
        let pose = self.believed.pose(cube)?;
        Some(pose.position.to_metres()[0])
    }
}

/// Upright on the floor, `x_m` metres east of the origin.
pub(super) fn pose(x_m: f32) -> Pose {
    Pose {
        position: Position::from_metres([x_m, 0.0, 0.5]),
        ..Pose::default()
    }
}

/// A client's side of its samples.
#[derive(Debug)]
pub(super) struct Teller {
    believed: MotionSet,
}

impl Default for Teller {
    fn default() -> Self {
        Self {
            believed: MotionSet::new(&Codec::LIVE),
        }
    }
}

impl Teller {
    /// Upright on the floor.
    pub(super) fn at(x: i32) -> Pose {
        let position = Position { x, y: 0, z: 256 };
        Pose {
            position,
            ..Pose::default()
        }
    }

    /// What the sample of a tick says when the cube is there; other cubes are as believed.
    pub(super) fn sample(
        &mut self,
        tick: u64,
        cube: CubeId,
        pose: Pose,
    ) -> (Vec<CubePose>, Vec<u8>) {
        self.believed.advance_to(tick);
        let mut surprises = Vec::new();
        if self.believed.get(cube).is_none() {
            self.believed.insert(cube, MotionState::at_rest(pose));
            return (vec![CubePose { cube, pose }], surprises);
        }
        let believed = self.believed.clone();
        let truth = |id| {
            if id == cube {
                pose
            } else {
                believed.pose(id).unwrap_or_default()
            }
        };
        self.believed.encode_tick(truth, &mut surprises);
        (Vec::new(), surprises)
    }
}
