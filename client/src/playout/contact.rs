//! Contact at once: what a client moves pushes loose cubes in the same frame.
//!
//! The server's mechanics decide where loose cubes are, but what they make of a push is shown a round trip and a
//! playout delay later. Until then a cube that is touched leaves the place where it is published: it is pushed out of
//! what the client moves, may push others, and slides on. One that the client lets go flies on. When nothing has touched
//! it for a moment, it is back where it is published, to the bit. Turns and falls are always as published.

mod touched;

use std::collections::BTreeMap;

use cubesync_protocol::CubeId;
use cubesync_protocol::interpolation::DrawnPose;

use self::touched::{ASTRAY_M, Touched};
use super::solid::{Solid, difference, dot};

/// Overlap that is left: published poses are rounded, and lag behind each other.
const LEFT_M: f32 = 0.01;
/// Speed that a contact adds at most in a frame to the motion there is, as when a player drops onto a cube, so that
/// nothing jumps. In the server's mechanics cubes that overlap part at 3 m/s. At 1.5 m/s overlaps grow.
const PARTING_MPS: f32 = 2.0;
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

/// A cube that pushes others in a step.
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
        let thrown = Touched::thrown(pose.position, velocity_mps);
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
        near.touched = Some(known).filter(|known| is_late || !known.is_back());
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
        let velocity_mps = std::array::from_fn(|axis| velocity_mps[axis] + gained[axis]);
        let offset_m = difference(place_m, self.body.pose.position);
        self.touched = Some(Touched::pushed(place_m, velocity_mps, direction, offset_m));
        true
    }

    /// Returns what is kept of the cube until the next step.
    fn outcome(&self) -> Option<(CubeId, Touched)> {
        let way_m = length(difference(self.solid.centre_m(), self.from_m));
        let mut touched = self.touched?;
        touched.way_m = way_m;
        Some((self.body.cube, touched))
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
mod tests;
