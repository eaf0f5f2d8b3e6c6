//! The true poses of the cubes, which the clients' replicas are compared with.

use std::ops::Range;
use std::sync::Arc;

use cubesync_protocol::motion::Codec;
use cubesync_protocol::{CubeId, Pose};

use crate::error::Error;
use crate::room::Room;
use crate::workload::Workload;

/// The error bound of [`Codec::LIVE`].
const BOUND: Error = Error {
    quanta: Codec::LIVE.position_bound as u32,
    degrees: 1.7,
};

/// The true poses of the cubes at every step.
pub(crate) trait Truth {
    /// Returns the largest error of a state that counts as right.
    fn bound(&self) -> Error;
    /// Returns the client that owns a cube; `None` if no client moves it.
    fn client(&self, cube: CubeId) -> Option<usize>;
    /// Returns the step whose samples belong to a tick; `None` before the first one.
    fn step(&self, tick: u64) -> Option<usize>;
    /// Returns whether a tick lies in the measurement.
    fn is_measured(&self, tick: u64) -> bool;
    /// Returns the pose of a client's cube at a step.
    fn pose(&self, client: usize, step: usize) -> Pose;
    /// Returns the time at which that pose was sampled.
    fn sampled_us(&self, client: usize, step: usize) -> Option<u64>;
    /// Returns the number of the client's server.
    fn server(&self, client: usize) -> usize;
}

/// The truth of a run.
#[derive(Debug)]
pub(crate) struct Run {
    /// The poses of the clients' cubes.
    pub(crate) workload: Arc<Workload>,
    /// The owners of the cubes, and the times of the ticks.
    pub(crate) room: Arc<Room>,
    /// The ticks that are measured.
    pub(crate) ticks: Range<u64>,
}

impl Truth for Run {
    fn bound(&self) -> Error {
        BOUND
    }

    fn client(&self, cube: CubeId) -> Option<usize> {
        self.room.owner(cube)
    }

    fn step(&self, tick: u64) -> Option<usize> {
        self.room.step(tick)
    }

    fn is_measured(&self, tick: u64) -> bool {
        self.ticks.contains(&tick)
    }

    fn pose(&self, client: usize, step: usize) -> Pose {
        self.workload.pose(client, step)
    }

    fn sampled_us(&self, client: usize, step: usize) -> Option<u64> {
        self.workload.sampled_us(client, step)
    }

    fn server(&self, client: usize) -> usize {
        self.workload.server(client)
    }
}

/// Truths for tests.
#[cfg(test)]
pub(crate) mod fixture {
    use cubesync_protocol::motion::MotionState;
    use cubesync_protocol::{Colour, CubeInfo, CubeKind};

    use super::*;

    /// Clients that own a row of cubes.
    pub(crate) struct Fixture {
        /// The first client's cube, the next one's, and so on.
        pub(crate) cubes: Range<u64>,
        /// The tick of step 0.
        pub(crate) first_tick: u64,
        /// The ticks that are measured.
        pub(crate) ticks: Range<u64>,
        /// Where a client's cube is at a step.
        pub(crate) pose: fn(usize, usize) -> Pose,
    }

    impl Truth for Fixture {
        fn bound(&self) -> Error {
            Error::default()
        }

        fn client(&self, cube: CubeId) -> Option<usize> {
            let is_owned = self.cubes.contains(&cube.0);
            is_owned.then(|| (cube.0 - self.cubes.start) as usize)
        }

        fn step(&self, tick: u64) -> Option<usize> {
            tick.checked_sub(self.first_tick).map(|step| step as usize)
        }

        fn is_measured(&self, tick: u64) -> bool {
            self.ticks.contains(&tick)
        }

        fn pose(&self, client: usize, step: usize) -> Pose {
            (self.pose)(client, step)
        }

        fn sampled_us(&self, _client: usize, step: usize) -> Option<u64> {
            Some(step as u64 * 1_000)
        }

        fn server(&self, _client: usize) -> usize {
            0
        }
    }

    /// Returns a cube that rests.
    pub(crate) fn info(cube: u64, pose: Pose) -> CubeInfo {
        CubeInfo {
            cube: CubeId(cube),
            kind: CubeKind::Player,
            name: "a".into(),
            colour: Colour::from([0; 3]),
            width: Default::default(),
            motion: MotionState::at_rest(pose),
        }
    }
}
