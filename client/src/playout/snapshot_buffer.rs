//! The recent surprises of every cube, by tick, to draw from.
//!
//! Between its surprises a cube is where everybody believes it to be: one that rests, rests, and
//! one that runs straight, runs, without any message. After the newest message that is a guess,
//! which is right unless one is on its way: it is made more carefully, and not for long.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use cubesync_protocol::interpolation::{self, DrawnPose};
use cubesync_protocol::limits::MOVING_HEARTBEAT_INTERVAL;
use cubesync_protocol::motion::{Codec, MotionState};
use cubesync_protocol::quantize::QUANTA_PER_METRE;
use cubesync_protocol::{CubeId, Pose};

/// Surprises kept of one cube, at most: half a second at the highest tick rate. What has been
/// shown is dropped long before.
const MAX_SURPRISES_PER_CUBE: usize = 64;
/// From the moment when the server should have spoken again, a cube slows down for so long, and
/// then it stands.
const LONGEST_EXTRAPOLATION: Duration = Duration::from_millis(250);
/// A guess goes on with no more than this in m/s²: more is an impact, and will not be repeated.
/// What falls in the game gains so much. Measured with `cargo bench-motion` at 2 % loss: without
/// the limit errors are a third larger, and there are four times as many jumps.
const HIGHEST_ACCELERATION_MPS2: f32 = 20.0;

/// What is believed about a cube from a tick on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Surprise {
    /// The tick.
    pub(crate) tick: u64,
    /// Up to and with this tick, what was believed before is known to have been right.
    pub(crate) known_until: u64,
    /// What is believed at the tick.
    pub(crate) state: MotionState,
}

/// A surprise and where to draw it: who turns and runs surprises in each tick, and is drawn there
/// in several frames.
#[derive(Debug, Clone, Copy)]
struct Kept {
    surprise: Surprise,
    drawn: DrawnPose,
}

/// What was and is believed about the cubes of a room.
#[derive(Debug, Clone, Default)]
pub(crate) struct SnapshotBuffer {
    cubes: BTreeMap<CubeId, VecDeque<Kept>>,
    /// The newest tick that was heard of.
    heard_tick: u64,
    /// How much further everything is believed, how long cubes slow down after that, and the
    /// highest acceleration of a guess, in metres per tick and tick.
    silent_ticks: f64,
    slowing_ticks: f64,
    acceleration_m: f32,
}

impl SnapshotBuffer {
    /// For a room of this tick rate.
    pub(crate) fn new(tick_hz: u8) -> Self {
        let ticks = |duration: Duration| duration.as_secs_f64() * f64::from(tick_hz);
        Self {
            silent_ticks: ticks(MOVING_HEARTBEAT_INTERVAL),
            slowing_ticks: ticks(LONGEST_EXTRAPOLATION),
            acceleration_m: HIGHEST_ACCELERATION_MPS2 / f32::from(tick_hz).powi(2),
            ..Self::default()
        }
    }

    /// The server told of a tick. Until it is silent for too long, all cubes that do not
    /// surprise move on as believed.
    pub(crate) fn heard(&mut self, tick: u64) {
        self.heard_tick = self.heard_tick.max(tick);
    }

    /// The newest tick that was heard of.
    pub(crate) fn heard_tick(&self) -> u64 {
        self.heard_tick
    }

    /// Whether what is believed at this tick is a guess: nothing was heard of it.
    pub(crate) fn is_guessed(&self, tick: f64) -> bool {
        tick > self.heard_tick as f64
    }

    /// Takes in a surprise. Ticks before `shown_tick` need not be kept.
    pub(crate) fn push(&mut self, cube: CubeId, new: Surprise, shown_tick: f64) {
        let kept = self.cubes.entry(cube).or_default();
        match kept.back_mut() {
            Some(newest) if newest.surprise.tick >= new.tick => {
                let state = new.state;
                *newest = Kept::from(Surprise {
                    state,
                    ..newest.surprise
                });
            }
            // A keyframe repeats what is believed already.
            Some(newest) if newest.surprise.state_at(new.tick) == new.state => {}
            _ => kept.push_back(new.into()),
        }
        while kept
            .get(1)
            .is_some_and(|next| next.surprise.tick as f64 <= shown_tick)
            || kept.len() > MAX_SURPRISES_PER_CUBE
        {
            kept.pop_front();
        }
    }

