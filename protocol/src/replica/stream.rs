//! The stream of one cell: how its cubes move.

use super::ReplicaError;
use crate::cube::CubeId;
use crate::message::{Event, Keyframe, Snapshot};
use crate::motion::{Codec, MotionSet};

/// A receiver's copy of one cell's stream: the predicted states of its cubes at the tick of the
/// newest keyframe or snapshot.
///
/// [`Replica`](super::Replica) keeps one for each cell. It is also of use alone, to a receiver
/// that needs the motion of one cell and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellStream {
    interval_ticks: u8,
    motion: MotionSet,
}

impl CellStream {
    /// Returns the stream of a cell that has no cubes at a tick and is published every
    /// `interval_ticks` ticks.
    pub fn new(interval_ticks: u8, tick: u64) -> Self {
        Self {
            interval_ticks,
            motion: MotionSet::at_tick(&Codec::LIVE, tick),
        }
    }

    /// Returns the tick of the newest keyframe or snapshot.
    pub fn tick(&self) -> u64 {
        self.motion.tick()
    }

    /// Returns the number of ticks from one snapshot of the cell to the next.
    pub fn interval_ticks(&self) -> u8 {
        self.interval_ticks
    }

    /// Returns the predicted states of the cubes at [`tick`](Self::tick).
    pub fn motion(&self) -> &MotionSet {
        &self.motion
    }

    /// Takes in a whole snapshot. Calls `changed` for each cube that was placed or has a residual.
    ///
    /// # Errors
    /// [`ReplicaError::Tick`] or [`ReplicaError::Motion`].
    pub fn take_in(
        &mut self,
        snapshot: &Snapshot,
        mut changed: impl FnMut(CubeId),
    ) -> Result<(), ReplicaError> {
        self.begin(snapshot.tick)?;
        for event in &snapshot.events {
            self.apply(event);
            if let Event::Placed { cube, .. } = event {
                changed(*cube);
            }
        }
        self.decode(&snapshot.residuals, changed)
    }

    /// Advances all cubes as predicted up to a tick without a snapshot.
    pub fn advance_to(&mut self, tick: u64) {
        self.motion.advance_to(tick);
    }

    /// Begins a snapshot of a tick. Returns the tick up to which the predictions are now known to
    /// have been right: the publisher was silent about the ticks before.
    pub(super) fn begin(&mut self, tick: u64) -> Result<u64, ReplicaError> {
        let before = self.tick();
        if tick <= before {
            return Err(ReplicaError::Tick { tick, before });
        }
        self.motion.advance_to(tick);
        let known_until = tick.saturating_sub(self.interval_ticks.into());
        Ok(known_until.max(before))
    }

    /// Takes in an event of the snapshot that has begun.
    pub(super) fn apply(&mut self, event: &Event) {
        event.apply_to(&mut self.motion);
    }

    /// Takes in the residuals of the snapshot that has begun; there may be none.
    pub(super) fn decode(
        &mut self,
        residuals: &[u8],
        changed: impl FnMut(CubeId),
    ) -> Result<(), ReplicaError> {
        if !residuals.is_empty() {
            self.motion.decode_tick(residuals, changed)?;
        }
        Ok(())
    }
}

impl From<&Keyframe> for CellStream {
    fn from(keyframe: &Keyframe) -> Self {
        let mut stream = Self::new(keyframe.interval_ticks, keyframe.tick);
        for info in &keyframe.cubes {
            stream.motion.insert(info.cube, info.motion);
        }
        stream
    }
}
