//! Every message of the protocol, in the order of a conversation.
//!
//! The variants' order is their number on the wire. `Hello` up to its version, and `Reject`,
//! keep their bytes in every version, so that two programs of different ages can tell each
//! other what is wrong.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::byte_array::byte_array;
use crate::cube::{CellId, Colour, CubeId, CubePose, Width};
use crate::limits::{MAGIC, PROTOCOL_VERSION};
use crate::motion::{MotionSet, MotionState};
use crate::quantize::Pose;

/// A message from a client to the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientMessage {
    /// The first message of a connection, and only the first. Answered by
    /// [`ServerMessage::Welcome`] or [`ServerMessage::Reject`].
    Hello(Hello),
    /// The poses of the cubes that this client controls, its own and the one it holds, at the
    /// instant of a tick. A client sends it so that it arrives just before that tick, at most once
    /// a tick: when one of the cubes is not as predicted, and as a heartbeat every
    /// [`MOVING_HEARTBEAT_INTERVAL`](crate::limits::MOVING_HEARTBEAT_INTERVAL) while one moves.
    ///
    /// Client and server hold the same [`MotionSet`] for it, empty at the `Welcome`. Both advance
    /// it to the tick, insert the placed cubes, then apply the residuals; see
    /// [`uplink`](crate::uplink).
    Sample {
        /// The tick; each sample's is later than the one before.
        tick: u64,
        /// Cubes that are sent for the first time since they are this client's: from here on they
        /// are in the set, at rest. [`Release`](Self::Release) takes one out. The set holds at most
        /// [`MAX_CUBES_PER_SAMPLE`](crate::limits::MAX_CUBES_PER_SAMPLE).
        placed: Vec<CubePose>,
        /// The residuals of the cubes that are not as predicted, encoded by
        /// [`Codec::LIVE`](crate::motion::Codec::LIVE). Empty when there is none.
        residuals: Bytes,
    },
    /// Asks to hold a free cube. [`Event::Taken`] tells the outcome to everybody who sees the cube; a
    /// client that came too late also gets [`ServerMessage::Refused`].
    Take {
        /// The free cube.
        cube: CubeId,
    },
    /// Lets go of a held cube. It stays where its last sample put it or, in a room with
    /// [`physics`](Welcome::physics), goes on from there with the velocity that it has.
    Release {
        /// The held cube.
        cube: CubeId,
    },
    /// Asks for a [`ServerMessage::Pong`], which measures the round trip and the server's clock,
    /// and shows that the client lives. A client sends one at least every
    /// [`PING_INTERVAL`](crate::limits::PING_INTERVAL).
    Ping {
        /// The client's own clock, in microseconds; comes back unread.
        sent_us: u64,
    },
    /// Leaves for good: the cube goes at once. A client that only closes its connection leaves a
    /// ghost for a while.
    Leave,
    /// Asks for a way for [`datagram`](crate::datagram)s beside this connection, at most once in a
    /// session. Answered by [`ServerMessage::Datagrams`].
    OpenDatagrams(DatagramRequest),
    /// The answer to a second [`ServerMessage::Welcome`], at once. What follows it belongs to the new
    /// session of the room: the set of the samples is empty, and all cubes are placed again. The server
    /// drops samples, takes, releases and datagrams that come between that `Welcome` and its answer. A
    /// client that sends it unasked loses its connection.
    Continue {
        /// The client's count of releases from here on: one more than before, so that datagrams from
        /// before do not count. See [`Uplink::releases`](crate::datagram::Uplink::releases).
        releases: u32,
    },
}

/// The way for datagrams that a client asks for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DatagramRequest {
    /// Encrypted datagrams over UDP.
    Udp,
    /// A WebRTC data channel, unordered and without retransmissions.
    WebRtc {
        /// The client's offer: a session description (SDP) of at most
        /// [`MAX_SESSION_DESCRIPTION_BYTES`](crate::limits::MAX_SESSION_DESCRIPTION_BYTES).
        offer: String,
    },
}

impl std::fmt::Debug for DatagramRequest {
    /// Prints everything but the offer, which is long and holds a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Udp => "Udp",
            Self::WebRtc { .. } => "WebRtc(..)",
        })
    }
}

