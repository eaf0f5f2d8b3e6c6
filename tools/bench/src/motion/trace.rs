//! The true motion of one cube, which the network carries and every display is compared with.

use std::f32::consts::{FRAC_PI_4, TAU};

use cubesync_client::{Controller, Input};
use cubesync_protocol::{Pose, Position, Rotation};

/// Number of points of the truth per second, with straight lines between them. At 40 m/s² the error is a
/// tenth of a millimetre.
const STEPS_PER_S: f64 = 240.0;
const STEP_S: f64 = 1.0 / STEPS_PER_S;
const FLOOR_M: f64 = 0.5;
const GRAVITY_MPS2: f64 = 9.81;
/// The distance from the origin at which a body turns back, in metres.
const HOME_RADIUS_M: f64 = 30.0;

/// A kind of motion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Motion {
    /// The game's controller with random keys: walk, run, turn, jump, stand.
    People,
    /// Instant starts at 6 or 11 m/s, with an instant turn or stop every 0.3 to 1.2 s.
    Sudden,
    /// Circles at 6 m/s, 3 to 6 m from the centre.
    Circling,
    /// A thrown cube that spins and bounces off the floor.
    Tumbling,
}

impl Motion {
    /// All motions in the order of the table.
    pub(crate) const ALL: [Self; 4] = [Self::People, Self::Sudden, Self::Circling, Self::Tumbling];

    /// Returns the name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::People => "people",
            Self::Sudden => "sudden",
            Self::Circling => "circling",
            Self::Tumbling => "tumbling",
        }
    }
}

/// A position in metres and a unit quaternion `[x, y, z, w]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Placed {
    pub(crate) position: [f64; 3],
    pub(crate) rotation: [f64; 4],
}

impl Placed {
    /// Returns the pose of the wire.
    pub(crate) fn pose(&self) -> Pose {
        Pose {
            position: Position::from_metres(self.position.map(|metres| metres as f32)),
            rotation: Rotation::from_quaternion(self.rotation.map(|part| part as f32)),
        }
    }
}

/// The pose of a cube at any time.
#[derive(Debug, Clone)]
pub(crate) struct Trace {
    steps: Vec<Placed>,
}

impl Trace {
    /// Returns a trace of some seconds, which is the same for the same seed.
    pub(crate) fn new(motion: Motion, seed: u64, seconds: f64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        let count = (seconds * STEPS_PER_S) as usize;
        let steps = match motion {
            Motion::People => people(random, count),
            Motion::Sudden => sudden(random, count),
            Motion::Circling => circling(random, count),
            Motion::Tumbling => tumbling(random, count),
        };
        Self { steps }
    }

    /// Returns the pose at a time; before the beginning and after the end the cube stands.
    pub(crate) fn at(&self, time_s: f64) -> Placed {
        let step = (time_s * STEPS_PER_S).clamp(0.0, (self.steps.len() - 2) as f64);
        let (index, share) = (step as usize, step.fract());
        between(&self.steps[index], &self.steps[index + 1], share)
    }
}

/// Interpolates positions linearly and rotations nearly on the shortest arc, exactly for small turns.
pub(crate) fn between(from: &Placed, to: &Placed, share: f64) -> Placed {
    let dot: f64 = (0..4).map(|i| from.rotation[i] * to.rotation[i]).sum();
    let mix = |from: f64, to: f64| from + (to - from) * share;
    Placed {
        position: std::array::from_fn(|axis| mix(from.position[axis], to.position[axis])),
        rotation: unit(std::array::from_fn(|i| {
            mix(from.rotation[i], to.rotation[i] * dot.signum())
        })),
    }
}

fn people(mut random: fastrand::Rng, count: usize) -> Vec<Placed> {
    let mut cube = Controller::new(Pose {
        position: Position::from_metres([0.0, 0.0, FLOOR_M as f32]),
        ..Pose::default()
    });
    let mut input = Input::default();
    let (mut heading_rad, mut turn_radps, mut left_s) = (0.0, 0.0, 0.0);
    let step_s = STEP_S as f32;
    let mut steps = Vec::with_capacity(count);
    for _ in 0..count {
        left_s -= step_s;
        if left_s <= 0.0 {
            left_s = 0.4 + 2.0 * random.f32();
            heading_rad += f32::from(random.u8(0..8)) * FRAC_PI_4;
            // Half of the time the mouse turns the camera.
            turn_radps = f32::from(random.bool()) * (random.f32() - 0.5) * 3.0;
            input.fast = random.f32() < 0.25;
            input.direction = if random.f32() < 0.25 {
                [0.0; 2]
            } else {
                [1.0; 2]
            };
        }
        let [x, y, _] = cube.position();
        if x.hypot(y) > HOME_RADIUS_M as f32 {
            heading_rad = (-y).atan2(-x);
        }
        heading_rad += turn_radps * step_s;
        if input.direction != [0.0; 2] {
            input.direction = Input::towards(heading_rad).direction;
        }
        input.jump = random.f32() < 0.15 * step_s;
        cube.step(input, step_s);
        steps.push(Placed {
            position: cube.position().map(f64::from),
            rotation: unit(cube.pose().rotation.to_quaternion().map(f64::from)),
        });
    }
    steps
}

