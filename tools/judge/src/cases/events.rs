//! Events of cubes besides moving.

use cubesync_protocol::motion::MotionState;
use cubesync_protocol::{CubeId, CubeKind, Event};

use super::{Case, FOLLOW, case};
use crate::room::{HERE, OTHER, PRIZE, TARGET, at, free, player};
use crate::trial::{Outcome, Trial};

const EVENTS: &str = "from-the-server";
const CELLS: &str = "cells";

pub(super) const CASES: &[Case] = &[
    case(
        "target-joins",
        "follows a cube that joins later",
        EVENTS,
        &[FOLLOW],
        target_joins,
    ),
    case(
        "others-join",
        "decodes residuals after cubes with lower and higher ids have joined",
        CELLS,
        &[FOLLOW],
        others_join,
    ),
    case(
        "others-leave",
        "decodes residuals after cubes have left",
        CELLS,
        &[FOLLOW],
        others_leave,
    ),
    case(
        "target-comes-again",
        "follows a cube that leaves and joins under the same id",
        EVENTS,
        &[FOLLOW],
        target_comes_again,
    ),
    case(
        "ghost",
        "follows a player's cube that becomes a ghost and comes back",
        EVENTS,
        &[FOLLOW],
        ghost,
    ),
    case(
        "taken-by-another",
        "follows a free cube that another player takes and lets go",
        EVENTS,
        &[FOLLOW],
        taken_by_another,
    ),
    case(
        "placed",
        "follows a cube that is placed elsewhere",
        EVENTS,
        &[FOLLOW],
        placed,
    ),
    case(
        "placed-moving",
        "follows a cube that is placed with a velocity",
        EVENTS,
        &[FOLLOW],
        placed_moving,
    ),
    case(
        "placed-and-moved",
        "applies a residual to the state that the same snapshot placed",
        CELLS,
        &[FOLLOW],
        placed_and_moved,
    ),
    case(
        "left-unknown",
        "ignores that a cube has left which is not in the cell",
        CELLS,
        &[FOLLOW],
        left_unknown,
    ),
    case(
        "joined-twice",
        "takes Joined of a known cube for its new state",
        CELLS,
        &[FOLLOW],
        joined_twice,
    ),
    case(
        "all-events",
        "applies events of every kind in one snapshot, with residuals",
        CELLS,
        &[FOLLOW],
        all_events,
    ),
    case(
        "many-events",
        "applies 300 events in one snapshot",
        CELLS,
        &[FOLLOW],
        many_events,
    ),
];

/// Moves the followed cube a little and expects that the client follows.
fn moves(trial: &mut Trial<'_>, cause: &str) -> Outcome {
    trial.room.put(TARGET, at(-2.5, 4.0, 0.75));
    trial.settle()?;
    trial.follows(cause)
}

fn target_joins(trial: &mut Trial<'_>) -> Outcome {
    trial.hello()?;
    trial.welcome()?;
    let mut cubes = trial.everybody();
    let target = cubes.remove(1);
    trial.keyframe(HERE, 1, cubes)?;
    trial.tick()?;
    trial.events(HERE, vec![Event::Joined(target)])?;
    trial.follows("Joined of the cube to follow")?;
    moves(trial, "the snapshots after the cube has joined")
}

fn others_join(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    for id in [1, 90, 4, 200, 6] {
        let joined = player(CubeId(id), "Newcomer", at(8.0, id as f32 / 10.0, 0.5));
        trial.events(HERE, vec![Event::Joined(joined)])?;
        trial.room.put(CubeId(id), at(8.5, id as f32 / 10.0, 0.5));
        trial.room.put(TARGET, at(1.5, id as f32 / 50.0, 0.5));
        trial.tick()?;
    }
    moves(trial, "the snapshots after others have joined")
}

fn others_leave(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    trial.follows("the first keyframe")?;
    for cube in [PRIZE, OTHER] {
        trial.room.put(cube, at(7.0, 7.0, 0.5));
        trial.tick()?;
        trial.events(HERE, vec![Event::Left { cube }])?;
        trial.room.put(TARGET, at(3.0, cube.0 as f32, 0.5));
        trial.tick()?;
    }
    moves(trial, "the snapshots after others have left")
}

fn target_comes_again(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    trial.follows("the first keyframe")?;
    trial.events(HERE, vec![Event::Left { cube: TARGET }])?;
    trial.tick()?;
    let joined = player(TARGET, &trial.follow, at(6.0, -3.0, 0.5));
    trial.events(HERE, vec![Event::Joined(joined)])?;
    trial.follows("Joined of a cube that had left")?;
    moves(trial, "the snapshots after the cube has come again")
}

fn ghost(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    trial.events(HERE, vec![Event::Ghost { cube: TARGET }])?;
    trial.events(HERE, vec![Event::Ghost { cube: OTHER }])?;
    trial.follows("the first keyframe")?;
    trial.events(HERE, vec![Event::Returned { cube: TARGET }])?;
    moves(trial, "the snapshots after the player of the cube is back")
}

