//! The messages that the servers of a room send each other.
//!
//! No message is sent again because it was lost: a server that finds something missing asks for it.

use bytes::Bytes;
use cubesync_protocol::{
    CellId, CubeId, DecodeError, Keyframe, Pose, ResumeToken, Snapshot, decode_peer, encode_peer,
};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::bus::ServerId;

/// A part of a resume token's SHA-256. It shows that somebody has the token without revealing it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TokenDigest([u8; 16]);

impl TokenDigest {
    pub(super) fn of(token: ResumeToken) -> Self {
        let mut short = Self([0; 16]);
        let whole = digest(&SHA256, &token.0);
        short.0.copy_from_slice(&whole.as_ref()[..16]);
        short
    }
}

impl std::fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenDigest(..)")
    }
}

/// A server's claim to be the home (the owner) of a cube. Of two claims the greater one holds: firm
/// claims come before others, then later terms before earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Claim {
    /// Whether the claim was made in contact with other servers. Claims made without contact give
    /// way.
    pub(super) is_firm: bool,
    /// Increases whenever the cube gets another owner.
    pub(super) term: u32,
    pub(super) server: ServerId,
}

/// A cube and its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seat {
    pub(super) cube: CubeId,
    pub(super) claim: Claim,
    /// The digest of the token with which its player comes back. The free cube has none.
    pub(super) token: Option<TokenDigest>,
}

/// A message and its sender.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Said {
    pub(super) from: ServerId,
    pub(super) word: Word,
}

/// A message to other servers of the room.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Word {
    /// The changes of the sender's cubes in a cell, and how they deviated from the prediction. In a
    /// room of one cell it is also a beat, and another one follows at the next tick.
    News {
        /// The ticks since the sender's last update of the cell; 0 means that it had no cubes
        /// there.
        since_ticks: u64,
        snapshot: Snapshot,
    },
    /// The end of a tick: the sender has sent all of its updates.
    Beat {
        tick: u64,
        /// The cells that have updates. The updates may come later, since the bus carries different
        /// topics side by side.
        cells: Vec<CellId>,
        /// Whether a beat will follow at the next tick, too.
        is_steady: bool,
        /// A list of everything sent so far, included now and then to find what was lost.
        inventory: Option<Inventory>,
    },
    /// The sender's cubes, or how they have changed.
    Roster {
        version: u64,
        /// The version that this changes. `None` means that the roster is complete.
        changes: Option<u64>,
        seats: Vec<Seat>,
        gone: Vec<CubeId>,
    },
    /// A request for what the receiver should send.
    Ask {
        /// Whether to send the roster.
        roster: bool,
        /// The cells whose whole content to send.
        cells: Vec<CellId>,
    },
    /// All of the sender's cubes in some cells.
    Keyframes(Vec<Told>),
    /// A request of the sender's player to take a free cube of the receiver.
    Take { cube: CubeId, by: CubeId },
    /// The transfer of the sender's free cube to another server, because a player there takes it.
    Given { seat: Seat, by: CubeId, pose: Pose },
    /// The sender's refusal to give a cube away.
    Refused {
        cube: CubeId,
        by: CubeId,
        holder: Option<CubeId>,
    },
    /// A goodbye: the sender leaves the room.
    Bye {
        /// The position of the free cube, if the sender was its owner.
        free_cube: Option<Pose>,
    },
}

/// A list of what a server has sent so far.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Inventory {
    /// The tick rate. Rooms with other rates, or with other cells, are not the same room.
    pub(super) tick_hz: u8,
    pub(super) cell_count: u16,
    pub(super) roster: u64,
    /// The position of the free cube, if the sender owns it. A server that takes it over without
    /// seeing it needs this.
    pub(super) free_cube: Option<Pose>,
    /// The cells that have cubes, and those that had some lately, with the tick of the last update.
    pub(super) cells: Vec<(CellId, u64)>,
}

/// The state of a cell at a tick.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Told {
    /// The tick of the last update; 0 means that there was none.
    pub(super) news: u64,
    pub(super) keyframe: Keyframe,
}

impl Said {
    pub(super) fn to_payload(&self) -> Bytes {
        encode_peer(self)
    }

    pub(super) fn from_payload(payload: &[u8]) -> Result<Self, DecodeError> {
        decode_peer(payload)
    }
}
