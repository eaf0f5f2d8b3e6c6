//! The cubes a client is the authority over, and what of them is to be sent.
//!
//! A pose is set once a frame and sampled once a tick, and neither divides the other. To send
//! the pose of the newest frame would make an even motion uneven by up to a frame for everybody
//! else. So each pose has its time, and a sample is where the cube was at its tick's instant.

use std::time::Duration;

use cubesync_protocol::limits::MAX_CUBES_PER_SAMPLE;
use cubesync_protocol::{CubeId, CubePose, Pose, Position, Rotation};

use crate::interpolation::{self, TickPose};

/// Poses that were set further apart than this are no motion: the cube rested in between.
const LONGEST_FRAME: Duration = Duration::from_millis(100);

/// Where the changed cubes are at a tick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The tick.
    pub tick: u64,
    /// The poses; may be none.
    pub cubes: Vec<CubePose>,
}

/// The own cube and the held ones, as set last and as sent last.
#[derive(Debug, Clone, Default)]
pub struct Controlled {
    cubes: Vec<ControlledCube>,
}

#[derive(Debug, Clone)]
struct ControlledCube {
    cube: CubeId,
    before: TimedPose,
    newest: TimedPose,
    sent: Pose,
    /// The last sample said that it moves; that it rests is yet to be said.
    is_moving: bool,
    /// The server was told to free it, and has not yet.
    is_released: bool,
}

#[derive(Debug, Clone, Copy)]
struct TimedPose {
    at: Duration,
    pose: Pose,
}

impl Controlled {
    /// The cube is this client's from now on; the server has it at `pose`.
    pub fn gain(&mut self, cube: CubeId, pose: Pose) {
        self.lose(cube);
        self.cubes.push(ControlledCube::resting(cube, pose));
    }

    /// The cube is not this client's any more.
    pub fn lose(&mut self, cube: CubeId) {
        self.cubes.retain(|known| known.cube != cube);
    }

    /// Moves a cube; whether it is one that can be moved.
    pub fn set_pose(&mut self, cube: CubeId, pose: Pose, at: Duration) -> bool {
        let Some(known) = self.find(cube).filter(|known| !known.is_released) else {
            return false;
        };
        if at > known.newest.at {
            known.before = known.newest;
        }
        known.newest = TimedPose { at, pose };
        true
    }

    /// Moves a cube to where the server has it, which need not be sent back; whether it is one
    /// of these.
    pub fn correct(&mut self, corrected: CubePose) -> bool {
        let Some(known) = self.find(corrected.cube) else {
            return false;
        };
        let is_released = known.is_released;
        *known = ControlledCube::resting(corrected.cube, corrected.pose);
        known.is_released = is_released;
        true
    }

    /// Marks a cube as on its way to being free, if it is held: `Some` then, and whether its last
    /// pose is yet to be sent before the release.
    pub fn release(&mut self, cube: CubeId) -> Option<bool> {
        let known = self.find(cube).filter(|known| !known.is_released)?;
        known.is_released = true;
        Some(known.sent != known.newest.pose)
    }

    /// What changed since the last sample, as a sample's cubes, as it was at an instant; empty:
    /// nothing is to be sent. What came to rest is sent once more: a missing sample might as well
    /// be late.
    pub fn take_sample(&mut self, instant: Duration) -> Vec<CubePose> {
        let changed = self.cubes.iter_mut().filter_map(|known| {
            let pose = known.pose_at(instant);
            let is_moving = known.sent != pose;
            let has_stopped = known.is_moving && !known.is_released;
            (is_moving || has_stopped).then_some((known, pose))
        });
        changed
            .take(MAX_CUBES_PER_SAMPLE)
            .map(|(known, pose)| {
                known.is_moving = known.sent != pose;
                known.sent = pose;
                let cube = known.cube;
                CubePose { cube, pose }
            })
            .collect()
    }

    fn find(&mut self, cube: CubeId) -> Option<&mut ControlledCube> {
        self.cubes.iter_mut().find(|known| known.cube == cube)
    }
}

