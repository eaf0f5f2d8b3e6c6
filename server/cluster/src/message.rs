//! The messages between the servers that have a room: between its owner and an edge over their
//! [link](crate::link), and what begins a link and announces an owner.
//!
//! The bus is open to whoever has its password, so everything is checked and bounded like the bytes
//! of a stranger.

use bytes::{Bytes, BytesMut};
use cubesync_protocol::datagram::Uplink;
use cubesync_protocol::limits::{FRAME_HEADER_BYTES, MAX_CELLS, MAX_TICK};
use cubesync_protocol::{
    CellId, ClientMessage, DecodeError, append_peer, clean_name, decode_peer, encode_peer,
};
use cubesync_relay::ending::Ending;
use cubesync_relay::room::{ForPlayer, RemoteEntrance};
use serde::{Deserialize, Serialize};

use crate::bus::ServerId;
use crate::cluster::Rules;
use crate::link::{LinkId, Packet, Payload};
use crate::roster::RosterUpdate;

/// The maximum length of an edge's message in bytes. In memory it takes up to sixty times as much.
const MAX_UP_BYTES: usize = 256 * 1024;

/// The number of players' messages, or of players who enter, that an edge puts into one of its own at
/// most: together they fit `MAX_UP_BYTES`, however long each is.
pub const MAX_BATCH: usize = 60;

/// The last tick that an owner may have. The next owner goes on after it, and clients know half as many
/// more.
const LAST_TICK: u64 = MAX_TICK / 2;

/// The maximum time since an owner's tick began: one that stood for longer has lost its lease.
const MAX_SINCE_TICK_US: u32 = 2_000_000;

/// The maximum number of tokens with which a player enters: the newest, and the one before it.
const MAX_TOKENS: usize = 2;

/// A payload on one of a room's topics.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Envelope {
    /// A request to begin a link.
    Attach(Attach),
    /// News of the owner.
    Announcement(Announcement),
    /// A packet of a link. Its bytes are not serde's.
    #[serde(skip)]
    Packet(Packet),
}

/// A request of an edge to the owner to begin a link. The edge repeats it until the link's first
/// message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// The edge.
    pub from: ServerId,
    /// The new link.
    pub link: LinkId,
    /// The edge's rules. An owner with other ones refuses.
    pub rules: Rules,
}

/// News of a room's owner to all servers that have the room: when it has become the owner, and once a
/// second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// The owner.
    pub owner: ServerId,
    /// The term of its lease. A later owner has a higher one.
    pub term: u64,
}

/// A player's number at their edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PlayerId(pub u64);

/// A message from the owner to an edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Down {
    /// A tick.
    Tick(TickFrames),
    /// Messages for players at the edge.
    ForPlayers(Vec<(PlayerId, ForPlayer)>),
    /// A change of the roster.
    Roster(RosterUpdate),
    /// The first message: the link has begun.
    Attached(Attached),
    /// The owner has released the lease, and the link ends.
    HandOver {
        /// The edge that should acquire it.
        successor: Option<ServerId>,
    },
}

/// The answer to [`Attach`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The term of the owner's lease.
    pub term: u64,
    /// The tick that the room is in.
    pub tick: u64,
    /// The microseconds since that tick began.
    pub since_tick_us: u32,
}

/// What a tick has for an edge.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TickFrames {
    /// The tick.
    pub tick: u64,
    /// The frames of cells with every tick, as players get them, with their lengths in front.
    pub near: Vec<Bytes>,
    /// The frames of cells with one tick of several.
    pub far: Vec<Bytes>,
}

/// A message from an edge to the owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Up {
    /// Messages of players.
    FromPlayers(Vec<(PlayerId, FromPlayer)>),
    /// The cells that the edge's players see: in the first list those of which they need every tick. A
    /// cell may be in both.
    View {
        /// Cells with every tick.
        near: Vec<CellId>,
        /// Cells with one tick of several.
        far: Vec<CellId>,
    },
    /// Players come in, or back after the room's owner has changed.
    Enter(Vec<(PlayerId, RemoteEntrance)>),
    /// A player's connection has ended.
    Left(PlayerId, Ending),
}

/// What a player has sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromPlayer {
    /// A message of their stream.
    Message(ClientMessage),
    /// A datagram.
    Datagram(Uplink),
}

impl Envelope {
    /// Encodes a request or an announcement.
    pub fn encode(&self) -> Bytes {
        encode_peer(self)
    }

    /// Decodes a payload.
    ///
    /// # Errors
    /// Returns an error if it is none.
    pub fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        match Packet::is_packet(&payload) {
            true => Ok(Self::Packet(Packet::read(payload)?)),
            false => decode_peer(&payload),
        }
    }
}

impl Down {
    /// Decodes a message.
    ///
    /// # Errors
    /// Returns an error if the payload is none.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let down = decode_peer(payload)?;
        let is_good = match &down {
            Self::Tick(frames) => {
                let mut all = frames.near.iter().chain(&frames.far);
                frames.tick <= LAST_TICK && all.all(is_frame)
            }
            Self::Attached(attached) => {
                attached.tick <= LAST_TICK && attached.since_tick_us <= MAX_SINCE_TICK_US
            }
            Self::ForPlayers(_) | Self::Roster(_) | Self::HandOver { .. } => true,
        };
        good(down, is_good)
    }
}

impl Up {
    /// Decodes a message.
    ///
    /// # Errors
    /// Returns an error if the payload is none.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        if payload.len() > MAX_UP_BYTES {
            return Err(DecodeError::TooLarge);
        }
        let up = decode_peer(payload)?;
        let is_good = match &up {
            Self::Enter(entrances) if entrances.len() > MAX_BATCH => false,
            Self::Enter(entrances) => entrances.iter().all(|(_, entrance)| {
                let pose = entrance.pose.unwrap_or_default();
                clean_name(&entrance.name).as_ref() == Ok(&entrance.name)
                    && entrance.tokens.len() <= MAX_TOKENS
                    && pose.position.is_in_bounds()
            }),
            Self::View { near, far } => near.len().max(far.len()) <= MAX_CELLS,
            Self::FromPlayers(_) | Self::Left(..) => true,
        };
        good(up, is_good)
    }
}

impl Payload for Down {
    fn write(&self, buffer: &mut BytesMut) {
        append_peer(self, buffer);
    }
}

impl Payload for Up {
    fn write(&self, buffer: &mut BytesMut) {
        append_peer(self, buffer);
    }
}

/// Returns whether these bytes can go into a player's stream.
fn is_frame(bytes: &Bytes) -> bool {
    let header = bytes.first_chunk::<FRAME_HEADER_BYTES>();
    header.is_some_and(|header| {
        let len_bytes = u32::from_be_bytes(*header) as usize;
        len_bytes > 0 && bytes.len() == FRAME_HEADER_BYTES + len_bytes
    })
}

fn good<Of>(message: Of, is_good: bool) -> Result<Of, DecodeError> {
    let malformed = || DecodeError::Malformed("what no server sends".into());
    is_good.then_some(message).ok_or_else(malformed)
}

#[cfg(test)]
mod tests;
