//! The recent surprises of every cube, by tick, to draw from.
//!
//! Between its surprises a cube is where everybody believes it to be: one that rests, rests, and
//! one that runs straight, runs, without any message.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use cubesync_protocol::limits::MOVING_HEARTBEAT_INTERVAL;
use cubesync_protocol::motion::{Codec, MotionState};
use cubesync_protocol::{CubeId, Pose};

use crate::interpolation::{self, DrawnPose, TickPose};

/// Surprises kept of one cube, at most: half a second at the highest tick rate. What has been
/// shown is dropped long before.
const MAX_SURPRISES_PER_CUBE: usize = 64;
/// So long after the server should have spoken again, nothing is believed any more.
const LONGEST_EXTRAPOLATION: Duration = Duration::from_millis(250);

/// What is believed about a cube from a tick on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Surprise {
    /// The tick.
    pub tick: u64,
    /// Up to and with this tick, what was believed before is known to have been right.
    pub known_until: u64,
    /// What is believed at the tick.
    pub state: MotionState,
}

/// What was and is believed about the cubes of a room.
#[derive(Debug, Clone, Default)]
pub struct SnapshotBuffer {
    cubes: BTreeMap<CubeId, VecDeque<Surprise>>,
    /// The newest tick that was heard of.
    heard_tick: u64,
    /// How much further is believed.
    silent_ticks: f64,
}

impl SnapshotBuffer {
    /// For a room of this tick rate.
    pub fn new(tick_hz: u8) -> Self {
        let silence = MOVING_HEARTBEAT_INTERVAL + LONGEST_EXTRAPOLATION;
        Self {
            silent_ticks: silence.as_secs_f64() * f64::from(tick_hz),
            ..Self::default()
        }
    }

    /// The server told of a tick. Until it is silent for too long, all cubes that do not
    /// surprise move on as believed.
    pub fn heard(&mut self, tick: u64) {
        self.heard_tick = self.heard_tick.max(tick);
    }

    /// The newest tick that was heard of.
    pub fn heard_tick(&self) -> u64 {
        self.heard_tick
    }

    /// Whether what is believed at this tick is frozen, for want of news.
    pub fn is_frozen(&self, tick: f64) -> bool {
        tick > self.last_tick()
    }

    /// Takes in a surprise. Ticks before `shown_tick` need not be kept.
    pub fn push(&mut self, cube: CubeId, new: Surprise, shown_tick: f64) {
        let surprises = self.cubes.entry(cube).or_default();
        match surprises.back_mut() {
            Some(newest) if newest.tick >= new.tick => newest.state = new.state,
            // A keyframe repeats what is believed already.
            Some(newest) if newest.state_at(new.tick) == new.state => {}
            _ => surprises.push_back(new),
        }
        while surprises
            .get(1)
            .is_some_and(|next| next.tick as f64 <= shown_tick)
            || surprises.len() > MAX_SURPRISES_PER_CUBE
        {
            surprises.pop_front();
        }
    }

    /// Puts a cube somewhere with no way there: it has been there all along.
    pub fn place(&mut self, cube: CubeId, pose: Pose) {
        let rest = Surprise {
            tick: 0,
            known_until: 0,
            state: MotionState::at_rest(pose),
        };
        self.cubes.insert(cube, VecDeque::from([rest]));
    }

    /// Forgets a cube.
    pub fn remove(&mut self, cube: CubeId) {
        self.cubes.remove(&cube);
    }

    /// The cubes that are known.
    pub fn cubes(&self) -> impl Iterator<Item = CubeId> {
        self.cubes.keys().copied()
    }

    /// Where a cube is at a tick and a fraction: between where it is believed to be at the ticks
    /// around it.
    pub fn pose_at(&self, cube: CubeId, tick: f64) -> Option<DrawnPose> {
        let surprises = self.cubes.get(&cube)?;
        let tick = tick.min(self.last_tick());
        let next = surprises.partition_point(|surprise| surprise.tick as f64 <= tick);
        let Some(believed) = next.checked_sub(1).map(|index| &surprises[index]) else {
            return surprises
                .front()
                .map(|first| first.at(first.tick).pose.into());
        };
        let (from, to) = match surprises.get(next) {
            Some(next) if next.known_until as f64 <= tick => {
                let from = next.known_until.max(believed.tick);
                (believed.at(from), next.at(next.tick))
            }
            _ => {
                let from = tick.floor() as u64;
                (believed.at(from), believed.at(from.saturating_add(1)))
            }
        };
        Some(interpolation::between(from, to, tick))
    }

    /// The last tick at which something is believed.
    fn last_tick(&self) -> f64 {
        self.heard_tick as f64 + self.silent_ticks
    }
}

impl Surprise {
    fn state_at(&self, tick: u64) -> MotionState {
        let ticks = tick.saturating_sub(self.tick);
        let mut state = self.state;
        state.advance(u32::try_from(ticks).unwrap_or(u32::MAX));
        state
    }

