//! Contact at once: what a client moves pushes loose cubes in the same frame.
//!
//! The server's mechanics decide where loose cubes are, but what they make of a push is shown a round trip and a
//! playout delay later. Until then a cube that is touched leaves the place where it is published: it is pushed out of
//! what the client moves, may push others, and slides on. One that the client lets go flies on. When nothing has touched it for a moment, it is back where it
//! is published, to the bit. Turns and falls are always as published.

use std::collections::BTreeMap;

use cubesync_protocol::CubeId;
use cubesync_protocol::interpolation::DrawnPose;

use super::solid::{Solid, difference, dot};

/// Time after a contact in which a cube comes back to where it is published: a frame of 30 a second later it is less
/// than 0.3 s.
const RETURN_S: f32 = 0.25;
/// Overlap that is left: published poses are rounded, and lag behind each other.
const LEFT_M: f32 = 0.01;
/// Speed that a contact adds at most in a frame to the motion there is, as when a player drops onto a cube, so that
/// nothing jumps. In the server's mechanics cubes that overlap part at 3 m/s; with half of these two, overlaps grow.
const PARTING_MPS: f32 = 2.0;
/// Deceleration of a sliding cube, as by the server's mechanics: their friction times gravity.
const FRICTION_MPS2: f32 = 6.0;
/// Rate at which a cube comes nearer to its published place without moving into what touches it.
const APPROACH_PER_S: f32 = 8.0;
const GRAVITY_MPS2: f32 = 9.81;
/// Longest time that a cube flies of which the server has not said so, and how far it is published to move in a step then.
const LONGEST_FLIGHT_S: f32 = 1.0;
const KNOWN_M: f32 = 0.03;
/// A cube that is farther from its published place is not pushed: the server does not let it follow. A third of a
/// second's run.
const ASTRAY_M: f32 = 4.0;
/// A cube that is faster was put where it is, and has no speed: twice the top speed of the server's mechanics.
const FASTEST_MPS: f32 = 60.0;
/// Longest way that is moved at once: less than half of what a player's cube measures.
const STEP_M: f32 = 0.25;
const MAX_STEPS: f32 = 8.0;
/// Number of cubes that push each other in a row.
const MAX_ROW: usize = 4;
/// Longest time between two steps that counts, in seconds.
const LONGEST_S: f32 = 0.1;

/// A cube that takes part in contacts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Body {
    pub(super) cube: CubeId,
    pub(super) width_m: f32,
    /// Where the client put it, or where it is published.
    pub(super) pose: DrawnPose,
    /// Whether it gives way: nobody holds it.
    pub(super) is_loose: bool,
}

/// The loose cubes that are not shown where they are published.
#[derive(Debug, Clone, Default)]
pub(super) struct Contacts {
    touched: BTreeMap<CubeId, Touched>,
    /// Where all bodies were at the last step, by rising id.
    before: Vec<(CubeId, [f32; 3])>,
    /// The velocities of what the client moved in the last step.
    velocities_mps: Vec<(CubeId, [f32; 3])>,
    clock_s: f64,
}

/// A cube that has been touched lately.
#[derive(Debug, Clone, Copy)]
struct Touched {
    /// Where contacts alone would have it.
    place_m: [f32; 3],
    /// How it slides, on the level, or flies.
    velocity_mps: [f32; 3],
    /// The direction in which it was pushed last.
    pushed: [f32; 3],
    since_s: f32,
    /// The time that it has flown, if it was thrown.
    flown_s: Option<f32>,
    /// Whether the server has not said that it flies.
    is_ahead: bool,
    offset_m: [f32; 3],
    /// How far it was shown to move in the last step.
    way_m: f32,
}

/// A cube that may be pushed in a step, where it is shown.
struct Near<'a> {
    body: &'a Body,
    solid: Solid,
    touched: Option<Touched>,
    /// How it moves where it is published.
    published_mps: [f32; 3],
    /// Where it was shown at the step before, and how far it may come from there by contacts.
    from_m: [f32; 3],
    farthest_m: f32,
}

/// What pushes in a step.
struct Pusher {
    solid: Solid,
    velocity_mps: [f32; 3],
}

impl Contacts {
    /// Whether a cube is not shown where it is published.
    pub(super) fn is_touched(&self, cube: CubeId) -> bool {
        self.touched.contains_key(&cube)
    }

