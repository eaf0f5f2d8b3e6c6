//! The cubes a client is the authority over, and what of them is to be sent.

use cubesync_protocol::limits::MAX_CUBES_PER_SAMPLE;
use cubesync_protocol::{CubeId, CubePose, Pose};

/// The own cube and the held ones, as set last and as sent last.
#[derive(Debug, Clone, Default)]
pub struct Controlled {
    cubes: Vec<ControlledCube>,
}

#[derive(Debug, Clone)]
struct ControlledCube {
    cube: CubeId,
    pose: Pose,
    sent: Pose,
    /// The server was told to free it, and has not yet.
    is_released: bool,
}

impl Controlled {
    /// The cube is this client's from now on; the server has it at `pose`.
    pub fn gain(&mut self, cube: CubeId, pose: Pose) {
        self.lose(cube);
        self.cubes.push(ControlledCube {
            cube,
            pose,
            sent: pose,
            is_released: false,
        });
    }

    /// The cube is not this client's any more.
    pub fn lose(&mut self, cube: CubeId) {
        self.cubes.retain(|known| known.cube != cube);
    }

    /// Moves a cube; whether it is one that can be moved.
    pub fn set_pose(&mut self, cube: CubeId, pose: Pose) -> bool {
        let known = self.find(cube).filter(|known| !known.is_released);
        known.map(|known| known.pose = pose).is_some()
    }

    /// Moves a cube to where the server has it, which need not be sent back; whether it is one
    /// of these.
    pub fn correct(&mut self, corrected: CubePose) -> bool {
        let Some(known) = self.find(corrected.cube) else {
            return false;
        };
        known.pose = corrected.pose;
        known.sent = corrected.pose;
        true
    }

    /// Marks a cube as on its way to being free; whether it was held until now.
    pub fn release(&mut self, cube: CubeId) -> bool {
        let known = self.find(cube).filter(|known| !known.is_released);
        known.map(|known| known.is_released = true).is_some()
    }

    /// What changed since the last sample, as a sample's cubes; empty: nothing is to be sent.
    pub fn take_sample(&mut self) -> Vec<CubePose> {
        let changed = self
            .cubes
            .iter_mut()
            .filter(|known| !known.is_released && known.pose != known.sent);
        changed
            .take(MAX_CUBES_PER_SAMPLE)
            .map(|known| {
                known.sent = known.pose;
                CubePose {
                    cube: known.cube,
                    pose: known.pose,
                }
            })
            .collect()
    }

    fn find(&mut self, cube: CubeId) -> Option<&mut ControlledCube> {
        self.cubes.iter_mut().find(|known| known.cube == cube)
    }
}

#[cfg(test)]
mod tests {
    use cubesync_protocol::Position;

    use super::*;

    const OWN: CubeId = CubeId(7);
    const HELD: CubeId = CubeId(0);

    fn pose(x_m: f32) -> Pose {
        Pose {
            position: Position::from_metres([x_m, 0.0, 0.5]),
            ..Pose::default()
        }
    }

    fn controlled() -> Controlled {
        let mut controlled = Controlled::default();
        controlled.gain(OWN, pose(0.0));
        controlled.gain(HELD, pose(1.0));
        controlled
    }

    fn moved(cube: CubeId, x_m: f32) -> CubePose {
        let pose = pose(x_m);
        CubePose { cube, pose }
    }

    #[test]
    fn only_what_changed_is_sent_and_only_once() {
        let mut controlled = controlled();
        assert_eq!(controlled.take_sample(), []);
        assert!(controlled.set_pose(OWN, pose(3.0)));
        assert!(controlled.set_pose(OWN, pose(4.0)));
        assert_eq!(controlled.take_sample(), [moved(OWN, 4.0)]);
        assert_eq!(controlled.take_sample(), []);
        assert!(!controlled.set_pose(CubeId(99), pose(3.0)));
        assert_eq!(controlled.take_sample(), []);
    }

    #[test]
    fn a_correction_is_not_sent_back() {
        let mut controlled = controlled();
        controlled.set_pose(OWN, pose(30.0));
        assert!(controlled.correct(moved(OWN, 2.0)));
        assert_eq!(controlled.take_sample(), []);
        assert!(!controlled.correct(moved(CubeId(99), 2.0)));
    }

    #[test]
    fn a_released_cube_stays_where_it_was_put() {
        let mut controlled = controlled();
        assert!(controlled.release(HELD));
        assert!(!controlled.release(HELD));
        assert!(!controlled.set_pose(HELD, pose(9.0)));
        assert_eq!(controlled.take_sample(), []);
        controlled.lose(HELD);
        controlled.gain(HELD, pose(1.0));
        assert!(controlled.set_pose(HELD, pose(9.0)));
    }
}
