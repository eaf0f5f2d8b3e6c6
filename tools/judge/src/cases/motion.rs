//! Residuals of every kind, and predictions between them. Clients of the plain encoding get the same motion as poses.

use cubesync_protocol::motion::MotionState;
use cubesync_protocol::{CubeId, Event, Pose, Rotation};

use super::{Case, FOLLOW, case};
use crate::room::{HERE, OTHER, TARGET, at, player, turned};
use crate::trial::{Outcome, Trial};

const CELLS: &str = "cells";
const BLOCKS: &str = "building-blocks";

pub(super) const CASES: &[Case] = &[
    case(
        "small-move",
        "decodes the smallest moves that are sent",
        CELLS,
        &[FOLLOW],
        small_move,
    ),
    case(
        "jump",
        "decodes jumps across the whole world",
        CELLS,
        &[FOLLOW],
        jump,
    ),
    case(
        "jump-turned",
        "decodes a jump with a new rotation",
        CELLS,
        &[FOLLOW],
        jump_turned,
    ),
    case(
        "straight",
        "lets a cube go on as predicted while only heartbeats come",
        CELLS,
        &[FOLLOW],
        straight,
    ),
    case(
        "accelerated",
        "lets a falling cube go on as predicted",
        CELLS,
        &[FOLLOW],
        accelerated,
    ),
    case(
        "spinning",
        "lets a turning cube turn on as predicted",
        CELLS,
        &[FOLLOW],
        spinning,
    ),
    case(
        "tumbling",
        "decodes 90 ticks of a cube that tumbles",
        CELLS,
        &[FOLLOW],
        tumbling,
    ),
    case(
        "ties",
        "decodes rotations with two, three or four equal components",
        BLOCKS,
        &[FOLLOW],
        ties,
    ),
    case(
        "other-rotations",
        "reads rotations that no encoder writes: any four bytes are one",
        BLOCKS,
        &[FOLLOW],
        other_rotations,
    ),
    case(
        "widths",
        "reads widths beyond the bounds as the nearest",
        BLOCKS,
        &[FOLLOW],
        widths,
    ),
    case(
        "active-cubes",
        "decodes ticks with 40 moving cubes",
        CELLS,
        &[FOLLOW],
        active_cubes,
    ),
    case(
        "woken-cubes",
        "decodes ticks in which some of 500 resting cubes wake",
        CELLS,
        &[FOLLOW],
        woken_cubes,
    ),
    case(
        "after-300-ticks",
        "decodes a residual after 300 ticks without one",
        CELLS,
        &[FOLLOW],
        after_300_ticks,
    ),
    case(
        "predicted-for-300-ticks",
        "decodes a residual of a cube that has gone on as predicted for 300 ticks",
        CELLS,
        &[FOLLOW],
        predicted_for_300_ticks,
    ),
    case(
        "at-the-wall",
        "predicts no cube out of the world",
        CELLS,
        &[FOLLOW],
        at_the_wall,
    ),
    case(
        "stop-and-go",
        "decodes cubes that stop and go",
        CELLS,
        &[FOLLOW],
        stop_and_go,
    ),
    case(
        "random-walk",
        "decodes 250 ticks of 30 cubes that move at random, to the quantum",
        CELLS,
        &[FOLLOW],
        random_walk,
    ),
    case(
        "moving-keyframe",
        "goes on from a keyframe of moving cubes",
        CELLS,
        &[FOLLOW],
        moving_keyframe,
    ),
];

/// Ends a motion: puts the followed cube to rest and expects the client there.
fn ends_at(trial: &mut Trial<'_>, pose: Pose, cause: &str) -> Outcome {
    trial.room.put(TARGET, pose);
    trial.settle()?;
    trial.follows(cause)
}

fn small_move(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    let mut pose = at(1.5, 2.0, 0.5);
    for step in 0..20 {
        let axis = match step % 3 {
            0 => &mut pose.position.x,
            1 => &mut pose.position.y,
            _ => &mut pose.position.z,
        };
        *axis += 3 + step % 5;
        trial.room.put(TARGET, pose);
        trial.settle()?;
    }
    trial.follows("20 moves of a few quanta")
}

fn jump(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    for (x, y, z) in [
        (250.0, -250.0, 30.0),
        (-250.0, 250.0, 0.5),
        (5.0, 2.0, 0.5),
        (9.1, 2.0, 0.5),
    ] {
        ends_at(trial, at(x, y, z), "a jump")?;
    }
    Ok(())
}

fn jump_turned(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    for (x, quaternion) in [(50.0, [0.5, -0.5, 0.5, 0.5]), (-50.0, [0.8, 0.1, 0.0, 0.6])] {
        ends_at(
            trial,
            turned(x, 3.0, 0.5, quaternion),
            "a jump with a new rotation",
        )?;
    }
    Ok(())
}

