//! The events of a session.

use std::time::Duration;

use cubesync_protocol::replica::Change;
use cubesync_protocol::{CubeId, CubePose, Welcome};

/// Something that happened in a session, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent {
    /// The server's welcome is there, and the own cube is in sight:
    /// [`Session::replica`](super::Session::replica) is known.
    Joined(Welcome),
    /// Something changed in the room.
    Changed(Change),
    /// The server put one of this client's cubes somewhere else.
    Corrected(CubePose),
    /// The server refused to give a cube.
    Refused {
        /// The cube that was asked for.
        cube: CubeId,
        /// Its holder's own cube, if it is held.
        holder: Option<CubeId>,
    },
    /// The session has ended; nothing follows.
    Ended {
        /// Why, for a person.
        reason: String,
        /// Whether to try again.
        retry: Retry,
    },
}

/// Whether and where to try again after a session has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Try again after a wait of the client's choice.
    Backoff,
    /// The server was silent: try again, and other servers first if there are any.
    OthersFirst,
    /// Try again after the time that the server asked for.
    After(Duration),
    /// This server refuses for good; one of its neighbours may not.
    Elsewhere,
    /// Do not try again: the same would happen.
    Never,
}
