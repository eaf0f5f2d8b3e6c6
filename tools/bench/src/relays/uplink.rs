//! The samples of the load generator's clients: one cube each.
//!
//! The protocol's `UplinkSender` places a cube where it is when it has moved. These place it at the
//! keyframe's pose, with the first sample, so that every receiver begins from the same state.

use cubesync_protocol::limits::MOVING_HEARTBEAT_INTERVAL;
use cubesync_protocol::motion::{Codec, MotionSet, MotionState};
use cubesync_protocol::{ClientMessage, CubePose, Pose};

/// A client's cube as the server predicts it.
#[derive(Debug)]
pub(crate) struct Uplink {
    /// The cube and where it started, until the first sample has placed it.
    to_place: Option<CubePose>,
    predicted: MotionSet,
    /// The tick of the last sample.
    sent_tick: u64,
    heartbeat_ticks: u64,
}

impl Uplink {
    /// Returns that of a client which was welcomed with this cube there, in a room of `hz` ticks a
    /// second.
    pub(crate) fn new(cube: CubePose, hz: u32) -> Self {
        let interval_ms = MOVING_HEARTBEAT_INTERVAL.as_millis() as u64;
        Self {
            to_place: Some(cube),
            predicted: MotionSet::new(&Codec::LIVE),
            sent_tick: 0,
            heartbeat_ticks: (interval_ms * u64::from(hz)).div_ceil(1_000),
        }
    }

    /// Returns what is sent when the cube is at a pose at a tick; `None` if the server predicts
    /// the cube there.
    pub(crate) fn sample(&mut self, tick: u64, pose: Pose) -> Option<ClientMessage> {
        self.predicted.advance_to(tick);
        // At the keyframe's pose, so that all receivers go on from the same state.
        let placed = Vec::from_iter(self.to_place.take());
        for CubePose { cube, pose } in &placed {
            self.predicted.insert(*cube, MotionState::at_rest(*pose));
        }
        let mut residuals = Vec::new();
        self.predicted.encode_tick(|_| pose, &mut residuals);
        let has_news = !placed.is_empty() || !residuals.is_empty();
        if !has_news && !self.is_heartbeat_due() {
            return None;
        }
        self.sent_tick = tick;
        let residuals = residuals.into();
        Some(ClientMessage::Sample {
            tick,
            placed,
            residuals,
        })
    }

    fn is_heartbeat_due(&self) -> bool {
        let is_moving = self.predicted.active().any(|(_, state)| !state.is_still());
        is_moving && self.predicted.tick() - self.sent_tick >= self.heartbeat_ticks
    }
}

#[cfg(test)]
mod tests {
    use cubesync_protocol::{CubeId, Position};

    use super::*;

    #[test]
    fn a_receiver_that_decodes_the_samples_stays_within_the_bound() {
        let start = CubePose {
            cube: CubeId(3),
            pose: Pose::default(),
        };
        let mut uplink = Uplink::new(start, 20);
        let mut received = MotionSet::new(&Codec::LIVE);
        let mut sent = Vec::new();
        // It stands, runs evenly, and stands again.
        let at = |tick: u64| Pose {
            position: Position {
                x: 100 * (tick as i32).clamp(20, 60),
                y: 0,
                z: 256,
            },
            ..Pose::default()
        };
        for tick in 10..200 {
            if let Some(message) = uplink.sample(tick, at(tick)) {
                let ClientMessage::Sample {
                    tick: own,
                    placed,
                    residuals,
                } = message
                else {
                    panic!("{message:?} is no sample");
                };
                assert_eq!(own, tick);
                received.advance_to(tick);
                for CubePose { cube, pose } in placed {
                    assert!(received.insert(cube, MotionState::at_rest(pose)).is_none());
                }
                if !residuals.is_empty() {
                    received.decode_tick(&residuals, |_| {}).unwrap();
                }
                sent.push(tick);
            }
            let state = received.state_at(CubeId(3), tick).unwrap();
            let error = state.pose(&Codec::LIVE).position.x - at(tick).position.x;
            assert!(error.abs() <= Codec::LIVE.position_bound, "{tick}: {error}");
        }
        assert_eq!(sent[0], 10, "it is placed at once");
        assert!(!sent.contains(&15), "it stands");
        // While it runs as predicted, a heartbeat comes every 200 ms: 4 ticks.
        let running: Vec<_> = sent
            .iter()
            .filter(|tick| (40..60).contains(*tick))
            .collect();
        assert!(running.len() >= 4, "{sent:?}");
        assert!(
            running.windows(2).all(|pair| pair[1] - pair[0] == 4),
            "{sent:?}"
        );
        assert!(
            sent.iter().all(|&tick| tick < 70),
            "it stands again: {sent:?}"
        );
    }
}
