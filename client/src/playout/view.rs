//! The poses to draw: own cubes where the client put them, remote ones a playout delay in the past.

use std::collections::BTreeMap;

use cubesync_protocol::interpolation::DrawnPose;
use cubesync_protocol::motion::{Codec, MotionState};
use cubesync_protocol::{CubeId, CubeInfo, CubeKind, Pose};

use super::blend::Blends;
use super::contact::{Body, Contacts};
use super::delay::PlayoutDelay;
use super::snapshot_buffer::{CubeUpdate, SnapshotBuffer};

/// Loose cubes within this distance of what the client moves take part in contacts, in metres: two of 4 m that touch
/// corner to corner, or a row of smaller ones.
const NEAR_M: f32 = 7.0;

/// The way to show remote cubes: smoothly, or in one of two ways that show why that is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Display {
    /// A playout delay in the past, between two known states.
    #[default]
    Smooth,
    /// At the newest received state, standing until the next one.
    Raw,
    /// Now: extrapolated from the newest received state.
    Extrapolated,
}

/// The cubes' poses of one session, from the join on.
///
/// Its clock is any one that runs at the room's rate and is not corrected in jerks: the playout delay
/// is learnt in the same clock, so what matters is only that it is steady.
#[derive(Debug, Default)]
pub struct View {
    buffer: SnapshotBuffer,
    blends: Blends,
    /// The cubes whose updates came too late, until they are blended.
    late: BTreeMap<CubeId, Late>,
    /// The own cube and the held ones, where the client put them.
    controlled: BTreeMap<CubeId, Pose>,
    playout: PlayoutDelay,
    display: Display,
    contacts: Contacts,
    tick_hz: f64,
}

/// A cube that was shown where it was not.
#[derive(Debug, Clone, Copy)]
struct Late {
    shown_m: [f32; 3],
    clock_tick: f64,
    /// Whether it was at a server that has the room no longer.
    is_other_servers: bool,
}

impl View {
    /// Makes a view of a room of this tick rate.
    pub fn new(tick_hz: u8) -> Self {
        Self {
            buffer: SnapshotBuffer::new(tick_hz),
            blends: Blends::new(tick_hz),
            playout: PlayoutDelay::new(tick_hz),
            tick_hz: f64::from(tick_hz),
            ..Self::default()
        }
    }

    /// Makes a view whose playout delay stays the same, as for the recording of a server, whose ticks
    /// come without a network.
    pub fn with_delay(tick_hz: u8, delay_ticks: f64) -> Self {
        Self {
            playout: PlayoutDelay::fixed(delay_ticks),
            ..Self::new(tick_hz)
        }
    }

    /// Adds the states of cubes from a tick on, which were read when the server's clock was at
    /// `clock_tick`. Up to and including `known_until` the states before are known to have been
    /// right.
    pub fn moved(
        &mut self,
        clock_tick: f64,
        tick: u64,
        known_until: u64,
        states: &[(CubeId, MotionState)],
    ) {
        let shown_tick = clock_tick - self.playout.ticks();
        let updates = states.iter().map(|&(cube, state)| {
            let update = CubeUpdate {
                tick,
                known_until,
                state,
            };
            (cube, self.buffer.corrected(cube, update))
        });
        let updates: Vec<_> = updates.collect();
        let cubes: Vec<_> = if self.buffer.is_extrapolated(shown_tick) {
            self.buffer.cubes().collect()
        } else {
            let late = updates
                .iter()
                .filter(|(_, update)| (update.known_until as f64) < shown_tick);
            late.map(|&(cube, _)| cube).collect()
        };
        for cube in cubes {
            if let Some(shown) = self.shown(cube, clock_tick) {
                // The next tick in the same frame may correct this one.
                self.late.entry(cube).or_insert(Late {
                    shown_m: shown.position,
                    clock_tick,
                    is_other_servers: false,
                });
            }
        }
        for (cube, update) in &updates {
            if let Some(late) = self.late.get_mut(cube) {
                late.is_other_servers |= self.buffer.breaks_off(*cube, update, shown_tick);
            }
        }
        // A tick arrives cell by cell.
        if tick > self.buffer.newest_tick() {
            if self.buffer.is_first(tick) {
                self.playout.go_on(tick, clock_tick);
            }
            self.playout.arrived(tick, clock_tick);
        }
        self.buffer.received(tick);
        for (cube, update) in updates {
            if !self.controlled.contains_key(&cube) {
                self.buffer.push(cube, update, shown_tick);
            }
        }
    }

