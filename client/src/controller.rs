//! Moves a cube by the input of a person or a bot.
//!
//! A controller reads no clock and no device. It steps everything in small equal parts of a frame,
//! so that the path hardly depends on the frame rate.

use std::f32::consts::{PI, TAU};

use cubesync_protocol::limits::{MAX_HEIGHT_QUANTA, MAX_HORIZONTAL_QUANTA};
use cubesync_protocol::quantize::QUANTA_PER_METRE;
use cubesync_protocol::{Pose, Position, Rotation};

/// Speed with full input, in m/s.
const WALK_SPEED_MPS: f32 = 6.0;
/// Speed with full input and [`Input::fast`], in m/s.
const FAST_SPEED_MPS: f32 = 11.0;
/// Acceleration and braking on the floor, in m/s².
const ACCELERATION_MPS2: f32 = 40.0;
/// Acceleration and braking in the air, in m/s².
const AIR_ACCELERATION_MPS2: f32 = 12.0;
const GRAVITY_MPS2: f32 = 20.0;
const JUMP_HEIGHT_M: f32 = 1.6;
/// Centre of a cube that lies on the floor, in metres.
const FLOOR_M: f32 = 0.5;
/// Fastest turn, in rad/s: a held cube swings around with it and must stay below the server's
/// top speed.
const TURN_RATE_RADPS: f32 = 8.0;
/// Below this speed a cube keeps facing where it did, in m/s.
const TURN_SPEED_MPS: f32 = 0.3;
/// Lean per acceleration, in rad per m/s²; a hint of weight.
const LEAN_RAD_PER_MPS2: f32 = 0.004;
/// The lean under the acceleration on the floor, 9°.
const LARGEST_LEAN_RAD: f32 = LEAN_RAD_PER_MPS2 * ACCELERATION_MPS2;
/// Rate at which the lean follows the acceleration, per second.
const LEAN_RATE_PER_S: f32 = 12.0;
/// Between the own cube and a carried one, in metres: they turn and lean as one. A wider gap would let loose cubes in,
/// which are then wedged.
const CARRY_GAP_M: f32 = 0.1;
/// Speed at which a cube that was just taken comes to its place, in m/s.
const PICK_UP_SPEED_MPS: f32 = 12.0;
/// Longest part of a frame that is stepped at once, in seconds.
const STEP_S: f32 = 1.0 / 240.0;
/// Longest frame that counts, in seconds: after a longer one (a hidden tab, a stopped process)
/// the cube goes on from where it was.
const LONGEST_FRAME_S: f32 = 0.1;

/// The input for the own cube in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Input {
    /// The direction in the world's x and y. Its length, at most 1, is the share of the full speed.
    pub direction: [f32; 2],
    /// Whether to jump, when on the floor.
    pub jump: bool,
    /// Whether to run instead of walking.
    pub fast: bool,
}

impl Input {
    /// Makes an input that walks in a direction, counted from the world's x axis towards its y axis.
    pub fn towards(angle_rad: f32) -> Self {
        Self {
            direction: [angle_rad.cos(), angle_rad.sin()],
            ..Self::default()
        }
    }
}

/// The own cube in motion.
#[derive(Debug, Clone, PartialEq)]
pub struct Controller {
    position: [f32; 3],
    velocity: [f32; 3],
    yaw_rad: f32,
    lean: [f32; 2],
    /// From its place to a cube that is still on its way there after it was taken, in metres.
    carry_offset: [f32; 3],
    /// Half of the carried cube's edge, in metres.
    carry_half_m: f32,
}

impl Controller {
    /// Makes a controller of a cube at rest.
    pub fn new(pose: Pose) -> Self {
        Self {
            position: pose.position.to_metres(),
            velocity: [0.0; 3],
            yaw_rad: yaw_of(pose.rotation.to_quaternion()),
            lean: [0.0; 2],
            carry_offset: [0.0; 3],
            carry_half_m: FLOOR_M,
        }
    }