/// The first message of a client.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Always [`MAGIC`].
    pub magic: [u8; 4],
    /// The version the client speaks: [`PROTOCOL_VERSION`].
    pub version: u16,
    /// The room to join; the server makes it if it does not exist. See [`clean_room`](crate::clean_room).
    pub room: String,
    /// The player's name. See [`clean_name`](crate::clean_name).
    pub name: String,
    /// The colour of the player's cube.
    pub colour: Colour,
    /// The server's join key, where it asks for one.
    pub join_key: Option<String>,
    /// The token of the last [`Welcome`] in this room, to get the same cube back. One that has
    /// expired or was used is ignored.
    pub resume: Option<ResumeToken>,
    /// The last pose of the player's cube. Only a room that has just been opened and does not
    /// know the token uses it, so that after a restart everybody goes on where they were.
    pub pose: Option<Pose>,
    /// How the client wants to be told where cubes are.
    pub encoding: Encoding,
}

/// How a server tells a client where cubes are, and the client the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Encoding {
    /// By [`Keyframe`]s and [`Snapshot`]s: both ends predict, and only residuals are sent.
    #[default]
    Predicted,
    /// By [`PlainSnapshot`]s: the poses of the cubes that have moved. A sample of such a client has poses alone, in
    /// `placed`; a cube stays where the last one put it. The ticks of samples need not rise, and tick 0 stands for
    /// the next one. Everything else is the same.
    Plain,
}

/// A secret that shows that a new connection belongs to the player of an earlier one. It is random,
/// so that nobody can guess it, good for one use, and kept out of logs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ResumeToken(#[serde(deserialize_with = "byte_array")] pub [u8; 16]);

impl std::fmt::Debug for ResumeToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResumeToken(..)")
    }
}

impl std::fmt::Debug for Hello {
    /// Prints everything but the join key and the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hello")
            .field("version", &self.version)
            .field("room", &self.room)
            .field("name", &self.name)
            .field("has_key", &self.join_key.is_some())
            .field("resume", &self.resume)
            .finish_non_exhaustive()
    }
}

impl Hello {
    /// Returns a `Hello` of this version, without a join key or a token.
    pub fn new(room: impl Into<String>, name: impl Into<String>, colour: Colour) -> Self {
        Self {
            magic: MAGIC,
            version: PROTOCOL_VERSION,
            room: room.into(),
            name: name.into(),
            colour,
            join_key: None,
            resume: None,
            pose: None,
            encoding: Encoding::Predicted,
        }
    }
}

/// A message from the server to a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerMessage {
    /// The handshake succeeded. It is then always the first message, and a keyframe follows.
    ///
    /// It comes again when the room goes on at another server, from which this connection's server gets
    /// it. The tick is later than all before, the own cube may have another id, and keyframes of
    /// everything in sight follow. The client answers [`ClientMessage::Continue`].
    Welcome(Welcome),
    /// The handshake failed; the connection closes after it.
    Reject {
        /// The reason for programs.
        code: RejectCode,
        /// The reason for people: a sentence to show as it is.
        message: String,
    },
    /// Everything in a cell at a tick. The server sends it when the cell comes into sight, when its
    /// interval changes, and instead of the snapshots that a slow connection missed. The first ones
    /// follow the `Welcome`, in one go.
    Keyframe(Keyframe),
    /// The events and residuals of one cell in one tick. If there are none, there is no snapshot.
    Snapshot(Snapshot),
    /// Everything has gone on as predicted up to this tick. The server sends it when it has sent
    /// nothing else for [`HEARTBEAT_INTERVAL`](crate::limits::HEARTBEAT_INTERVAL), or for
    /// [`MOVING_HEARTBEAT_INTERVAL`](crate::limits::MOVING_HEARTBEAT_INTERVAL) while a cube moves.
    Heartbeat {
        /// The tick.
        tick: u64,
    },
    /// These cells are out of sight now: their streams end.
    OutOfSight {
        /// The cells.
        cells: Vec<CellId>,
    },
    /// The answer to [`ClientMessage::Ping`], sent at once.
    Pong {
        /// The ping's `sent_us`.
        sent_us: u64,
        /// The tick the room is in.
        tick: u64,
        /// Microseconds since that tick began.
        since_tick_us: u32,
        /// The number of this client's samples that have come after their tick so far. If it grows,
        /// the client should send a little earlier.
        late_samples: u32,
    },
    /// The server did not accept a sample of a cube (too fast, or not this client's cube). The client goes on
    /// from this pose. It ignores corrections of samples that it took before it obeyed an earlier one.
    Correction {
        /// The tick at which the newest refused sample counted: its own, but for one that came more than a
        /// second early.
        tick: u64,
        /// Where the cube really is.
        corrected: CubePose,
    },
    /// The answer to a [`ClientMessage::Take`] that came too late or named no free cube.
    Refused {
        /// The cube that was asked for.
        cube: CubeId,
        /// The own cube of its holder, if it is held.
        holder: Option<CubeId>,
    },
    /// The server ends the connection; nothing follows.
    Closing {
        /// The reason for programs.
        code: CloseCode,
        /// The reason for people: a sentence to show as it is.
        message: String,
        /// When to come back, in milliseconds from now. Without it, a client does not come back by
        /// itself.
        retry_after_ms: Option<u32>,
    },
    /// The answer to [`ClientMessage::OpenDatagrams`].
    Datagrams(DatagramAnswer),
    /// The changes of one cell in one tick, for a client that asked for [`Encoding::Plain`], instead of keyframes and
    /// snapshots. If there are none, there is none.
    PlainSnapshot(PlainSnapshot),
}

