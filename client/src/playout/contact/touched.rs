//! A loose cube that is not shown where it is published: it slides or flies on, and comes back.

use super::{Body, LONGEST_S, length, level};
use crate::playout::solid::{difference, dot};

/// Time after a contact in which a cube comes back to where it is published: a frame of 30 a second later it is less
/// than 0.3 s.
const RETURN_S: f32 = 0.25;
/// Deceleration of a sliding cube, as by the server's mechanics: their friction times gravity.
const FRICTION_MPS2: f32 = 6.0;
/// Rate at which a cube comes nearer to its published place without moving into what touches it.
const APPROACH_PER_S: f32 = 8.0;
pub(super) const GRAVITY_MPS2: f32 = 9.81;
/// Longest time that a cube flies of which the server has not said so, and how far it is published to move in a step then.
const LONGEST_FLIGHT_S: f32 = 1.0;
const KNOWN_M: f32 = 0.03;
/// A cube that is farther from its published place is not pushed: the server does not let it follow. A third of a
/// second's run.
pub(super) const ASTRAY_M: f32 = 4.0;

/// A cube that has been touched lately.
#[derive(Debug, Clone, Copy)]
pub(super) struct Touched {
    /// Where contacts alone would have it.
    place_m: [f32; 3],
    /// How it slides, on the level, or flies.
    pub(super) velocity_mps: [f32; 3],
    /// The direction in which it was pushed last.
    pushed: [f32; 3],
    since_s: f32,
    /// The time that it has flown, if it was thrown.
    flown_s: Option<f32>,
    /// Whether the server has not said that it flies.
    pub(super) is_ahead: bool,
    /// The way from where it is published to where it is shown.
    pub(super) offset_m: [f32; 3],
    /// How far it was shown to move in the last step.
    pub(super) way_m: f32,
}

impl Touched {
    /// Makes a cube that was pushed in a direction, to where it is `offset_m` from its published place.
    pub(super) fn pushed(
        place_m: [f32; 3],
        velocity_mps: [f32; 3],
        direction: [f32; 3],
        offset_m: [f32; 3],
    ) -> Self {
        Self {
            place_m,
            velocity_mps,
            pushed: direction,
            since_s: 0.0,
            flown_s: None,
            is_ahead: false,
            offset_m,
            way_m: 0.0,
        }
    }

    /// Makes a cube that the client has just let go.
    pub(super) fn thrown(place_m: [f32; 3], velocity_mps: [f32; 3]) -> Self {
        Self {
            flown_s: Some(0.0),
            is_ahead: true,
            way_m: length(velocity_mps) * LONGEST_S,
            ..Self::pushed(place_m, velocity_mps, [0.0; 3], [0.0; 3])
        }
    }

    /// Whether it is where it is published again.
    pub(super) fn is_back(&self) -> bool {
        self.since_s >= self.returns_s()
    }

    /// Returns the cube after a time in which it slid and came nearer to where it is published.
    /// `way_m` is how far the published cube has come.
    pub(super) fn gone_on(mut self, body: &Body, way_m: [f32; 3], dt_s: f32) -> Self {
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
