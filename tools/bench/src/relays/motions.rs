//! The motions of the clients' cubes: traces of poses, the same for the same seed.

use std::f32::consts::{PI, TAU};

use cubesync_protocol::limits::{MAX_HEIGHT_QUANTA, MAX_HORIZONTAL_QUANTA};
use cubesync_protocol::{Pose, Position, Rotation};

const WALK_SPEED_MPS: f32 = 6.0;
const RUN_SPEED_MPS: f32 = 11.0;
const ACCELERATION_MPS2: f32 = 40.0;
const GRAVITY_MPS2: f32 = 20.0;
/// The speed of a jump, which reaches 1.6 m.
const JUMP_SPEED_MPS: f32 = 8.0;
const FLOOR_M: f32 = 0.5;
/// The fastest turn of a cube towards its direction of motion.
const TURN_RATE_RADPS: f32 = 8.0;
/// The distance from its home at which a wanderer turns back.
const HOME_RADIUS_M: f32 = 14.0;
/// The longest step of the simulation.
const PART_S: f32 = 1.0 / 120.0;

/// A kind of motion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Motion {
    /// Walk, run, turn, stop, look around and jump, as people do.
    Wander,
    /// Jump to any place at every step: nothing can be predicted.
    Jump,
    /// Stand still.
    Idle,
}

impl Motion {
    /// Returns the name on the command line and in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Wander => "wander",
            Self::Jump => "jump",
            Self::Idle => "idle",
        }
    }
}

/// Appends the poses of one cube at `steps` steps.
pub(crate) fn append_trace(
    poses: &mut Vec<Pose>,
    motion: Motion,
    seed: u64,
    home: Position,
    hz: u32,
    steps: usize,
) {
    let mut random = fastrand::Rng::with_seed(seed);
    match motion {
        Motion::Idle => poses.extend((0..steps).map(|_| Pose {
            position: home,
            ..Pose::default()
        })),
        Motion::Jump => poses.extend((0..steps).map(|_| anywhere(&mut random))),
        Motion::Wander => {
            let mut wanderer = Wanderer::new(random, home);
            poses.extend((0..steps).map(|_| {
                wanderer.step(1.0 / hz as f32);
                wanderer.pose()
            }));
        }
    }
}

fn anywhere(random: &mut fastrand::Rng) -> Pose {
    let horizontal = -MAX_HORIZONTAL_QUANTA..=MAX_HORIZONTAL_QUANTA;
    Pose {
        position: Position {
            x: random.i32(horizontal.clone()),
            y: random.i32(horizontal),
            z: random.i32(0..=MAX_HEIGHT_QUANTA),
        },
        rotation: Rotation::from_quaternion(std::array::from_fn(|_| random.f32() - 0.5)),
    }
}

/// A simulated person that moves a cube.
struct Wanderer {
    random: fastrand::Rng,
    home: [f32; 3],
    position: [f32; 3],
    velocity: [f32; 3],
    yaw_rad: f32,
    heading_rad: f32,
    turn_radps: f32,
    speed_mps: f32,
    /// The time until it chooses another speed and turn.
    left_s: f32,
}

impl Wanderer {
    fn new(mut random: fastrand::Rng, home: Position) -> Self {
        let home = home.to_metres();
        Self {
            home,
            position: home,
            velocity: [0.0; 3],
            yaw_rad: 0.0,
            heading_rad: random.f32() * TAU,
            turn_radps: 0.0,
            speed_mps: 0.0,
            left_s: random.f32(),
            random,
        }
    }

    fn pose(&self) -> Pose {
        let (sine, cosine) = (self.yaw_rad / 2.0).sin_cos();
        Pose {
            position: Position::from_metres(self.position),
            rotation: Rotation::from_quaternion([0.0, 0.0, sine, cosine]),
        }
    }

    fn step(&mut self, dt_s: f32) {
        let parts = (dt_s / PART_S).ceil();
        for _ in 0..parts as u32 {
            self.decide(dt_s / parts);
            self.push(dt_s / parts);
        }
    }

