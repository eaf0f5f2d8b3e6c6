//! A replica's claims, message by message; `tests/nonsense.rs` plays any messages to one.

use bytes::Bytes;

use super::*;
use crate::cube::Colour;
use crate::motion::MotionSet;
use crate::quantize::Position;

/// Cells from this one on are far.
const FAR: u16 = 100;

/// Upright on the floor, `x_m` metres east of the origin.
fn pose(x_m: f32) -> Pose {
    Pose {
        position: Position::from_metres([x_m, 0.0, 0.5]),
        ..Pose::default()
    }
}

/// At `x_m`, and predicted to go on by `step_m` in each tick.
fn moving(x_m: f32, step_m: f32) -> MotionState {
    const EXACT: Codec = Codec {
        position_bound: 0,
        acceleration_gain: 0,
        ..Codec::LIVE
    };
    let cube = CubeId(0);
    let mut set = MotionSet::new(&EXACT);
    set.insert(cube, MotionState::at_rest(pose(x_m - 100.0)));
    // A jump has no speed; what follows in the next tick is all of it.
    for (tick, x_m) in [(1, x_m - step_m), (2, x_m)] {
        set.advance_to(tick);
        set.encode_tick(|_| pose(x_m), &mut Vec::new());
    }
    *set.get(cube).unwrap()
}

fn cube(id: u64, kind: CubeKind) -> CubeInfo {
    CubeInfo {
        cube: CubeId(id),
        kind,
        name: format!("name {id}"),
        colour: Colour::from([1, 2, 3]),
        width: Default::default(),
        motion: MotionState::at_rest(Pose::default()),
    }
}

fn player(id: u64) -> CubeInfo {
    cube(id, CubeKind::Player)
}

fn free(id: u64, holder: Option<u64>) -> CubeInfo {
    let holder = holder.map(CubeId);
    cube(id, CubeKind::Free { holder })
}

fn keyframe(cell: u16, tick: u64, cubes: Vec<CubeInfo>) -> Keyframe {
    Keyframe {
        cell: CellId(cell),
        interval_ticks: if cell < FAR { 1 } else { FAR_INTERVAL_TICKS },
        tick,
        cubes,
    }
}

fn snapshot(cell: u16, tick: u64, events: Vec<Event>) -> Snapshot {
    Snapshot {
        cell: CellId(cell),
        tick,
        events,
        residuals: Bytes::new(),
    }
}

/// At tick 5 player 1 and others are in cell 0; cell 1 and the far cell are empty.
fn replica(others: Vec<CubeInfo>) -> Replica {
    let mut replica = Replica::default();
    let mut cubes = others;
    cubes.push(player(1));
    cubes.sort_by_key(|cube| cube.cube);
    let count = cubes.len();
    let changes = told(replica.keyframe(&keyframe(0, 5, cubes)).unwrap());
    let appeared = changes.iter();
    let appeared = appeared.filter(|change| matches!(change, Change::Appeared(_)));
    assert_eq!((appeared.count(), changes.len()), (count, count));
    for cell in [1, FAR] {
        let changes = replica.keyframe(&keyframe(cell, 5, vec![])).unwrap();
        assert_eq!(told(changes), []);
    }
    replica
}

/// The changes besides the motion.
fn told(mut changes: Vec<Change>) -> Vec<Change> {
    assert!(matches!(changes.pop(), Some(Change::Moved { .. })));
    changes
}

/// What a snapshot with these events changes.
fn after(replica: &mut Replica, cell: u16, tick: u64, events: Vec<Event>) -> Vec<Change> {
    told(replica.snapshot(&snapshot(cell, tick, events)).unwrap())
}

fn exited(id: u64) -> Event {
    Event::Exited { cube: CubeId(id) }
}

fn ids(replica: &Replica) -> Vec<u64> {
    replica.cubes().map(|info| info.cube.0).collect()
}