/// The way for datagrams that the server offers.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DatagramAnswer {
    /// There is none, or none at the moment: everything goes over the stream.
    Unavailable,
    /// Encrypted datagrams over UDP.
    Udp {
        /// The server's port, at the host of this connection; 0: the connection's own port.
        port: u16,
        /// The name of the path, in front of each of the client's datagrams.
        path: PathId,
        /// The key of both directions.
        key: DatagramKey,
    },
    /// A WebRTC data channel.
    WebRtc {
        /// The server's answer: a session description (SDP) of at most
        /// [`MAX_SESSION_DESCRIPTION_BYTES`](crate::limits::MAX_SESSION_DESCRIPTION_BYTES).
        answer: String,
    },
}

impl std::fmt::Debug for DatagramAnswer {
    /// Prints everything but the key and the description.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unavailable => f.write_str("Unavailable"),
            Self::Udp { port, path, .. } => f
                .debug_struct("Udp")
                .field("port", port)
                .field("path", path)
                .finish_non_exhaustive(),
            Self::WebRtc { .. } => f.write_str("WebRtc(..)"),
        }
    }
}

/// The name of a path for datagrams: a random number, by which the server finds the player.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PathId(pub u64);

/// The key of a path for datagrams. It is good for one session and kept out of logs and recordings.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatagramKey(#[serde(deserialize_with = "byte_array")] pub [u8; 32]);

impl std::fmt::Debug for DatagramKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DatagramKey(..)")
    }
}

/// Everything that a client needs to take part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version spoken from here on.
    pub version: u16,
    /// The room, its name cleaned.
    pub room: String,
    /// The player's name, cleaned; a number tells it from an equal one.
    pub name: String,
    /// The client's own cube.
    pub cube: CubeId,
    /// The pose that the cube starts at; its last one, if it was resumed.
    pub pose: Pose,
    /// Ticks per second, 1 ..= 128.
    pub tick_hz: u8,
    /// The tick the room is in. In a second welcome it is later than that of any message before.
    pub tick: u64,
    /// Microseconds since that tick began.
    pub since_tick_us: u32,
    /// Top speed of a cube, in quanta per second; faster samples are corrected. 0: unlimited.
    pub max_speed: u32,
    /// Whether free cubes fall, roll and give way by themselves, as soon as nobody holds them.
    pub physics: bool,
    /// For the next `Hello` in this room, should this connection break.
    pub resume: ResumeToken,
    /// Other servers of the same rooms, should this one be gone then; best first. At most
    /// [`MAX_SERVERS`](crate::limits::MAX_SERVERS), empty where a server is alone.
    pub servers: Vec<ServerAddress>,
}

/// The addresses of one more server of the same rooms. It speaks TLS if this one does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerAddress {
    /// `host:port` for TCP. At most
    /// [`MAX_ADDRESS_CHARS`](crate::limits::MAX_ADDRESS_CHARS), like the other one.
    pub tcp: String,
    /// `host:port` for pages and WebSockets.
    pub web: String,
}

