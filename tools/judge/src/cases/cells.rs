//! Keyframes, cells, and cubes that go from one to another.

use cubesync_protocol::limits::FAR_INTERVAL_TICKS;
use cubesync_protocol::motion::MotionState;
use cubesync_protocol::{CellId, CubeId, CubeInfo, Event, ServerMessage};

use super::{Case, FOLLOW, case};
use crate::room::{HERE, OTHER, OWN, TARGET, THERE, at, player};
use crate::trial::{Outcome, Trial};

const CELLS: &str = "cells";

pub(super) const CASES: &[Case] = &[
    case(
        "keyframe-replaces",
        "takes a second keyframe of a cell for all that is in it",
        CELLS,
        &[FOLLOW],
        keyframe_replaces,
    ),
    case(
        "keyframe-forgets",
        "forgets a cube that a second keyframe of its cell does not have",
        CELLS,
        &[FOLLOW],
        keyframe_forgets,
    ),
    case(
        "keyframe-every-tick",
        "takes a keyframe at each of 30 ticks instead of snapshots",
        CELLS,
        &[FOLLOW],
        keyframe_every_tick,
    ),
    case(
        "second-cell",
        "follows a cube of another cell than its own",
        CELLS,
        &[FOLLOW],
        second_cell,
    ),
    case(
        "far-cell",
        "follows a cube of a cell that is sent every 4 ticks",
        CELLS,
        &[FOLLOW],
        far_cell,
    ),
    case(
        "near-and-far",
        "follows a cube whose cell becomes a far one and a near one again",
        CELLS,
        &[FOLLOW],
        near_and_far,
    ),
    case(
        "crosses",
        "follows a cube that goes to another cell: Exited, then Entered in the same tick",
        CELLS,
        &[FOLLOW],
        crosses,
    ),
    case(
        "crosses-before",
        "follows a cube whose new cell comes first: Entered, then Exited in the same tick",
        CELLS,
        &[FOLLOW],
        crosses_before,
    ),
    case(
        "crosses-late",
        "follows a cube whose new cell is far and has it 3 ticks later",
        CELLS,
        &[FOLLOW],
        crosses_late,
    ),
    case(
        "old-news",
        "decodes the old cell of a cube that another one has claimed, and leaves the cube where it is",
        CELLS,
        &[FOLLOW],
        old_news,
    ),
    case(
        "old-left",
        "keeps a cube that has left a cell which it was no longer in",
        CELLS,
        &[FOLLOW],
        old_left,
    ),
    case(
        "there-and-back",
        "follows a cube that crosses 20 times between two cells",
        CELLS,
        &[FOLLOW],
        there_and_back,
    ),
    case(
        "out-of-sight",
        "forgets a cell that goes out of sight, and takes it again by a keyframe",
        CELLS,
        &[FOLLOW],
        out_of_sight,
    ),
    case(
        "namesake-after-out-of-sight",
        "finds the followed name on another cube when the first one has gone out of sight",
        CELLS,
        &[FOLLOW],
        namesake_after_out_of_sight,
    ),
    case(
        "namesake-after-keyframe",
        "finds the followed name on another cube when a keyframe no longer has the first one",
        CELLS,
        &[FOLLOW],
        namesake_after_keyframe,
    ),
    case(
        "out-of-sight-of-many",
        "forgets many cells at once",
        CELLS,
        &[FOLLOW],
        out_of_sight_of_many,
    ),
    case(
        "many-cells",
        "follows a cube through 100 cells in sight",
        CELLS,
        &[FOLLOW],
        many_cells,
    ),
    case(
        "last-cell",
        "reads the largest id of a cell, 1,088",
        "building-blocks",
        &[FOLLOW],
        last_cell,
    ),
    case(
        "empty-cells",
        "takes keyframes without cubes",
        CELLS,
        &[FOLLOW],
        empty_cells,
    ),
    case(
        "another-cube",
        "finds the followed name when another cube has it",
        CELLS,
        &[FOLLOW],
        another_cube,
    ),
];

/// Joins, with the followed cube in a second cell.
fn join_apart(trial: &mut Trial<'_>, interval_ticks: u8) -> Outcome {
    trial.hello()?;
    trial.welcome()?;
    let mut cubes = trial.everybody();
    let target = cubes.remove(1);
    trial.keyframe(HERE, 1, cubes)?;
    // A neighbour with a lower id and one with a higher one: residuals count them.
    let neighbours = [
        player(CubeId(1), "Low", at(9.0, 9.0, 0.5)),
        player(CubeId(60), "High", at(9.0, 7.0, 0.5)),
    ];
    let there = neighbours.into_iter().chain([target]).collect();
    trial.keyframe(THERE, interval_ticks, there)?;
    trial.follows("the keyframe of the second cell")
}

