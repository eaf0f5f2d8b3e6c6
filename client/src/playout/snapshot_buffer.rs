//! The recent updates of every cube, by tick, to draw from.
//!
//! Between two updates a cube follows its predicted state, which both ends advance alike: a cube
//! that rests goes on resting and a cube that runs straight goes on running, without any message.
//! After the newest message this is an extrapolation. It is right unless an update is on its way,
//! so it is made more carefully, and ends after a while.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use cubesync_protocol::interpolation::{self, DrawnPose};
use cubesync_protocol::limits::MOVING_HEARTBEAT_INTERVAL;
use cubesync_protocol::motion::{Codec, MotionState};
use cubesync_protocol::quantize::QUANTA_PER_METRE;
use cubesync_protocol::{CubeId, Pose};

/// Largest number of updates kept of one cube: half a second at the highest tick rate. Updates that
/// have been shown are dropped long before.
const MAX_UPDATES_PER_CUBE: usize = 64;
/// Time in which a cube slows down and stands once the next message of a moving cube is overdue.
const LONGEST_EXTRAPOLATION: Duration = Duration::from_millis(250);
/// Highest acceleration of an extrapolated cube, in m/s²: that of a fall in the game. A higher one
/// is an impact, which does not go on. Measured with `cargo bench-motion` at 2 % loss: without
/// the limit errors are a third larger, and there are four times as many jumps.
const HIGHEST_ACCELERATION_MPS2: f32 = 20.0;

/// Distance and share of a cube's change of velocity that its motion explains when it is not where it
/// was predicted. A larger difference is a correction: a late sample has moved the cube at the server.
const EXPLAINED_M: f32 = 0.03;
const EXPLAINED_BY_TURN: f32 = 1.0;
/// Longest time before a correction in which the states were wrong.
const LONGEST_CORRECTION: Duration = Duration::from_millis(200);

/// The predicted state of a cube from a tick on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CubeUpdate {
    /// The tick.
    pub(crate) tick: u64,
    /// Up to and including this tick the state before is known to have been right.
    pub(crate) known_until: u64,
    /// The state at the tick.
    pub(crate) state: MotionState,
}

/// An update and where to draw it: a cube that turns and runs is updated in each tick, and drawn
/// there in several frames.
#[derive(Debug, Clone, Copy)]
struct Kept {
    update: CubeUpdate,
    drawn: DrawnPose,
}

/// The recent updates of a room's cubes.
#[derive(Debug, Clone, Default)]
pub(crate) struct SnapshotBuffer {
    cubes: BTreeMap<CubeId, VecDeque<Kept>>,
    /// The newest tick of which something was received.
    newest_tick: u64,
    /// The first tick of the server that has the room now; 0 if none had it before.
    first_tick: u64,
    /// How long cubes go on after that tick, how long they slow down afterwards, and the highest
    /// acceleration of an extrapolation, in metres per tick and tick.
    silent_ticks: f64,
    slowing_ticks: f64,
    acceleration_m: f32,
    /// How long states may have been wrong before a correction.
    correction_ticks: u64,
}

impl SnapshotBuffer {
    /// Makes an empty buffer for a room of this tick rate.
    pub(crate) fn new(tick_hz: u8) -> Self {
        let ticks = |duration: Duration| duration.as_secs_f64() * f64::from(tick_hz);
        Self {
            silent_ticks: ticks(MOVING_HEARTBEAT_INTERVAL),
            slowing_ticks: ticks(LONGEST_EXTRAPOLATION),
            acceleration_m: HIGHEST_ACCELERATION_MPS2 / f32::from(tick_hz).powi(2),
            correction_ticks: ticks(LONGEST_CORRECTION) as u64,
            ..Self::default()
        }
    }

    /// Notes that something was received of a tick: cubes without an update in it were predicted
    /// rightly.
    pub(crate) fn received(&mut self, tick: u64) {
        self.newest_tick = self.newest_tick.max(tick);
    }

    /// Notes that ticks from this one on are of another server.
    pub(crate) fn go_on(&mut self, first_tick: u64) {
        self.first_tick = first_tick;
    }