#[test]
fn a_snapshots_events_are_told_in_their_order() {
    let mut replica = replica(vec![free(0, None), player(2)]);
    let (cube, by) = (CubeId(0), CubeId(3));
    let events = vec![
        Event::Joined(player(3)),
        Event::Taken { cube, by },
        Event::Freed { cube },
        Event::Left { cube: CubeId(2) },
        Event::Entered(player(4)),
        Event::Ghost { cube: CubeId(3) },
    ];
    assert_eq!(
        after(&mut replica, 0, 6, events),
        [
            Change::Joined(player(3)),
            Change::Taken { cube, by },
            Change::Freed { cube },
            Change::Left(player(2)),
            Change::Appeared(player(4)),
        ]
    );
    assert_eq!(replica.players(), 2);
    after(
        &mut replica,
        0,
        7,
        vec![Event::Returned { cube: CubeId(3) }],
    );
    assert_eq!(replica.players(), 3);
}

#[test]
fn cubes_surprise_after_the_events_and_move_as_believed_without_a_message() {
    let known = |id, motion| CubeInfo {
        motion,
        ..player(id)
    };
    let running = moving(0.0, 0.25);
    let mut replica = replica(vec![known(2, running), player(4)]);
    // The server's side: three silent ticks, then one leaves, one comes in and moves at once.
    let mut server = MotionSet::new(&Codec::LIVE);
    server.insert(CubeId(1), MotionState::at_rest(Pose::default()));
    server.insert(CubeId(2), running);
    server.advance_to(4);
    server.insert(CubeId(3), MotionState::at_rest(pose(2.0)));
    let joined = known(3, MotionState::at_rest(pose(2.0)));
    let mut residuals = Vec::new();
    let truth = |cube| match cube {
        CubeId(1) => Pose::default(),
        CubeId(2) => pose(1.0),
        _ => pose(2.5),
    };
    assert_eq!(server.encode_tick(truth, &mut residuals), 1);
    let events = vec![Event::Left { cube: CubeId(4) }, Event::Joined(joined)];
    let mut changes = replica
        .snapshot(&Snapshot {
            residuals: residuals.into(),
            ..snapshot(0, 9, events)
        })
        .unwrap();
    let Some(Change::Moved {
        tick: 9,
        known_until: 8,
        states,
    }) = changes.pop()
    else {
        panic!("{changes:?}");
    };
    assert!(states.iter().all(|&(cube, _)| cube == CubeId(3)));
    assert_eq!(states.last().unwrap().1.pose(&Codec::LIVE), pose(2.5));
    assert_eq!(replica.updates(), 1);
    assert_eq!(replica.pose(CubeId(2)), Some(pose(1.0)));
    assert_eq!(replica.pose(CubeId(4)), None);
    replica.snapshot(&snapshot(0, 13, vec![])).unwrap();
    assert_eq!(replica.pose(CubeId(2)), Some(pose(2.0)));
    replica.heartbeat(15).unwrap();
    assert_eq!(replica.pose(CubeId(2)), Some(pose(2.5)));
}

#[test]
fn how_long_beliefs_were_right_depends_on_the_message() {
    let mut replica = replica(vec![]);
    let known_until = |changes: Result<Vec<Change>, ReplicaError>| match changes.unwrap().pop() {
        Some(Change::Moved { known_until, .. }) => known_until,
        other => panic!("{other:?}"),
    };
    assert_eq!(known_until(replica.snapshot(&snapshot(0, 10, vec![]))), 9);
    assert_eq!(known_until(replica.snapshot(&snapshot(FAR, 12, vec![]))), 8);
    assert_eq!(known_until(replica.keyframe(&keyframe(0, 20, vec![]))), 10);
    assert_eq!(known_until(replica.heartbeat(30)), 30);
    // Where the cubes of a new cell come from may have told late.
    assert_eq!(known_until(replica.keyframe(&keyframe(2, 31, vec![]))), 27);
    assert_eq!(known_until(replica.keyframe(&keyframe(3, 90, vec![]))), 31);
}

