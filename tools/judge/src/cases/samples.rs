//! The client's own samples, its pings and its clock.

use std::time::Duration;

use anyhow::ensure;
use cubesync_protocol::{CubePose, DatagramAnswer, DatagramKey, PathId, ServerMessage};

use super::greeting::pings_often;
use super::{Case, DATAGRAMS, FOLLOW, PREDICTED, case};
use crate::room::{OWN, TARGET, at, turned};
use crate::trial::{Outcome, PATIENCE, Trial};

const SAMPLES: &str = "samples";
const CLOCKS: &str = "ticks-and-clocks";
const CONVERSATION: &str = "the-conversation";

pub(super) const CASES: &[Case] = &[
    case(
        "pings",
        "sends a Ping at least every 5 s",
        CONVERSATION,
        &[],
        pings,
    ),
    case(
        "quiet-server",
        "stays with a server that says nothing for 8 s: it may give up after 15",
        CONVERSATION,
        &[FOLLOW],
        quiet_server,
    ),
    case(
        "moves-again-and-again",
        "sends samples that can be decoded one after the other",
        SAMPLES,
        &[FOLLOW],
        moves_again_and_again,
    ),
    case(
        "moves-all-the-time",
        "stays below 256 messages a second while what it follows moves at 128 Hz",
        "limits",
        &[FOLLOW],
        moves_all_the_time,
    ),
    case(
        "slow-ticks",
        "plays in a room with one tick a second",
        CLOCKS,
        &[FOLLOW],
        slow_ticks,
    ),
    case(
        "edge-of-the-world",
        "moves to the corners of the world",
        "building-blocks",
        &[FOLLOW],
        edge_of_the_world,
    ),
    case(
        "turns",
        "sends rotations as well",
        "building-blocks",
        &[FOLLOW],
        turns,
    ),
    case(
        "on-time",
        "sends most samples before their tick, and none for one a second ahead",
        SAMPLES,
        &[FOLLOW, PREDICTED],
        on_time,
    ),
    case(
        "clock-ahead",
        "goes on with the server's clock when that jumps 20 s ahead",
        CLOCKS,
        &[FOLLOW, PREDICTED],
        clock_ahead,
    ),
    case(
        "stalled-server",
        "goes on after a pause of the server, which skips the ticks",
        CLOCKS,
        &[FOLLOW],
        stalled_server,
    ),
    case(
        "no-way-for-datagrams",
        "goes on with the stream when it is given a way for datagrams on which nothing comes",
        "datagrams",
        &[DATAGRAMS, FOLLOW],
        no_way_for_datagrams,
    ),
    case(
        "correction",
        "goes on after a Correction, with samples over the same set",
        SAMPLES,
        &[FOLLOW],
        correction,
    ),
    case(
        "many-corrections",
        "goes on after a Correction at each of 20 ticks",
        SAMPLES,
        &[FOLLOW],
        many_corrections,
    ),
];

fn pings(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    trial.stay(Duration::from_secs(13))?;
    pings_often(trial)
}

fn quiet_server(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    trial.follows("the first keyframe")?;
    (trial.is_lively, trial.answers) = (false, false);
    trial.stay(Duration::from_secs(8))?;
    (trial.is_lively, trial.answers) = (true, true);
    trial.room.put(TARGET, at(-2.0, 5.0, 1.5));
    trial.settle()?;
    trial.follows("the snapshots after 8 s of silence")
}

fn moves_again_and_again(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    trial.follows("the first keyframe")?;
    for step in 1..=12 {
        let step = step as f32;
        trial
            .room
            .put(TARGET, at(1.5 * step, 2.0 - step, 0.5 + 0.25 * step));
        trial.settle()?;
        trial.follows("the snapshots of one of twelve moves")?;
    }
    Ok(())
}

fn moves_all_the_time(trial: &mut Trial<'_>) -> Outcome {
    trial.greeting.tick_hz = 128;
    trial.join()?;
    trial.follows("the first keyframe")?;
    for tick in 0..512 {
        let angle = tick as f32 / 20.0;
        trial.room.put(
            TARGET,
            at(5.0 * angle.cos(), 5.0 * (2.0 * angle).sin(), 0.5),
        );
        trial.tick()?;
    }
    trial.settle()?;
    trial.follows("the snapshots of 512 ticks at 128 Hz")
}

fn slow_ticks(trial: &mut Trial<'_>) -> Outcome {
    trial.greeting.tick_hz = 1;
    trial.join()?;
    trial.room.put(TARGET, at(9.0, 2.0, 0.5));
    trial.settle()?;
    trial.follows("the snapshots in a room with one tick a second")
}

fn edge_of_the_world(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    for (x, y, z) in [
        (256.0, 256.0, 32.0),
        (-256.0, -256.0, 0.0),
        (256.0, -256.0, 0.5),
    ] {
        trial.room.put(TARGET, at(x, y, z));
        trial.settle()?;
        trial.follows("the jump to a corner of the world")?;
    }
    Ok(())
}

