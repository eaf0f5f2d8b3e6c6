//! A state as a keyframe carries it.

use serde::{Deserialize, Serialize};

use super::{MotionState, SETTLED_AFTER, Spin, TOP_ACCELERATION, TOP_VELOCITY};
use crate::quantize::Pose;

/// The fields of a state on the wire: a settled cube is its pose and one byte.
#[derive(Serialize, Deserialize)]
pub(super) enum Motion {
    Settled(Pose),
    Moving {
        base: Pose,
        velocity: [i32; 3],
        acceleration: [i32; 3],
        spin: Spin,
        age: u32,
        history: u8,
        position_errors: [[i8; 3]; 2],
        rotation_errors: [[i8; 3]; 2],
    },
}

impl From<MotionState> for Motion {
    fn from(state: MotionState) -> Self {
        if state.is_settled() {
            return Self::Settled(state.base);
        }
        Self::Moving {
            base: state.base,
            velocity: state.velocity,
            acceleration: state.acceleration,
            spin: state.spin,
            age: state.age,
            history: state.history,
            position_errors: state.position_errors,
            rotation_errors: state.rotation_errors,
        }
    }
}

impl From<Motion> for MotionState {
    /// Forces whatever a stranger sends into bounds.
    fn from(motion: Motion) -> Self {
        match motion {
            Motion::Settled(pose) => Self::at_rest(pose),
            Motion::Moving {
                base,
                velocity,
                acceleration,
                spin,
                age,
                history,
                position_errors,
                rotation_errors,
            } => {
                let mut state = Self {
                    velocity: velocity.map(|parts| parts.clamp(-TOP_VELOCITY, TOP_VELOCITY)),
                    acceleration: acceleration
                        .map(|parts| parts.clamp(-TOP_ACCELERATION, TOP_ACCELERATION)),
                    spin,
                    age,
                    history,
                    position_errors,
                    rotation_errors,
                    ..Self::at_rest(base)
                };
                state.advance(0);
                debug_assert!(state.age >= SETTLED_AFTER || !state.is_settled());
                state
            }
        }
    }
}