/// Moves the followed cube along a path for some ticks, then lets it go on as predicted for others.
fn coasts(trial: &mut Trial<'_>, path: impl Fn(f32) -> Pose, told: u32, coasted: u32) -> Outcome {
    for tick in 0..told {
        trial.room.put(TARGET, path(tick as f32));
        trial.tick()?;
    }
    trial.room.let_go(TARGET);
    for _ in 0..coasted {
        trial.tick()?;
    }
    Ok(())
}

/// Stops the followed cube where it is predicted to be, but for a few quanta, and expects the client there.
fn stops(trial: &mut Trial<'_>, cause: &str) -> Outcome {
    let mut pose = trial.room.replica.pose(TARGET).unwrap_or_default();
    // Toward the middle: nothing can be put behind the world's edge.
    pose.position.x -= 40 * pose.position.x.signum();
    ends_at(trial, pose, cause)
}

fn straight(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    coasts(trial, |tick| at(0.1 * tick, -0.07 * tick, 1.0), 8, 40)?;
    stops(trial, "40 ticks of straight motion without a residual")
}

fn accelerated(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    coasts(
        trial,
        |tick| at(0.1 * tick, 3.0, 30.0 - 0.01 * tick * tick),
        12,
        20,
    )?;
    stops(trial, "20 ticks of a fall without a residual")
}

fn turning(tick: f32) -> [f32; 4] {
    let (sin, cos) = (0.06 * tick).sin_cos();
    [0.36 * sin, -0.48 * sin, 0.8 * sin, cos]
}

fn spinning(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    coasts(trial, |tick| turned(2.0, 2.0, 3.0, turning(tick)), 10, 30)?;
    stops(trial, "30 ticks of a turn without a residual")
}

fn tumbling(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    let path = |tick: f32| {
        let (sin, cos) = (0.11 * tick).sin_cos();
        let quaternion = [
            0.7 * sin,
            (0.3 * tick).sin() * cos,
            0.2 * cos,
            0.5 * cos + 0.1,
        ];
        turned(0.2 * tick, 3.0 * sin, 4.0 + 3.0 * cos, quaternion)
    };
    coasts(trial, path, 90, 0)?;
    stops(trial, "90 ticks of a cube that tumbles")
}

fn ties(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    let half = std::f32::consts::FRAC_1_SQRT_2;
    let third = 1.0 / 3.0_f32.sqrt();
    for (step, quaternion) in [
        [half, 0.0, 0.0, half],
        [0.0, half, -half, 0.0],
        [third, third, third, 0.0],
        [0.5, 0.5, 0.5, 0.5],
        [-0.5, 0.5, -0.5, 0.5],
        [half, -half, 0.0, 0.0],
        [0.0, 0.0, half, half],
    ]
    .into_iter()
    .enumerate()
    {
        trial
            .room
            .put(TARGET, turned(1.5, 0.2 * step as f32, 0.5, quaternion));
        trial.settle()?;
    }
    trial.follows("rotations with equal components")?;
    ends_at(
        trial,
        turned(1.5, 2.0, 0.5, [0.1, 0.2, 0.3, 0.9]),
        "a rotation after those with equal components",
    )
}

fn other_rotations(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    for bytes in [[0xff; 4], [0; 4], [0xff, 0xff, 0xff, 0x3f], [1, 0, 0, 0x80]] {
        let pose = Pose {
            rotation: Rotation::from(bytes),
            ..at(1.5, 2.0, 0.5)
        };
        let mut cubes = trial.everybody();
        cubes[1].motion = MotionState::at_rest(pose);
        trial.tick()?;
        trial.keyframe(HERE, 1, cubes)?;
        trial.follows(&format!("a keyframe with the rotation {bytes:02x?}"))?;
    }
    ends_at(
        trial,
        turned(1.5, 2.5, 0.5, [0.1, 0.2, 0.3, 0.9]),
        "a rotation after unusual ones",
    )
}

fn widths(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    trial.tick()?;
    let (cubes, tick) = (trial.everybody(), trial.message_tick());
    let keyframe = trial.room.keyframe(HERE, 1, tick, cubes);
    let mut frame = trial.frame(keyframe)?;
    // The colour of all cubes, and the width of a metre.
    let places = frame
        .windows(4)
        .enumerate()
        .filter(|(_, bytes)| *bytes == [0xE0, 0x80, 0x20, 32]);
    let places: Vec<_> = places.map(|(place, _)| place + 3).collect();
    for (place, width) in places.into_iter().zip([0, 255, 3, 129]) {
        frame[place] = width;
    }
    trial.link()?.send(&frame);
    ends_at(
        trial,
        at(1.5, 2.5, 0.5),
        "a keyframe with cubes of several widths",
    )
}

/// Adds cubes that stand in a row.
fn crowd(trial: &mut Trial<'_>, count: u64) -> Outcome {
    let joined = (0..count).map(|number| {
        let place = at((number % 25) as f32, -10.0 - (number / 25) as f32, 0.5);
        Event::Joined(player(CubeId(100 + number), "", place))
    });
    trial.events(HERE, joined.collect())
}