fn taken_by_another(trial: &mut Trial<'_>) -> Outcome {
    trial.hello()?;
    trial.welcome()?;
    let mut cubes = trial.everybody();
    cubes[1].kind = CubeKind::Free { holder: None };
    trial.keyframe(HERE, 1, cubes)?;
    trial.events(
        HERE,
        vec![Event::Taken {
            cube: TARGET,
            by: OTHER,
        }],
    )?;
    moves(trial, "the snapshots while another player holds the cube")?;
    trial.events(HERE, vec![Event::Freed { cube: TARGET }])?;
    trial.room.put(TARGET, at(5.0, 5.0, 5.0));
    trial.settle()?;
    trial.follows("the snapshots after the cube is free again")
}

/// Gives the followed cube another predicted state.
fn place(trial: &mut Trial<'_>, motion: MotionState) -> Outcome {
    let cube = TARGET;
    trial.events(HERE, vec![Event::Placed { cube, motion }])
}

fn placed(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    trial.follows("the first keyframe")?;
    place(trial, MotionState::at_rest(at(7.0, -7.0, 0.5)))?;
    trial.follows("Placed")?;
    moves(trial, "the snapshots after Placed")
}

/// Returns the state of a cube that moves, after the script has moved it.
fn moving(trial: &mut Trial<'_>, x: f32) -> anyhow::Result<MotionState> {
    for step in 0..4 {
        trial
            .room
            .put(OTHER, at(x + 0.125 * step as f32, -1.0, 0.5));
        trial.tick()?;
    }
    trial.room.let_go(OTHER);
    anyhow::Context::context(trial.room.replica.state(OTHER), "the script lost a cube")
}

fn placed_moving(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    let motion = moving(trial, 4.0)?;
    place(trial, motion)?;
    for _ in 0..12 {
        trial.tick()?;
    }
    moves(
        trial,
        "Placed with a velocity, or the snapshot 12 ticks later that stopped the cube",
    )
}

fn placed_and_moved(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    let motion = moving(trial, 4.0)?;
    for step in 0..4 {
        // The residuals of the cube are over the placed state.
        trial.room.put(OTHER, at(4.0, 1.0 + 0.3 * step as f32, 0.5));
        place(trial, motion)?;
    }
    moves(trial, "Placed beside residuals")
}

fn left_unknown(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    let events = vec![
        Event::Left { cube: CubeId(77) },
        Event::Exited { cube: CubeId(78) },
    ];
    trial.events(HERE, events)?;
    moves(trial, "the snapshots after unknown cubes have left")
}

fn joined_twice(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    trial.follows("the first keyframe")?;
    let joined = player(TARGET, &trial.follow, at(-6.0, 2.0, 0.5));
    trial.events(HERE, vec![Event::Joined(joined)])?;
    trial.follows("Joined of a known cube")?;
    moves(trial, "the snapshots after Joined of a known cube")
}

fn all_events(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    let loose = |id| free(CubeId(id), "", at(8.0, id as f32 / 10.0, 0.5));
    let come = [20, 21, 22, 23].map(|id| Event::Joined(loose(id)));
    trial.events(HERE, come.into())?;
    let motion = MotionState::at_rest(at(2.0, -6.0, 0.5));
    trial.room.put(OTHER, at(4.0, -3.0, 0.5));
    trial.room.put(CubeId(23), at(8.0, 4.0, 2.0));
    let events = vec![
        Event::Joined(player(CubeId(1), "First", at(-8.0, 0.0, 0.5))),
        Event::Left { cube: CubeId(20) },
        Event::Entered(player(CubeId(4), "Fourth", at(-8.0, 4.0, 0.5))),
        Event::Exited { cube: CubeId(21) },
        Event::Taken {
            cube: CubeId(22),
            by: OTHER,
        },
        Event::Taken {
            cube: CubeId(23),
            by: CubeId(1),
        },
        Event::Ghost { cube: OTHER },
        Event::Placed {
            cube: TARGET,
            motion,
        },
    ];
    trial.events(HERE, events)?;
    let events = vec![
        Event::Freed { cube: CubeId(22) },
        Event::Returned { cube: OTHER },
    ];
    trial.events(HERE, events)?;
    trial.follows("Placed among events of every kind")?;
    moves(trial, "the snapshots after events of every kind")
}

fn many_events(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    let joined = (0..300u64).map(|id| {
        let place = at((id % 20) as f32, (id / 20) as f32, 0.5);
        Event::Joined(player(CubeId(1_000 - id), &format!("Guest {id}"), place))
    });
    trial.events(HERE, joined.collect())?;
    for id in (701..1_000).step_by(7) {
        trial.room.put(CubeId(id), at(-20.0, id as f32 / 50.0, 0.5));
    }
    moves(trial, "the snapshots after 300 cubes have joined at once")?;
    let left = (0..300u64).step_by(2).map(|id| Event::Left {
        cube: CubeId(1_000 - id),
    });
    trial.events(HERE, left.collect())?;
    trial.room.put(TARGET, at(3.0, 3.0, 3.0));
    trial.settle()?;
    trial.follows("the snapshots after 150 cubes have left at once")
}