fn sudden(mut random: fastrand::Rng, count: usize) -> Vec<Placed> {
    let mut position = [0.0, 0.0, FLOOR_M];
    let mut rotation = [0.0, 0.0, 0.0, 1.0];
    let (mut velocity, mut left_s) = ([0.0; 2], 0.0);
    let mut steps = Vec::with_capacity(count);
    for _ in 0..count {
        left_s -= STEP_S;
        if left_s <= 0.0 {
            left_s = 0.3 + 0.9 * random.f64();
            let is_out = f64::hypot(position[0], position[1]) > HOME_RADIUS_M;
            let angle_rad = match is_out {
                true => f64::atan2(-position[1], -position[0]),
                false => random.f64() * f64::from(TAU),
            };
            let speed_mps = [0.0, 6.0, 6.0, 11.0][if is_out { 1 } else { random.usize(0..4) }];
            velocity = [angle_rad.cos() * speed_mps, angle_rad.sin() * speed_mps];
            let (sine, cosine) = (angle_rad / 2.0).sin_cos();
            rotation = [0.0, 0.0, sine, cosine];
        }
        position[0] += velocity[0] * STEP_S;
        position[1] += velocity[1] * STEP_S;
        steps.push(Placed { position, rotation });
    }
    steps
}

fn circling(mut random: fastrand::Rng, count: usize) -> Vec<Placed> {
    let mut steps = Vec::with_capacity(count);
    let (mut radius_m, mut wanted_m) = (3.0, 3.0);
    let mut angle_rad: f64 = 0.0;
    for _ in 0..count {
        if random.f64() < 0.2 * STEP_S {
            wanted_m = 3.0 + 3.0 * random.f64();
        }
        radius_m += (wanted_m - radius_m) * STEP_S;
        angle_rad += 6.0 / radius_m * STEP_S;
        let (sine, cosine) = angle_rad.sin_cos();
        let (half_sine, half_cosine) = (angle_rad / 2.0).sin_cos();
        steps.push(Placed {
            position: [radius_m * cosine, radius_m * sine, FLOOR_M],
            rotation: [0.0, 0.0, half_sine, half_cosine],
        });
    }
    steps
}

fn tumbling(mut random: fastrand::Rng, count: usize) -> Vec<Placed> {
    let mut position = [0.0, 0.0, 3.0];
    let mut velocity = [0.0; 3];
    let mut spin = [0.0; 3];
    let mut rotation = [0.0, 0.0, 0.0, 1.0];
    let mut steps = Vec::with_capacity(count);
    for _ in 0..count {
        velocity[2] -= GRAVITY_MPS2 * STEP_S;
        for axis in 0..3 {
            position[axis] += velocity[axis] * STEP_S;
        }
        if position[2] < FLOOR_M {
            position[2] = FLOOR_M;
            velocity[2] = -velocity[2] * 0.6;
            let lost = 0.75 + 0.3 * random.f64();
            velocity[0] *= lost;
            velocity[1] *= lost;
            spin = std::array::from_fn(|_| (random.f64() - 0.5) * 10.0);
            if velocity[2] < 1.5 {
                // Thrown again, towards the middle.
                let towards = |metres: f64| -metres / 4.0;
                velocity = [
                    towards(position[0]) + (random.f64() - 0.5) * 10.0,
                    towards(position[1]) + (random.f64() - 0.5) * 10.0,
                    5.0 + 4.0 * random.f64(),
                ];
            }
        }
        rotation = turned(rotation, spin);
        steps.push(Placed { position, rotation });
    }
    steps
}

/// Returns a rotation after a step of this spin, in rad/s about the world's axes.
fn turned(rotation: [f64; 4], spin: [f64; 3]) -> [f64; 4] {
    let [x, y, z, w] = rotation;
    let [a, b, c] = spin.map(|radps| radps * STEP_S / 2.0);
    unit([
        x + a * w + b * z - c * y,
        y + b * w + c * x - a * z,
        z + c * w + a * y - b * x,
        w - a * x - b * y - c * z,
    ])
}

fn unit(quaternion: [f64; 4]) -> [f64; 4] {
    let length = quaternion.iter().map(|part| part * part).sum::<f64>();
    quaternion.map(|part| part / length.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_the_whole_trace_and_every_trace_moves_inside_the_world() {
        for motion in Motion::ALL {
            let trace = Trace::new(motion, 1, 60.0);
            assert_eq!(trace.steps, Trace::new(motion, 1, 60.0).steps);
            let far = |placed: &Placed| {
                let [x, y, z] = placed.position;
                x.hypot(y) < 60.0 && (0.5..20.0).contains(&z)
            };
            assert!(trace.steps.iter().all(far), "{motion:?}");
            let moves = |pair: &&[Placed]| pair[0].position != pair[1].position;
            let moving = trace.steps.windows(2).filter(moves).count();
            assert!(moving > trace.steps.len() / 2, "{motion:?}");
        }
    }
}