    /// Puts a cube somewhere with no way there: it has been there all along.
    pub(crate) fn place(&mut self, cube: CubeId, pose: Pose) {
        let rest = Surprise {
            tick: 0,
            known_until: 0,
            state: MotionState::at_rest(pose),
        };
        self.cubes.insert(cube, VecDeque::from([rest.into()]));
    }

    /// Forgets a cube.
    pub(crate) fn remove(&mut self, cube: CubeId) {
        self.cubes.remove(&cube);
    }

    /// The cubes that are known.
    pub(crate) fn cubes(&self) -> impl Iterator<Item = CubeId> {
        self.cubes.keys().copied()
    }

    /// Where a cube is at a tick and a fraction: on a smooth way through where it is believed to
    /// be at the ticks around it.
    pub(crate) fn pose_at(&self, cube: CubeId, tick: f64) -> Option<DrawnPose> {
        let kept = self.cubes.get(&cube)?;
        let next = kept.partition_point(|kept| kept.surprise.tick as f64 <= tick);
        let Some(index) = next.checked_sub(1) else {
            return kept.front().map(|first| first.drawn);
        };
        let believed = &kept[index];
        if next == kept.len() {
            if believed.surprise.state.is_settled() {
                return Some(believed.drawn);
            }
            if self.is_guessed(tick) {
                return Some(self.guess(believed, tick));
            }
        }
        let (from_tick, end, to_tick) = match kept.get(next) {
            Some(Kept { surprise, .. }) if surprise.known_until as f64 <= tick => {
                let from = surprise.known_until.max(believed.surprise.tick);
                (from, next, surprise.tick)
            }
            _ => {
                let from = tick.floor() as u64;
                (from, index, from.saturating_add(1))
            }
        };
        let ticks = to_tick.saturating_sub(from_tick).max(1) as f32;
        let ends = [believed.at(from_tick), kept[end].at(to_tick)];
        let after = match kept.get(end + 1) {
            Some(kept) if kept.surprise.tick == to_tick + 1 => {
                difference(kept.drawn.position, ends[1].position)
            }
            _ => kept[end].surprise.velocity_at(to_tick + 1),
        };
        // At each end the mean of the ways in the tick before and after it: at the first moment
        // of a turn, the velocity that was told is that of the tick before.
        let mean = difference(ends[1].position, ends[0].position).map(|way_m| way_m / ticks);
        let before = believed.surprise.velocity_at(from_tick);
        let middle =
            |a: [f32; 3], b: [f32; 3]| std::array::from_fn(|axis| (a[axis] + b[axis]) / 2.0);
        let velocities = [middle(before, mean), middle(mean, after)];
        let share = (tick - from_tick as f64) as f32 / ticks;
        Some(interpolation::curve(ends, ticks, velocities, share))
    }

    /// Where a cube may be at a tick that nothing was heard of: it goes on as believed until the
    /// server should have spoken again, and then slows down.
    fn guess(&self, believed: &Kept, tick: f64) -> DrawnPose {
        let heard = self.heard_tick.max(believed.surprise.tick);
        let silent = (tick - heard as f64).max(0.0);
        let share = ((silent - self.silent_ticks) / self.slowing_ticks).clamp(0.0, 1.0);
        let slowed = self.slowing_ticks * (share - share * share / 2.0);
        let ticks = (silent.min(self.silent_ticks) + slowed) as f32;

        let whole = heard.saturating_add(ticks as u64);
        let ends = [whole, whole.saturating_add(1)].map(|tick| believed.at(tick));
        let turned = interpolation::curve(ends, 1.0, [[0.0; 3]; 2], ticks.fract());
        let start = believed.at(heard).position;
        let [before, after] =
            [heard, heard.saturating_add(1)].map(|tick| believed.surprise.velocity_at(tick));
        let position = std::array::from_fn(|axis| {
            let acceleration =
                (after[axis] - before[axis]).clamp(-self.acceleration_m, self.acceleration_m);
            start[axis] + before[axis] * ticks + acceleration * ticks * (ticks + 1.0) / 2.0
        });
        let [x, y, z]: [f32; 3] = position;
        DrawnPose {
            position: [x, y, z.max(0.0)],
            ..turned
        }
    }
}

fn difference(to: [f32; 3], from: [f32; 3]) -> [f32; 3] {
    std::array::from_fn(|axis| to[axis] - from[axis])
}

impl Surprise {
    fn state_at(&self, tick: u64) -> MotionState {
        self.state.advanced(self.tick, tick)
    }

    /// How the cube came to be where it is believed to be at a tick, in metres per tick.
    fn velocity_at(&self, tick: u64) -> [f32; 3] {
        let velocity = if tick <= self.tick {
            self.state.velocity()
        } else {
            self.state_at(tick).velocity()
        };
        velocity.map(|quanta| quanta / QUANTA_PER_METRE)
    }
}

