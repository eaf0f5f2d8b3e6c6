//! What several tests of the room need.

use cubesync_protocol::motion::{Codec, MotionSet, MotionState};
use cubesync_protocol::{CubeId, CubePose, Pose, Position};

/// A client's side of its samples.
#[derive(Debug)]
pub struct Teller {
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
    pub fn at(x: i32) -> Pose {
        let position = Position { x, y: 0, z: 256 };
        Pose {
            position,
            ..Pose::default()
        }
    }

    /// What the sample of a tick says when the cube is there; other cubes are as believed.
    pub fn sample(&mut self, tick: u64, cube: CubeId, pose: Pose) -> (Vec<CubePose>, Vec<u8>) {
        self.believed.advance_to(tick);
        let mut residuals = Vec::new();
        if self.believed.get(cube).is_none() {
            self.believed.insert(cube, MotionState::at_rest(pose));
            return (vec![CubePose { cube, pose }], residuals);
        }
        let believed = self.believed.clone();
        let truth = |id| {
            if id == cube {
                pose
            } else {
                believed.pose(id).unwrap_or_default()
            }
        };
        self.believed.encode_tick(truth, &mut residuals);
        (Vec::new(), residuals)
    }

    /// The tick of the last sample.
    pub fn tick(&self) -> u64 {
        self.believed.tick()
    }

    /// The cube was released.
    pub fn release(&mut self, cube: CubeId) {
        self.believed.remove(cube);
    }
}