    /// Blends late updates in and adapts the playout delay to the network. It is called once a frame,
    /// after everything that has arrived was added.
    pub fn advance(&mut self, clock_tick: f64) {
        while let Some((cube, late)) = self.late.pop_first() {
            let shown_tick = late.clock_tick - self.playout.ticks();
            if let Some(predicted) = self.buffer.pose_at(cube, shown_tick) {
                let ends_m = [late.shown_m, predicted.position];
                self.blends
                    .start(cube, ends_m, late.clock_tick, late.is_other_servers);
            }
        }
        self.playout.advance(clock_tick, || self.buffer.is_still());
        self.blends.advance(clock_tick);
    }

    /// Lets what the client moves push loose cubes that are shown around it; `info` knows a cube. It is called once a
    /// frame, after the client has put its cubes somewhere, in rooms where loose cubes give way.
    pub fn touch<'a>(&mut self, clock_tick: f64, info: impl Fn(CubeId) -> Option<&'a CubeInfo>) {
        if self.display != Display::Smooth {
            self.forget_touches();
            return;
        }
        let body = |cube, pose| {
            let info = info(cube)?;
            Some(Body {
                cube,
                width_m: info.width.to_metres(),
                pose,
                is_loose: info.kind == CubeKind::Free { holder: None },
            })
        };
        let flies = |cube| self.contacts.flies(cube);
        let own = self
            .controlled
            .iter()
            .map(|(&cube, &pose)| (cube, pose.into()));
        let own = own.filter_map(|(cube, pose)| body(cube, pose));
        let (thrown, pushers): (Vec<_>, Vec<_>) = own.partition(|own| flies(own.cube));
        let near = |position: [f32; 3]| {
            let away = |other: &Body| {
                let parts = position.iter().zip(other.pose.position);
                parts.map(|(a, b)| (a - b).powi(2)).sum::<f32>()
            };
            pushers.iter().any(|other| away(other) < NEAR_M * NEAR_M)
        };
        let shown_tick = clock_tick - self.playout.ticks();
        let others = self.buffer.poses_at(shown_tick).filter(|(cube, pose)| {
            (near(pose.position) || self.contacts.is_touched(*cube))
                && !self.controlled.contains_key(cube)
        });
        let others = others.filter_map(|(cube, mut pose)| {
            add(&mut pose, self.blends.offset_m(cube, clock_tick));
            body(cube, pose)
        });
        let others = others.filter(|other| other.is_loose || self.contacts.is_touched(other.cube));
        let mut others: Vec<_> = others.collect();
        others.extend(thrown);
        self.contacts
            .step(clock_tick / self.tick_hz, &pushers, &others);
    }

    /// Shows every cube where it would be if nothing had been touched.
    pub fn forget_touches(&mut self) {
        self.contacts = Contacts::default();
    }

    /// Goes on with the states of another server, whose ticks begin with `first_tick`. After a pause, cubes
    /// glide from where they are shown to where that server has them.
    pub fn go_on(&mut self, first_tick: u64) {
        self.buffer.go_on(first_tick);
    }

    /// Sets how remote cubes are shown from now on.
    pub fn set_display(&mut self, display: Display) {
        self.display = display;
    }

    /// Returns how remote cubes are shown.
    pub fn display(&self) -> Display {
        self.display
    }

    /// Returns the playout delay, in ticks.
    pub fn delay_ticks(&self) -> f64 {
        self.playout.ticks()
    }

    /// Gives this client control of a cube: from now on it is shown where the client puts it.
    pub fn gain(&mut self, cube: CubeId, pose: Pose) {
        self.controlled.insert(cube, pose);
        self.contacts.remove(cube);
    }

    /// Ends this client's control of a cube. A cube that was let go stays where the client put it
    /// until somebody moves it: the server's updates of the way there are of the past.
    pub fn lose(&mut self, cube: CubeId) {
        if let Some(pose) = self.controlled.remove(&cube) {
            self.buffer.place(cube, pose);
            self.blends.remove(cube);
            self.late.remove(&cube);
        }
    }

    /// Forgets a cube that left the room.
    pub fn remove(&mut self, cube: CubeId) {
        self.controlled.remove(&cube);
        self.buffer.remove(cube);
        self.blends.remove(cube);
        self.late.remove(&cube);
        self.contacts.remove(cube);
    }

    /// Lets a cube that this client controls fly on with the velocity that it has, until the server knows of it.
    pub fn let_go(&mut self, cube: CubeId) {
        if let Some(&pose) = self.controlled.get(&cube) {
            self.contacts.let_go(cube, pose.into());
        }
    }

    /// Moves a cube if this client controls it.
    pub fn set_pose(&mut self, cube: CubeId, pose: Pose) {
        if let Some(shown) = self.controlled.get_mut(&cube) {
            *shown = pose;
        }
    }

    /// Whether this client controls the cube.
    pub fn is_controlled(&self, cube: CubeId) -> bool {
        self.controlled.contains_key(&cube)
    }

    /// Returns where to draw a cube when the server's clock is at `clock_tick`.
    pub fn pose_at(&self, info: &CubeInfo, clock_tick: f64) -> DrawnPose {
        let mut pose = self.published_at(info, clock_tick);
        if let Some(offset_m) = self.contacts.offset_m(info.cube) {
            add(&mut pose, offset_m);
        }
        pose
    }

    /// Returns where a cube would be drawn if the client had not [touched](Self::touch) it.
    pub fn published_at(&self, info: &CubeInfo, clock_tick: f64) -> DrawnPose {
        if let Some(&pose) = self.controlled.get(&info.cube) {
            return pose.into();
        }
        let shown = match self.display {
            Display::Smooth => self.shown(info.cube, clock_tick),
            Display::Raw => {
                let newest_tick = self.buffer.newest_tick() as f64;
                self.buffer.pose_at(info.cube, newest_tick)
            }
            Display::Extrapolated => self.buffer.pose_at(info.cube, clock_tick),
        };
        shown.unwrap_or_else(|| info.motion.pose(&Codec::LIVE).into())
    }

    /// Returns where a cube is shown that this client does not control.
    fn shown(&self, cube: CubeId, clock_tick: f64) -> Option<DrawnPose> {
        let shown_tick = clock_tick - self.playout.ticks();
        let mut shown = self.buffer.pose_at(cube, shown_tick)?;
        add(&mut shown, self.blends.offset_m(cube, clock_tick));
        Some(shown)
    }
}