    fn decide(&mut self, dt_s: f32) {
        self.left_s -= dt_s;
        if self.left_s <= 0.0 {
            self.left_s = 0.5 + 3.0 * self.random.f32();
            self.speed_mps = match self.random.f32() {
                0.0..0.3 => 0.0,
                0.3..0.5 => WALK_SPEED_MPS / 2.0,
                0.5..0.8 => WALK_SPEED_MPS,
                _ => RUN_SPEED_MPS,
            };
            self.turn_radps = match self.random.f32() {
                0.0..0.4 => 0.0,
                other => (other - 0.7) * 5.0,
            };
        }
        let [x, y] = [0, 1].map(|axis| self.home[axis] - self.position[axis]);
        let homewards = shortest_turn(self.heading_rad, y.atan2(x));
        if x.hypot(y) > HOME_RADIUS_M && homewards.abs() > 0.5 {
            self.heading_rad += 3.5 * homewards.signum() * dt_s;
        } else {
            self.heading_rad += self.turn_radps * dt_s;
        }
        // A person jumps about every eight seconds.
        let is_on_floor = self.position[2] <= FLOOR_M;
        if is_on_floor && self.random.f32() < dt_s / 8.0 {
            self.velocity[2] = JUMP_SPEED_MPS;
        }
    }

    fn push(&mut self, dt_s: f32) {
        let (sine, cosine) = self.heading_rad.sin_cos();
        let wanted = [cosine * self.speed_mps, sine * self.speed_mps];
        let missing: [f32; 2] = std::array::from_fn(|axis| wanted[axis] - self.velocity[axis]);
        let most = ACCELERATION_MPS2 * dt_s / missing[0].hypot(missing[1]).max(1e-6);
        for (axis, missing) in missing.into_iter().enumerate() {
            self.velocity[axis] += missing * most.min(1.0);
        }
        self.velocity[2] -= GRAVITY_MPS2 * dt_s;
        for (position, velocity) in self.position.iter_mut().zip(self.velocity) {
            *position += velocity * dt_s;
        }
        if self.position[2] <= FLOOR_M {
            self.position[2] = FLOOR_M;
            self.velocity[2] = 0.0;
        }
        if self.velocity[0].hypot(self.velocity[1]) > 0.3 {
            let to = self.velocity[1].atan2(self.velocity[0]);
            let most = TURN_RATE_RADPS * dt_s;
            self.yaw_rad += shortest_turn(self.yaw_rad, to).clamp(-most, most);
        }
    }
}

fn shortest_turn(from_rad: f32, to_rad: f32) -> f32 {
    (to_rad - from_rad + PI).rem_euclid(TAU) - PI
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(motion: Motion, seed: u64) -> Vec<Pose> {
        let mut poses = Vec::new();
        let home = Position::from_metres([3.0, -2.0, 0.5]);
        append_trace(&mut poses, motion, seed, home, 20, 2_000);
        poses
    }

    #[test]
    fn wanderers_walk_run_stand_and_jump_near_their_home() {
        for seed in 0..5 {
            let trace = trace(Motion::Wander, seed);
            let speed_mps =
                |pair: &[Pose]| pair[0].position.distance(pair[1].position) as f32 / 512.0 * 20.0;
            let share = |is: &dyn Fn(&[Pose]) -> bool| {
                trace.windows(2).filter(|pair| is(pair)).count() as f32 / trace.len() as f32
            };
            assert!(share(&|pair| pair[0] == pair[1]) > 0.1);
            assert!(share(&|pair| (5.5..6.5).contains(&speed_mps(pair))) > 0.1);
            assert!(share(&|pair| speed_mps(pair) > 9.0) > 0.05);
            assert!(share(&|pair| pair[0].position.z > 600) > 0.005);
            let home = Position::from_metres([3.0, -2.0, 0.5]);
            assert!(
                trace
                    .iter()
                    .all(|pose| pose.position.distance(home) < 30 * 512)
            );
        }
    }

    #[test]
    fn the_seed_decides_and_idle_does_not_move() {
        assert_eq!(trace(Motion::Jump, 1), trace(Motion::Jump, 1));
        assert_ne!(trace(Motion::Wander, 1), trace(Motion::Wander, 2));
        assert!(
            trace(Motion::Idle, 1)
                .windows(2)
                .all(|pair| pair[0] == pair[1])
        );
    }
}
