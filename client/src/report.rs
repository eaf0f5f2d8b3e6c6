//! What a client tells the program around it: how far it is, what happened, what to draw.

use std::time::Duration;

use cubesync_protocol::{
    Colour, CubeId, CubeInfo, CubeKind, CubePose, Pose, Position, Rotation, Welcome,
};

/// How far the client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Looking the name up or connecting.
    Connecting,
    /// Connected; the server has not answered yet.
    Joining,
    /// In the room.
    Joined,
    /// Not connected; another try follows by itself.
    Waiting {
        /// Time until then, as of the last poll.
        retry_in: Duration,
        /// Why the last connection ended, for a person.
        reason: String,
    },
    /// Refused for good, or closed; the client stays so.
    Failed {
        /// Why, for a person.
        reason: String,
    },
}

/// What happened, in the order in which it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientEvent {
    /// The client is in the room: at first, and again after it was away for more than a moment. Cubes known before are forgotten; the own cube starts at the welcome's pose, and
    /// may have a new id.
    Joined(Welcome),
    /// The client is in the room again after a moment without connection, at the same server or at another
    /// one ([`Client::server`](crate::Client::server)): the own cube goes on from where it is
    /// shown, and may have a new id.
    Rejoined(Welcome),
    /// Somebody else's cube came into the room, in sight. Not told for cubes that were there
    /// before; [`Client::cubes`](crate::Client::cubes) has everything in sight.
    CubeJoined(CubeInfo),
    /// A cube left the room, in sight; it is as it was last.
    CubeLeft(CubeInfo),
    /// A free cube was taken.
    CubeTaken {
        /// The free cube.
        cube: CubeId,
        /// Its holder's own cube.
        by: CubeId,
    },
    /// A held cube was let go, or the one this client held went out of sight.
    CubeFreed {
        /// The free cube.
        cube: CubeId,
    },
    /// A take came too late.
    Refused {
        /// The cube that was asked for.
        cube: CubeId,
        /// Who holds it, if it is held.
        holder: Option<CubeId>,
    },
    /// The server put a cube of this client somewhere else: go on from there.
    Corrected(CubePose),
    /// The connection is gone; [`Client::status`](crate::Client::status) says what follows.
    Disconnected {
        /// Why, for a person.
        reason: String,
    },
}

/// One cube as it is to be drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CubeView<'a> {
    /// Which cube.
    pub cube: CubeId,
    /// Whose it is.
    pub kind: CubeKind,
    /// The text above it.
    pub name: &'a str,
    /// Its colour.
    pub colour: Colour,
    /// Its centre, in metres.
    pub position: [f32; 3],
    /// Its rotation, a unit quaternion `[x, y, z, w]`.
    pub rotation: [f32; 4],
    /// Whether it is this client's own cube.
    pub own: bool,
    /// Whether it may be elsewhere by now: the server has not been heard for a while.
    pub stale: bool,
}

impl CubeView<'_> {
    /// Where it is drawn, as a pose that can be sent.
    pub fn pose(&self) -> Pose {
        Pose {
            position: Position::from_metres(self.position),
            rotation: Rotation::from_quaternion(self.rotation),
        }
    }
}

/// What the connection did so far, reconnects included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// A ping's way there and back; includes the wait for the poll that reads the answer.
    pub round_trip: Option<Duration>,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Messages received.
    pub frames_in: u64,
    /// Messages sent.
    pub frames_out: u64,
    /// Surprises received, one per cube that moved other than believed and snapshot.
    pub updates_in: u64,
    /// The same sent, and the poses that cubes are first told of with.
    pub updates_out: u64,
    /// Players in sight, this one included.
    pub players: usize,
    /// How far behind the server's clock remote cubes are shown.
    pub playout_delay: Duration,
    /// How long before its tick a sample of the own cubes is taken.
    pub lead: Duration,
    /// Samples that reached the server after their tick, as far as it has told.
    pub late_samples: u64,
    /// Ticks of this session that arrived after they were shown.
    pub late_ticks: u64,
    /// Ticks of this session that the server left out because they were not read in time. A tick
    /// in which nothing had to be said is none.
    pub missing_ticks: u64,
}

impl Statistics {
    /// Adds what a session counted.
    pub(crate) fn add(&mut self, session: &Self) {
        self.frames_in += session.frames_in;
        self.frames_out += session.frames_out;
        self.updates_in += session.updates_in;
        self.updates_out += session.updates_out;
        self.late_samples += session.late_samples;
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connecting => f.write_str("connecting"),
            Self::Joining => f.write_str("joining"),
            Self::Joined => f.write_str("joined"),
            Self::Waiting { retry_in, reason } => {
                write!(f, "{reason}; next try in {:.1} s", retry_in.as_secs_f32())
            }
            Self::Failed { reason } => f.write_str(reason),
        }
    }
}
