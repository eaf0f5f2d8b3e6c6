//! A client for a game or a bot: socket, session, snapshot buffer and reconnect behind one type.

use std::collections::VecDeque;
use std::time::Duration;

use cubesync_protocol::{Colour, CubeId, CubeInfo, CubeKind, CubePose, Pose, Welcome};

/// Where to connect and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientOptions {
    /// The server's `host:port`; the host is a name or an address.
    pub server: String,
    /// The room to join.
    pub room: String,
    /// The player's name; the server may add a number to it.
    pub name: String,
    /// The colour of the player's cube.
    pub colour: Colour,
    /// The server's join key, where it asks for one.
    pub join_key: Option<String>,
}

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
    /// The client is in the room: at first, and again after each reconnect. Cubes known before
    /// are forgotten; the own cube has a new id and starts at the welcome's pose.
    Joined(Welcome),
    /// Somebody else's cube came into the room. Not told for the cubes that were there before.
    CubeJoined(CubeInfo),
    /// A cube left the room; it is as it was last.
    CubeLeft(CubeInfo),
    /// A free cube was taken.
    CubeTaken {
        /// The free cube.
        cube: CubeId,
        /// Its holder's own cube.
        by: CubeId,
    },
    /// A held cube was let go.
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
    /// The connection is gone; [`Client::status`] says what follows.
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
    /// Poses of cubes received, one per cube and snapshot.
    pub updates_in: u64,
    /// Poses of cubes sent.
    pub updates_out: u64,
    /// Players in the room, this one included.
    pub players: usize,
    /// How far behind the server's clock remote cubes are shown.
    pub playout_delay: Duration,
}

/// A client of one server, connected or about to be.
///
/// Times are since an epoch of the caller's choice and must not go backwards.
#[derive(Debug)]
pub struct Client {
    options: ClientOptions,
    events: VecDeque<ClientEvent>,
    statistics: Statistics,
    status: Status,
}

impl Client {
    /// A client that starts connecting at its first poll. `seed` varies the waits between tries,
    /// so that many clients do not come back in the same moment.
    pub fn new(options: ClientOptions, _seed: u64) -> Self {
        Self {
            options,
            events: VecDeque::new(),
            statistics: Statistics::default(),
            status: Status::Connecting,
        }
    }

    /// What the client was made with.
    pub fn options(&self) -> &ClientOptions {
        &self.options
    }

    /// Reads what has come, sends what is due. Call it once a frame; it never blocks.
    pub fn poll(&mut self, _now: Duration) {}

    /// The next thing that happened; ask after each poll until there is none.
    pub fn next_event(&mut self) -> Option<ClientEvent> {
        self.events.pop_front()
    }

    /// How far the client is, as of the last poll.
    pub fn status(&self) -> Status {
        self.status.clone()
    }

    /// The own cube, while joined.
    pub fn own_cube(&self) -> Option<CubeId> {
        self.welcome().map(|welcome| welcome.cube)
    }

    /// What the server said at the join, while joined.
    pub fn welcome(&self) -> Option<&Welcome> {
        None
    }

    /// Puts the own cube or a held one somewhere; any other cube stays where it is. It is shown
    /// there at once and sent with the next sample, at most once a tick.
    pub fn set_pose(&mut self, _cube: CubeId, _pose: Pose) {}

    /// Asks to hold a free cube; [`ClientEvent::CubeTaken`] or [`ClientEvent::Refused`] answers.
    pub fn take(&mut self, _cube: CubeId) {}

    /// Lets go of a held cube where [`set_pose`](Self::set_pose) put it last.
    pub fn release(&mut self, _cube: CubeId) {}

    /// Every cube as it is to be drawn now, by rising id.
    pub fn cubes(&self, _now: Duration) -> Vec<CubeView<'_>> {
        Vec::new()
    }

    /// What the connection did so far.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// Leaves for good; flushes what it can without blocking.
    pub fn close(&mut self) {}
}
