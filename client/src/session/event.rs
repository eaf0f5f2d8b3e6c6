//! What a session tells whoever drives it.

use std::time::Duration;

use cubesync_protocol::replica::Change;
use cubesync_protocol::{CubeId, CubePose, Welcome};

/// What came of a session, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent {
    /// The server's welcome is there, and the own cube is in sight:
    /// [`Session::replica`](super::Session::replica) is known.
    Joined(Welcome),
    /// Something changed in the room.
    Changed(Change),
    /// The server put one of this client's cubes somewhere else.
    Corrected(CubePose),
    /// A take came too late.
    Refused {
        /// The cube that was asked for.
        cube: CubeId,
        /// Who holds it, if it is held.
        holder: Option<CubeId>,
    },
    /// The session is over; nothing follows.
    Ended {
        /// Why, for a person.
        reason: String,
        /// Whether to try again.
        retry: Retry,
    },
}

/// What to do after a session's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Try again after a wait of the client's choice.
    Backoff,
    /// The same, and elsewhere first where that is possible: the server was silent.
    OthersFirst,
    /// Try again after the time the server asked for.
    After(Duration),
    /// This server refuses for good; one of its neighbours may not.
    Elsewhere,
    /// The same would happen again: leave it to the person.
    Never,
}
