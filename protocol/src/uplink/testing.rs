//! What the tests of both ends need.

use std::collections::BTreeMap;

use super::receiver::{TimedStates, UplinkReceiver};
use super::sender::Sample;
use crate::cube::CubeId;
use crate::motion::{Codec, MotionState};
use crate::quantize::{Pose, Position};

/// A receiver, and the newest state of each cube that came out of it.
pub(super) struct Server {
    receiver: UplinkReceiver,
    states: BTreeMap<CubeId, (u64, MotionState)>,
}

impl Server {
    pub(super) fn new() -> Self {
        Self {
            receiver: UplinkReceiver::new(30),
            states: BTreeMap::new(),
        }
    }

    /// Receives a sample in the tick before its own.
    pub(super) fn receive(&mut self, sample: &Sample) {
        for placed in &sample.placed {
            let is_known = self.states.contains_key(&placed.cube);
            assert!(!is_known, "a cube is placed once: {sample:?}");
        }
        let tick = sample.tick;
        let Sample {
            placed, residuals, ..
        } = sample;
        let arrival = self
            .receiver
            .sample(tick - 1, tick, placed, residuals, |_| true);
        arrival.expect("the sender wrote it");
        while let Some(TimedStates { tick, states }) = self.receiver.next_due(tick) {
            let timed = |(cube, state)| (cube, (tick, state));
            self.states.extend(states.into_iter().map(timed));
        }
    }

    /// Returns where a cube is predicted at a tick; `None` before it was placed.
    pub(super) fn x_m(&self, cube: CubeId, tick: u64) -> Option<f32> {
        let (from, state) = self.states.get(&cube)?;
        let pose = state.advanced(*from, tick).pose(&Codec::LIVE);
        Some(pose.position.to_metres()[0])
    }
}

/// Returns a pose upright on the floor, `x_m` metres east of the origin.
pub(super) fn pose(x_m: f32) -> Pose {
    Pose {
        position: Position::from_metres([x_m, 0.0, 0.5]),
        ..Pose::default()
    }
}
