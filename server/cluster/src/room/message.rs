//! What the servers of a room tell each other.
//!
//! Nothing here is told twice because it was lost: who finds that something is missing asks.

use bytes::Bytes;
use cubesync_protocol::{
    CellId, CubeId, DecodeError, Keyframe, Pose, ResumeToken, Snapshot, decode_peer, encode_peer,
};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::bus::ServerId;

/// Some of a resume token's SHA-256: shows that somebody has the token, and gives nobody a token.
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

/// Which server is the home of a cube. Of two claims, the greater one holds: a firm one, then the later
/// term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Claim {
    /// Claims by who heard nobody give way.
    pub(super) is_firm: bool,
    /// Rises when a cube comes to another home.
    pub(super) term: u32,
    pub(super) server: ServerId,
}

/// A cube at its home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seat {
    pub(super) cube: CubeId,
    pub(super) claim: Claim,
    /// Of the token with which its player comes back; the free cube has none.
    pub(super) token: Option<TokenDigest>,
}

/// What somebody said, and who.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Said {
    pub(super) from: ServerId,
    pub(super) word: Word,
}

/// What there is to say.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Word {
    /// What happened to the speaker's cubes of a cell, and how they surprised. In a room of one cell it
    /// is a beat, too, and there will be one at the next tick.
    News {
        /// Ticks since the speaker's last news of the cell; 0: it had no cubes.
        since_ticks: u64,
        snapshot: Snapshot,
    },
    /// The speaker has told all of a tick.
    Beat {
        tick: u64,
        /// Of which there are news. They may come later: what is about different topics is carried
        /// side by side.
        cells: Vec<CellId>,
        /// Whether there will be one at the next tick, too.
        is_steady: bool,
        /// Now and then, to find what was lost.
        inventory: Option<Inventory>,
    },
    /// The speaker's cubes, or how they have changed.
    Roster {
        version: u64,
        /// The version that this changes; `None`: it is all of them.
        changes: Option<u64>,
        seats: Vec<Seat>,
        gone: Vec<CubeId>,
    },
    /// What the hearer is to tell the speaker.
    Ask {
        /// Its roster.
        roster: bool,
        /// All that is in these cells.
        cells: Vec<CellId>,
    },
    /// All of the speaker's cubes in some cells.
    Keyframes(Vec<Told>),
    /// A player of the speaker would like to take a free cube of the hearer.
    Take { cube: CubeId, by: CubeId },
    /// The speaker's free cube is another server's from now on, since a player there takes it.
    Given { seat: Seat, by: CubeId, pose: Pose },
    /// The speaker did not give a cube away.
    Refused {
        cube: CubeId,
        by: CubeId,
        holder: Option<CubeId>,
    },
    /// The speaker leaves the room.
    Bye {
        /// Where the free cube lies, if it was at home there.
        free_cube: Option<Pose>,
    },
}

/// What a speaker has told so far.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Inventory {
    /// Rooms of other rates, or with other cells, are not the same.
    pub(super) tick_hz: u8,
    pub(super) cell_count: u16,
    pub(super) roster: u64,
    /// Where the free cube is, if it is at home there: for who takes it over without seeing it.
    pub(super) free_cube: Option<Pose>,
    /// The cells with cubes, and those that had some, with the tick of the last news.
    pub(super) cells: Vec<(CellId, u64)>,
}

/// A cell as it is at a tick.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Told {
    /// The tick of the last news; 0: there was none.
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