/// Every cube of a cell at the end of a tick. It replaces what a receiver knew of the cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyframe {
    /// The cell.
    pub cell: CellId,
    /// The interval of the cell's snapshots from now on: 1, or
    /// [`FAR_INTERVAL_TICKS`](crate::limits::FAR_INTERVAL_TICKS) if the cell is far.
    pub interval_ticks: u8,
    /// The tick.
    pub tick: u64,
    /// All cubes of the cell by rising id.
    pub cubes: Vec<CubeInfo>,
}

/// Everything that a receiver knows about a cube.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CubeInfo {
    /// The cube.
    pub cube: CubeId,
    /// Whether it is a player's, a ghost or a free one.
    pub kind: CubeKind,
    /// The text above it; empty for a loose cube.
    pub name: String,
    /// Its colour.
    pub colour: Colour,
    /// Its edge length.
    pub width: Width,
    /// Its predicted state, by [`Codec::LIVE`](crate::motion::Codec::LIVE).
    pub motion: MotionState,
}

impl CubeInfo {
    /// Returns the own cube of the player who holds this one.
    pub fn holder(&self) -> Option<CubeId> {
        match self.kind {
            CubeKind::Free { holder } => holder,
            CubeKind::Player | CubeKind::Ghost => None,
        }
    }
}

/// The kind of a cube, which says who may move it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CubeKind {
    /// A player's own cube: only that player moves it.
    Player,
    /// A free cube: only its holder, who is named by their own cube, moves it.
    Free {
        /// The holder; `None` while nobody holds it.
        holder: Option<CubeId>,
    },
    /// The cube of a player whose connection is lost: nobody moves it until they come back.
    Ghost,
}

/// The changes of a cell in one tick.
///
/// A receiver advances its [`MotionSet`] of the cell to this tick, applies the events in order
/// ([`Event::apply_to`]), then decodes the residuals.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// The cell.
    pub cell: CellId,
    /// The tick.
    pub tick: u64,
    /// Joins, leaves and changes of authority in the order in which they happened, at most one of a cube: the
    /// outcome of the tick. A cube that moves may have an `Exited` or `Entered` and a `Placed` besides.
    pub events: Vec<Event>,
    /// The residuals of the cubes that are not as predicted, encoded by
    /// [`Codec::LIVE`](crate::motion::Codec::LIVE). Empty when there is none.
    pub residuals: Bytes,
}

/// The changes of a cell in one tick, without predictions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PlainSnapshot {
    /// The cell.
    pub cell: CellId,
    /// The tick.
    pub tick: u64,
    /// Whether `cubes` are all cubes of the cell, and replace what was known of it.
    pub is_whole: bool,
    /// The cubes that are new in the cell, or have changed otherwise than by moving, by rising id. A cube is in
    /// the cell that named it last.
    pub cubes: Vec<PlainCube>,
    /// The cubes that are no longer in the cell, by rising id.
    pub gone: Vec<CubeId>,
    /// The other cubes that have moved, by rising id.
    pub moved: Vec<CubePose>,
}

/// Everything that a receiver without predictions knows about a cube.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlainCube {
    /// The cube.
    pub cube: CubeId,
    /// Whether it is a player's, a ghost or a free one.
    pub kind: CubeKind,
    /// The text above it; empty for a loose cube.
    pub name: String,
    /// Its colour.
    pub colour: Colour,
    /// Its edge length.
    pub width: Width,
    /// Where it is.
    pub pose: Pose,
}

