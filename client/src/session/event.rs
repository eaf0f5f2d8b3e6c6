//! The events of a session.

use std::time::Duration;

use cubesync_protocol::replica::Change;
use cubesync_protocol::{CubeId, CubePose, DatagramAnswer, Welcome};

/// Something that happened in a session, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent {
    /// The client has joined: the server's welcome has come and the own cube is in sight, so
    /// [`Session::replica`](super::Session::replica) returns the cubes.
    Joined(Welcome),
    /// The room goes on at another server, which this connection's server has reached: a second welcome has
    /// come, and keyframes follow. The own cube goes on from where it is, unless
    /// [`Corrected`](Self::Corrected) comes next.
    Continued {
        /// The second welcome.
        welcome: Welcome,
        /// The own cube before.
        before: CubeId,
    },
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
    /// The server has answered the request for a way for datagrams. The caller opens it.
    Datagrams(DatagramAnswer),
    /// The session has ended; nothing follows.
    Ended {
        /// The reason, for a person.
        reason: String,
        /// Whether and where to try again.
        retry: Retry,
    },
}

/// Whether and where to try again after a session has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Try again after a wait of the client's choice.
    Backoff,
    /// Try again, with other servers first if there are any: this server was silent.
    OthersFirst,
    /// Try again after the time that the server asked for.
    After(Duration),
    /// Try other servers only: this server refuses for good.
    Elsewhere,
    /// Do not try again, because the same would happen.
    Never,
}
