//! Where a cube is, tick by tick, between the samples of its authority.

use cubesync_protocol::Pose;
use cubesync_protocol::motion::{Codec, MotionState};

/// A cube's motion from its newest sample on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Track {
    state: MotionState,
    /// The tick the state belongs to.
    tick: u64,
    /// Whether the authority's client has sent it; otherwise the room has put the cube there.
    is_sampled: bool,
}

impl Track {
    /// Returns the track of a cube that stands.
    pub(super) fn standing(pose: Pose) -> Self {
        Self {
            state: MotionState::at_rest(pose),
            tick: 0,
            is_sampled: false,
        }
    }

    /// Returns the track of a cube that goes on from a tick as its authority has sampled it.
    pub(super) fn sampled(state: MotionState, tick: u64) -> Self {
        Self {
            state,
            tick,
            is_sampled: true,
        }
    }

    /// Returns where the cube is at a tick. From a late sample it has gone on since.
    pub(super) fn pose(&self, tick: u64) -> Pose {
        self.state_at(tick).pose(&Codec::LIVE)
    }

    /// Returns how the cube moves at a tick, if its authority's client has sent that.
    pub(super) fn motion(&self, tick: u64) -> Option<MotionState> {
        self.is_sampled.then(|| self.state_at(tick))
    }

    /// Returns the tick of the newest sample of the cube.
    pub(super) fn tick(&self) -> u64 {
        self.tick
    }

    /// Returns whether the cube is elsewhere at the next tick.
    pub(super) fn is_moving(&self) -> bool {
        !self.state.is_still()
    }

    fn state_at(&self, tick: u64) -> MotionState {
        self.state.advanced(self.tick, tick)
    }
}
