//! Whether every view has become the truth.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use cubesync_protocol::{CubeKind, Position};

use crate::player::Seat;
use crate::venue::Venue;

/// Each of the two ways adds the codec's bound: what a client says, and what it is told from afar.
pub const NEAR_QUANTA: i32 = 2;
const FAR_QUANTA: i32 = 4;
const QUANTA_PER_METRE: u64 = 512;

/// Everybody is in the room once, nobody else is, and all see it as it is.
///
/// # Panics
/// When it is otherwise.
pub fn check(venue: &Venue, seats: &[Rc<RefCell<Seat>>]) {
    let truth = venue.truth.as_ref().expect("the server runs");
    let mut players = BTreeSet::new();
    for seat in seats {
        let seat = seat.borrow();
        let session = seat.session.as_ref().expect("everybody is here again");
        assert!(session.is_joined(), "{} is in the room", seat.name);
        let own = session.welcome().expect("it has joined").cube;
        assert!(players.insert(own), "{} has a cube of their own", seat.name);
        check_view(venue, &seat);
    }
    let there = truth.cubes.iter();
    let there = there.filter(|cube| matches!(cube.kind, CubeKind::Player | CubeKind::Ghost));
    let there: BTreeSet<_> = there.map(|cube| cube.cube).collect();
    assert_eq!(
        there, players,
        "nobody is in the room twice or without a client"
    );
}

fn check_view(venue: &Venue, seat: &Seat) {
    let truth = venue.truth.as_ref().expect("the server runs");
    let session = seat.session.as_ref().expect("it has joined");
    let (world, clock) = (session.world().unwrap(), session.clock().unwrap());
    let own = session.welcome().unwrap().cube;
    let tick = clock.tick_at(session.heard());
    let own_pose = session.own_pose().unwrap().position;
    for info in world.cubes() {
        let cube = truth.cubes.iter().find(|cube| cube.cube == info.cube);
        let cube = cube.unwrap_or_else(|| panic!("{} sees {info:?}, which is gone", seat.name));
        assert_eq!(
            (info.kind, &info.name),
            (cube.kind, &cube.name),
            "{}",
            seat.name
        );
        assert_eq!(info.colour, cube.colour);
        let seen = world.pose(info.cube).unwrap().position;
        assert_near(seen, cube.pose.position, FAR_QUANTA, &seat.name);
        if venue.view_distance_m.is_none() {
            assert_near(seen, cube.pose.position, NEAR_QUANTA, &seat.name);
        }
        let [x, y, z] = seat.view.pose_at(info, tick).position;
        let shown = Position::from_metres([x, y, z]);
        assert_near(shown, seen, 1, "what is drawn");
    }
    for cube in &truth.cubes {
        let distance = cube.pose.position.distance(own_pose);
        let is_near = venue
            .view_distance_m
            .is_none_or(|metres| distance <= u64::from(metres) * QUANTA_PER_METRE);
        assert!(
            !is_near || world.cube(cube.cube).is_some(),
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