    /// Returns the way from where a cube is published to where it is shown.
    pub(super) fn offset_m(&self, cube: CubeId) -> Option<[f32; 3]> {
        Some(self.touched.get(&cube)?.offset_m)
    }

    /// Whether a cube has been let go of which the server does not know yet.
    pub(super) fn flies(&self, cube: CubeId) -> bool {
        self.touched.get(&cube).is_some_and(|known| known.is_ahead)
    }

    /// Lets a cube that the client moved fly on from a pose, with the velocity of the last step.
    pub(super) fn let_go(&mut self, cube: CubeId, pose: DrawnPose) {
        let moved = self.velocities_mps.iter().find(|(moved, _)| *moved == cube);
        let velocity_mps = moved.map_or([0.0; 3], |(_, velocity_mps)| *velocity_mps);
        let thrown = Touched {
            place_m: pose.position,
            velocity_mps,
            pushed: [0.0; 3],
            since_s: 0.0,
            flown_s: Some(0.0),
            is_ahead: true,
            offset_m: [0.0; 3],
            way_m: length(velocity_mps) * LONGEST_S,
        };
        self.touched.insert(cube, thrown);
    }

    /// Forgets a cube.
    pub(super) fn remove(&mut self, cube: CubeId) {
        self.touched.remove(&cube);
    }

    /// Moves on to the time of a clock: `pushers` are what the client moves, and `loose` the cubes around them with all
    /// that are touched, both by rising id.
    pub(super) fn step(&mut self, clock_s: f64, pushers: &[Body], loose: &[Body]) {
        let dt_s = ((clock_s - self.clock_s) as f32).clamp(0.0, LONGEST_S);
        self.clock_s = clock_s;
        let ways_m: Vec<_> = pushers.iter().map(|body| self.way_m(body, dt_s)).collect();
        let longest_m = ways_m.iter().map(|way| length(*way)).fold(0.0, f32::max);
        let mut near = Vec::with_capacity(loose.len());
        for body in loose {
            let touched = self.touched.remove(&body.cube);
            near.push(Near::new(
                body,
                touched,
                self.way_m(body, dt_s),
                longest_m,
                dt_s,
            ));
        }

        let steps = (longest_m / STEP_M).ceil().clamp(1.0, MAX_STEPS);
        for step in 1..=steps as u8 {
            let left = 1.0 - f32::from(step) / steps;
            let pushers = pushers.iter().zip(&ways_m).map(|(body, way_m)| {
                let mut solid = Solid::new(body.width_m, &body.pose);
                solid.shift(way_m.map(|part| -part * left));
                let velocity_mps = velocity_mps(*way_m, dt_s);
                Pusher {
                    solid,
                    velocity_mps,
                }
            });
            push_row(pushers.collect(), &mut near);
        }
        self.touched = near.iter().filter_map(Near::outcome).collect();
        let moved = pushers.iter().zip(&ways_m);
        let velocities_mps = moved.map(|(body, way_m)| (body.cube, velocity_mps(*way_m, dt_s)));
        self.velocities_mps = velocities_mps.collect();
        let bodies = pushers.iter().chain(loose);
        self.before = bodies.map(|body| (body.cube, body.pose.position)).collect();
        self.before.sort_unstable_by_key(|(cube, _)| *cube);
    }

    /// Returns how far a body has come since the last step.
    fn way_m(&self, body: &Body, dt_s: f32) -> [f32; 3] {
        let found = self
            .before
            .binary_search_by_key(&body.cube, |(cube, _)| *cube);
        let way_m = found.map_or([0.0; 3], |index| {
            difference(body.pose.position, self.before[index].1)
        });
        match length(way_m) <= FASTEST_MPS * dt_s {
            true => way_m,
            false => [0.0; 3],
        }
    }
}