    /// Moves on by a frame of `dt_seconds`.
    pub fn step(&mut self, input: Input, dt_seconds: f32) {
        let [dt_s] = finite([dt_seconds]).map(|dt_s| dt_s.clamp(0.0, LONGEST_FRAME_S));
        let direction = shortened(finite(input.direction), 1.0);
        let speed_mps = if input.fast {
            FAST_SPEED_MPS
        } else {
            WALK_SPEED_MPS
        };
        let wanted = direction.map(|part| part * speed_mps);
        let steps = (dt_s / STEP_S).ceil().max(1.0);
        for _ in 0..steps as u32 {
            self.step_part(wanted, input.jump, dt_s / steps);
        }
    }

    /// Returns the cube's pose, as it is sent.
    pub fn pose(&self) -> Pose {
        Pose {
            position: Position::from_metres(self.position),
            rotation: Rotation::from_quaternion(self.rotation()),
        }
    }

    /// Returns the cube's centre, in metres.
    pub fn position(&self) -> [f32; 3] {
        self.position
    }

    /// Returns the cube's velocity, in m/s.
    pub fn velocity(&self) -> [f32; 3] {
        self.velocity
    }

    /// Puts the cube somewhere, at rest: after a correction by the server. A carried cube stays in front of it.
    pub fn set_pose(&mut self, pose: Pose) {
        *self = Self {
            carry_half_m: self.carry_half_m,
            ..Self::new(pose)
        };
    }

    /// Starts to carry a cube of this width that lies at `from`: [`carry_pose`](Self::carry_pose) comes from
    /// there to its place within a moment instead of jumping.
    pub fn pick_up(&mut self, from: Pose, width_m: f32) {
        self.carry_half_m = width_m / 2.0;
        let place = self.carry_place();
        let from = from.position.to_metres();
        self.carry_offset = std::array::from_fn(|axis| from[axis] - place[axis]);
    }

    /// Returns where a carried cube goes: in front of the own one, at its height.
    pub fn carry_pose(&self) -> Pose {
        let place = self.carry_place();
        let position = std::array::from_fn(|axis| place[axis] + self.carry_offset[axis]);
        Pose {
            position: Position::from_metres(within_walls(position, self.carry_half_m)),
            rotation: Rotation::from_quaternion(self.rotation()),
        }
    }

    /// Returns where a carried cube is put down: under [`carry_pose`](Self::carry_pose), flat on the
    /// floor.
    pub fn drop_pose(&self) -> Pose {
        let [x, y, _] = self.carry_pose().position.to_metres();
        Pose {
            position: Position::from_metres([x, y, self.carry_half_m]),
            rotation: Rotation::from_quaternion(yaw_quaternion(self.yaw_rad)),
        }
    }

    fn step_part(&mut self, wanted: [f32; 2], jump: bool, dt_s: f32) {
        let on_floor = self.position[2] <= FLOOR_M && self.velocity[2] <= 0.0;
        if on_floor && jump {
            self.velocity[2] = (2.0 * GRAVITY_MPS2 * JUMP_HEIGHT_M).sqrt();
        }
        let acceleration = if on_floor {
            ACCELERATION_MPS2
        } else {
            AIR_ACCELERATION_MPS2
        };
        let before = self.velocity;
        let missing: [f32; 2] = std::array::from_fn(|axis| wanted[axis] - before[axis]);
        let gained = shortened(missing, acceleration * dt_s);
        for (axis, gained) in gained.into_iter().enumerate() {
            self.velocity[axis] += gained;
        }
        if !on_floor || jump {
            self.velocity[2] -= GRAVITY_MPS2 * dt_s;
        }
        // The mean of both velocities is exact under constant acceleration, whatever the step.
        for (axis, before) in before.into_iter().enumerate() {
            self.position[axis] += (before + self.velocity[axis]) / 2.0 * dt_s;
        }
        self.collide();
        self.turn(dt_s);
        self.lean(gained, dt_s);
        let left = length(self.carry_offset) - PICK_UP_SPEED_MPS * dt_s;
        self.carry_offset = shortened(self.carry_offset, left.max(0.0));
    }