    /// Whether a newly received tick is the first one of another server.
    pub(crate) fn is_first(&self, tick: u64) -> bool {
        self.newest_tick < self.first_tick && self.first_tick <= tick
    }

    /// Whether an update comes so long after the last one of another server that the cube is not where it
    /// is shown.
    pub(crate) fn breaks_off(&self, cube: CubeId, new: &CubeUpdate, shown_tick: f64) -> bool {
        let newest = self.cubes.get(&cube).and_then(VecDeque::back);
        let is_other = |newest: &Kept| newest.update.tick < self.first_tick;
        new.tick >= self.first_tick
            && shown_tick - new.known_until as f64 > self.silent_ticks
            && newest.is_some_and(is_other)
    }

    /// Returns the newest tick of which something was received.
    pub(crate) fn newest_tick(&self) -> u64 {
        self.newest_tick
    }

    /// Whether states at this tick are extrapolated: nothing has been received of it.
    pub(crate) fn is_extrapolated(&self, tick: f64) -> bool {
        tick > self.newest_tick as f64
    }

    /// Returns an update with the tick up to which the states before it were right. When the cube is
    /// farther from its predicted place than its motion explains, the server has corrected the way so
    /// far, and the cube is to glide from an earlier tick.
    pub(crate) fn corrected(&self, cube: CubeId, new: CubeUpdate) -> CubeUpdate {
        let newest = self.cubes.get(&cube).and_then(VecDeque::back);
        let Some(newest) = newest.filter(|newest| newest.update.tick + 1 < new.tick) else {
            return new;
        };
        let before = newest.at(new.tick - 1).position;
        let [turned_from, turned_to] = [&newest.update, &new].map(|of| of.velocity_at(new.tick));
        let way = difference(Kept::from(new).drawn.position, before);
        let explained_m =
            EXPLAINED_M + EXPLAINED_BY_TURN * length(difference(turned_to, turned_from));
        if length(difference(way, turned_to)) <= explained_m {
            return new;
        }
        let earliest = new.tick.saturating_sub(self.correction_ticks);
        let wrong_from = newest.update.tick.max(earliest);
        CubeUpdate {
            known_until: new.known_until.min(wrong_from),
            ..new
        }
    }

    /// Whether every cube has rested for a while.
    pub(crate) fn is_still(&self) -> bool {
        let is_still = |kept: &VecDeque<Kept>| kept.len() == 1 && kept[0].update.state.is_settled();
        self.cubes.values().all(is_still)
    }

    /// Adds an update. Ticks before `shown_tick` need not be kept.
    pub(crate) fn push(&mut self, cube: CubeId, new: CubeUpdate, shown_tick: f64) {
        if self.breaks_off(cube, &new, shown_tick) {
            self.remove(cube);
        }
        let kept = self.cubes.entry(cube).or_default();
        match kept.back_mut() {
            Some(newest) if newest.update.tick >= new.tick => {
                let state = new.state;
                *newest = Kept::from(CubeUpdate {
                    state,
                    ..newest.update
                });
            }
            // A keyframe repeats states that are predicted already.
            Some(newest) if newest.update.state_at(new.tick) == new.state => {}
            _ => kept.push_back(new.into()),
        }
        while kept
            .get(1)
            .is_some_and(|next| next.update.tick as f64 <= shown_tick)
            || kept.len() > MAX_UPDATES_PER_CUBE
        {
            kept.pop_front();
        }
    }

    /// Puts a cube somewhere as if it had been there all along.
    pub(crate) fn place(&mut self, cube: CubeId, pose: Pose) {
        let rest = CubeUpdate {
            tick: self.first_tick,
            known_until: self.first_tick,
            state: MotionState::at_rest(pose),
        };
        self.cubes.insert(cube, VecDeque::from([rest.into()]));
    }

    /// Forgets a cube.
    pub(crate) fn remove(&mut self, cube: CubeId) {
        self.cubes.remove(&cube);
    }

    /// Returns the known cubes.
    pub(crate) fn cubes(&self) -> impl Iterator<Item = CubeId> {
        self.cubes.keys().copied()
    }

