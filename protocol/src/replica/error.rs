//! Why a replica refuses a message.

use crate::cube::{CellId, CubeId};
use crate::limits::{MAX_CELLS, MAX_CUBES_PER_ROOM};
use crate::motion::MotionError;

/// The largest number of cubes in all cells: each cube in the cell where it is, and perhaps still
/// in one whose stream comes late.
pub(super) const MAX_CUBES: usize = 2 * MAX_CUBES_PER_ROOM;

/// A message that no publisher sends. The replica has then taken in a part of it: replace it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplicaError {
    /// Ticks must rise.
    #[error("tick {tick} came after tick {before}")]
    Tick {
        /// The message's tick.
        tick: u64,
        /// The newest tick before it.
        before: u64,
    },
    /// Nothing can happen in a cell without a keyframe.
    #[error("cell {} is not in sight", .0.0)]
    UnknownCell(CellId),
    /// More cells than a room can have.
    #[error("there are more than {MAX_CELLS} cells in sight")]
    TooManyCells,
    /// More cubes than the cells of a room can have.
    #[error("there are more than {MAX_CUBES} cubes in sight")]
    TooManyCubes,
    /// The residuals cannot be decoded.
    #[error(transparent)]
    Motion(#[from] MotionError),
    /// Authority over a player's cube never changes hands.
    #[error("cube {0} belongs to a player and cannot be taken or freed")]
    NotFree(CubeId),
}