    fn collide(&mut self) {
        let inside = within_walls(self.position, FLOOR_M);
        for (axis, inside) in inside.into_iter().enumerate() {
            if self.position[axis] != inside {
                self.position[axis] = inside;
                self.velocity[axis] = 0.0;
            }
        }
    }

    fn turn(&mut self, dt_s: f32) {
        let [x, y, _] = self.velocity;
        if length([x, y]) < TURN_SPEED_MPS {
            return;
        }
        let missing = (y.atan2(x) - self.yaw_rad + PI).rem_euclid(TAU) - PI;
        self.yaw_rad += missing.clamp(-TURN_RATE_RADPS * dt_s, TURN_RATE_RADPS * dt_s);
    }

    fn lean(&mut self, gained: [f32; 2], dt_s: f32) {
        if dt_s <= 0.0 {
            return;
        }
        let follow = 1.0 - (-LEAN_RATE_PER_S * dt_s).exp();
        for (axis, gained) in gained.into_iter().enumerate() {
            let wanted = gained / dt_s * LEAN_RAD_PER_MPS2;
            self.lean[axis] += (wanted - self.lean[axis]) * follow;
        }
    }

    fn rotation(&self) -> [f32; 4] {
        // Leaning turns the upright axis towards the acceleration: about the level axis
        // perpendicular to it.
        let [x, y] = self.lean;
        let angle = length(self.lean);
        if angle < 1e-4 {
            return yaw_quaternion(self.yaw_rad);
        }
        let (sine, cosine) = (angle / 2.0).sin_cos();
        let tilt = [-y / angle * sine, x / angle * sine, 0.0, cosine];
        product(tilt, yaw_quaternion(self.yaw_rad))
    }

    fn carry_place(&self) -> [f32; 3] {
        let (sine, cosine) = self.yaw_rad.sin_cos();
        let [x, y, z] = self.position;
        // A large cube's centre is higher than the own one's, and leans towards it.
        let leans_m = LARGEST_LEAN_RAD * (self.carry_half_m - FLOOR_M).max(0.0);
        let distance_m = FLOOR_M + CARRY_GAP_M + leans_m + self.carry_half_m;
        let place = [x + cosine * distance_m, y + sine * distance_m, z];
        within_walls(place, self.carry_half_m)
    }
}

/// Returns the nearest point at which a whole cube is inside the world, half of whose edge is `half_m`.
fn within_walls([x, y, z]: [f32; 3], half_m: f32) -> [f32; 3] {
    let wall = MAX_HORIZONTAL_QUANTA as f32 / QUANTA_PER_METRE - half_m;
    let ceiling = MAX_HEIGHT_QUANTA as f32 / QUANTA_PER_METRE - half_m;
    [
        x.clamp(-wall, wall),
        y.clamp(-wall, wall),
        z.clamp(half_m, ceiling),
    ]
}

fn length<const N: usize>(vector: [f32; N]) -> f32 {
    vector.iter().map(|part| part * part).sum::<f32>().sqrt()
}

/// Returns the vector, shortened to at most `longest`.
fn shortened<const N: usize>(vector: [f32; N], longest: f32) -> [f32; N] {
    let length = length(vector);
    if length <= longest {
        return vector;
    }
    vector.map(|part| part / length * longest)
}

fn finite<const N: usize>(vector: [f32; N]) -> [f32; N] {
    vector.map(|part| if part.is_finite() { part } else { 0.0 })
}

fn yaw_quaternion(yaw_rad: f32) -> [f32; 4] {
    let (sine, cosine) = (yaw_rad / 2.0).sin_cos();
    [0.0, 0.0, sine, cosine]
}

/// Returns the direction of a cube's x axis, seen from above.
fn yaw_of([x, y, z, w]: [f32; 4]) -> f32 {
    (2.0 * (w * z + x * y)).atan2(1.0 - 2.0 * (y * y + z * z))
}

