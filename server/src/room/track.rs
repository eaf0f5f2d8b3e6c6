//! Where a cube's authority says it is, tick by tick, and what that means while a sample is
//! missing.

use cubesync_protocol::{Pose, Position};

/// A moving cube whose samples stop is believed to go on for this part of a second; then it
/// stands where it was seen last. Longer than most hiccups of a network.
const GRACE_PER_SECOND: u64 = 4;

/// The newest sample of a cube, and how it moved there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Track {
    pose: Pose,
    /// The tick the pose belongs to.
    tick: u64,
    /// Quanta per tick between the last two samples.
    step: [i32; 3],
    is_moving: bool,
    /// A sample has come since the last tick.
    is_new: bool,
}

/// What is known about a cube at a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Truth {
    /// It is there.
    At(Pose),
    /// Its sample is missing: it may well be where everybody believes it to be.
    AsBelieved,
}

impl Track {
    /// A cube that stands, at a tick.
    pub(super) fn new(pose: Pose, tick: u64) -> Self {
        Self {
            pose,
            tick,
            step: [0; 3],
            is_moving: false,
            is_new: false,
        }
    }

    /// The pose of the newest sample.
    pub(super) fn pose(&self) -> Pose {
        self.pose
    }

    /// Takes in the sample of a tick; each is later than the one before.
    pub(super) fn sample(&mut self, tick: u64, pose: Pose, tick_hz: u64) {
        let ticks = tick.saturating_sub(self.tick).max(1);
        let was = self.pose;
        // After a longer rest nobody knows how the cube came here.
        self.is_moving = pose != was && ticks <= grace(tick_hz);
        self.step = if self.is_moving {
            let parts = |now: i32, before: i32| {
                let change = i64::from(now) - i64::from(before);
                i32::try_from(change / ticks as i64).unwrap_or(0)
            };
            let (now, before) = (pose.position, was.position);
            [
                parts(now.x, before.x),
                parts(now.y, before.y),
                parts(now.z, before.z),
            ]
        } else {
            [0; 3]
        };
        (self.pose, self.tick, self.is_new) = (pose, tick, true);
    }

    /// The cube stands where it is: nobody moves it any more.
    pub(super) fn settle(&mut self) {
        self.is_moving = false;
    }

    /// Whether the next ticks must ask for the truth.
    pub(super) fn is_awake(&self) -> bool {
        self.is_moving || self.is_new
    }

    /// What is known at a tick. Once per tick.
    pub(super) fn truth(&mut self, tick: u64, tick_hz: u64) -> Truth {
        let is_new = std::mem::take(&mut self.is_new);
        let behind = tick.saturating_sub(self.tick);
        if behind > grace(tick_hz) {
            self.is_moving = false;
        }
        if !self.is_moving || behind == 0 {
            Truth::At(self.pose)
        } else if is_new {
            // The sample came late: by now the cube has gone on.
            Truth::At(self.extrapolated(behind))
        } else {
            Truth::AsBelieved
        }
    }

    fn extrapolated(&self, ticks: u64) -> Pose {
        let ticks = i32::try_from(ticks).unwrap_or(i32::MAX);
        let Position { x, y, z } = self.pose.position;
        let [x, y, z] = [(x, 0), (y, 1), (z, 2)]
            .map(|(now, axis)| now.saturating_add(self.step[axis].saturating_mul(ticks)));
        Pose {
            position: Position { x, y, z }.clamped(),
            ..self.pose
        }
    }
}

/// The longest time, in ticks, that a missing sample is made up for.
fn grace(tick_hz: u64) -> u64 {
    (tick_hz / GRACE_PER_SECOND).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HZ: u64 = 20;

    fn at(x: i32) -> Pose {
        Pose {
            position: Position { x, y: 0, z: 0 },
            ..Pose::default()
        }
    }

    /// Walks at 10 quanta a tick until tick 3.
    fn walking() -> Track {
        let mut track = Track::new(at(0), 0);
        for tick in 1..=3 {
            track.sample(tick, at(10 * tick as i32), HZ);
            assert_eq!(track.truth(tick, HZ), Truth::At(at(10 * tick as i32)));
        }
        track
    }

    #[test]
    fn a_missing_sample_is_made_up_for_by_what_everybody_believes_for_a_quarter_second() {
        let mut track = walking();
        for tick in 4..=8 {
            assert_eq!(track.truth(tick, HZ), Truth::AsBelieved);
            assert!(track.is_awake());
        }
        assert_eq!(track.truth(9, HZ), Truth::At(at(30)));
        assert!(!track.is_awake());
    }

    #[test]
    fn a_late_sample_counts_as_where_the_cube_must_be_by_now() {
        let mut track = walking();
        track.sample(4, at(44), HZ);
        assert_eq!(track.truth(6, HZ), Truth::At(at(44 + 2 * 14)));
        assert_eq!(track.pose(), at(44));
    }

    #[test]
    fn the_same_pose_again_is_rest() {
        let mut track = walking();
        track.sample(4, at(30), HZ);
        assert_eq!(track.truth(4, HZ), Truth::At(at(30)));
        assert!(!track.is_awake());
        assert_eq!(track.truth(5, HZ), Truth::At(at(30)));
    }

    #[test]
    fn a_jump_after_a_rest_is_no_speed() {
        let mut track = Track::new(at(0), 0);
        track.sample(100, at(50_000), HZ);
        assert_eq!(track.truth(102, HZ), Truth::At(at(50_000)));
        assert!(!track.is_awake());
    }
}