    fn at(&self, tick: u64) -> TickPose {
        TickPose {
            tick,
            pose: self.state_at(tick).pose(&Codec::LIVE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{moving, pose};

    const CUBE: CubeId = CubeId(7);
    const HZ: u8 = 20;

    fn rest(x_m: f32) -> MotionState {
        MotionState::at_rest(pose(x_m))
    }

    fn push(buffer: &mut SnapshotBuffer, tick: u64, state: MotionState, shown_tick: f64) {
        let surprise = Surprise {
            tick,
            known_until: tick.saturating_sub(1),
            state,
        };
        buffer.heard(tick);
        buffer.push(CUBE, surprise, shown_tick);
    }

    /// A buffer that took in these surprises from snapshots, all shown from `shown_tick` on.
    fn buffer(surprises: &[(u64, MotionState)], shown_tick: f64) -> SnapshotBuffer {
        let mut buffer = SnapshotBuffer::new(HZ);
        for &(tick, state) in surprises {
            push(&mut buffer, tick, state, shown_tick);
        }
        buffer
    }

    fn x_m(buffer: &SnapshotBuffer, tick: f64) -> f32 {
        buffer.pose_at(CUBE, tick).unwrap().position[0]
    }

    #[test]
    fn a_cube_is_between_its_ticks_and_rests_where_it_stopped() {
        let buffer = buffer(&[(10, rest(0.0)), (11, rest(1.0)), (12, rest(3.0))], 0.0);
        for (tick, expected_m) in [
            (9.0, 0.0),
            (10.5, 0.5),
            (11.5, 2.0),
            (12.0, 3.0),
            (20.0, 3.0),
        ] {
            assert_eq!(x_m(&buffer, tick), expected_m, "at {tick}");
        }
        assert_eq!(buffer.pose_at(CubeId(8), 10.0), None);
    }

    #[test]
    fn a_cube_that_runs_straight_runs_on_without_a_message() {
        let buffer = buffer(&[(10, moving(0.0, 0.25))], 0.0);
        for (tick, expected_m) in [(10.0, 0.0), (11.0, 0.25), (12.5, 0.625), (19.0, 2.25)] {
            assert_eq!(x_m(&buffer, tick), expected_m, "at {tick}");
        }
    }

    #[test]
    fn a_cube_that_moves_after_a_rest_does_not_glide_over_the_rest() {
        let buffer = buffer(&[(10, rest(0.0)), (40, rest(2.0))], 0.0);
        assert_eq!(x_m(&buffer, 25.0), 0.0);
        assert_eq!(x_m(&buffer, 39.0), 0.0);
        assert_eq!(x_m(&buffer, 39.5), 1.0);
        assert_eq!(x_m(&buffer, 40.0), 2.0);
    }

    #[test]
    fn after_missed_snapshots_a_cube_glides_from_where_it_was_known_to_be() {
        let mut buffer = buffer(&[(10, rest(0.0))], 0.0);
        // Snapshots up to 20 came without the cube, then a keyframe of tick 30.
        let surprise = Surprise {
            tick: 30,
            known_until: 20,
            state: rest(4.0),
        };
        buffer.heard(30);
        buffer.push(CUBE, surprise, 0.0);
        assert_eq!(x_m(&buffer, 20.0), 0.0);
        assert_eq!(x_m(&buffer, 25.0), 2.0);
    }

    #[test]
    fn a_keyframe_that_says_what_is_believed_changes_nothing() {
        let mut buffer = buffer(&[(10, moving(0.0, 0.25))], 0.0);
        let mut state = moving(0.0, 0.25);
        state.advance(4);
        push(&mut buffer, 14, state, 0.0);
        assert_eq!(buffer.cubes[&CUBE].len(), 1);
    }

    #[test]
    fn in_a_long_silence_cubes_freeze() {
        let mut buffer = buffer(&[(10, moving(0.0, 0.25))], 0.0);
        // A heartbeat is due after 4 ticks, and 5 more are believed.
        assert!(!buffer.is_frozen(19.0));
        assert_eq!(x_m(&buffer, 19.0), 2.25);
        assert!(buffer.is_frozen(19.1));
        assert_eq!(x_m(&buffer, 90.0), 2.25);
        buffer.heard(81);
        assert_eq!(x_m(&buffer, 90.0), 20.0);
    }

    #[test]
    fn a_placed_cube_has_no_way_there() {
        let mut buffer = buffer(&[(10, rest(0.0)), (11, moving(1.0, 0.5))], 0.0);
        buffer.place(CUBE, pose(5.0));
        assert_eq!(x_m(&buffer, 10.5), 5.0);
        push(&mut buffer, 12, rest(5.0), 0.0);
        push(&mut buffer, 13, rest(6.0), 0.0);
        assert_eq!(x_m(&buffer, 12.0), 5.0);
        assert_eq!(x_m(&buffer, 12.5), 5.5);
    }

    #[test]
    fn what_was_shown_is_dropped_and_nothing_grows_without_bound() {
        let surprises: Vec<_> = (0..1_000)
            .map(|tick| (tick, rest(tick as f32 / 10.0)))
            .collect();
        let unseen = buffer(&surprises, 0.0);
        assert_eq!(unseen.cubes[&CUBE].len(), MAX_SURPRISES_PER_CUBE);
        let shown = buffer(&surprises, 997.5);
        assert_eq!(shown.cubes[&CUBE].front().unwrap().tick, 997);
        assert!((x_m(&shown, 997.5) - 99.75).abs() < 0.01);
    }
}
