//! The way in which a bot wanders: like a person who looks around. The seed decides everything.

use std::f32::consts::{PI, TAU};

use cubesync_client::Input;

/// Cubes so near the origin are run into: bots wander there.
pub(crate) const FIELD_M: f32 = 16.0;
/// How far one runs on behind them.
const BEYOND_M: f32 = 2.0;
/// Distance from the origin at which bots turn back, in metres; a running bot overshoots it.
const HOME_RADIUS_M: f32 = 14.0;
/// Rate at which a bot that went too far turns back, in rad/s.
const TURN_BACK_RADPS: f32 = 3.5;

/// The way of one bot.
#[derive(Debug)]
pub(crate) struct Wander {
    random: fastrand::Rng,
    heading_rad: f32,
    turn_radps: f32,
    /// Share of the full speed; 0 while it stands and looks around.
    speed: f32,
    is_fast: bool,
    /// Time until it changes its mind, in seconds.
    left_s: f32,
}

impl Wander {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        Self {
            heading_rad: random.f32() * TAU,
            turn_radps: 0.0,
            speed: 0.0,
            is_fast: false,
            left_s: random.f32(),
            random,
        }
    }

    /// Returns the input of a frame of `dt_s` at a position.
    pub(crate) fn input(&mut self, [x, y, _]: [f32; 3], dt_s: f32) -> Input {
        self.left_s -= dt_s;
        if self.left_s <= 0.0 {
            self.decide();
        }
        let mut turn_radps = self.turn_radps;
        if x.hypot(y) > HOME_RADIUS_M {
            let home = angle_between(self.heading_rad, (-y).atan2(-x));
            if home.abs() > 0.5 {
                turn_radps = TURN_BACK_RADPS * home.signum();
            }
        }
        self.heading_rad += turn_radps * dt_s;
        let (sine, cosine) = self.heading_rad.sin_cos();
        // A person jumps about every eight seconds, and rarely while standing.
        let jumps_per_s = if self.speed > 0.0 { 0.12 } else { 0.03 };
        Input {
            direction: [cosine * self.speed, sine * self.speed],
            jump: self.random.f32() < jumps_per_s * dt_s,
            fast: self.is_fast,
        }
    }

    /// Returns the input of a bot that runs straight on.
    pub(crate) fn run(&self) -> Input {
        Input {
            fast: true,
            ..Input::towards(self.heading_rad)
        }
    }

    /// Returns a random time between two, in seconds.
    pub(crate) fn seconds(&mut self, least: f32, most: f32) -> f32 {
        least + self.random.f32() * (most - least)
    }

    fn decide(&mut self) {
        let choice = self.random.f32();
        self.is_fast = choice > 0.8;
        self.speed = match choice {
            0.0..0.3 => 0.0,
            0.3..0.5 => 0.5,
            _ => 1.0,
        };
        self.left_s = if self.speed > 0.0 {
            self.seconds(0.7, 4.0)
        } else {
            self.seconds(0.5, 2.5)
        };
        self.turn_radps = if self.random.f32() < 0.4 {
            0.0
        } else {
            self.seconds(-1.5, 1.5)
        };
        if self.random.f32() < 0.3 {
            self.heading_rad += self.seconds(-PI / 2.0, PI / 2.0);
        }
    }
}

/// Returns the input that walks from one point to another.
pub(crate) fn walk_to([x, y, _]: [f32; 3], [to_x, to_y, _]: [f32; 3]) -> Input {
    let (dx, dy) = (to_x - x, to_y - y);
    let distance = dx.hypot(dy).max(1e-3);
    Input {
        direction: [dx / distance, dy / distance],
        ..Input::default()
    }
}

fn angle_between(from_rad: f32, to_rad: f32) -> f32 {
    (to_rad - from_rad + PI).rem_euclid(TAU) - PI
}

/// Returns a point behind another one, as seen from a third.
pub(crate) fn beyond([x, y, _]: [f32; 3], [to_x, to_y, z]: [f32; 3]) -> [f32; 3] {
    let (dx, dy) = (to_x - x, to_y - y);
    let further = 1.0 + BEYOND_M / dx.hypot(dy).max(1e-3);
    [x + dx * further, y + dy * further, z]
}

#[cfg(test)]
mod tests {
    use cubesync_client::Controller;
    use cubesync_client::protocol::Pose;

    use super::*;

    /// Returns ten minutes of a bot, as (position, velocity) of each frame.
    fn path(seed: u64) -> Vec<([f32; 3], [f32; 3])> {
        let mut wander = Wander::new(seed);
        let mut cube = Controller::new(Pose::default());
        let mut path = Vec::new();
        for _ in 0..60 * 600 {
            let input = wander.input(cube.position(), 1.0 / 60.0);
            cube.step(input, 1.0 / 60.0);
            path.push((cube.position(), cube.velocity()));
        }
        path
    }

    fn share(path: &[([f32; 3], [f32; 3])], is: impl Fn([f32; 3], f32) -> bool) -> f32 {
        let speed_of = |velocity: [f32; 3]| velocity[0].hypot(velocity[1]);
        let count = path
            .iter()
            .filter(|&&(position, velocity)| is(position, speed_of(velocity)));
        count.count() as f32 / path.len() as f32
    }

    #[test]
    fn a_bot_walks_runs_stands_and_jumps_near_the_origin() {
        for seed in 0..10 {
            let path = path(seed);
            assert!(share(&path, |_, speed_mps| speed_mps < 0.1) > 0.1);
            assert!(share(&path, |_, speed_mps| (2.0..6.1).contains(&speed_mps)) > 0.2);
            assert!(share(&path, |_, speed_mps| speed_mps > 8.0) > 0.05);
            assert!(share(&path, |[_, _, z], _| z > 1.0) > 0.005);
            assert!(share(&path, |[x, y, _], _| x.hypot(y) > 25.0) == 0.0);
        }
    }

    #[test]
    fn the_same_seed_walks_the_same_way() {
        assert_eq!(path(3), path(3));
        assert_ne!(path(3), path(4));
    }

    #[test]
    fn a_point_behind_a_cube_is_in_its_direction_and_farther_away() {
        assert_eq!(beyond([1.0, 2.0, 0.5], [4.0, 6.0, 3.0]), [5.2, 7.6, 3.0]);
        let same = beyond([1.0, 2.0, 0.5], [1.0, 2.0, 0.5]);
        assert!(same.iter().all(|axis| axis.is_finite()));
    }
}