fn active_cubes(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    crowd(trial, 40)?;
    for tick in 0..30u64 {
        for number in 0..40 {
            let angle = tick as f32 / (5.0 + number as f32);
            trial.room.put(
                CubeId(100 + number),
                at(number as f32 + angle.sin(), -10.0 + angle.cos(), 0.5),
            );
        }
        trial.room.put(TARGET, at(0.1 * tick as f32, 2.0, 0.5));
        trial.tick()?;
    }
    ends_at(trial, at(3.0, 3.0, 0.5), "30 ticks of 41 moving cubes")
}

fn woken_cubes(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    crowd(trial, 500)?;
    for tick in 0..20u64 {
        for step in 0..tick % 6 {
            let number = (tick * 97 + step * 61) % 500;
            trial.room.put(
                CubeId(100 + number),
                at(-9.0, number as f32 / 20.0, 0.5 + tick as f32 / 10.0),
            );
        }
        if tick % 3 == 0 {
            trial.room.put(TARGET, at(0.1 * tick as f32, 2.0, 0.5));
        }
        trial.tick()?;
    }
    ends_at(
        trial,
        at(3.0, 3.0, 0.5),
        "20 ticks in which some of 500 cubes woke",
    )
}

/// Lets ticks pass at once, with one heartbeat: what is predicted goes on.
fn skip(trial: &mut Trial<'_>, ticks: u64) -> Outcome {
    trial.set_tick(trial.message_tick() + ticks);
    let tick = trial.message_tick();
    trial.send(cubesync_protocol::ServerMessage::Heartbeat { tick })
}

fn after_300_ticks(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    ends_at(trial, at(1.0, 1.0, 0.5), "the first move")?;
    skip(trial, 300)?;
    ends_at(trial, at(1.2, 1.0, 0.5), "a move after 300 ticks")?;
    skip(trial, 70_000)?;
    ends_at(trial, at(1.4, 1.0, 0.5), "a move after 70,000 ticks")
}

fn predicted_for_300_ticks(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    coasts(
        trial,
        |tick| at(-100.0 + 0.2 * tick, 0.02 * tick, 1.0),
        8,
        2,
    )?;
    skip(trial, 300)?;
    trial.tick()?;
    stops(trial, "300 ticks of straight motion without a residual")
}

fn at_the_wall(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    ends_at(trial, at(250.0, 0.0, 3.0), "a jump to the wall")?;
    coasts(
        trial,
        |tick| at(250.0 + 0.3 * tick, 0.0, 3.0 - 0.2 * tick),
        8,
        40,
    )?;
    trial.follows("the prediction of a cube that runs into the corner of the world")?;
    ends_at(trial, at(240.0, 0.0, 3.0), "the way back from the wall")
}

fn stop_and_go(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    let mut x = 0.0;
    for tick in 0..90 {
        if tick / 7 % 2 == 0 {
            x += 0.15;
        }
        trial.room.put(TARGET, at(x, 2.0, 0.5));
        trial
            .room
            .put(OTHER, at(-x, -2.0, 0.5 + 0.1 * (tick % 9) as f32));
        trial.tick()?;
    }
    ends_at(trial, at(x, 1.0, 0.5), "90 ticks of cubes that stop and go")
}

fn random_walk(trial: &mut Trial<'_>) -> Outcome {
    trial.greeting.tick_hz = 100;
    trial.join()?;
    crowd(trial, 30)?;
    let mut random = fastrand::Rng::with_seed(20);
    let mut poses: Vec<_> = (0..30)
        .map(|number| (CubeId(100 + number), at(number as f32, -10.0, 2.0)))
        .collect();
    poses.push((TARGET, at(1.5, 2.0, 0.5)));
    for _ in 0..250 {
        for (cube, pose) in &mut poses {
            if random.u8(..4) == 0 {
                continue;
            }
            let reach = if random.u8(..50) == 0 { 20_000 } else { 200 };
            pose.position.x += random.i32(-reach..=reach);
            pose.position.y += random.i32(-reach..=reach);
            pose.position.z = (pose.position.z + random.i32(-99..=99)).clamp(0, 9_000);
            if random.bool() {
                pose.rotation = Rotation::from(random.u32(..).to_le_bytes());
            }
            trial.room.put(*cube, *pose);
        }
        trial.tick()?;
    }
    ends_at(
        trial,
        at(3.0, 3.0, 0.5),
        "250 ticks of 31 cubes that move at random",
    )
}

fn moving_keyframe(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    coasts(
        trial,
        |tick| turned(0.1 * tick, 2.0, 1.0, turning(tick)),
        8,
        3,
    )?;
    let tick = trial.message_tick();
    let keyframe = trial.room.replica.keyframe_of(HERE, tick);
    let cubes = keyframe.map(|keyframe| keyframe.cubes).unwrap_or_default();
    trial.keyframe(HERE, 1, cubes)?;
    for _ in 0..15 {
        trial.tick()?;
    }
    stops(
        trial,
        "a keyframe of a cube that moves and turns, or 15 ticks after it",
    )
}