/// Returns what a keyframe or an event says of the followed cube at a place.
fn target(trial: &Trial<'_>, x: f32, y: f32) -> CubeInfo {
    player(TARGET, &trial.follow, at(x, y, 0.5))
}

/// Moves the followed cube and expects that the client follows.
fn moves(trial: &mut Trial<'_>, x: f32, y: f32, cause: &str) -> Outcome {
    trial.room.put(TARGET, at(x, y, 0.5));
    trial.settle()?;
    trial.follows(cause)
}

fn keyframe_replaces(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    trial.follows("the first keyframe")?;
    let mut cubes = trial.everybody();
    cubes[1].motion = MotionState::at_rest(at(-6.0, 6.0, 3.0));
    trial.tick()?;
    trial.keyframe(HERE, 1, cubes)?;
    trial.follows("the second keyframe of the cell")?;
    moves(trial, -5.0, 5.0, "the snapshots after the second keyframe")
}

fn keyframe_forgets(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    let mut cubes = trial.everybody();
    cubes.remove(2);
    trial.tick()?;
    trial.keyframe(HERE, 1, cubes)?;
    moves(
        trial,
        -5.0,
        5.0,
        "the snapshots after a keyframe without one of the cubes before",
    )?;
    let joined = Event::Joined(player(OTHER, "Ben", at(4.0, 4.0, 0.5)));
    trial.events(HERE, vec![joined])?;
    trial.room.put(OTHER, at(3.0, 3.0, 0.5));
    moves(
        trial,
        5.0,
        5.0,
        "the snapshots after the cube has come again",
    )
}

fn keyframe_every_tick(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    for step in 0..30 {
        trial.tick()?;
        let mut cubes = trial.everybody();
        cubes[1].motion = MotionState::at_rest(at(0.3 * step as f32, 1.0, 0.5));
        trial.keyframe(HERE, 1, cubes)?;
    }
    trial.follows("the last of 30 keyframes")
}

fn second_cell(trial: &mut Trial<'_>) -> Outcome {
    join_apart(trial, 1)?;
    trial.room.put(CubeId(1), at(9.5, 9.0, 0.5));
    trial.room.put(OTHER, at(4.5, -1.0, 0.5));
    moves(trial, -4.0, 3.0, "the snapshots of the second cell")
}

fn far_cell(trial: &mut Trial<'_>) -> Outcome {
    join_apart(trial, FAR_INTERVAL_TICKS)?;
    for step in 0..24 {
        trial
            .room
            .put(TARGET, at(1.5 - 0.1 * step as f32, 2.0, 0.5));
        trial
            .room
            .put(OTHER, at(4.0, -1.0 - 0.1 * step as f32, 0.5));
        trial.tick()?;
    }
    trial.settle()?;
    trial.follows("the snapshots of a cell that is sent every 4 ticks")
}

fn near_and_far(trial: &mut Trial<'_>) -> Outcome {
    join_apart(trial, 1)?;
    for (interval, x) in [
        (FAR_INTERVAL_TICKS, -3.0),
        (1, 3.0),
        (FAR_INTERVAL_TICKS, 6.0),
    ] {
        trial.tick()?;
        let cubes = vec![
            target(trial, x, 3.0),
            player(CubeId(60), "High", at(9.0, 7.0, 0.5)),
        ];
        trial.keyframe(THERE, interval, cubes)?;
        trial.follows("the keyframe by which the cell's interval changes")?;
        moves(
            trial,
            x + 1.0,
            4.0,
            "the snapshots after the cell's interval has changed",
        )?;
    }
    Ok(())
}

fn crosses(trial: &mut Trial<'_>) -> Outcome {
    join_apart(trial, 1)?;
    let entered = Event::Entered(target(trial, -2.0, 1.0));
    both(
        trial,
        (THERE, Event::Exited { cube: TARGET }),
        (HERE, entered),
    )?;
    trial.follows("Entered of the new cell")?;
    moves(trial, -3.0, 1.5, "the snapshots of the new cell")
}