fn add(pose: &mut DrawnPose, offset_m: [f32; 3]) {
    for (position, offset) in pose.position.iter_mut().zip(offset_m) {
        *position += offset;
    }
}

#[cfg(test)]
mod tests {
    use cubesync_protocol::limits::FAR_INTERVAL_TICKS;
    use cubesync_protocol::motion::MotionSet;
    use cubesync_protocol::{Colour, CubeKind};

    use super::*;
    use crate::testing::{moving, pose};
    use crate::{Controller, Input};

    const DELAY_TICKS: f64 = 2.25;

    fn info() -> CubeInfo {
        CubeInfo {
            cube: CubeId(0),
            kind: CubeKind::Free { holder: None },
            name: "cube".into(),
            colour: Colour::from([1, 2, 3]),
            width: Default::default(),
            motion: MotionState::at_rest(pose(0.0)),
        }
    }

    /// Receives the cube at rest at `x_m`, half a tick after the tick.
    fn receive(view: &mut View, tick: u64, x_m: f32) {
        update(
            view,
            tick as f64 + 0.5,
            tick,
            MotionState::at_rest(pose(x_m)),
        );
    }

    fn update(view: &mut View, clock_tick: f64, tick: u64, state: MotionState) {
        view.moved(clock_tick, tick, tick - 1, &[(CubeId(0), state)]);
        view.advance(clock_tick);
    }

    fn x_m(view: &View, clock_tick: f64) -> f32 {
        view.pose_at(&info(), clock_tick).position[0]
    }

    #[test]
    fn a_remote_cube_is_shown_the_playout_delay_ago() {
        let mut view = View::with_delay(20, DELAY_TICKS);
        for tick in 1..=10 {
            receive(&mut view, tick, tick as f32);
        }
        assert_eq!(view.delay_ticks(), DELAY_TICKS);
        assert_eq!(x_m(&view, 10.25), 8.0);
        assert!((8.0..9.0).contains(&x_m(&view, 10.75)));
        assert_eq!(x_m(&view, 11.25), 9.0);
    }

