//! Checks of the players' views against a server's room.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use cubesync_client::session::Session;
use cubesync_protocol::{CubeKind, Position};
use cubesync_relay::room::RoomView;

use crate::player::PlayerState;
use crate::server::ServerUnderTest;

/// Bounds of the difference between a view and the room. The codec's bound of 2 quanta applies to what
/// clients send, and again to distant cubes.
pub const NEAR_QUANTA: i32 = 2;
pub const FAR_QUANTA: i32 = 4;
const QUANTA_PER_METRE: u64 = 512;

/// Checks that the room holds exactly the players, and that all of them see it as it is.
///
/// # Panics
/// It is otherwise.
pub fn check(server: &ServerUnderTest, players: &[Rc<RefCell<PlayerState>>]) {
    let truth = server.truth.as_ref().expect("the server runs");
    check_players(truth, players);
    for player in players {
        check_view(truth, server.view_distance_m, &player.borrow());
    }
}

/// Checks that the room holds exactly the players, each of them once.
pub fn check_players(truth: &RoomView, players: &[Rc<RefCell<PlayerState>>]) {
    let mut own_cubes = BTreeSet::new();
    for player in players {
        let player = player.borrow();
        let session = player.session.as_ref().expect("every program runs again");
        assert!(session.is_joined(), "{} is in the room", player.name);
        let own = session.welcome().expect("it has joined").cube;
        assert!(
            own_cubes.insert(own),
            "{} has a cube of their own",
            player.name
        );
    }
    let there = truth.cubes.iter();
    let there = there.filter(|cube| matches!(cube.kind, CubeKind::Player | CubeKind::Ghost));
    let there: BTreeSet<_> = there.map(|cube| cube.cube).collect();
    assert_eq!(
        there, own_cubes,
        "nobody is in the room twice or without a client"
    );
}

/// Checks a replica against the room at the same tick.
pub fn check_tick(truth: &RoomView, name: &str, session: &Session) {
    let replica = session.replica().expect("a tick has been received");
    for cube in &truth.cubes {
        // A free cube may be placed between two ticks when it is released.
        let is_of_tick = !matches!(cube.kind, CubeKind::Free { .. });
        if let Some(seen) = replica.pose(cube.cube).filter(|_| is_of_tick) {
            let what = format!("{name} sees {} at {}", cube.cube, truth.tick);
            assert_near(seen.position, cube.pose.position, NEAR_QUANTA, &what);
        }
    }
}

/// Checks that a player sees the cubes of the room within the view distance, and no others.
pub fn check_view(truth: &RoomView, view_distance_m: Option<u16>, player: &PlayerState) {
    let session = player.session.as_ref().expect("it has joined");
    let (replica, clock) = (session.replica().unwrap(), session.clock().unwrap());
    let own = session.welcome().unwrap().cube;
    let tick = clock.tick_at(session.last_received());
    let own_pose = session.own_pose().unwrap().position;
    for info in replica.cubes() {
        let cube = truth.cubes.iter().find(|cube| cube.cube == info.cube);
        let cube = cube.unwrap_or_else(|| panic!("{} sees {info:?}, which is gone", player.name));
        assert_eq!(
            (info.kind, &info.name),
            (cube.kind, &cube.name),
            "{}",
            player.name
        );
        assert_eq!(info.colour, cube.colour);
        let seen = replica.pose(info.cube).unwrap().position;
        assert_near(seen, cube.pose.position, FAR_QUANTA, &player.name);
        if view_distance_m.is_none() {
            assert_near(seen, cube.pose.position, NEAR_QUANTA, &player.name);
        }
        let [x, y, z] = player.view.pose_at(info, tick).position;
        let shown = Position::from_metres([x, y, z]);
        assert_near(shown, seen, 1, "the drawn position");
    }
    for cube in &truth.cubes {
        let distance = cube.pose.position.distance(own_pose);
        let is_near =
            view_distance_m.is_none_or(|metres| distance <= u64::from(metres) * QUANTA_PER_METRE);
        assert!(
            !is_near || replica.cube(cube.cube).is_some(),
            "{} sees {cube:?}",
            player.name
        );
        if cube.cube == own {
            assert_near(
                own_pose,
                cube.pose.position,
                NEAR_QUANTA,
                "the player's own cube",
            );
        }
    }
}

pub fn assert_near(a: Position, b: Position, bound: i32, what: &str) {
    let off = [a.x - b.x, a.y - b.y, a.z - b.z];
    assert!(
        off.iter().all(|off| off.abs() <= bound),
        "{what}: {a:?} and {b:?}"
    );
}
