//! The messages between the servers that have a room: between its owner and an edge over their
//! [link](crate::link), and what begins a link and announces an owner.
//!
//! The bus is open to whoever has its password, so everything is checked and bounded like the bytes
//! of a stranger.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use cubesync_protocol::datagram::Uplink;
use cubesync_protocol::limits::{
    FRAME_HEADER_BYTES, MAX_CELLS, MAX_SERVER_PAYLOAD_BYTES, MAX_TICK,
};
use cubesync_protocol::{
    CellId, ClientMessage, Colour, DecodeError, Pose, ServerMessage, append_peer, clean_name,
    decode_peer,
};
use cubesync_relay::ending::Ending;
use cubesync_relay::label::Label;
use cubesync_relay::room;
use cubesync_relay::room::TokenDigest;
use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};

use crate::bounded::list;
use crate::bus::ServerId;
use crate::cluster::Rules;
use crate::link::{LinkId, Packet, Payload};
use crate::roster::RosterUpdate;

/// The maximum number of frames that a tick has for an edge: for each cell and rate one that it is
/// out of sight, a keyframe and a snapshot.
const MAX_FRAMES_PER_TICK: usize = 6 * MAX_CELLS;

/// The maximum number of messages of players, or for them, in one message: an edge sends what has
/// come since its last one, and both sides may use several.
pub const MAX_BATCH: usize = 8_192;

/// The maximum number of tokens with which a player enters: the newest, and the one before it.
const MAX_TOKENS: usize = 2;

/// The first byte of [`Attach`], [`Announcement`] and [`Down::Tick`], which no other message has.
const ATTACH_TAG: u8 = 0xA0;
const ANNOUNCEMENT_TAG: u8 = 0xA1;
const TICK_TAG: u8 = 0xFF;

/// The length of a tick's number in bytes.
const TICK_BYTES: usize = 6;

/// A payload on one of a room's topics.
#[derive(Debug, Clone)]
pub enum Envelope {
    /// A request to begin a link.
    Attach(Attach),
    /// A packet of a link.
    Packet(Packet),
    /// News of the owner.
    Announcement(Announcement),
}

impl Envelope {
    /// Decodes a payload.
    ///
    /// # Errors
    /// Returns an error if it is none of them.
    pub fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        match payload.first() {
            Some(&ATTACH_TAG) => Ok(Self::Attach(decode_peer(&payload[1..])?)),
            Some(&ANNOUNCEMENT_TAG) => Ok(Self::Announcement(Announcement::decode(&payload)?)),
            _ => Ok(Self::Packet(Packet::read(payload)?)),
        }
    }
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

impl Attach {
    /// Encodes the request.
    pub fn encode(&self) -> Bytes {
        tagged(ATTACH_TAG, self)
    }
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

impl Announcement {
    /// Encodes the announcement.
    pub fn encode(&self) -> Bytes {
        tagged(ANNOUNCEMENT_TAG, self)
    }

    /// Decodes an announcement.
    ///
    /// # Errors
    /// Returns an error if the payload is none.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        match payload.split_first() {
            Some((&ANNOUNCEMENT_TAG, announcement)) => decode_peer(announcement),
            _ => Err(malformed("an announcement")),
        }
    }
}

/// A player's number at their edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PlayerId(pub u64);

/// A message from the owner to an edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Down {
    /// The first message: the link has begun.
    Attached(Attached),
    /// Messages for players at the edge.
    ForPlayers(#[serde(deserialize_with = "list::<_, _, MAX_BATCH>")] Vec<(PlayerId, ForPlayer)>),
    /// A change of the roster.
    Roster(RosterUpdate),
    /// The owner has released the lease, and the link ends.
    HandOver {
        /// The edge that should acquire it.
        successor: Option<ServerId>,
    },
    /// A tick. Its bytes are not serde's: see [`TickFrames`].
    #[serde(skip)]
    Tick(TickFrames),
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

/// What a tick has for an edge. On the wire it is the tick's number (6 bytes), the near frames, and, if
/// there are far ones, an empty frame and the far frames.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TickFrames {
    /// The tick.
    pub tick: u64,
    /// The frames of cells with every tick, as players get them, with their lengths in front.
    pub near: Vec<Bytes>,
    /// The frames of cells with one tick of several.
    pub far: Vec<Bytes>,
}

/// A message for a player.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ForPlayer {
    /// A message to their client.
    Message(ServerMessage),
    /// The player has left the room, or could not enter it.
    Ended(#[serde(with = "ending")] Ending),
}

/// A message from an edge to the owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Up {
    /// The cells that the edge's players see: in the first list those of which they need every tick. A
    /// cell may be in both.
    View {
        /// Cells with every tick.
        #[serde(deserialize_with = "list::<_, _, MAX_CELLS>")]
        near: Vec<CellId>,
        /// Cells with one tick of several.
        #[serde(deserialize_with = "list::<_, _, MAX_CELLS>")]
        far: Vec<CellId>,
    },
    /// A player comes in, or back after the room's owner has changed.
    Enter(PlayerId, Entrance),
    /// Messages of players.
    FromPlayers(#[serde(deserialize_with = "list::<_, _, MAX_BATCH>")] Vec<(PlayerId, FromPlayer)>),
    /// A player's connection has ended.
    Left(PlayerId, #[serde(with = "ending")] Ending),
}

/// A player who comes in at an edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entrance {
    /// The player's name, which is clean.
    pub name: String,
    /// The colour of their cube.
    pub colour: Colour,
    /// Whether their cube may go anywhere at once.
    pub is_unlimited: bool,
    /// The digests of the tokens with which they come back, the newest first.
    #[serde(deserialize_with = "list::<_, _, MAX_TOKENS>")]
    pub tokens: Vec<TokenDigest>,
    /// The digest of the token with which they may come back from now on. The edge has drawn it.
    pub next_token: TokenDigest,
    /// Where their cube was.
    pub pose: Option<Pose>,
    /// Whether they have been connected all the time, and only the owner is another one.
    pub goes_on: bool,
}

