//! Checks of players' views against the room, as its owner has it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use cubesync_client::session::Session;
use cubesync_protocol::{CubeKind, Position};
use cubesync_relay::room::RoomView;

use crate::player::PlayerState;

/// Bounds of the difference between a view and the room. The codec's bound of 2 quanta applies to what
/// clients send, and again to distant cubes.
const NEAR_QUANTA: i32 = 2;
const FAR_QUANTA: i32 = 4;
const QUANTA_PER_METRE: u64 = 512;

/// The outcome of a check, with the difference in words.
pub type Checked = Result<(), String>;

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Checked {
    match holds {
        true => Ok(()),
        false => Err(otherwise()),
    }
}

/// Checks that the room holds exactly the players, each of them once.
pub fn check_players(truth: &RoomView, players: &[Rc<RefCell<PlayerState>>]) -> Checked {
    let mut own_cubes = BTreeSet::new();
    for player in players {
        let player = player.borrow();
        let session = player.session.as_ref().expect("every program runs again");
        let own = session.welcome().filter(|_| session.is_joined());
        let is_new = own.is_some_and(|welcome| own_cubes.insert(welcome.cube));
        ensure(is_new, || {
            format!("{} has no own cube: {own:?}", player.name)
        })?;
    }
    let there = truth.cubes.iter();
    let there = there.filter(|cube| matches!(cube.kind, CubeKind::Player | CubeKind::Ghost));
    let there: BTreeSet<_> = there.map(|cube| cube.cube).collect();
    ensure(there == own_cubes, || {
        format!("the room has {there:?}, and the players have {own_cubes:?}")
    })
}

/// Checks the poses in a replica against the room at the same tick.
pub fn check_tick(truth: &RoomView, name: &str, session: &Session) -> Checked {
    let replica = session.replica().expect("a tick has been received");
    for cube in &truth.cubes {
        // A free cube may be placed between two ticks when it is released.
        let is_of_tick = !matches!(cube.kind, CubeKind::Free { .. });
        if let Some(seen) = replica.pose(cube.cube).filter(|_| is_of_tick) {
            check_near(seen.position, cube.pose.position, NEAR_QUANTA, || {
                format!("{name} sees {} at {}", cube.cube, truth.tick)
            })?;
        }
    }
    Ok(())
}

/// Checks that a player sees the cubes of the room within the view distance, and no others.
pub fn check_view(truth: &RoomView, view_distance_m: Option<u16>, player: &PlayerState) -> Checked {
    let name = &player.name;
    let session = player.session.as_ref().expect("it has joined");
    let (replica, clock) = (session.replica().unwrap(), session.clock().unwrap());
    let tick = clock.tick_at(player.drawn);
    let own_pose = session.own_pose().unwrap().position;
    for info in replica.cubes() {
        let cube = truth.cubes.iter().find(|cube| cube.cube == info.cube);
        let cube = cube.ok_or_else(|| format!("{name} sees {info:?}, which is gone"))?;
        let is_same = (info.kind, &info.name, info.colour) == (cube.kind, &cube.name, cube.colour);
        ensure(is_same, || {
            format!("{name} sees {info:?} instead of {cube:?}")
        })?;
        let seen = replica.pose(info.cube).unwrap().position;
        let bound = view_distance_m.map_or(NEAR_QUANTA, |_| FAR_QUANTA);
        check_near(seen, cube.pose.position, bound, || {
            format!("{name} sees {info:?}")
        })?;
        let [x, y, z] = player.view.pose_at(info, tick).position;
        let shown = Position::from_metres([x, y, z]);
        check_near(shown, seen, 1, || format!("{name} draws {info:?}"))?;
    }
    for cube in &truth.cubes {
        let distance = cube.pose.position.distance(own_pose);
        let is_near =
            view_distance_m.is_none_or(|metres| distance <= u64::from(metres) * QUANTA_PER_METRE);
        ensure(!is_near || replica.cube(cube.cube).is_some(), || {
            format!("{name} does not see {cube:?}")
        })?;
    }
    Ok(())
}

/// Checks that the player's own cube is where the player has moved it.
pub fn check_own(truth: &RoomView, player: &PlayerState) -> Checked {
    let name = &player.name;
    let session = player.session.as_ref().expect("it has joined");
    let own = session.welcome().unwrap().cube;
    let own_cube = truth.cubes.iter().find(|cube| cube.cube == own);
    let own_cube = own_cube.ok_or_else(|| format!("{name}'s own cube {own} is gone"))?;
    ensure(own_cube.kind == CubeKind::Player, || {
        format!("{name}'s own cube is {own_cube:?}")
    })?;
    let own_pose = session.own_pose().unwrap().position;
    check_near(own_pose, own_cube.pose.position, NEAR_QUANTA, || {
        format!("{name}'s own cube")
    })
}

fn check_near(a: Position, b: Position, bound: i32, what: impl FnOnce() -> String) -> Checked {
    let off = [a.x - b.x, a.y - b.y, a.z - b.z];
    let is_near = off.iter().all(|off| off.abs() <= bound);
    ensure(is_near, || format!("{}: {a:?} and {b:?}", what()))
}
