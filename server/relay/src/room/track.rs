//! Where a cube is, tick by tick, between the words of its authority.

use cubesync_protocol::Pose;
use cubesync_protocol::motion::{Codec, MotionState};

/// What is known about a cube's motion.
#[derive(Debug, Clone, Copy)]
pub(super) struct Track {
    state: MotionState,
    /// The tick the state belongs to.
    tick: u64,
    /// The authority's client has told so; otherwise the room has put the cube there.
    is_told: bool,
}

impl Track {
    /// A cube that stands.
    pub(super) fn standing(pose: Pose) -> Self {
        Self {
            state: MotionState::at_rest(pose),
            tick: 0,
            is_told: false,
        }
    }

    /// A cube that goes on from a tick as its authority says.
    pub(super) fn told(state: MotionState, tick: u64) -> Self {
        Self {
            state,
            tick,
            is_told: true,
        }
    }

    /// Where the cube is at a tick. What was told too late has gone on since.
    pub(super) fn pose(&self, tick: u64) -> Pose {
        self.state_at(tick).pose(&Codec::LIVE)
    }

    /// How the cube moves at a tick, if its authority's client has told.
    pub(super) fn motion(&self, tick: u64) -> Option<MotionState> {
        self.is_told.then(|| self.state_at(tick))
    }

    /// The tick of the newest word about the cube.
    pub(super) fn tick(&self) -> u64 {
        self.tick
    }

    /// Whether the cube is elsewhere at the next tick.
    pub(super) fn is_moving(&self) -> bool {
        !self.state.is_still()
    }

    fn state_at(&self, tick: u64) -> MotionState {
        self.state.advanced(self.tick, tick)
    }
}