fn crosses_before(trial: &mut Trial<'_>) -> Outcome {
    join_apart(trial, 1)?;
    let entered = Event::Entered(target(trial, -2.0, 1.0));
    both(
        trial,
        (HERE, entered),
        (THERE, Event::Exited { cube: TARGET }),
    )?;
    trial.follows("Entered of the new cell, which came before Exited of the old one")?;
    moves(trial, -3.0, 1.5, "the snapshots of the new cell")
}

/// Sends events of two cells in the same tick, in this order.
fn both(
    trial: &mut Trial<'_>,
    (one, first): (CellId, Event),
    (other, second): (CellId, Event),
) -> Outcome {
    trial.events(one, vec![first])?;
    let tick = trial.room.replica.tick();
    if let Some(message) = trial.room.snapshot(other, tick, vec![second])? {
        trial.send(message)?;
    }
    Ok(())
}

fn crosses_late(trial: &mut Trial<'_>) -> Outcome {
    join_apart(trial, 1)?;
    trial.tick()?;
    trial.keyframe(HERE, 1, vec![player(OWN, "Judged", at(-3.0, 0.0, 0.5))])?;
    trial.keyframe(
        CellId(4),
        FAR_INTERVAL_TICKS,
        vec![player(OTHER, "Ben", at(4.0, -1.0, 0.5))],
    )?;
    trial.events(THERE, vec![Event::Exited { cube: TARGET }])?;
    trial.tick()?;
    trial.tick()?;
    let entered = Event::Entered(target(trial, -7.0, 1.0));
    trial.events(CellId(4), vec![entered])?;
    trial.follows("Entered of a far cell, 3 ticks after Exited")?;
    moves(trial, -8.0, 2.0, "the snapshots of the far cell")
}

fn old_news(trial: &mut Trial<'_>) -> Outcome {
    join_apart(trial, FAR_INTERVAL_TICKS)?;
    // The far cell still has the cube, and moves it, when its own cell has claimed it.
    let entered = Event::Entered(target(trial, -2.0, 1.0));
    trial.events(HERE, vec![entered])?;
    trial.follows("Entered of the near cell")?;
    let tick = trial.message_tick() + 1;
    let mut set = trial.room.motion_at(THERE, tick)?;
    let mut residuals = Vec::new();
    set.encode_tick(|cube| at(8.0, cube.0 as f32, 0.5), &mut residuals);
    trial.until(crate::trial::PATIENCE, |trial| trial.clock().0 >= tick)?;
    trial.send(ServerMessage::Snapshot(cubesync_protocol::Snapshot {
        cell: THERE,
        tick,
        residuals: residuals.into(),
        events: Vec::new(),
    }))?;
    moves(
        trial,
        -3.0,
        1.5,
        "the near cell alone: the far one's residuals of the cube are old news",
    )?;
    trial.events(THERE, vec![Event::Exited { cube: TARGET }])?;
    moves(
        trial,
        -4.0,
        1.5,
        "the near cell after the far one has said Exited",
    )
}

fn old_left(trial: &mut Trial<'_>) -> Outcome {
    join_apart(trial, 1)?;
    let entered = Event::Entered(target(trial, -2.0, 1.0));
    both(
        trial,
        (HERE, entered),
        (THERE, Event::Left { cube: TARGET }),
    )?;
    moves(
        trial,
        -3.0,
        1.5,
        "the new cell: that the cube has left the old one is old news",
    )
}

fn there_and_back(trial: &mut Trial<'_>) -> Outcome {
    join_apart(trial, 1)?;
    let mut cells = [THERE, HERE];
    for step in 0..20 {
        let entered = Event::Entered(target(trial, 0.5 * step as f32, -2.0));
        let (from, to) = (
            (cells[0], Event::Exited { cube: TARGET }),
            (cells[1], entered),
        );
        match step % 3 {
            0 => both(trial, to, from)?,
            _ => both(trial, from, to)?,
        }
        cells.reverse();
    }
    trial.follows("20 changes of the cube's cell")?;
    moves(
        trial,
        -3.0,
        1.5,
        "the snapshots after 20 changes of the cube's cell",
    )
}

fn out_of_sight(trial: &mut Trial<'_>) -> Outcome {
    join_apart(trial, 1)?;
    trial.send(ServerMessage::OutOfSight { cells: vec![THERE] })?;
    for _ in 0..8 {
        trial.room.put(OTHER, at(4.0, -2.0, 0.5));
        trial.tick()?;
    }
    let cubes = vec![
        target(trial, 7.0, 7.0),
        player(CubeId(60), "High", at(9.0, 7.0, 0.5)),
    ];
    trial.keyframe(THERE, 1, cubes)?;
    trial.follows("the keyframe of a cell that was out of sight")?;
    moves(
        trial,
        6.0,
        6.0,
        "the snapshots of a cell that was out of sight",
    )
}