    /// Returns where a cube is at a tick and a fraction: on a smooth way through its states at the
    /// ticks around it.
    pub(crate) fn pose_at(&self, cube: CubeId, tick: f64) -> Option<DrawnPose> {
        self.pose_of(self.cubes.get(&cube)?, tick)
    }

    /// Returns where each cube is at a tick and a fraction, by rising id.
    pub(crate) fn poses_at(&self, tick: f64) -> impl Iterator<Item = (CubeId, DrawnPose)> {
        let cubes = self.cubes.iter();
        cubes.filter_map(move |(&cube, kept)| Some((cube, self.pose_of(kept, tick)?)))
    }

    fn pose_of(&self, kept: &VecDeque<Kept>, tick: f64) -> Option<DrawnPose> {
        let next = kept.partition_point(|kept| kept.update.tick as f64 <= tick);
        let Some(index) = next.checked_sub(1) else {
            return kept.front().map(|first| first.drawn);
        };
        let known = &kept[index];
        if next == kept.len() {
            if known.update.state.is_settled() {
                return Some(known.drawn);
            }
            if self.is_extrapolated(tick) {
                return Some(self.extrapolate(known, tick));
            }
        }
        let (from_tick, end, to_tick) = match kept.get(next) {
            Some(Kept { update, .. }) if update.known_until as f64 <= tick => {
                let from = update.known_until.max(known.update.tick);
                (from, next, update.tick)
            }
            _ => {
                let from = tick.floor() as u64;
                (from, index, from.saturating_add(1))
            }
        };
        let ticks = to_tick.saturating_sub(from_tick).max(1) as f32;
        let ends = [known.at(from_tick), kept[end].at(to_tick)];
        let after = match kept.get(end + 1) {
            Some(kept) if kept.update.tick == to_tick + 1 => {
                difference(kept.drawn.position, ends[1].position)
            }
            _ => kept[end].update.velocity_at(to_tick + 1),
        };
        // At each end the mean of the ways in the tick before and after it: at the first moment
        // of a turn, the received velocity is that of the tick before.
        let mean = difference(ends[1].position, ends[0].position).map(|way_m| way_m / ticks);
        let before = known.update.velocity_at(from_tick);
        let middle =
            |a: [f32; 3], b: [f32; 3]| std::array::from_fn(|axis| (a[axis] + b[axis]) / 2.0);
        let velocities = [middle(before, mean), middle(mean, after)];
        let share = (tick - from_tick as f64) as f32 / ticks;
        Some(interpolation::curve(ends, ticks, velocities, share))
    }

    /// Extrapolates a cube to a tick of which nothing was received: it goes on as predicted until
    /// the next message is overdue, then slows down and stands.
    fn extrapolate(&self, known: &Kept, tick: f64) -> DrawnPose {
        let newest = self.newest_tick.max(known.update.tick);
        let silent = (tick - newest as f64).max(0.0);
        let share = ((silent - self.silent_ticks) / self.slowing_ticks).clamp(0.0, 1.0);
        let slowed = self.slowing_ticks * (share - share * share / 2.0);
        let ticks = (silent.min(self.silent_ticks) + slowed) as f32;

        let whole = newest.saturating_add(ticks as u64);
        let ends = [whole, whole.saturating_add(1)].map(|tick| known.at(tick));
        let turned = interpolation::curve(ends, 1.0, [[0.0; 3]; 2], ticks.fract());
        let start = known.at(newest).position;
        let [before, after] =
            [newest, newest.saturating_add(1)].map(|tick| known.update.velocity_at(tick));
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

fn length(way: [f32; 3]) -> f32 {
    way.iter().map(|part| part * part).sum::<f32>().sqrt()
}

impl CubeUpdate {
    fn state_at(&self, tick: u64) -> MotionState {
        self.state.advanced(self.tick, tick)
    }

    /// Returns how the cube moved in the tick that ends at `tick`, in metres per tick.
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
        if tick <= self.update.tick {
            return self.drawn;
        }
        self.update.state_at(tick).pose(&Codec::LIVE).into()
    }
}

impl From<CubeUpdate> for Kept {
    fn from(update: CubeUpdate) -> Self {
        let drawn = update.state.pose(&Codec::LIVE).into();
        Self { update, drawn }
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
        let update = CubeUpdate {
            tick,
            known_until: tick.saturating_sub(1),
            state,
        };
        buffer.received(tick);
        buffer.push(CUBE, update, shown_tick);
    }