/// What a player has sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromPlayer {
    /// A message of their stream.
    Message(ClientMessage),
    /// A datagram.
    Datagram(Uplink),
}

impl From<room::ForPlayer> for ForPlayer {
    fn from(word: room::ForPlayer) -> Self {
        match word {
            room::ForPlayer::Message(message) => Self::Message(message),
            room::ForPlayer::Ended(ending) => Self::Ended(ending),
        }
    }
}

impl Down {
    /// Decodes a message.
    ///
    /// # Errors
    /// Returns an error if the payload is none.
    pub fn decode(payload: &Bytes) -> Result<Self, DecodeError> {
        if payload.first() == Some(&TICK_TAG) {
            return Ok(Self::Tick(TickFrames::read(payload.slice(1..))?));
        }
        match decode_peer(payload)? {
            Self::Attached(attached) if attached.tick > MAX_TICK => Err(malformed("a tick")),
            down => Ok(down),
        }
    }
}

impl Payload for Down {
    fn write(&self, buffer: &mut BytesMut) {
        match self {
            Self::Tick(frames) => frames.write(buffer),
            down => append_peer(down, buffer),
        }
    }
}

impl TickFrames {
    fn write(&self, buffer: &mut BytesMut) {
        let frames = || self.near.iter().chain(&self.far);
        let bytes: usize = frames().map(Bytes::len).sum();
        buffer.reserve(1 + TICK_BYTES + bytes + FRAME_HEADER_BYTES);
        buffer.put_u8(TICK_TAG);
        buffer.put_uint_le(self.tick, TICK_BYTES);
        self.near.iter().for_each(|frame| buffer.put_slice(frame));
        if !self.far.is_empty() {
            buffer.put_bytes(0, FRAME_HEADER_BYTES);
            self.far.iter().for_each(|frame| buffer.put_slice(frame));
        }
    }

    fn read(mut payload: Bytes) -> Result<Self, DecodeError> {
        if payload.len() < TICK_BYTES {
            return Err(DecodeError::Truncated);
        }
        let mut read = Self {
            tick: payload.get_uint_le(TICK_BYTES),
            ..Self::default()
        };
        let mut is_far = false;
        while let Some(header) = payload.first_chunk::<FRAME_HEADER_BYTES>() {
            let len_bytes = u32::from_be_bytes(*header) as usize;
            let frames = if is_far {
                &mut read.far
            } else {
                &mut read.near
            };
            if len_bytes == 0 && !is_far && payload.len() > FRAME_HEADER_BYTES {
                is_far = true;
                payload.advance(FRAME_HEADER_BYTES);
            } else if len_bytes == 0 {
                return Err(malformed("an empty frame"));
            } else if len_bytes > MAX_SERVER_PAYLOAD_BYTES || frames.len() >= MAX_FRAMES_PER_TICK {
                return Err(DecodeError::TooLarge);
            } else if payload.len() < FRAME_HEADER_BYTES + len_bytes {
                return Err(DecodeError::Truncated);
            } else {
                frames.push(payload.split_to(FRAME_HEADER_BYTES + len_bytes));
            }
        }
        match payload.is_empty() {
            true => Ok(read),
            false => Err(DecodeError::Truncated),
        }
    }
}

impl Up {
    /// Decodes a message.
    ///
    /// # Errors
    /// Returns an error if the payload is none.
    pub fn decode(payload: &Bytes) -> Result<Self, DecodeError> {
        let up = decode_peer(payload)?;
        if let Self::Enter(_, entrance) = &up {
            let is_clean = clean_name(&entrance.name) == Ok(&entrance.name);
            let pose = entrance.pose.unwrap_or_default();
            if !is_clean || !pose.position.is_in_bounds() {
                return Err(malformed("an entrance"));
            }
        }
        Ok(up)
    }
}

impl Payload for Up {
    fn write(&self, buffer: &mut BytesMut) {
        append_peer(self, buffer);
    }
}

fn tagged(tag: u8, message: &impl Serialize) -> Bytes {
    let mut buffer = BytesMut::from(&[tag][..]);
    append_peer(message, &mut buffer);
    buffer.freeze()
}

fn malformed(what: &str) -> DecodeError {
    DecodeError::Malformed(format!("{what} that no server sends"))
}

/// An ending as its label, which is the same in all versions of the program.
mod ending {
    use super::*;

    pub(super) fn serialize<S: serde::Serializer>(
        ending: &Ending,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(ending.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Ending, D::Error> {
        let label = String::deserialize(deserializer)?;
        let ending = Ending::ALL.iter().find(|ending| ending.as_str() == label);
        ending
            .copied()
            .ok_or_else(|| D::Error::custom("an unknown ending"))
    }
}

#[cfg(test)]
mod tests;