    #[test]
    fn a_cube_that_was_let_go_never_goes_back_along_its_way() {
        let mut view = View::with_delay(20, DELAY_TICKS);
        receive(&mut view, 1, 0.0);
        view.gain(CubeId(0), pose(0.0));
        for tick in 2..=10 {
            view.set_pose(CubeId(0), pose(tick as f32));
            // The server sends what it received three ticks ago.
            receive(&mut view, tick, tick as f32 - 3.0);
            assert_eq!(x_m(&view, tick as f64 + 0.5), tick as f32);
        }
        view.lose(CubeId(0));
        receive(&mut view, 11, 10.0);
        for clock_tick in [11.0, 12.0, 20.0] {
            assert_eq!(x_m(&view, clock_tick), 10.0);
        }
    }

    #[test]
    fn an_update_that_comes_late_is_blended_in() {
        let mut view = View::with_delay(20, DELAY_TICKS);
        receive(&mut view, 1, 0.0);
        update(&mut view, 2.5, 2, moving(0.0, 0.25));
        assert_eq!(x_m(&view, 8.25), 1.0);
        // The cube stopped at tick 3, and tick 6 is shown already.
        update(&mut view, 8.25, 3, MotionState::at_rest(pose(0.25)));
        for (clock_tick, expected_m) in [(8.25, 1.0), (10.25, 0.4375), (12.25, 0.25)] {
            assert_eq!(x_m(&view, clock_tick), expected_m, "at {clock_tick}");
        }
    }

    #[test]
    fn a_cube_that_a_late_sample_moved_glides_there_from_where_it_was_right() {
        let mut view = View::with_delay(20, DELAY_TICKS);
        receive(&mut view, 1, 0.0);
        update(&mut view, 2.5, 2, moving(0.0, 0.25));
        // It turned back at tick 2, and its client's sample came at tick 6.
        for (now, tick, x_m) in [(6.5, 6, -1.0), (7.5, 7, -1.25), (8.5, 8, -1.5)] {
            update(&mut view, now, tick, moving(x_m, -0.25));
        }
        let shown = |clock_tick| view.pose_at(&info(), clock_tick).position[0];
        let steps = (0..80).map(|part| f64::from(part) / 20.0 + 8.5);
        let steps = steps.map(|at| (shown(at + 0.05) - shown(at)).abs());
        let longest_m = steps.fold(0.0, f32::max);
        // Without gliding it would be the way of five ticks within one.
        assert!(longest_m < 0.05 * 3.0 * 0.25, "{longest_m}");
        assert!((shown(10.25) - -1.5).abs() < 0.01);
    }

    #[test]
    fn a_state_that_is_corrected_in_the_same_frame_is_not_shown() {
        let mut view = View::with_delay(20, DELAY_TICKS);
        receive(&mut view, 1, 0.0);
        // The cube was far away for a tick, and both states are read at once.
        for (tick, x_m) in [(2, 9.0), (3, 0.25)] {
            let state = MotionState::at_rest(pose(x_m));
            view.moved(8.25, tick, tick - 1, &[(CubeId(0), state)]);
        }
        view.advance(8.25);
        assert_eq!(x_m(&view, 8.25), 0.0);
        assert!((0.0..0.25).contains(&x_m(&view, 9.0)));
    }

    #[test]
    fn after_a_long_silence_frozen_cubes_catch_up_and_do_not_jump() {
        let mut view = View::with_delay(20, DELAY_TICKS);
        receive(&mut view, 1, 0.0);
        update(&mut view, 2.5, 2, moving(0.0, 0.03125));
        // A heartbeat was due at 6; from then on the cube slowed down for 250 ms.
        let frozen_m = 6.5 * 0.03125;
        assert_eq!(x_m(&view, 40.0), frozen_m);
        view.moved(40.0, 38, 37, &[]);
        view.advance(40.0);
        assert_eq!(x_m(&view, 40.0), frozen_m);
        assert!((frozen_m..1.1).contains(&x_m(&view, 41.0)));
        assert_eq!(x_m(&view, 44.0), (44.0 - 2.25 - 2.0) * 0.03125);
    }