/// Something that happened to a cube of a cell besides moving. Each is sent once at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A cube came into the room, and is in this cell.
    Joined(CubeInfo),
    /// A cube left the room. What it held has a `Freed`, or a `Taken` by somebody else, in the same tick.
    Left {
        /// The cube.
        cube: CubeId,
    },
    /// A cube came from another cell.
    Entered(CubeInfo),
    /// A cube went to another cell. If that one is in sight, its `Entered` comes in the same tick,
    /// in any order, or up to [`FAR_INTERVAL_TICKS`](crate::limits::FAR_INTERVAL_TICKS) later when
    /// the cell is far; else the cube is out of sight.
    Exited {
        /// The cube.
        cube: CubeId,
    },
    /// A free cube was taken, perhaps from one who let it go in the same tick.
    Taken {
        /// The free cube.
        cube: CubeId,
        /// The holder's own cube.
        by: CubeId,
    },
    /// A held cube was let go.
    Freed {
        /// The free cube.
        cube: CubeId,
    },
    /// A player's connection was lost. Their cube stays as a ghost until `Returned` or `Left`.
    /// What they held has a `Freed`, or a `Taken` by somebody else, in the same tick.
    Ghost {
        /// The player's cube.
        cube: CubeId,
    },
    /// The player of a ghost is back.
    Returned {
        /// The player's cube.
        cube: CubeId,
    },
    /// A cube moves otherwise than predicted, and a residual cannot express how: its player's
    /// sample came late, or is the first one. From here on this is its predicted state.
    Placed {
        /// The cube.
        cube: CubeId,
        /// The predicted state.
        motion: MotionState,
    },
}

impl Event {
    /// Returns the cube that it happened to.
    pub fn cube(&self) -> CubeId {
        match self {
            Self::Joined(info) | Self::Entered(info) => info.cube,
            Self::Left { cube }
            | Self::Exited { cube }
            | Self::Taken { cube, .. }
            | Self::Freed { cube }
            | Self::Ghost { cube }
            | Self::Returned { cube }
            | Self::Placed { cube, .. } => *cube,
        }
    }

    /// Changes the motion of the cell in which it happened. Publisher and receivers call this
    /// after they have advanced the set to the tick, and before the tick's residuals.
    pub fn apply_to(&self, cell: &mut MotionSet) {
        match self {
            Self::Joined(info) | Self::Entered(info) => {
                cell.insert(info.cube, info.motion);
            }
            Self::Left { cube } | Self::Exited { cube } => {
                cell.remove(*cube);
            }
            Self::Placed { cube, motion } => {
                if cell.get(*cube).is_some() {
                    cell.insert(*cube, *motion);
                }
            }
            // These change who may move a cube, not where it is.
            Self::Taken { .. }
            | Self::Freed { .. }
            | Self::Ghost { .. }
            | Self::Returned { .. } => {}
        }
    }
}

/// Why a handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RejectCode {
    /// The first message was no `Hello` of this protocol, or did not come in time. A client that did
    /// send one was slow, and may be faster another time.
    NotHello,
    /// The version is not served; the message says which are.
    Version,
    /// The name or the room's name cannot be used.
    Name,
    /// The join key is missing or wrong, or the address is banned.
    JoinKey,
    /// The server or the room is full; another try may succeed later.
    Full,
    /// The server is about to stop; another try may succeed soon.
    ShuttingDown,
}

impl RejectCode {
    /// Whether the same `Hello` may succeed later.
    pub fn is_temporary(self) -> bool {
        matches!(self, Self::NotHello | Self::Full | Self::ShuttingDown)
    }
}

/// Why the server ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CloseCode {
    /// The server stops, perhaps to start again.
    ShuttingDown,
    /// The client sent something that is no message of this protocol.
    BadMessage,
    /// The client sent more messages than the limit allows.
    TooManyMessages,
    /// The client was silent too long.
    Silent,
    /// The client did not read what it was sent.
    SlowReader,
    /// Another connection showed this one's resume token and has its cube now.
    Replaced,
    /// The server's operator has removed the player. The token is void, and the player may join again.
    Kicked,
    /// The server's operator has banned the player's address.
    Banned,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        let hello = Hello {
            join_key: Some("open sesame".into()),
            resume: Some(ResumeToken([77; 16])),
            ..Hello::new("lobby", "Anna", Colour::from([1, 2, 3]))
        };
        let printed = format!("{hello:?}");
        assert!(printed.contains("Anna") && printed.contains("has_key: true"));
        assert!(
            !printed.contains("sesame") && !printed.contains("77"),
            "{printed}"
        );
        let answer = DatagramAnswer::Udp {
            port: 14_900,
            path: PathId(5),
            key: DatagramKey([77; 32]),
        };
        let printed = format!("{answer:?}");
        assert!(
            printed.contains("14900") && !printed.contains("77"),
            "{printed}"
        );
    }
}