#[test]
fn a_later_keyframe_tells_what_was_missed() {
    let mut replica = replica(vec![free(0, Some(1)), player(2)]);
    let cubes = vec![free(0, Some(3)), player(1), player(3)];
    let changes = replica.keyframe(&keyframe(0, 9, cubes)).unwrap();
    let (cube, by) = (CubeId(0), CubeId(3));
    assert_eq!(
        told(changes),
        [
            Change::Appeared(player(3)),
            Change::Freed { cube },
            Change::Taken { cube, by },
        ]
    );
    assert_eq!(told(replica.heartbeat(13).unwrap()), []);
    let gone = Change::Disappeared(player(2));
    assert_eq!(told(replica.heartbeat(14).unwrap()), [gone]);
}

#[test]
fn a_join_that_the_keyframe_had_is_not_told_again() {
    let mut replica = replica(vec![]);
    let again = vec![Event::Joined(player(1))];
    assert_eq!(after(&mut replica, 0, 6, again), []);
}

#[test]
fn a_known_id_with_another_name_or_colour_is_another_cube() {
    let renamed = CubeInfo {
        name: "new".into(),
        ..player(2)
    };
    let repainted = CubeInfo {
        colour: Colour::from([9, 9, 9]),
        ..free(2, Some(1))
    };
    for new in [renamed, repainted] {
        let expected = [
            Change::Disappeared(player(2)),
            Change::Appeared(new.clone()),
        ];
        let mut replica = replica(vec![player(2)]);
        let again = keyframe(0, 9, vec![player(1), new.clone()]);
        assert_eq!(told(replica.keyframe(&again).unwrap()), expected);
        assert_eq!(ids(&replica), [1, 2]);
        assert_eq!(told(replica.heartbeat(30).unwrap()), []);
        assert_eq!(replica.cube(CubeId(2)), Some(&new));
    }
}

#[test]
fn a_cube_that_crosses_tells_nothing_in_either_order_of_the_frames() {
    let frames = [
        snapshot(0, 6, vec![exited(2)]),
        snapshot(1, 6, vec![Event::Entered(player(2))]),
    ];
    for order in [[0, 1], [1, 0]] {
        let mut replica = replica(vec![player(2)]);
        for frame in order.map(|index| frames[index].clone()) {
            assert_eq!(told(replica.snapshot(&frame).unwrap()), []);
            assert_eq!(ids(&replica), [1, 2]);
        }
        let left = vec![Event::Left { cube: CubeId(2) }];
        assert_eq!(after(&mut replica, 0, 7, left.clone()), []);
        assert_eq!(after(&mut replica, 1, 7, left), [Change::Left(player(2))]);
    }
}

#[test]
fn a_crossing_tells_a_holder_that_differs() {
    let mut replica = replica(vec![free(0, None)]);
    let (cube, by) = (CubeId(0), CubeId(2));
    let taken = vec![Event::Entered(free(0, Some(2)))];
    assert_eq!(
        after(&mut replica, 1, 6, taken),
        [Change::Taken { cube, by }]
    );
}

#[test]
fn a_far_cell_may_claim_a_cube_later_but_not_too_late() {
    for (late_ticks, is_in_time) in [(4, true), (5, false)] {
        let mut replica = replica(vec![player(2)]);
        assert_eq!(after(&mut replica, 0, 7, vec![exited(2)]), []);
        assert_eq!(
            told(replica.heartbeat(7 + late_ticks).unwrap()).len(),
            usize::from(!is_in_time)
        );
        let entered = vec![Event::Entered(player(2))];
        let expected = match is_in_time {
            true => vec![],
            false => vec![Change::Appeared(player(2))],
        };
        assert_eq!(after(&mut replica, FAR, 7 + late_ticks, entered), expected);
        assert_eq!(ids(&replica), [1, 2]);
    }
}