fn turns(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    for quaternion in [
        [0.0, 0.0, 0.383, 0.924],
        [0.6, -0.2, 0.1, 0.3],
        [-0.1, 0.9, 0.1, -0.3],
        [0.5, 0.5, 0.5, 0.5],
        [0.0, 0.0, -0.707_106_77, 0.707_106_77],
    ] {
        trial.room.put(TARGET, turned(1.5, 2.0, 0.5, quaternion));
        trial.settle()?;
        trial.follows("a turn of the cube to follow")?;
    }
    Ok(())
}

fn on_time(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    trial.follows("the first keyframe")?;
    trial.stay(Duration::from_secs(3))?;
    (
        trial.lateness.early,
        trial.lateness.late,
        trial.lateness.on_time,
    ) = (0, 0, 0);
    for tick in 0..120 {
        let angle = tick as f32 / 10.0;
        trial
            .room
            .put(TARGET, at(5.0 * angle.cos(), 5.0 * angle.sin(), 0.5));
        trial.tick()?;
    }
    let lateness = trial.lateness;
    let count = lateness.early + lateness.late + lateness.on_time;
    ensure!(
        2 * lateness.late <= count,
        "of {count} samples while the cube to follow went in a circle {} came after their tick had begun: it should send \
         them half a round trip and a small margin before",
        lateness.late
    );
    ensure!(
        10 * lateness.early <= count,
        "of {count} samples {} were for a tick more than a second ahead of the server's clock",
        lateness.early
    );
    Ok(())
}

fn clock_ahead(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    trial.follows("the first keyframe")?;
    trial.set_tick(trial.clock().0 + 600);
    trial.room.put(TARGET, at(-2.0, 5.0, 1.5));
    trial.settle()?;
    trial.follows("the snapshots after the server's clock had jumped")?;
    on_time_after(trial)
}

/// Expects samples of the server's present ticks.
fn on_time_after(trial: &mut Trial<'_>) -> Outcome {
    trial.stay(Duration::from_secs(3))?;
    trial.room.put(TARGET, at(-8.0, 5.0, 1.5));
    trial.settle()?;
    trial.follows("the snapshots 3 s after the server's clock had jumped")?;
    let (newest, now) = (trial.uplink.tick, trial.clock().0);
    let second = u64::from(trial.greeting.tick_hz);
    ensure!(
        newest.abs_diff(now) <= 2 * second,
        "at tick {now} its newest sample is of tick {newest}: it has not set its clock by the server's Pongs"
    );
    Ok(())
}

fn stalled_server(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    trial.follows("the first keyframe")?;
    for step in 0..4 {
        trial
            .room
            .put(TARGET, at(1.5 + 0.2 * step as f32, 2.0, 0.5));
        trial.tick()?;
    }
    (trial.is_lively, trial.answers) = (false, false);
    std::thread::sleep(Duration::from_millis(600));
    (trial.is_lively, trial.answers) = (true, true);
    // What has been predicted to go on has stopped meanwhile.
    trial.room.put(TARGET, at(2.2, 2.0, 0.5));
    trial.settle()?;
    trial.follows("the snapshot after a pause of 18 ticks")
}

fn no_way_for_datagrams(trial: &mut Trial<'_>) -> Outcome {
    trial.datagrams = DatagramAnswer::Udp {
        // The discard service, which nobody runs any more.
        port: 9,
        path: PathId(5),
        key: DatagramKey([7; 32]),
    };
    trial.join()?;
    let has_asked = trial.until(PATIENCE, |trial| trial.asked > 0)?;
    ensure!(has_asked, "it did not ask for a way for datagrams");
    for step in 0..12 {
        trial
            .room
            .put(TARGET, at(1.0 + 0.3 * step as f32, 2.0, 0.5));
        trial.settle()?;
        trial.stay(Duration::from_millis(300))?;
    }
    trial.follows("the snapshots on the stream")
}

fn correction(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    trial.follows("the first keyframe")?;
    corrected(trial, 0)?;
    trial.stay(Duration::from_millis(500))?;
    trial.room.put(TARGET, at(-2.0, 5.0, 1.5));
    trial.settle()?;
    trial.follows("the snapshots after a Correction")
}

fn many_corrections(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    trial.follows("the first keyframe")?;
    for step in 0..20 {
        corrected(trial, step)?;
        trial
            .room
            .put(TARGET, at(1.5, 2.0 + 0.3 * step as f32, 0.5));
        trial.tick()?;
    }
    trial.settle()?;
    trial.follows("the snapshots beside 20 Corrections")
}

/// Sends a correction of the own cube.
fn corrected(trial: &mut Trial<'_>, step: u8) -> Outcome {
    trial.send(ServerMessage::Correction {
        tick: trial.uplink.tick,
        corrected: CubePose {
            cube: OWN,
            pose: at(-3.0, f32::from(step), 0.5),
        },
    })
}
