//! The cubes a client is the authority over, and what of them is to be sent.
//!
//! A pose is set once a frame and sampled once a tick, and neither divides the other. To send
//! the pose of the newest frame would make an even motion uneven by up to a frame for everybody
//! else. So each pose has its time, and a sample is where the cube was at its tick's instant.
//! What is sent of it is what the server does not expect; see [`MotionSet`].

use std::time::Duration;

use bytes::Bytes;
use cubesync_protocol::limits::MAX_CUBES_PER_SAMPLE;
use cubesync_protocol::motion::{Codec, MotionSet, MotionState};
use cubesync_protocol::{CubeId, CubePose, Pose, Position, Rotation};

use crate::interpolation::{self, TickPose};

/// Poses that were set further apart than this are no motion: the cube rested in between.
const LONGEST_FRAME: Duration = Duration::from_millis(100);

/// What is to be said of the cubes at a tick; see
/// [`ClientMessage::Sample`](cubesync_protocol::ClientMessage::Sample).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The tick.
    pub tick: u64,
    /// Cubes that are told of for the first time.
    pub placed: Vec<CubePose>,
    /// What is not as believed.
    pub surprises: Bytes,
    /// How many cubes are placed or surprise; none in a heartbeat.
    pub updates: usize,
}

/// The own cube and the held ones: as set last, and as the server believes them to move.
#[derive(Debug, Clone)]
pub struct Controlled {
    cubes: Vec<ControlledCube>,
    /// Those of the cubes that the server was told of, at `tick`.
    believed: MotionSet,
    tick: u64,
}

#[derive(Debug, Clone)]
struct ControlledCube {
    cube: CubeId,
    before: TimedPose,
    newest: TimedPose,
    /// Where the server had it when it became this client's.
    gained: Pose,
    /// It is not this client's any more, but was not released: the server still believes things
    /// about it.
    is_lost: bool,
}

#[derive(Debug, Clone, Copy)]
struct TimedPose {
    at: Duration,
    pose: Pose,
}

impl Controlled {
    /// The cube is this client's from now on; the server has it at `pose`.
    pub fn gain(&mut self, cube: CubeId, pose: Pose) {
        self.cubes.retain(|known| known.cube != cube);
        self.cubes.push(ControlledCube::resting(cube, pose));
    }

    /// The cube is not this client's any more.
    pub fn lose(&mut self, cube: CubeId) {
        let is_believed = self.believed.get(cube).is_some();
        self.cubes.retain(|known| known.cube != cube || is_believed);
        if let Some(known) = self.find(cube) {
            known.before = known.newest;
            known.is_lost = true;
        }
    }

    /// Moves a cube; whether it is one that can be moved.
    pub fn set_pose(&mut self, cube: CubeId, pose: Pose, at: Duration) -> bool {
        let Some(known) = self.find(cube) else {
            return false;
        };
        if at > known.newest.at {
            known.before = known.newest;
        }
        known.newest = TimedPose { at, pose };
        true
    }

    /// Moves a cube to where the server has it; whether it is one of these.
    pub fn correct(&mut self, corrected: CubePose) -> bool {
        let Some(known) = self.find(corrected.cube) else {
            return false;
        };
        *known = ControlledCube::resting(corrected.cube, corrected.pose);
        true
    }

    /// Gives a cube up that is this client's; `None` if it is not. What there is to say at `tick`
    /// is to be sent before its release.
    pub fn release(
        &mut self,
        cube: CubeId,
        tick: u64,
        instant: Duration,
    ) -> Option<Option<Sample>> {
        let known = self.find(cube)?;
        // It stays where it was put.
        known.before = known.newest;
        // A cube that moves as believed is let go where this sample says.
        let last = self.take_sample(tick, instant, true);
        self.believed.remove(cube);
        self.cubes.retain(|known| known.cube != cube);
        Some(last)
    }

    /// What is to be said at a tick, whose instant this is: where the cubes are that are not as
    /// believed; after a long silence also that those which move still do.
    pub fn take_sample(&mut self, tick: u64, instant: Duration, is_silent: bool) -> Option<Sample> {
        let ticks = tick.saturating_sub(self.tick);
        self.believed
            .advance(u32::try_from(ticks).unwrap_or(u32::MAX));
        self.tick = self.tick.max(tick);
        let placed = self.place(instant);
        let mut surprises = Vec::new();
        let cubes = &self.cubes;
        let truth = |cube| {
            let known = cubes.iter().find(|known| known.cube == cube);
            let known = known.expect("what is believed is about cubes of this client");
            known.pose_at(instant)
        };
        let surprised = self.believed.encode_tick(truth, &mut surprises);
        let updates = placed.len() + surprised;
        let moves = || self.believed.active().any(|(_, state)| !state.is_still());
        (updates > 0 || (is_silent && moves())).then(|| Sample {
            tick,
            placed,
            surprises: surprises.into(),
            updates,
        })
    }

    /// Tells the server of the cubes that have moved since they are this client's.
    fn place(&mut self, instant: Duration) -> Vec<CubePose> {
        let mut placed = Vec::new();
        for known in &self.cubes {
            let (cube, pose) = (known.cube, known.pose_at(instant));
            let is_new = self.believed.get(cube).is_none() && pose != known.gained;
            if is_new && self.believed.len() < MAX_CUBES_PER_SAMPLE {
                self.believed.insert(cube, MotionState::at_rest(pose));
                placed.push(CubePose { cube, pose });
            }
        }
        placed
    }

    fn find(&mut self, cube: CubeId) -> Option<&mut ControlledCube> {
        let mut cubes = self.cubes.iter_mut();
        cubes.find(|known| known.cube == cube && !known.is_lost)
    }
}

impl Default for Controlled {
    fn default() -> Self {
        Self {
            cubes: Vec::new(),
            believed: MotionSet::new(&Codec::LIVE),
            tick: 0,
        }
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
            gained: pose,
            is_lost: false,
        }
    }

    fn pose_at(&self, instant: Duration) -> Pose {
        let Self { before, newest, .. } = self;
        let frame = newest.at.saturating_sub(before.at);
        if instant >= newest.at || frame > LONGEST_FRAME || before.pose == newest.pose {
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
