//! Helpers of several tests of rooms.

use cubesync_protocol::motion::{Codec, MotionSet, MotionState};
use cubesync_protocol::{CubeId, CubePose, Pose, Position};

/// Writes the samples of one client. The protocol's `UplinkSender` leaves out a cube that has not
/// moved, and a cube that a test does not name would stand.
#[derive(Debug)]
pub struct SampleWriter {
    predicted: MotionSet,
}

impl Default for SampleWriter {
    fn default() -> Self {
        Self {
            predicted: MotionSet::new(&Codec::LIVE),
        }
    }
}

impl SampleWriter {
    /// Returns the sample of a tick at which a cube, anybody's, has a pose. The other cubes move as
    /// predicted.
    pub fn sample(&mut self, tick: u64, cube: CubeId, pose: Pose) -> (Vec<CubePose>, Vec<u8>) {
        self.predicted.advance_to(tick);
        let mut residuals = Vec::new();
        if self.predicted.get(cube).is_none() {
            self.predicted.insert(cube, MotionState::at_rest(pose));
            return (vec![CubePose { cube, pose }], residuals);
        }
        let before = self.predicted.clone();
        let truth = |id| {
            if id == cube {
                pose
            } else {
                before.pose(id).unwrap_or_default()
            }
        };
        self.predicted.encode_tick(truth, &mut residuals);
        (Vec::new(), residuals)
    }

    /// The tick of the last sample.
    pub fn tick(&self) -> u64 {
        self.predicted.tick()
    }

    /// Forgets a cube that was released.
    pub fn release(&mut self, cube: CubeId) {
        self.predicted.remove(cube);
    }
}

/// Returns a pose upright on the floor, `x` quanta east of the origin.
pub fn pose_at(x: i32) -> Pose {
    let position = Position { x, y: 0, z: 256 };
    Pose {
        position,
        ..Pose::default()
    }
}