    /// Returns the poses at ticks of 30 Hz of a player who walks east for two seconds, and then in
    /// the direction that `turned` returns for the seconds since.
    fn walk(turned: impl Fn(f32) -> [f32; 2]) -> Vec<Pose> {
        let mut controller = Controller::new(pose(0.0));
        let step = |tick: u16| {
            let since_s = f32::from(tick) / 30.0 - 2.0;
            let direction = if since_s < 0.0 {
                [1.0, 0.0]
            } else {
                turned(since_s)
            };
            let input = Input {
                direction,
                ..Input::default()
            };
            controller.step(input, 1.0 / 30.0);
            controller.pose()
        };
        (0..120).map(step).collect()
    }

    /// Returns the longest step in which a far cube is drawn at 60 Hz, as a multiple of the longest
    /// true step. The cube is sent at every fourth tick.
    fn longest_jump(truth: &[Pose], first: usize) -> f32 {
        let far = usize::from(FAR_INTERVAL_TICKS);
        let length = |from: [f32; 3], to: [f32; 3]| (to[0] - from[0]).hypot(to[1] - from[1]);
        let steps = truth.windows(2).map(|pair| {
            let [from, to] = [pair[0], pair[1]].map(|pose| pose.position.to_metres());
            length(from, to) / 2.0
        });
        let most_m = steps.fold(0.0, f32::max);
        let mut view = View::with_delay(30, 1.95);
        let mut predicted = MotionSet::new(&Codec::LIVE);
        let rest = MotionState::at_rest(truth[0]);
        predicted.insert(CubeId(0), rest);
        view.moved(0.2, 0, 0, &[(CubeId(0), rest)]);
        let (mut shown, mut longest_m) = (None, 0.0);
        for (tick, &truth) in truth.iter().enumerate() {
            let now = tick as u64;
            if tick % far == first {
                predicted.advance_to(now);
                predicted.encode_tick(|_| truth, &mut Vec::new());
                let state = *predicted.get(CubeId(0)).unwrap();
                let known_until = now.saturating_sub(FAR_INTERVAL_TICKS.into());
                view.moved(now as f64 + 0.2, now, known_until, &[(CubeId(0), state)]);
            }
            for part in [0.2, 0.7] {
                view.advance(now as f64 + part);
                let position = view.pose_at(&info(), now as f64 + part).position;
                let before = shown.replace(position).unwrap_or(position);
                longest_m = length(before, position).max(longest_m);
            }
        }
        longest_m / most_m
    }

    #[test]
    fn a_far_cube_that_walks_and_turns_never_jumps() {
        let corner = walk(|_| [0.0, 1.0]);
        let back = walk(|_| [-1.0, 0.0]);
        let circle = walk(|s| [(s * 2.0).cos(), (s * 2.0).sin()]);
        let stop = walk(|_| [0.0, 0.0]);
        for (index, way) in [corner, back, circle, stop].into_iter().enumerate() {
            for first in 0..FAR_INTERVAL_TICKS.into() {
                let longest = longest_jump(&way, first);
                assert!(longest <= 2.0, "way {index}: {longest} times as fast");
            }
        }
    }

    #[test]
    fn raw_cubes_stand_between_messages_and_extrapolated_ones_are_shown_in_the_present() {
        let mut view = View::with_delay(20, DELAY_TICKS);
        receive(&mut view, 1, 0.0);
        update(&mut view, 2.5, 2, moving(0.0, 0.25));
        for (display, expected_m) in [
            (Display::Raw, [0.0, 0.0]),
            (Display::Extrapolated, [0.25, 0.375]),
            (Display::Smooth, [0.0, 0.0]),
        ] {
            view.set_display(display);
            assert_eq!(view.display(), display);
            for (clock_tick, expected_m) in [3.0, 3.5].into_iter().zip(expected_m) {
                let shown_m = x_m(&view, clock_tick);
                assert!(
                    (shown_m - expected_m).abs() < 0.003,
                    "{display:?}: {shown_m}"
                );
            }
        }
    }

