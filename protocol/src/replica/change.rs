//! The changes that a replica reports for the messages that it takes in.

use crate::cube::CubeId;
use crate::message::CubeInfo;
use crate::motion::MotionState;

/// Something that changed in a replica; each is reported once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A cube came into the room.
    Joined(CubeInfo),
    /// A cube left the room; its motion is as of then.
    Left(CubeInfo),
    /// A cube came into sight.
    Appeared(CubeInfo),
    /// A cube went out of sight; its motion is as of then.
    Disappeared(CubeInfo),
    /// A free cube was taken.
    Taken {
        /// The free cube.
        cube: CubeId,
        /// Its holder's own cube.
        by: CubeId,
    },
    /// A held cube was let go.
    Freed {
        /// The free cube.
        cube: CubeId,
    },
    /// The predicted states of cubes from a tick on. Comes for every keyframe, snapshot and
    /// heartbeat, after their other changes, and includes the cubes that came among them.
    Moved {
        /// The tick.
        tick: u64,
        /// Up to and with this tick, the predictions before are known to have been right.
        known_until: u64,
        /// The cubes that the message says something about.
        states: Vec<(CubeId, MotionState)>,
    },
}
