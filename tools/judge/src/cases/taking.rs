//! Free cubes: taken, moved and let go.

use std::time::Duration;

use anyhow::ensure;
use cubesync_protocol::{ClientMessage, CubeId, Event, ServerMessage};

use super::greeting::is_take;
use super::{Case, TAKE, case};
use crate::room::{HERE, OTHER, OWN, PRIZE, TARGET, at, is_near};
use crate::trial::{Outcome, PATIENCE, Trial};

const TAKING: &str = "from-the-client";

pub(super) const CASES: &[Case] = &[
    case(
        "takes",
        "takes the free cube and moves it with its samples",
        TAKING,
        &[TAKE],
        takes,
    ),
    case(
        "lets-go",
        "sends Release after the last sample of the cube, and no more samples of it",
        TAKING,
        &[TAKE],
        lets_go,
    ),
    case(
        "takes-again",
        "takes and lets go several times, over one set of samples",
        TAKING,
        &[TAKE],
        takes_again,
    ),
    case(
        "refused",
        "goes on when the cube is refused",
        TAKING,
        &[TAKE],
        refused,
    ),
    case(
        "taken-by-who-was-faster",
        "goes on when somebody else has the cube",
        TAKING,
        &[TAKE],
        taken_by_who_was_faster,
    ),
    case(
        "freed-by-the-server",
        "stops moving a cube that the server has freed",
        TAKING,
        &[TAKE],
        freed_by_the_server,
    ),
    case(
        "held-across-keyframes",
        "keeps a held cube when a keyframe shows it as held",
        TAKING,
        &[TAKE],
        held_across_keyframes,
    ),
];

/// Waits for the client's take, and gives it the cube.
fn give(trial: &mut Trial<'_>) -> Outcome {
    let cube = trial.says("Take of the cube \"prize\"", is_take)?;
    ensure!(cube == PRIZE, "it asked for cube {cube} instead of {PRIZE}");
    trial.uplink.movable.insert(PRIZE);
    taken(trial, OWN)
}

/// Lets everybody know who holds the prize.
fn taken(trial: &mut Trial<'_>, by: CubeId) -> Outcome {
    let cube = PRIZE;
    trial.events(HERE, vec![Event::Taken { cube, by }])
}

/// Moves the followed cube, and expects the held one there.
fn carries(trial: &mut Trial<'_>, x: f32) -> Outcome {
    let to = at(x, 3.0, 0.5);
    trial.room.put(TARGET, to);
    trial.settle()?;
    trial.follows("the snapshots while it holds a cube")?;
    let is_there = |trial: &Trial<'_>| {
        let pose = trial.pose(PRIZE);
        pose.is_some_and(|pose| is_near(pose, to))
    };
    let comes = trial.until(PATIENCE, is_there)?;
    ensure!(
        comes,
        "it holds cube {PRIZE}, but its samples do not move that cube to where the followed one is"
    );
    Ok(())
}

/// Raises the followed cube, and expects that the client lets go.
fn releases(trial: &mut Trial<'_>) -> Outcome {
    trial.room.put(TARGET, at(0.0, 3.0, 12.0));
    trial.settle()?;
    let cube = trial.says("Release of the held cube", |message| match message {
        ClientMessage::Release { cube } => Some(*cube),
        _ => None,
    })?;
    ensure!(cube == PRIZE, "it let go of cube {cube} instead of {PRIZE}");
    trial.events(HERE, vec![Event::Freed { cube: PRIZE }])
}

fn takes(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    give(trial)?;
    carries(trial, -1.0)?;
    carries(trial, 5.0)
}

fn lets_go(trial: &mut Trial<'_>) -> Outcome {
    takes(trial)?;
    releases(trial)?;
    // Samples of the cube that come now are noticed: it may not move it any more.
    trial.room.put(TARGET, at(-4.0, 4.0, 12.0));
    trial.settle()?;
    trial.follows("the snapshots after it has let go")?;
    trial.stay(Duration::from_millis(500))
}

fn takes_again(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    for round in 0..3 {
        trial.room.put(TARGET, at(1.0, 1.0, 0.5));
        trial.settle()?;
        give(trial)?;
        carries(trial, -3.0 - round as f32)?;
        releases(trial)?;
    }
    trial.follows("the snapshots after three rounds")
}

fn refused(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    let cube = trial.says("Take of the cube \"prize\"", is_take)?;
    trial.send(ServerMessage::Refused { cube, holder: None })?;
    quiet_after(trial, "Refused")?;
    trial.room.put(TARGET, at(-2.0, 1.0, 0.5));
    trial.settle()?;
    trial.follows("the snapshots after Refused")
}

/// Expects that the client does not ask again and again.
fn quiet_after(trial: &mut Trial<'_>, cause: &str) -> Outcome {
    trial.said.clear();
    trial.stay(Duration::from_secs(1))?;
    let count = trial.said.iter().filter_map(is_take).count();
    ensure!(
        count <= 3,
        "it asked {count} times for the cube within a second after {cause}"
    );
    Ok(())
}

fn taken_by_who_was_faster(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    let cube = trial.says("Take of the cube \"prize\"", is_take)?;
    taken(trial, OTHER)?;
    let holder = Some(OTHER);
    trial.send(ServerMessage::Refused { cube, holder })?;
    quiet_after(trial, "another player took it")?;
    trial.room.put(TARGET, at(-2.0, 1.0, 0.5));
    trial.room.put(PRIZE, at(3.0, 1.0, 0.5));
    trial.settle()?;
    trial.follows("the snapshots after another player has taken the cube")
}

fn freed_by_the_server(trial: &mut Trial<'_>) -> Outcome {
    takes(trial)?;
    taken(trial, OTHER)?;
    // Samples that are under way may still have it.
    trial.stay(Duration::from_secs(1))?;
    let before = trial.pose(PRIZE);
    trial.room.put(TARGET, at(-5.0, 1.0, 0.5));
    trial.settle()?;
    trial.follows("the snapshots after it has lost the cube")?;
    let after = trial.pose(PRIZE);
    ensure!(
        before
            .zip(after)
            .is_none_or(|(before, after)| is_near(before, after)),
        "it went on moving cube {PRIZE} after another player had taken it"
    );
    Ok(())
}

fn held_across_keyframes(trial: &mut Trial<'_>) -> Outcome {
    takes(trial)?;
    let tick = trial.message_tick();
    let keyframe = trial.room.replica.keyframe_of(HERE, tick);
    let cubes = keyframe.map(|keyframe| keyframe.cubes).unwrap_or_default();
    trial.tick()?;
    trial.keyframe(HERE, 1, cubes)?;
    carries(trial, -6.0)?;
    releases(trial)
}
