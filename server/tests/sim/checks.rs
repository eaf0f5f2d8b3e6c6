//! Whether every view has become the truth.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use cubesync_client::session::Session;
use cubesync_protocol::{CubeKind, Position};
use cubesync_relay::room::RoomView;

use crate::player::Seat;
use crate::server::Venue;

/// Each of the two ways adds the codec's bound: what a client says, and what it is told from afar.
pub const NEAR_QUANTA: i32 = 2;
pub const FAR_QUANTA: i32 = 4;
const QUANTA_PER_METRE: u64 = 512;

/// Everybody is in the room once, nobody else is, and all see it as it is.
///
/// # Panics
/// When it is otherwise.
pub fn check(venue: &Venue, seats: &[Rc<RefCell<Seat>>]) {
    let truth = venue.truth.as_ref().expect("the server runs");
    check_players(truth, seats);
    for seat in seats {
        check_view(truth, venue.view_distance_m, &seat.borrow());
    }
}

/// Everybody is in the room once, and nobody else is.
pub fn check_players(truth: &RoomView, seats: &[Rc<RefCell<Seat>>]) {
    let mut players = BTreeSet::new();
    for seat in seats {
        let seat = seat.borrow();
        let session = seat.session.as_ref().expect("everybody is here again");
        assert!(session.is_joined(), "{} is in the room", seat.name);
        let own = session.welcome().expect("it has joined").cube;
        assert!(players.insert(own), "{} has a cube of their own", seat.name);
    }
    let there = truth.cubes.iter();
    let there = there.filter(|cube| matches!(cube.kind, CubeKind::Player | CubeKind::Ghost));
    let there: BTreeSet<_> = there.map(|cube| cube.cube).collect();
    assert_eq!(
        there, players,
        "nobody is in the room twice or without a client"
    );
}

/// Who has heard of everything up to a tick believes what was true at it.
pub fn check_tick(truth: &RoomView, name: &str, session: &Session) {
    let replica = session.replica().expect("it has heard of a tick");
    for cube in &truth.cubes {
        // Between two ticks only a cube that is let go is put somewhere. What is at home elsewhere
        // is heard of a moment after the tick.
        let is_of_tick =
            !matches!(cube.kind, CubeKind::Free { .. }) && truth.owned.contains(&cube.cube);
        if let Some(seen) = replica.pose(cube.cube).filter(|_| is_of_tick) {
            let what = format!("{name} sees {} at {}", cube.cube, truth.tick);
            assert_near(seen.position, cube.pose.position, NEAR_QUANTA, &what);
        }
    }
}

/// A player sees what is there, and nothing else.
pub fn check_view(truth: &RoomView, view_distance_m: Option<u16>, seat: &Seat) {
    let session = seat.session.as_ref().expect("it has joined");
    let (replica, clock) = (session.replica().unwrap(), session.clock().unwrap());
    let own = session.welcome().unwrap().cube;
    let tick = clock.tick_at(session.last_received());
    let own_pose = session.own_pose().unwrap().position;
    for info in replica.cubes() {
        let cube = truth.cubes.iter().find(|cube| cube.cube == info.cube);
        let cube = cube.unwrap_or_else(|| panic!("{} sees {info:?}, which is gone", seat.name));
        assert_eq!(
            (info.kind, &info.name),
            (cube.kind, &cube.name),
            "{}",
            seat.name
        );
        assert_eq!(info.colour, cube.colour);
        let seen = replica.pose(info.cube).unwrap().position;
        assert_near(seen, cube.pose.position, FAR_QUANTA, &seat.name);
        if view_distance_m.is_none() {
            assert_near(seen, cube.pose.position, NEAR_QUANTA, &seat.name);
        }
        let [x, y, z] = seat.view.pose_at(info, tick).position;
        let shown = Position::from_metres([x, y, z]);
        assert_near(shown, seen, 1, "what is drawn");
    }
    for cube in &truth.cubes {
        let distance = cube.pose.position.distance(own_pose);
        let is_near =
            view_distance_m.is_none_or(|metres| distance <= u64::from(metres) * QUANTA_PER_METRE);
        assert!(
            !is_near || replica.cube(cube.cube).is_some(),
            "{} sees {cube:?}",
            seat.name
        );
        if cube.cube == own {
            assert_near(own_pose, cube.pose.position, NEAR_QUANTA, "one's own");
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