    /// Returns a buffer with these updates from snapshots, of which ticks from `shown_tick` on are
    /// shown.
    fn buffer(updates: &[(u64, MotionState)], shown_tick: f64) -> SnapshotBuffer {
        let mut buffer = SnapshotBuffer::new(HZ);
        for &(tick, state) in updates {
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
        let update = CubeUpdate {
            tick: 30,
            known_until: 20,
            state: rest(4.0),
        };
        buffer.received(30);
        buffer.push(CUBE, update, 0.0);
        assert_eq!(x_m(&buffer, 20.0), 0.0);
        assert_eq!(x_m(&buffer, 25.0), 2.0);
    }

    #[test]
    fn a_keyframe_that_repeats_the_prediction_changes_nothing() {
        let mut buffer = buffer(&[(10, moving(0.0, 0.25))], 0.0);
        let state = moving(0.0, 0.25).advanced(10, 14);
        push(&mut buffer, 14, state, 0.0);
        assert_eq!(buffer.cubes[&CUBE].len(), 1);
    }

    #[test]
    fn in_a_long_silence_cubes_slow_down_and_then_stand() {
        let mut buffer = buffer(&[(10, moving(0.0, 0.25))], 0.0);
        assert!(!buffer.is_extrapolated(10.0) && buffer.is_extrapolated(10.1));
        // A heartbeat is due after 4 ticks; in the next 5 the cube slows down.
        for (tick, expected_m) in [
            (14.0, 1.0),
            (16.5, 1.0 + 0.25 * 2.5 * 0.75),
            (19.0, 1.625),
            (90.0, 1.625),
        ] {
            assert!((x_m(&buffer, tick) - expected_m).abs() < 1e-5, "at {tick}");
        }
        buffer.received(81);
        assert_eq!(x_m(&buffer, 81.0), 17.75);
    }

    #[test]
    fn a_cube_that_was_hit_is_not_extrapolated_to_gain_speed_for_ever() {
        let mut set = MotionSet::new(&Codec::LIVE);
        set.insert(CUBE, moving(0.0, 0.1));
        set.advance_to(set.tick() + 1);
        set.encode_tick(|_| pose(0.6), &mut Vec::new());
        let hit = *set.get(CUBE).unwrap();
        let mut buffer = buffer(&[(10, hit)], 0.0);
        let straight_m = 0.6 + 4.0 * hit.velocity()[0] / QUANTA_PER_METRE;
        let gained_m = HIGHEST_ACCELERATION_MPS2 / 400.0 * 10.0;
        assert!((x_m(&buffer, 14.0) - straight_m - gained_m).abs() < 0.01);
        // Within known ticks the prediction holds: the cube gains most of the hit in each tick.
        buffer.received(14);
        assert!(x_m(&buffer, 14.0) > straight_m + 2.0);
    }

    #[test]
    fn a_cube_that_starts_and_stops_does_so_smoothly() {
        let updates = [
            (10, rest(0.0)),
            (11, moving(0.5, 0.5)),
            (12, rest(1.0)),
            (13, rest(1.0)),
        ];
        let buffer = buffer(&updates, 0.0);
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
    fn shown_updates_are_dropped_and_the_buffer_is_bounded() {
        let updates: Vec<_> = (0..1_000)
            .map(|tick| (tick, rest(tick as f32 / 10.0)))
            .collect();
        let unseen = buffer(&updates, 0.0);
        assert_eq!(unseen.cubes[&CUBE].len(), MAX_UPDATES_PER_CUBE);
        let shown = buffer(&updates, 997.5);
        assert_eq!(shown.cubes[&CUBE].front().unwrap().update.tick, 997);
        assert!((x_m(&shown, 997.5) - 99.75).abs() < 0.01);
    }
}