/// Lets the player come again under another id, a while after the first cube was seen last.
fn namesake(trial: &mut Trial<'_>, cause: &str) -> Outcome {
    for step in 0..8 {
        trial
            .room
            .put(OTHER, at(4.0, -2.0 - 0.5 * step as f32, 0.5));
        trial.tick()?;
    }
    let joined = player(CubeId(90), &trial.follow, at(-6.0, -6.0, 0.5));
    trial.events(HERE, vec![Event::Joined(joined)])?;
    trial.follows(cause)
}

fn namesake_after_out_of_sight(trial: &mut Trial<'_>) -> Outcome {
    join_apart(trial, 1)?;
    let cells = vec![THERE];
    trial.send(ServerMessage::OutOfSight { cells })?;
    namesake(trial, "OutOfSight, or Joined of another cube with the name")
}

fn namesake_after_keyframe(trial: &mut Trial<'_>) -> Outcome {
    join_apart(trial, 1)?;
    trial.tick()?;
    let cubes = vec![player(CubeId(60), "High", at(9.0, 7.0, 0.5))];
    trial.keyframe(THERE, 1, cubes)?;
    namesake(
        trial,
        "the second keyframe, or Joined of another cube with the name",
    )
}

fn out_of_sight_of_many(trial: &mut Trial<'_>) -> Outcome {
    join_apart(trial, 1)?;
    let cells: Vec<_> = (300..340).map(CellId).collect();
    for &cell in &cells {
        let cube = player(
            CubeId(1_000 + u64::from(cell.0)),
            "Far away",
            at(20.0, 20.0, 0.5),
        );
        trial.keyframe(cell, FAR_INTERVAL_TICKS, vec![cube])?;
    }
    trial.send(ServerMessage::OutOfSight { cells })?;
    moves(
        trial,
        6.0,
        6.0,
        "the snapshots after 40 cells have gone out of sight",
    )
}

fn many_cells(trial: &mut Trial<'_>) -> Outcome {
    const FIRST: u16 = 200;
    join_apart(trial, 1)?;
    for cell in FIRST..FIRST + 100 {
        let cube = player(CubeId(1_000 + u64::from(cell)), "Near", at(20.0, 20.0, 0.5));
        trial.keyframe(CellId(cell), 1, vec![cube])?;
    }
    let mut from = THERE;
    for step in 0..20 {
        let to = CellId(FIRST + 37 * step % 100);
        let entered = Event::Entered(target(trial, 1.0, f32::from(step)));
        both(trial, (from, Event::Exited { cube: TARGET }), (to, entered))?;
        from = to;
    }
    trial.follows("the cube's way through many cells")?;
    moves(trial, -3.0, 1.5, "the snapshots of one of 102 cells")
}

fn last_cell(trial: &mut Trial<'_>) -> Outcome {
    join_apart(trial, 1)?;
    let entered = Event::Entered(target(trial, 2.0, 2.5));
    trial.keyframe(CellId(1_088), 1, Vec::new())?;
    both(
        trial,
        (THERE, Event::Exited { cube: TARGET }),
        (CellId(1_088), entered),
    )?;
    moves(trial, -3.0, 1.5, "the snapshots of cell 1,088")
}

fn empty_cells(trial: &mut Trial<'_>) -> Outcome {
    join_apart(trial, 1)?;
    trial.tick()?;
    for cell in [40, 41, 42] {
        trial.keyframe(CellId(cell), 1, Vec::new())?;
    }
    trial.keyframe(CellId(41), FAR_INTERVAL_TICKS, Vec::new())?;
    moves(
        trial,
        -3.0,
        1.5,
        "the snapshots after keyframes without cubes",
    )
}

fn another_cube(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    trial.follows("the first keyframe")?;
    trial.events(HERE, vec![Event::Left { cube: TARGET }])?;
    let info = player(CubeId(90), &trial.follow, at(-6.0, -6.0, 0.5));
    trial.events(HERE, vec![Event::Joined(info)])?;
    trial.follows("Joined of another cube with the followed name")?;
    trial.room.put(CubeId(90), at(-5.0, -6.0, 0.5));
    trial.settle()?;
    trial.follows("the snapshots about another cube with the followed name")
}