/// Returns the rotation `b` followed by `a`.
fn product(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
    let ([ax, ay, az, aw], [bx, by, bz, bw]) = (a, b);
    [
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::playout::Solid;

    const EAST: Input = Input {
        direction: [1.0, 0.0],
        jump: false,
        fast: false,
    };

    fn resting() -> Controller {
        Controller::new(Pose {
            position: Position::from_metres([0.0, 0.0, FLOOR_M]),
            ..Pose::default()
        })
    }

    /// Steps for `seconds` at a frame rate.
    fn play(controller: &mut Controller, input: Input, seconds: f32, frames_per_s: u32) {
        for _ in 0..(seconds * frames_per_s as f32).round() as u32 {
            controller.step(input, 1.0 / frames_per_s as f32);
        }
    }

    #[test]
    fn walks_runs_and_stops() {
        let mut controller = resting();
        play(&mut controller, EAST, 1.0, 60);
        assert!((controller.velocity()[0] - WALK_SPEED_MPS).abs() < 1e-3);
        let fast = Input { fast: true, ..EAST };
        play(&mut controller, fast, 1.0, 60);
        assert!((controller.velocity()[0] - FAST_SPEED_MPS).abs() < 1e-3);
        play(&mut controller, Input::default(), 1.0, 60);
        assert_eq!(controller.velocity(), [0.0; 3]);
        // Braking from 11 m/s at 40 m/s² takes 0.275 s.
        let pose = controller.pose();
        play(&mut controller, Input::default(), 1.0, 60);
        assert_eq!(controller.pose(), pose);
    }

    #[test]
    fn jumps_about_a_cube_and_a_half_and_lands() {
        let mut controller = resting();
        let jump = Input {
            jump: true,
            ..Input::default()
        };
        controller.step(jump, 1.0 / 60.0);
        let mut highest_m = 0.0_f32;
        for _ in 0..60 {
            controller.step(Input::default(), 1.0 / 60.0);
            highest_m = highest_m.max(controller.position()[2]);
        }
        assert!(
            (highest_m - FLOOR_M - JUMP_HEIGHT_M).abs() < 0.05,
            "{highest_m}"
        );
        assert_eq!(controller.position()[2], FLOOR_M);
        assert_eq!(controller.velocity()[2], 0.0);
    }

    #[test]
    fn the_path_hardly_depends_on_the_frame_rate() {
        let path = |frames_per_s| {
            let mut controller = resting();
            play(&mut controller, EAST, 0.5, frames_per_s);
            let north = Input {
                direction: [0.0, 1.0],
                jump: true,
                fast: true,
            };
            play(&mut controller, north, 0.3, frames_per_s);
            controller
        };
        let reference = path(240);
        for frames_per_s in [10, 30, 60, 144] {
            let controller = path(frames_per_s);
            let apart: [f32; 3] = std::array::from_fn(|axis| {
                controller.position()[axis] - reference.position()[axis]
            });
            assert!(length(apart) < 0.05, "{frames_per_s}: {apart:?}");
            assert!((controller.yaw_rad - reference.yaw_rad).abs() < 0.1);
        }
    }

    #[test]
    fn a_long_frame_or_foreign_numbers_do_no_harm() {
        let mut controller = resting();
        controller.step(EAST, 3_600.0);
        assert!(controller.position()[0] < 1.0);
        let nonsense = Input {
            direction: [f32::NAN, f32::INFINITY],
            ..Input::default()
        };
        controller.step(nonsense, f32::NAN);
        controller.step(nonsense, -1.0);
        assert!(
            controller
                .position()
                .iter()
                .all(|metres| metres.is_finite())
        );
        let long = Input {
            direction: [9e9, 9e9],
            ..EAST
        };
        play(&mut controller, long, 1.0, 60);
        let [x, y, _] = controller.velocity();
        assert!(length([x, y]) <= WALK_SPEED_MPS + 1e-3);
    }

    #[test]
    fn stays_inside_the_world() {
        let mut controller = resting();
        controller.set_pose(Pose {
            position: Position::from_metres([254.0, 0.0, 0.0]),
            ..Pose::default()
        });
        play(&mut controller, EAST, 2.0, 60);
        assert_eq!(controller.position(), [255.5, 0.0, FLOOR_M]);
        assert_eq!(controller.velocity()[0], 0.0);
        assert!(controller.carry_pose().position.is_in_bounds());
    }

    #[test]
    fn faces_where_it_goes_and_keeps_it_over_a_pose() {
        let mut controller = resting();
        let north = Input {
            direction: [0.0, 1.0],
            ..EAST
        };
        play(&mut controller, north, 1.0, 60);
        assert!((controller.yaw_rad - PI / 2.0).abs() < 0.01);
        let again = Controller::new(controller.pose());
        assert!((again.yaw_rad - PI / 2.0).abs() < 0.02, "{}", again.yaw_rad);
    }

    #[test]
    fn a_taken_cube_comes_to_its_place_without_a_jump() {
        let mut controller = resting();
        let from = Pose {
            position: Position::from_metres([-3.0, 2.0, FLOOR_M]),
            ..Pose::default()
        };
        controller.pick_up(from, 1.0);
        assert_eq!(controller.carry_pose().position, from.position);
        let mut before = from.position;
        for _ in 0..60 {
            controller.step(Input::default(), 1.0 / 60.0);
            let now = controller.carry_pose().position;
            assert!(now.distance(before) as f32 / QUANTA_PER_METRE < 0.3);
            before = now;
        }
        assert_eq!(before, Position::from_metres([1.1, 0.0, FLOOR_M]));
        assert_eq!(controller.drop_pose().position, before);
    }

    #[test]
    fn a_small_cube_is_lifted_from_where_it_lies() {
        let mut controller = resting();
        let from = Pose {
            position: Position::from_metres([1.5, 0.0, 0.125]),
            ..Pose::default()
        };
        controller.pick_up(from, 0.25);
        assert_eq!(controller.carry_pose().position, from.position);
    }

    #[test]
    fn a_wide_cube_stays_inside_the_world() {
        let mut controller = Controller::new(Pose {
            position: Position::from_metres([254.0, 0.0, FLOOR_M]),
            ..Pose::default()
        });
        controller.pick_up(controller.pose(), 4.0);
        play(&mut controller, EAST, 2.0, 60);
        assert_eq!(
            controller.carry_pose().position.to_metres(),
            [254.0, 0.0, 2.0]
        );
    }

    #[test]
    fn a_wide_cube_is_carried_on_in_front_after_a_correction() {
        let mut controller = resting();
        controller.pick_up(Pose::default(), 4.0);
        controller.set_pose(Pose {
            position: Position::from_metres([5.0, 0.0, FLOOR_M]),
            ..Pose::default()
        });
        let own = Solid::new(1.0, &controller.pose().into());
        let carried = Solid::new(4.0, &controller.carry_pose().into());
        assert!(own.overlap_m(&carried) < 0.0);
        assert_eq!(controller.drop_pose().position.to_metres()[2], 2.0);
    }

    proptest::proptest! {
        #[test]
        fn the_lean_is_slight_the_pose_in_bounds_and_what_is_carried_apart(
            inputs in proptest::collection::vec(
                (-1.0f32..1.0, -1.0f32..1.0, proptest::bool::ANY, 0.0f32..0.2), 1..60),
            carried_m in 0.125_f32..4.0,
        ) {
            let mut controller = resting();
            controller.carry_half_m = carried_m / 2.0;
            for (x, y, held, dt_s) in inputs {
                let input = Input { direction: [x, y], jump: held, fast: held };
                controller.step(input, dt_s);
                proptest::prop_assert!(length(controller.lean) < 0.17);
                proptest::prop_assert!(controller.pose().position.is_in_bounds());
                let own = Solid::new(1.0, &controller.pose().into());
                let carried = Solid::new(carried_m, &controller.carry_pose().into());
                proptest::prop_assert!(own.overlap_m(&carried) < 0.0);
            }
        }
    }
}