impl ControlledCube {
    fn resting(cube: CubeId, pose: Pose) -> Self {
        let at = Duration::ZERO;
        let rest = TimedPose { at, pose };
        Self {
            cube,
            before: rest,
            newest: rest,
            sent: pose,
            is_moving: false,
            is_released: false,
        }
    }

    fn pose_at(&self, instant: Duration) -> Pose {
        let Self { before, newest, .. } = self;
        let frame = newest.at.saturating_sub(before.at);
        if instant >= newest.at
            || self.is_released
            || frame > LONGEST_FRAME
            || before.pose == newest.pose
        {
            return newest.pose;
        }
        let share = instant.saturating_sub(before.at).as_secs_f64() / frame.as_secs_f64();
        let at = |tick, timed: &TimedPose| TickPose {
            tick,
            pose: timed.pose,
        };
        let between = interpolation::between(at(0, before), at(1, newest), share);
        Pose {
            position: Position::from_metres(between.position),
            rotation: Rotation::from_quaternion(between.rotation),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pose;

    const OWN: CubeId = CubeId(7);
    const HELD: CubeId = CubeId(0);

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
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
    fn only_what_changed_is_sent_and_once_more_when_it_rests() {
        let mut controlled = controlled();
        assert_eq!(controlled.take_sample(ms(10)), []);
        assert!(controlled.set_pose(OWN, pose(3.0), ms(200)));
        assert!(controlled.set_pose(OWN, pose(4.0), ms(200)));
        assert_eq!(controlled.take_sample(ms(200)), [moved(OWN, 4.0)]);
        assert_eq!(controlled.take_sample(ms(210)), [moved(OWN, 4.0)]);
        assert_eq!(controlled.take_sample(ms(215)), []);
        assert!(!controlled.set_pose(CubeId(99), pose(3.0), ms(220)));
        assert_eq!(controlled.take_sample(ms(220)), []);
    }

    #[test]
    fn a_sample_is_where_the_cube_was_at_its_instant() {
        let mut controlled = controlled();
        controlled.set_pose(OWN, pose(0.0), ms(200));
        controlled.set_pose(OWN, pose(2.0), ms(220));
        assert_eq!(controlled.take_sample(ms(205)), [moved(OWN, 0.5)]);
        controlled.set_pose(OWN, pose(4.0), ms(240));
        assert_eq!(controlled.take_sample(ms(235)), [moved(OWN, 3.5)]);
        assert_eq!(controlled.take_sample(ms(265)), [moved(OWN, 4.0)]);
    }

    #[test]
    fn a_rest_and_a_jump_are_no_motion() {
        let mut controlled = controlled();
        controlled.set_pose(OWN, pose(2.0), ms(5_000));
        assert_eq!(controlled.take_sample(ms(4_990)), [moved(OWN, 2.0)]);
        controlled.set_pose(OWN, pose(50.0), ms(5_016));
        assert_eq!(controlled.take_sample(ms(5_008)), [moved(OWN, 2.0)]);
        assert_eq!(controlled.take_sample(ms(5_041)), [moved(OWN, 50.0)]);
    }

    #[test]
    fn a_correction_is_not_sent_back() {
        let mut controlled = controlled();
        controlled.set_pose(OWN, pose(30.0), ms(10));
        assert!(controlled.correct(moved(OWN, 2.0)));
        assert_eq!(controlled.take_sample(ms(20)), []);
        assert!(!controlled.correct(moved(CubeId(99), 2.0)));
    }

    #[test]
    fn a_released_cube_stays_where_it_was_put() {
        let mut controlled = controlled();
        controlled.set_pose(HELD, pose(0.0), ms(1));
        controlled.set_pose(HELD, pose(2.0), ms(10));
        assert_eq!(controlled.release(HELD), Some(true));
        assert_eq!(controlled.release(HELD), None);
        assert!(!controlled.set_pose(HELD, pose(9.0), ms(20)));
        assert_eq!(controlled.take_sample(ms(5)), [moved(HELD, 2.0)]);
        assert_eq!(controlled.take_sample(ms(20)), []);
        controlled.gain(HELD, pose(1.0));
        assert_eq!(controlled.release(HELD), Some(false));
        controlled.gain(HELD, pose(1.0));
        assert!(controlled.set_pose(HELD, pose(9.0), ms(30)));
    }
}
