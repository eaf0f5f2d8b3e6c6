//! The motion of people: the wanderers of the relay benchmark, and players, which move by the client's
//! controller and random keys.

use std::f32::consts::FRAC_PI_4;

use cubesync_client::{Controller, Input};
use cubesync_protocol::{Pose, Position};

use crate::motions::{Motion, append_trace};

/// The distance from home at which a player turns back, in metres.
const HOME_RADIUS_M: f32 = 30.0;
/// Number of frames of a player's screen per tick.
const FRAMES_PER_TICK: u32 = 3;
/// The distance between homes, in quanta.
const SPACING: i32 = 2_048;

/// A kind of motion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum People {
    /// The wanderers of the relay benchmark, of which only the yaw turns.
    Wander,
    /// The client's controller, with which cubes lean, too.
    Play,
    /// Jumps to any place, as in the relay benchmark.
    Jump,
    /// Jumps to any place without turning.
    JumpUnturned,
    /// No motion.
    Idle,
}

/// Returns tracks of people with one pose per tick, the same for the same seeds.
pub(crate) fn tracks(
    people: People,
    seeds: std::ops::Range<u64>,
    hz: u32,
    ticks: usize,
) -> Vec<Vec<Pose>> {
    seeds.map(|seed| track(people, seed, hz, ticks)).collect()
}

/// Returns the ticks of tracks after the first one, in which everything rests.
pub(crate) fn ticks(tracks: &[Vec<Pose>]) -> std::ops::Range<usize> {
    1..tracks.first().map_or(1, Vec::len)
}

fn track(people: People, seed: u64, hz: u32, ticks: usize) -> Vec<Pose> {
    let home = Position {
        x: (seed as i32 % 10 - 5) * SPACING,
        y: (seed as i32 / 10 % 10 - 5) * SPACING,
        z: 256,
    };
    let mut poses = Vec::with_capacity(ticks);
    match people {
        People::Wander => append_trace(&mut poses, Motion::Wander, seed, home, hz, ticks),
        People::Idle => append_trace(&mut poses, Motion::Idle, seed, home, hz, ticks),
        People::Play => play(&mut poses, seed, home, hz, ticks),
        People::Jump | People::JumpUnturned => {
            append_trace(&mut poses, Motion::Jump, seed, home, hz, ticks);
            if people == People::JumpUnturned {
                for pose in &mut poses {
                    pose.rotation = Pose::default().rotation;
                }
            }
        }
    }
    poses
}

fn play(poses: &mut Vec<Pose>, seed: u64, home: Position, hz: u32, ticks: usize) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut cube = Controller::new(Pose {
        position: home,
        ..Pose::default()
    });
    let home = home.to_metres();
    let frame_s = 1.0 / (hz * FRAMES_PER_TICK) as f32;
    let mut input = Input::default();
    let (mut heading_rad, mut turn_radps, mut left_s) = (0.0, 0.0, 0.0);
    for _ in 0..ticks {
        for _ in 0..FRAMES_PER_TICK {
            left_s -= frame_s;
            if left_s <= 0.0 {
                left_s = 0.5 + 3.0 * random.f32();
                // Other keys, with or without the mouse turning the camera.
                if random.f32() < 0.6 {
                    heading_rad += f32::from(random.u8(0..8)) * FRAC_PI_4;
                }
                turn_radps = if random.bool() {
                    0.0
                } else {
                    (random.f32() - 0.5) * 3.0
                };
                input.fast = random.f32() < 0.25;
                input.direction = if random.f32() < 0.3 {
                    [0.0; 2]
                } else {
                    [1.0; 2]
                };
            }
            let [x, y, _] = cube.position();
            let (dx, dy) = (home[0] - x, home[1] - y);
            if dx.hypot(dy) > HOME_RADIUS_M {
                heading_rad = dy.atan2(dx);
            }
            heading_rad += turn_radps * frame_s;
            if input.direction != [0.0; 2] {
                input.direction = Input::towards(heading_rad).direction;
            }
            input.jump = random.f32() < 0.12 * frame_s;
            cube.step(input, frame_s);
        }
        poses.push(cube.pose());
    }
}
