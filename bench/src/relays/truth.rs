//! Where the cubes really are, which beliefs are compared with.

use std::ops::Range;
use std::sync::Arc;

use cubesync_protocol::motion::Codec;
use cubesync_protocol::{CubeId, Pose};

use crate::error::Error;
use crate::room::Room;
use crate::workload::Workload;

/// What [`Codec::LIVE`] promises.
const BOUND: Error = Error {
    quanta: Codec::LIVE.position_bound as u32,
    degrees: 1.7,
};

/// Where the cubes really are.
pub(crate) trait Truth {
    /// A receiver's state stands for the truth when it is no farther from it than this.
    fn bound(&self) -> Error;
    /// Whose cube it is; `None` for one that no client moves.
    fn client(&self, cube: CubeId) -> Option<usize>;
    /// The step whose samples belong to a tick; `None` before the first.
    fn step(&self, tick: u64) -> Option<usize>;
    /// Whether what is believed at a tick counts.
    fn is_measured(&self, tick: u64) -> bool;
    /// Where a client's cube is at a step.
    fn pose(&self, client: usize, step: usize) -> Pose;
    /// When that was sampled.
    fn sampled_us(&self, client: usize, step: usize) -> Option<u64>;
}

/// The truth of a run.
#[derive(Debug)]
pub(crate) struct Run {
    /// Where the clients' cubes are.
    pub(crate) workload: Arc<Workload>,
    /// Which cubes are theirs, and when the ticks are.
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
}
