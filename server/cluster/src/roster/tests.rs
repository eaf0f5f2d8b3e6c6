use cubesync_protocol::limits::MAX_NAME_CHARS;
use cubesync_protocol::{Colour, CubeKind, Position};
use cubesync_relay::room::TokenDigest;

use super::*;

fn pose(x: i32) -> Pose {
    let position = Position { x, y: 0, z: 256 };
    Pose {
        position,
        ..Pose::default()
    }
}

fn state(cube: u64, x: i32) -> CubeState {
    CubeState {
        info: CubeInfo {
            cube: CubeId(cube),
            kind: CubeKind::Player,
            name: format!("player {cube}"),
            colour: Colour::from([1, 2, 3]),
            width: Default::default(),
            motion: MotionState::at_rest(pose(x)),
        },
        token: Some(TokenDigest([cube as u8; 16])),
    }
}

fn moved(cube: u64, x: i32) -> CubePose {
    CubePose {
        cube: CubeId(cube),
        pose: pose(x),
    }
}

#[test]
fn an_edge_knows_what_the_owner_has_sent() {
    let now = Instant::now();
    let mut roster = Roster::default();
    let (mut sender, whole) = RosterSender::new(vec![state(1, 0), state(2, 0)], 5, now);
    roster.apply(whole.clone()).unwrap();
    let renamed = CubeState {
        token: None,
        ..state(2, 9)
    };
    let changes = sender.changes(vec![renamed.clone(), state(7, 1)], vec![CubeId(1)], 7);
    roster.apply(changes).unwrap();
    assert!(roster.cubes().eq(&[renamed, state(7, 1)]));
    assert_eq!(roster.last_id(), 7);
    // Another owner, or the same one after a gap, sends everything again.
    roster.apply(whole).unwrap();
    assert!(roster.cubes().eq(&[state(1, 0), state(2, 0)]));
    assert!(roster.cubes().all(|cube| cube.info.cube != CubeId(7)));
}

#[test]
fn poses_of_unseen_cubes_follow_every_two_seconds_if_they_have_changed() {
    let now = Instant::now();
    let mut roster = Roster::default();
    let (mut sender, whole) = RosterSender::new(vec![state(1, 0), state(2, 0)], 2, now);
    roster.apply(whole).unwrap();
    let unseen = [moved(1, 5), moved(2, 0)];
    assert_eq!(sender.poses(unseen, now + POSES_EVERY / 2), None);
    let update = sender.poses(unseen, now + POSES_EVERY).unwrap();
    assert_eq!(update.moved, [moved(1, 5)]);
    roster.apply(update).unwrap();
    assert!(roster.cubes().eq(&[state(1, 5), state(2, 0)]));
    assert_eq!(sender.poses(unseen, now + POSES_EVERY * 2), None);
    assert_eq!(roster.last_id(), 2);
}

#[test]
fn what_no_room_has_is_refused() {
    let refused = |update: RosterUpdate| Roster::default().apply(update).err();
    let changed = |state: CubeState| RosterUpdate {
        changed: vec![state],
        ..RosterUpdate::default()
    };
    assert_eq!(refused(changed(state(MAX_ID - 1, 0))), None);
    assert_eq!(refused(changed(state(MAX_ID, 0))), Some(RosterError));
    let mut named = state(1, 0);
    named.info.name = "ä".repeat(MAX_NAME_CHARS);
    assert_eq!(refused(changed(named.clone())), None);
    named.info.name.push('ä');
    assert_eq!(refused(changed(named)), Some(RosterError));
    // A room always has its free cube.
    assert_eq!(refused(changed(state(0, 0))), Some(RosterError));
    let far = RosterUpdate {
        moved: vec![moved(1, i32::MAX)],
        ..RosterUpdate::default()
    };
    assert_eq!(refused(far), Some(RosterError));
    let unknown = RosterUpdate {
        moved: vec![moved(9, 0)],
        removed: vec![CubeId(9)],
        ..RosterUpdate::default()
    };
    assert_eq!(refused(unknown), None);
}

#[test]
fn a_roster_has_no_more_cubes_than_a_room() {
    let mut roster = Roster::default();
    let update = |ids: std::ops::Range<u64>| RosterUpdate {
        changed: ids.map(|id| state(id, 0)).collect(),
        ..RosterUpdate::default()
    };
    roster.apply(update(1..3_000)).unwrap();
    roster.apply(update(3_000..5_001)).unwrap();
    let error = roster.apply(update(5_001..5_002));
    assert_eq!(error, Err(RosterError));
}

#[test]
fn ids_rise_no_faster_than_any_room_gives_them() {
    let year = 365 * 24 * 3_600 * 30;
    for (last_id, tick, expected) in [
        (5_000, 3, true),
        (1 << 40, 3, false),
        (1 << 52, year, false),
        (1_000_000_000, year, true),
        (1 << 52, u64::MAX, true),
    ] {
        let mut roster = Roster::default();
        let update = RosterUpdate {
            last_id,
            ..RosterUpdate::default()
        };
        roster.apply(update).unwrap();
        assert_eq!(roster.has_possible_ids(tick, 30), expected, "{last_id}");
    }
}