    /// Lets a cube walk until its server is gone at tick 20, and from tick `first` on at another server,
    /// which has moved it on meanwhile. Returns where it is drawn from then on, at 60 Hz.
    fn drawn_after_a_pause(pause_ticks: u64, first: u64) -> Vec<f32> {
        const STEP_M: f32 = 0.2;
        let mut view = View::new(30);
        let place_m = |clock_tick: u64| clock_tick as f32 * STEP_M;
        let received = |view: &mut View, clock_tick: u64, tick: u64, known_until: u64| {
            let state = moving(place_m(clock_tick), STEP_M);
            let states = [(CubeId(0), state)];
            view.moved(clock_tick as f64, tick, known_until, &states);
        };
        let mut drawn_m = Vec::new();
        for clock_tick in 1..=20 + pause_ticks + 60 {
            let since = clock_tick.checked_sub(20 + pause_ticks);
            match since {
                None if clock_tick <= 20 => {
                    received(&mut view, clock_tick, clock_tick, clock_tick - 1)
                }
                None => {}
                Some(0) => {
                    view.go_on(first);
                    received(&mut view, clock_tick, first, 20);
                }
                Some(since) => {
                    let tick = first + since;
                    received(&mut view, clock_tick, tick, tick - 1);
                }
            }
            for part in [0.0, 0.5] {
                let now = clock_tick as f64 + part;
                view.advance(now);
                if clock_tick >= 20 {
                    drawn_m.push(x_m(&view, now));
                }
            }
        }
        drawn_m
    }

    #[test]
    fn after_a_change_of_servers_cubes_glide_to_where_they_are_and_never_go_back() {
        // A pause of a second; the ticks go on with time, after the newest one, or far ahead.
        for first in [50, 21, 1_000] {
            let drawn_m = drawn_after_a_pause(30, first);
            let steps = drawn_m.windows(2).map(|pair| pair[1] - pair[0]);
            let (least, most) = steps.fold((f32::MAX, f32::MIN), |(least, most), step| {
                (least.min(step), most.max(step))
            });
            assert!(least > -1e-3, "first tick {first}: {least} m back");
            // The cube missed 3.5 m, and catches up within half a second.
            assert!(most < 0.6, "first tick {first}: {most} m at once");
            let last_m = drawn_m[drawn_m.len() - 1];
            let behind_m = 110.5 * 0.2 - last_m;
            assert!(
                (0.1..0.5).contains(&behind_m),
                "first tick {first}: {behind_m}"
            );
        }
    }

    #[test]
    fn a_change_of_servers_without_a_pause_is_not_seen() {
        let drawn_m = drawn_after_a_pause(1, 21);
        for pair in drawn_m.windows(2) {
            assert!((pair[1] - pair[0] - 0.1).abs() < 0.02, "{drawn_m:?}");
        }
    }

    #[test]
    fn a_cube_without_updates_is_shown_where_it_joined() {
        assert_eq!(x_m(&View::with_delay(20, DELAY_TICKS), 5.0), 0.0);
    }

    #[test]
    fn a_pushed_cube_that_leaves_is_taken_forgotten_or_shown_raw_is_where_it_is() {
        const OWN: CubeId = CubeId(1);
        let infos = [
            info(),
            CubeInfo {
                cube: OWN,
                kind: CubeKind::Player,
                ..info()
            },
        ];
        let known = |cube| infos.iter().find(|info| info.cube == cube);
        let pushed = || {
            let mut view = View::with_delay(30, DELAY_TICKS);
            view.gain(OWN, pose(-1.0));
            receive(&mut view, 1, 0.0);
            for frame in 0..10_u8 {
                let clock_tick = 3.0 + f64::from(frame) / 2.0;
                view.advance(clock_tick);
                view.set_pose(OWN, pose(-1.0 + 0.1 * f32::from(frame)));
                view.touch(clock_tick, known);
            }
            assert!(x_m(&view, 7.5) > 0.5);
            view
        };
        let mut view = pushed();
        view.remove(CubeId(0));
        view.touch(7.5, known);
        receive(&mut view, 8, 0.0);
        assert_eq!(x_m(&view, 7.5), 0.0);
        let mut view = pushed();
        view.gain(CubeId(0), pose(0.25));
        view.touch(7.5, known);
        assert_eq!(x_m(&view, 7.5), 0.25);
        let mut view = pushed();
        view.forget_touches();
        assert_eq!(x_m(&view, 7.5), 0.0);
        let mut view = pushed();
        view.set_display(Display::Raw);
        view.touch(7.5, known);
        assert_eq!(x_m(&view, 7.5), 0.0);
    }
}