#[test]
fn a_lost_cube_moves_on_as_believed_and_disappears_once() {
    let running = CubeInfo {
        motion: moving(0.0, 0.25),
        ..player(2)
    };
    for is_out_of_sight in [false, true] {
        let mut replica = replica(vec![]);
        replica
            .keyframe(&keyframe(2, 6, vec![running.clone()]))
            .unwrap();
        replica.heartbeat(8).unwrap();
        if is_out_of_sight {
            replica.out_of_sight(&[CellId(2)]).unwrap();
        } else {
            assert_eq!(after(&mut replica, 2, 8, vec![exited(2)]), []);
        }
        assert_eq!(told(replica.heartbeat(12).unwrap()), []);
        assert_eq!(replica.pose(CubeId(2)), Some(pose(1.5)));
        let changes = told(replica.heartbeat(13).unwrap());
        let [Change::Disappeared(info)] = &changes[..] else {
            panic!("{changes:?}");
        };
        assert_eq!(info.motion.pose(&Codec::LIVE), pose(1.75));
        assert_eq!(told(replica.heartbeat(99).unwrap()), []);
        assert_eq!(ids(&replica), [1]);
    }
}

#[test]
fn what_a_far_cell_tells_of_a_cube_that_has_gone_on_is_old_news() {
    let mut replica = replica(vec![]);
    let entered = || Event::Entered(player(2));
    assert_eq!(
        after(&mut replica, FAR, 8, vec![entered()]),
        [Change::Appeared(player(2))]
    );
    assert_eq!(after(&mut replica, 0, 9, vec![entered()]), []);
    let stale = vec![Event::Ghost { cube: CubeId(2) }, exited(2)];
    assert_eq!(after(&mut replica, FAR, 12, stale), []);
    assert_eq!(replica.players(), 2);
    // Through the far cell and back between two of its ticks.
    assert_eq!(after(&mut replica, 0, 13, vec![exited(2)]), []);
    assert_eq!(after(&mut replica, 1, 15, vec![entered()]), []);
    assert_eq!(after(&mut replica, FAR, 16, vec![exited(2)]), []);
    assert_eq!(told(replica.heartbeat(99).unwrap()), []);
    assert_eq!(ids(&replica), [1, 2]);
    // Nor does it tell of cubes that were never in sight.
    let unknown = vec![exited(7), Event::Left { cube: CubeId(8) }];
    assert_eq!(after(&mut replica, FAR, 100, unknown), []);
}

#[test]
fn what_cannot_be_true_is_named() {
    let known = replica(vec![free(0, None)]);
    let error = |snapshot| known.clone().snapshot(&snapshot).unwrap_err();
    let (cube, by) = (CubeId(1), CubeId(1));
    let before = 5;
    let tick = |tick| ReplicaError::Tick { tick, before };
    assert_eq!(error(snapshot(0, 5, vec![])), tick(5));
    assert_eq!(known.clone().heartbeat(4), Err(tick(4)));
    assert_eq!(
        known.clone().keyframe(&keyframe(9, 4, vec![])),
        Err(tick(4))
    );
    assert_eq!(
        error(snapshot(0, 6, vec![Event::Taken { cube, by }])),
        ReplicaError::NotFree(cube)
    );
    let mut moved = snapshot(0, 6, vec![]);
    moved.residuals = Bytes::from_static(&[0xFF; 40]);
    assert!(matches!(error(moved), ReplicaError::Motion(_)));
    let unknown = ReplicaError::UnknownCell(CellId(2));
    assert_eq!(error(snapshot(2, 6, vec![])), unknown);
    let out_of_sight = known.clone().out_of_sight(&[CellId(0), CellId(2)]);
    assert_eq!(out_of_sight, Err(unknown));
}