/// Pushes cubes out of the pushers, and what is in their way out of them.
fn push_row(mut pushers: Vec<Pusher>, near: &mut [Near<'_>]) {
    let gives_way = |it: &&mut Near<'_>| it.body.is_loose && it.off_m() < ASTRAY_M;
    let mut waiting: Vec<_> = near.iter_mut().filter(gives_way).collect();
    for _ in 0..MAX_ROW {
        let mut next = Vec::new();
        waiting.retain_mut(|it| {
            let pushed = pushers.iter().filter(|pusher| it.give_way(pusher)).count();
            if let Some(known) = it.touched.filter(|_| pushed > 0) {
                let (solid, velocity_mps) = (it.solid, known.velocity_mps);
                next.push(Pusher {
                    solid,
                    velocity_mps,
                });
            }
            pushed == 0
        });
        pushers = next;
    }
}

impl<'a> Near<'a> {
    /// Lets a cube go on that has come `way_m` far where it is published, beside pushers of which one has come
    /// `longest_m` far. Nothing is shown to move farther at once than that, than it is published to, or than it did
    /// before, but for [`PARTING_MPS`].
    fn new(
        body: &'a Body,
        before: Option<Touched>,
        way_m: [f32; 3],
        longest_m: f32,
        dt_s: f32,
    ) -> Self {
        let published_m = body.pose.position;
        let offset_m = before.map_or([0.0; 3], |known| known.offset_m);
        let last_m = before.map_or(0.0, |known| known.way_m);
        let mut near = Self {
            body,
            solid: Solid::new(body.width_m, &body.pose),
            touched: before.map(|known| known.gone_on(body, way_m, dt_s)),
            published_mps: velocity_mps(way_m, dt_s),
            from_m: std::array::from_fn(|axis| published_m[axis] - way_m[axis] + offset_m[axis]),
            farthest_m: longest_m.max(length(way_m)).max(last_m) + PARTING_MPS * dt_s,
        };
        let Some(mut known) = near.touched.take() else {
            return near;
        };
        let is_late = near.shift(known.offset_m);
        if is_late {
            known.offset_m = difference(near.solid.centre_m(), published_m);
        }
        near.touched = Some(known).filter(|known| is_late || known.since_s < known.returns_s());
        near
    }

    /// Returns how far the cube is from where it is published.
    fn off_m(&self) -> f32 {
        length(difference(self.solid.centre_m(), self.body.pose.position))
    }

    /// Moves the cube. Returns whether it does not come so far in this step.
    fn shift(&mut self, way_m: [f32; 3]) -> bool {
        self.solid.shift(way_m);
        let come_m = difference(self.solid.centre_m(), self.from_m);
        let excess = 1.0 - self.farthest_m / length(come_m).max(1e-6);
        if excess > 0.0 {
            self.solid.shift(come_m.map(|part| -part * excess));
        }
        excess > 0.0
    }

    /// Leaves a pusher that the cube overlaps. Returns whether it does.
    fn give_way(&mut self, pusher: &Pusher) -> bool {
        if !pusher.solid.is_near(&self.solid) || pusher.solid.overlap_m(&self.solid) <= LEFT_M {
            return false;
        }
        let Some((direction, way_m)) = pusher.solid.way_out(&self.solid) else {
            return false;
        };
        self.shift(direction.map(|part| part * (way_m - LEFT_M)));
        let velocity_mps = match self.touched {
            Some(known) => known.velocity_mps,
            None => level(self.published_mps),
        };
        let gained_mps = dot(difference(pusher.velocity_mps, velocity_mps), direction).max(0.0);
        let gained = level(direction).map(|part| part * gained_mps);
        let place_m = self.solid.centre_m();
        self.touched = Some(Touched {
            place_m,
            velocity_mps: std::array::from_fn(|axis| velocity_mps[axis] + gained[axis]),
            pushed: direction,
            since_s: 0.0,
            flown_s: None,
            is_ahead: false,
            offset_m: difference(place_m, self.body.pose.position),
            way_m: 0.0,
        });
        true
    }

    /// Returns what is kept of the cube until the next step.
    fn outcome(&self) -> Option<(CubeId, Touched)> {
        let way_m = length(difference(self.solid.centre_m(), self.from_m));
        let touched = self.touched?;
        Some((self.body.cube, Touched { way_m, ..touched }))
    }
}

impl Touched {
    /// Returns the cube after a time in which it slid and came nearer to where it is published.
    /// `way_m` is how far the published cube has come.
    fn gone_on(mut self, body: &Body, way_m: [f32; 3], dt_s: f32) -> Self {
        let published_m = body.pose.position;
        if let Some(flown_s) = &mut self.flown_s {
            *flown_s += dt_s;
            self.is_ahead &= *flown_s < LONGEST_FLIGHT_S && length(way_m) < KNOWN_M;
            return self.flown_on(body, dt_s);
        }
        self.since_s += dt_s;
        self.place_m[2] += way_m[2];
        let off_m = difference(self.place_m, published_m);
        let kept = (ASTRAY_M / length(off_m).max(1e-6)).min(1.0);
        self.place_m = std::array::from_fn(|axis| published_m[axis] + off_m[axis] * kept);
        let missing_m = difference(published_m, self.place_m);
        let against_m = dot(missing_m, self.pushed).min(0.0);
        let share = 1.0 - (-APPROACH_PER_S * dt_s).exp();
        self.place_m = std::array::from_fn(|axis| {
            let nearer_m = (missing_m[axis] - self.pushed[axis] * against_m) * share;
            self.place_m[axis] + self.velocity_mps[axis] * dt_s + nearer_m
        });
        self.slow_down(dt_s);
        self.returned(published_m)
    }

    /// Returns a cube that was thrown after a time.
    fn flown_on(mut self, body: &Body, dt_s: f32) -> Self {
        if !self.is_ahead {
            self.since_s += dt_s;
        }
        for (place, speed_mps) in self.place_m.iter_mut().zip(self.velocity_mps) {
            *place += speed_mps * dt_s;
        }
        self.velocity_mps[2] -= GRAVITY_MPS2 * dt_s;
        let floor_m = body.width_m / 2.0;
        if self.place_m[2] < floor_m {
            self.place_m[2] = floor_m;
            self.velocity_mps = level(self.velocity_mps);
            self.slow_down(dt_s);
        }
        self.returned(body.pose.position)
    }

    fn slow_down(&mut self, dt_s: f32) {
        let speed_mps = length(self.velocity_mps);
        let slower = (1.0 - FRICTION_MPS2 * dt_s / speed_mps.max(1e-6)).max(0.0);
        self.velocity_mps = self.velocity_mps.map(|part| part * slower);
    }

    /// Returns how long it comes back. A whole flight lags behind, so that a quick return would lead backwards.
    fn returns_s(&self) -> f32 {
        match self.flown_s {
            Some(_) => 2.0 * RETURN_S,
            None => RETURN_S,
        }
    }

    /// Returns the cube on its way back to where it is published.
    fn returned(mut self, published_m: [f32; 3]) -> Self {
        let left = (1.0 - self.since_s / self.returns_s()).max(0.0);
        let share = left * left * (3.0 - 2.0 * left);
        self.offset_m = difference(self.place_m, published_m).map(|part| part * share);
        self
    }
}

fn velocity_mps(way_m: [f32; 3], dt_s: f32) -> [f32; 3] {
    match dt_s > 0.0 {
        true => way_m.map(|part| part / dt_s),
        false => [0.0; 3],
    }
}

fn level([x, y, _]: [f32; 3]) -> [f32; 3] {
    [x, y, 0.0]
}

fn length(vector: [f32; 3]) -> f32 {
    dot(vector, vector).sqrt()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OWN: CubeId = CubeId(100);
    const CUBE: CubeId = CubeId(0);
    const FRAME_S: f64 = 1.0 / 60.0;
    const WALK_MPS: f32 = 6.0;
    const RUN_MPS: f32 = 11.0;

    fn body(cube: CubeId, width_m: f32, [x, y]: [f32; 2]) -> Body {
        Body {
            cube,
            width_m,
            pose: DrawnPose {
                position: [x, y, width_m / 2.0],
                rotation: [0.0, 0.0, 0.0, 1.0],
            },
            is_loose: true,
        }
    }

    /// Returns where a cube is shown.
    fn shown_m(contacts: &Contacts, body: &Body) -> [f32; 3] {
        let offset_m = contacts.offset_m(body.cube).unwrap_or_default();
        std::array::from_fn(|axis| body.pose.position[axis] + offset_m[axis])
    }

    fn overlap_m(contacts: &Contacts, own: &Body, other: &Body) -> f32 {
        let mut solid = Solid::new(other.width_m, &other.pose);
        solid.shift(contacts.offset_m(other.cube).unwrap_or_default());
        Solid::new(own.width_m, &own.pose).overlap_m(&solid)
    }

    /// Moves a player's cube from `from_m` along x at a speed for a time, beside cubes that stand where they are
    /// published, and calls `look` after each frame.
    fn push(
        loose: &[Body],
        from_m: f32,
        speed_mps: f32,
        seconds: f64,
        mut look: impl FnMut(&Contacts, &Body),
    ) -> Contacts {
        let mut contacts = Contacts::default();
        for frame in 1..=(seconds / FRAME_S) as u32 {
            let time_s = f64::from(frame) * FRAME_S;
            let own = body(OWN, 1.0, [from_m + speed_mps * time_s as f32, 0.0]);
            contacts.step(time_s, &[own], loose);
            look(&contacts, &own);
        }
        contacts
    }

    #[test]
    fn a_touched_cube_moves_in_the_same_frame() {
        let cube = body(CUBE, 0.625, [1.0, 0.1]);
        let mut last_m = 1.0;
        push(&[cube], 0.0, WALK_MPS, 0.3, |contacts, own| {
            assert!(overlap_m(contacts, own, &cube) < LEFT_M + 1e-4);
            let [x_m, ..] = shown_m(contacts, &cube);
            assert!(
                (0.0..0.15).contains(&(x_m - last_m)),
                "from {last_m} to {x_m}"
            );
            last_m = x_m;
        });
        assert!(last_m > 2.5, "{last_m}");
    }

    #[test]
    fn nobody_passes_through_a_cube_however_small_and_fast() {
        for width_m in [0.125, 0.625, 2.5, 4.0] {
            for speed_mps in [WALK_MPS, RUN_MPS] {
                let cube = body(CUBE, width_m, [2.5 + width_m / 2.0, 0.05]);
                push(&[cube], 0.0, speed_mps, 0.5, |contacts, own| {
                    let ahead_m = shown_m(contacts, &cube)[0] - own.pose.position[0];
                    assert!(ahead_m > (1.0 + width_m) / 2.0 - 0.05, "{ahead_m}");
                });
            }
        }
    }

    #[test]
    fn a_cube_comes_back_to_the_bit_within_a_bound_of_time() {
        let cube = body(CUBE, 0.625, [1.0, 0.0]);
        let mut contacts = push(&[cube], 0.0, WALK_MPS, 0.2, |_, _| {});
        let mut off_m = contacts.offset_m(CUBE).map(length).unwrap();
        assert!(off_m > 0.5);
        for frame in 1..=60 {
            let time_s = 0.2 + f64::from(frame) * FRAME_S;
            contacts.step(time_s, &[body(OWN, 1.0, [-9.0, 0.0])], &[cube]);
            if frame > 15 {
                assert_eq!(contacts.offset_m(CUBE), None, "after {frame} frames");
            }
            let now_m = contacts.offset_m(CUBE).map_or(0.0, length);
            assert!((now_m - off_m).abs() < 0.2, "from {off_m} to {now_m}");
            off_m = now_m;
        }
    }

    #[test]
    fn what_is_out_of_reach_or_only_touched_stays_where_it_is() {
        let beside = body(CUBE, 1.0, [3.0, 1.0]);
        let far = body(CubeId(1), 1.0, [5.0, -4.0]);
        push(&[beside, far], 0.0, WALK_MPS, 1.0, |contacts, _| {
            assert!(contacts.touched.is_empty());
        });
    }

    #[test]
    fn a_cube_that_somebody_holds_is_not_pushed() {
        let mut held = body(CUBE, 1.0, [2.0, 0.0]);
        held.is_loose = false;
        push(&[held], 0.0, WALK_MPS, 1.0, |contacts, _| {
            assert!(!contacts.is_touched(CUBE));
        });
        // One that is taken while it is pushed goes back as any other.
        let cube = body(CUBE, 1.0, [1.0, 0.0]);
        let mut contacts = push(&[cube], 0.0, WALK_MPS, 0.2, |_, _| {});
        for frame in 1..=18 {
            let time_s = 0.2 + f64::from(frame) * FRAME_S;
            let own = body(OWN, 1.0, [1.2 + 0.1 * frame as f32, 0.0]);
            contacts.step(time_s, &[own], &[held]);
        }
        assert!(!contacts.is_touched(CUBE));
    }

    #[test]
    fn a_pushed_cube_pushes_the_next_ones_up_to_a_bound() {
        let row: Vec<_> = (0..6)
            .map(|place| body(CubeId(place), 0.5, [1.0 + 0.5 * place as f32, 0.0]))
            .collect();
        let contacts = push(&row, 0.0, WALK_MPS, 0.1, |_, _| {});
        let pushed = row.iter().map(|body| contacts.is_touched(body.cube));
        assert_eq!(
            pushed.collect::<Vec<_>>(),
            [true, true, true, true, false, false]
        );
    }

    #[test]
    fn a_cube_that_is_put_elsewhere_is_shown_there() {
        let cube = body(CUBE, 1.0, [1.0, 0.0]);
        let mut contacts = push(&[cube], 0.0, WALK_MPS, 0.2, |_, _| {});
        let put = body(CUBE, 1.0, [60.0, 0.0]);
        for frame in 1..=18 {
            let time_s = 0.2 + f64::from(frame) * FRAME_S;
            contacts.step(time_s, &[body(OWN, 1.0, [1.2, 0.0])], &[put]);
            assert!((shown_m(&contacts, &put)[0] - 60.0).abs() < 1.5);
        }
        assert!(!contacts.is_touched(CUBE));
    }

    #[test]
    fn a_thrown_cube_flies_at_once_and_comes_to_agree_with_what_is_published_of_its_flight() {
        const LATE: u32 = 12;
        let at = |frame: u32| {
            let time_s = frame as f32 * FRAME_S as f32;
            let mut cube = body(CUBE, 1.0, [WALK_MPS * time_s, 0.0]);
            cube.pose.position[2] = (2.0 - GRAVITY_MPS2 / 2.0 * time_s * time_s).max(0.5);
            cube
        };
        let mut contacts = Contacts::default();
        for frame in 0..4 {
            let mut carried = body(
                CUBE,
                1.0,
                [WALK_MPS * FRAME_S as f32 * (frame as f32 - 3.0), 0.0],
            );
            carried.pose.position[2] = 2.0;
            contacts.step(f64::from(frame) * FRAME_S, &[carried], &[]);
        }
        contacts.let_go(CUBE, at(0).pose);
        let mut last_m = 0.0;
        for frame in 1..50 {
            let published = at(frame.max(LATE) - LATE);
            contacts.step(f64::from(3 + frame) * FRAME_S, &[], &[published]);
            let [x_m, ..] = shown_m(&contacts, &published);
            assert!(
                (0.001..0.15).contains(&(x_m - last_m)),
                "{frame}: from {last_m} to {x_m}"
            );
            last_m = x_m;
        }
        assert!(!contacts.is_touched(CUBE));
    }

    fn any_body(cube: CubeId) -> impl Strategy<Value = Body> {
        let position = (-3.0_f32..3.0, -3.0_f32..3.0, 0.0_f32..2.0);
        let turn = prop::array::uniform4(-1.0_f32..1.0).prop_filter_map("a length", |parts| {
            let length = parts.iter().map(|part| part * part).sum::<f32>().sqrt();
            (length > 0.1).then(|| parts.map(|part| part / length))
        });
        (0.125_f32..4.0, position, turn, prop::bool::ANY).prop_map(
            move |(width_m, (x, y, z), rotation, is_loose)| Body {
                cube,
                width_m,
                pose: DrawnPose {
                    position: [x, y, z],
                    rotation,
                },
                is_loose,
            },
        )
    }

    fn any_bodies(first: u64) -> impl Strategy<Value = Vec<Body>> {
        (first..first + 5)
            .map(|id| any_body(CubeId(id)))
            .collect::<Vec<_>>()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn whatever_happens_cubes_stay_near_and_come_back(
            frames in prop::collection::vec((any_bodies(0), any_bodies(100), -0.1_f64..1.0), 1..8),
        ) {
            let mut contacts = Contacts::default();
            let mut clock_s = 0.0;
            for (loose, pushers, passed_s) in &frames {
                clock_s += passed_s;
                contacts.step(clock_s, pushers, loose);
                for offset_m in contacts.touched.values().map(|it| it.offset_m) {
                    prop_assert!(offset_m.iter().all(|part| part.is_finite()));
                    prop_assert!(length(offset_m) < 40.0, "{offset_m:?}");
                }
            }
            let Some((loose, ..)) = frames.last() else { return Ok(()) };
            // What is far away comes back no faster than it may start.
            for _ in 0..30 {
                clock_s += 0.1;
                contacts.step(clock_s, &[], loose);
            }
            prop_assert!(contacts.touched.is_empty());
        }
    }
}
