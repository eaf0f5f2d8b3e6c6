//! The reports of a client: its status, events, cubes to draw, and statistics.

use std::time::Duration;

use cubesync_protocol::{
    Colour, CubeId, CubeInfo, CubeKind, CubePose, Pose, Position, Rotation, Welcome,
};

/// The state of a client's connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// The client looks the name up or connects.
    Connecting,
    /// The client is connected and waits for the server's answer.
    Joining,
    /// The client is in the room.
    Joined,
    /// The client is not connected and will try again by itself.
    Waiting {
        /// Time until the next try, as of the last poll.
        retry_in: Duration,
        /// Why the last connection ended, for a person.
        reason: String,
    },
    /// The client was refused for good, or closed. It stays so.
    Failed {
        /// Why, for a person.
        reason: String,
    },
}

/// Something that happened, in the order in which it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientEvent {
    /// The client is in the room, for the first time or after more than a moment without a
    /// connection. Cubes known before are forgotten. The own cube starts at the welcome's pose, and
    /// may have a new id.
    Joined(Welcome),
    /// The client is in the room again after a moment without a connection, at the same server or at
    /// another one ([`Client::server`](crate::Client::server)). The own cube goes on from where it
    /// is shown, and may have a new id. Comes too when the room has gone on at another server behind this
    /// connection and the own cube has a new id there; with the same id an application notices nothing.
    Rejoined(Welcome),
    /// Another player's cube came into the room, in sight. There is no such event for cubes that
    /// were there before; [`Client::cubes`](crate::Client::cubes) has everything in sight.
    CubeJoined(CubeInfo),
    /// A cube in sight left the room; this is its last state.
    CubeLeft(CubeInfo),
    /// A free cube was taken.
    CubeTaken {
        /// The free cube.
        cube: CubeId,
        /// Its holder's own cube.
        by: CubeId,
    },
    /// A held cube was released, or the one that this client held went out of sight.
    CubeFreed {
        /// The free cube.
        cube: CubeId,
    },
    /// The server refused to give a cube: somebody else was faster.
    Refused {
        /// The cube that was asked for.
        cube: CubeId,
        /// Its holder's own cube, if it is held.
        holder: Option<CubeId>,
    },
    /// The server put a cube of this client somewhere else. Go on from there.
    Corrected(CubePose),
    /// The connection is lost. [`Client::status`](crate::Client::status) says what follows.
    Disconnected {
        /// Why, for a person.
        reason: String,
    },
}

/// One cube, as it is to be drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CubeView<'a> {
    /// Its id.
    pub cube: CubeId,
    /// Whether it is a player's, a ghost or a free cube.
    pub kind: CubeKind,
    /// Its name, to be written above it.
    pub name: &'a str,
    /// Its colour.
    pub colour: Colour,
    /// Its edge length, in metres.
    pub width_m: f32,
    /// Its centre, in metres.
    pub position: [f32; 3],
    /// Its rotation, a unit quaternion `[x, y, z, w]`.
    pub rotation: [f32; 4],
    /// Whether it is this client's own cube.
    pub own: bool,
    /// Whether it may be elsewhere by now, because nothing has been received for a while.
    pub stale: bool,
}

impl CubeView<'_> {
    /// Returns where it is drawn, as a pose that can be sent.
    pub fn pose(&self) -> Pose {
        Pose {
            position: Position::from_metres(self.position),
            rotation: Rotation::from_quaternion(self.rotation),
        }
    }
}

/// Counts of what the client has sent and received so far, including earlier connections, and
/// measurements of its connection now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Round trip of a ping, including the wait for the poll that reads the answer.
    pub round_trip: Option<Duration>,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Messages received.
    pub frames_in: u64,
    /// Messages sent.
    pub frames_out: u64,
    /// Updates received: one for each cube and snapshot in which it moved other than predicted.
    pub updates_in: u64,
    /// Updates sent, including the first pose of each cube.
    pub updates_out: u64,
    /// Players in sight, this one included.
    pub players: usize,
    /// Playout delay: the time by which remote cubes are shown behind the server's clock.
    pub playout_delay: Duration,
    /// Time by which a sample of the own cubes is taken before its tick.
    pub lead: Duration,
    /// Samples that reached the server after their tick, by its last report.
    pub late_samples: u64,
    /// Ticks of this session that arrived after they were shown.
    pub late_ticks: u64,
    /// Ticks of this session that the server left out, because the client read too slowly or the room
    /// went on at another server. A tick without updates is not one of them.
    pub missing_ticks: u64,
    /// Datagrams received.
    pub datagrams_in: u64,
    /// Datagrams sent.
    pub datagrams_out: u64,
    /// Snapshots that a datagram has brought before the stream.
    pub snapshots_by_datagram: u64,
    /// Snapshots that the stream has brought first.
    pub snapshots_by_stream: u64,
    /// Share of the server's datagrams that were lost lately, in 1/255; `None` when none has come in
    /// this session.
    pub datagram_loss: Option<u8>,
}

impl Statistics {
    /// Adds what a session counted.
    pub(crate) fn add(&mut self, session: &Self) {
        self.frames_in += session.frames_in;
        self.frames_out += session.frames_out;
        self.updates_in += session.updates_in;
        self.updates_out += session.updates_out;
        self.late_samples += session.late_samples;
        self.datagrams_in += session.datagrams_in;
        self.datagrams_out += session.datagrams_out;
        self.snapshots_by_datagram += session.snapshots_by_datagram;
        self.snapshots_by_stream += session.snapshots_by_stream;
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