#[test]
fn what_a_stranger_makes_a_client_keep_is_bounded() {
    let mut known = replica(vec![]);
    let joins = |from: u64| (0..5_000).map(move |id| Event::Joined(player(from + id)));
    assert!(known.snapshot(&snapshot(0, 6, joins(10).collect())).is_ok());
    let mut twice = known.clone();
    let again = keyframe(2, 6, (0..5_000).map(|id| player(20_000 + id)).collect());
    let too_many = Err(ReplicaError::TooManyCubes);
    assert_eq!(twice.keyframe(&again), too_many);
    // Nor as cubes that one cell after the other loses in the same tick.
    known.out_of_sight(&[CellId(0)]).unwrap();
    assert_eq!(known.keyframe(&again), too_many);

    let mut wide = replica(vec![]);
    let cells = (2..2_000).filter(|&cell| cell != FAR);
    let result = cells
        .map(|cell| wide.keyframe(&keyframe(cell, 6, vec![])))
        .find(Result::is_err);
    assert_eq!(result, Some(Err(ReplicaError::TooManyCells)));
}

/// A replica that was started from another one's keyframes.
fn started_from(other: &Replica) -> Replica {
    let mut replica = Replica::default();
    let mut cells: Vec<_> = other.streams().collect();
    // Of two cells that have a cube, the one whose stream is later has claimed it.
    cells.sort_by_key(|(_, stream)| stream.tick());
    for (cell, stream) in cells {
        let keyframe = other.keyframe_of(cell, stream.tick()).unwrap();
        replica.keyframe(&keyframe).unwrap();
    }
    replica
}

#[test]
fn a_keyframe_of_a_replica_lets_another_one_go_on_with_a_late_stream() {
    let running = CubeInfo {
        motion: moving(0.0, 0.25),
        ..player(2)
    };
    let mut first = Replica::default();
    let cubes = vec![running.clone(), player(3)];
    first.keyframe(&keyframe(FAR, 4, cubes.clone())).unwrap();
    first.keyframe(&keyframe(0, 5, vec![player(1)])).unwrap();
    // Cell 0 claims a cube and loses it for good before the far cell says that it has exited.
    after(&mut first, 0, 6, vec![Event::Entered(player(3))]);
    after(&mut first, 0, 7, vec![Event::Left { cube: CubeId(3) }]);
    assert_eq!(ids(&first), [1, 2]);

    let mut second = started_from(&first);
    // The far stream's residuals count all cubes that it has named.
    let mut publisher = CellStream::from(&keyframe(FAR, 4, cubes)).motion().clone();
    publisher.advance_to(8);
    let mut residuals = Vec::new();
    let truth = |cube| match cube {
        CubeId(2) => pose(9.0),
        _ => Pose::default(),
    };
    publisher.encode_tick(truth, &mut residuals);
    let late = Snapshot {
        residuals: residuals.into(),
        ..snapshot(FAR, 8, vec![])
    };
    for replica in [&mut first, &mut second] {
        replica.snapshot(&late).unwrap();
        assert_eq!(replica.pose(CubeId(2)), publisher.pose(CubeId(2)));
    }
    assert_eq!(
        second.keyframe_of(CellId(FAR), 20),
        first.keyframe_of(CellId(FAR), 20)
    );
}

#[test]
fn a_stream_alone_does_the_same_as_a_replica() {
    let running = CubeInfo {
        motion: moving(0.0, 0.25),
        ..player(2)
    };
    let first = keyframe(0, 5, vec![running, player(3)]);
    let mut replica = Replica::default();
    replica.keyframe(&first).unwrap();
    let mut stream = CellStream::from(&first);
    let placed = Event::Placed {
        cube: CubeId(3),
        motion: moving(7.0, 0.5),
    };
    let events = vec![Event::Entered(player(4)), placed, exited(2)];
    let snapshot = snapshot(0, 9, events);
    replica.snapshot(&snapshot).unwrap();
    let mut changed = Vec::new();
    stream
        .take_in(&snapshot, |cube| changed.push(cube))
        .unwrap();
    assert_eq!(changed, [CubeId(3)]);
    assert_eq!(replica.stream(CellId(0)), Some(&stream));
    let (tick, before) = (9, 9);
    let again = stream.take_in(&snapshot, |_| {});
    assert_eq!(again, Err(ReplicaError::Tick { tick, before }));
}
