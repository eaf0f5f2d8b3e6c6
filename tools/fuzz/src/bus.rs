//! The messages between the servers of a room, changed on the way.

use bytes::Bytes;
use cubesync_cluster::fuzzing::Overhearing;
use cubesync_protocol::limits::MAX_CUBES_PER_ROOM;
use cubesync_protocol::{CubeId, CubePose};

use crate::input::Input;

const ROOMS: usize = 2;
/// Number of messages that are kept to be repeated.
const KEPT: usize = 32;

/// Checks that rooms go on, that their cubes are in the world, and that they are no more than fit.
pub fn check(bytes: &[u8]) {
    let mut input = Input(bytes);
    fastrand::seed(7);
    let mut rooms = [(); ROOMS].map(|()| Overhearing::new());
    let mut players = Vec::new();
    for (number, room) in rooms.iter_mut().enumerate() {
        players.extend(room.join("abc").map(|cube| (number, cube)));
    }
    let mut kept: Vec<Bytes> = Vec::new();
    while !input.is_empty() {
        let [operation, argument] = input.array();
        let number = usize::from(operation >> 4) % ROOMS;
        match operation % 8 {
            0 => rooms[number].hear(Bytes::copy_from_slice(input.short_bytes())),
            1 => {
                let (at, player) = players[usize::from(argument) % players.len()];
                let cube = if argument < 128 { player } else { CubeId(0) };
                let pose = input.near_pose();
                rooms[at].place(player, CubePose { cube, pose });
            }
            2 if !kept.is_empty() => {
                let word = kept[usize::from(argument) % kept.len()].clone();
                rooms[number].hear(word);
            }
            3 | 4 if !kept.is_empty() => {
                let mut word = kept[usize::from(argument) % kept.len()].to_vec();
                let [place, change] = input.array();
                let place = usize::from(place) % word.len().max(1);
                if let Some(byte) = word.get_mut(place) {
                    *byte = byte.wrapping_add(change);
                }
                rooms[number].hear(word.into());
            }
            // Time goes on, and what is said is heard, or lost.
            _ => {
                for _ in 0..=argument % 32 {
                    rooms.iter_mut().for_each(Overhearing::tick);
                    let said: Vec<_> = rooms.iter_mut().map(Overhearing::said).collect();
                    for (from, words) in said.into_iter().enumerate() {
                        for word in words {
                            if argument < 192 {
                                rooms[1 - from].hear(word.clone());
                            }
                            kept.push(word);
                        }
                    }
                    kept.drain(..kept.len().saturating_sub(KEPT));
                }
            }
        }
        rooms.iter().for_each(check_room);
    }
}

fn check_room(room: &Overhearing) {
    let cubes = room.cubes();
    assert!(cubes.len() <= MAX_CUBES_PER_ROOM, "{} cubes", cubes.len());
    for cube in cubes {
        assert!(cube.pose.position.is_in_bounds(), "{cube:?}");
    }
}