impl Kept {
    fn at(&self, tick: u64) -> DrawnPose {
        if tick <= self.surprise.tick {
            return self.drawn;
        }
        self.surprise.state_at(tick).pose(&Codec::LIVE).into()
    }
}

impl From<Surprise> for Kept {
    fn from(surprise: Surprise) -> Self {
        let drawn = surprise.state.pose(&Codec::LIVE).into();
        Self { surprise, drawn }
    }
}

#[cfg(test)]
mod tests {
    use cubesync_protocol::motion::MotionSet;

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
        for (tick, expected_m) in [(9.0, 0.0), (11.0, 1.0), (12.0, 3.0), (20.0, 3.0)] {
            assert_eq!(x_m(&buffer, tick), expected_m, "at {tick}");
        }
        assert!((0.0..1.0).contains(&x_m(&buffer, 10.5)));
        assert!((1.0..3.0).contains(&x_m(&buffer, 11.5)));
        assert_eq!(buffer.pose_at(CubeId(8), 10.0), None);
    }

    #[test]
    fn a_cube_that_runs_straight_runs_on_without_a_message() {
        let buffer = buffer(&[(10, moving(0.0, 0.25))], 0.0);
        for (tick, expected_m) in [(10.0, 0.0), (11.0, 0.25), (12.5, 0.625), (14.0, 1.0)] {
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
        let state = moving(0.0, 0.25).advanced(10, 14);
        push(&mut buffer, 14, state, 0.0);
        assert_eq!(buffer.cubes[&CUBE].len(), 1);
    }

    #[test]
    fn in_a_long_silence_cubes_slow_down_and_then_stand() {
        let mut buffer = buffer(&[(10, moving(0.0, 0.25))], 0.0);
        assert!(!buffer.is_guessed(10.0) && buffer.is_guessed(10.1));
        // A heartbeat is due after 4 ticks; in the next 5 the cube slows down.
        for (tick, expected_m) in [
            (14.0, 1.0),
            (16.5, 1.0 + 0.25 * 2.5 * 0.75),
            (19.0, 1.625),
            (90.0, 1.625),
        ] {
            assert!((x_m(&buffer, tick) - expected_m).abs() < 1e-5, "at {tick}");
        }
        buffer.heard(81);
        assert_eq!(x_m(&buffer, 81.0), 17.75);
    }

    #[test]
    fn a_cube_that_was_hit_is_not_guessed_to_gain_speed_for_ever() {
        let mut set = MotionSet::new(&Codec::LIVE);
        set.insert(CUBE, moving(0.0, 0.1));
        set.advance_to(set.tick() + 1);
        set.encode_tick(|_| pose(0.6), &mut Vec::new());
        let hit = *set.get(CUBE).unwrap();
        let mut buffer = buffer(&[(10, hit)], 0.0);
        let straight_m = 0.6 + 4.0 * hit.velocity()[0] / QUANTA_PER_METRE;
        let gained_m = HIGHEST_ACCELERATION_MPS2 / 400.0 * 10.0;
        assert!((x_m(&buffer, 14.0) - straight_m - gained_m).abs() < 0.01);
        // What is known, and not guessed, is as believed: it gains most of the hit in each tick.
        buffer.heard(14);
        assert!(x_m(&buffer, 14.0) > straight_m + 2.0);
    }

    #[test]
    fn a_cube_that_starts_and_stops_does_so_smoothly() {
        let surprises = [
            (10, rest(0.0)),
            (11, moving(0.5, 0.5)),
            (12, rest(1.0)),
            (13, rest(1.0)),
        ];
        let buffer = buffer(&surprises, 0.0);
        let way_m = |tick: f64| x_m(&buffer, tick + 0.1) - x_m(&buffer, tick);
        for (slow, fast) in [(10.0, 10.9), (11.9, 11.0), (12.9, 11.9)] {
            assert!(way_m(slow) < way_m(fast), "at {slow}");
        }
        for tick in [11.0, 12.0] {
            let change_m = way_m(tick) - way_m(tick - 0.1);
            // On straight lines it would be 0.05 m.
            assert!(change_m.abs() < 0.031, "{change_m} at {tick}");
        }
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
        assert_eq!(shown.cubes[&CUBE].front().unwrap().surprise.tick, 997);
        assert!((x_m(&shown, 997.5) - 99.75).abs() < 0.01);
    }
}
