//! What a tick costs a room before the sockets: every cube has moved, and one frame in the log
//! tells it to everybody.
//!
//! `cargo bench -p cubesync-bench --bench tick`; items are cubes.

use cubesync_protocol::limits::MAX_CUBES_PER_ROOM;
use cubesync_protocol::{Colour, CubeId, CubePose, Message, ServerMessage};
use cubesync_server::room::log::SnapshotLog;
use cubesync_server::room::world::{SpeedRule, World};
use divan::Bencher;
use divan::counter::ItemsCount;

const HZ: u8 = 20;

fn main() {
    divan::main();
}

/// A room without its connections.
struct Room {
    world: World,
    log: SnapshotLog,
    players: Vec<CubeId>,
    tick: u64,
}

impl Room {
    fn new(players: usize) -> Self {
        let mut world = World::new(HZ, None);
        let colour = Colour::from([0x80; 3]);
        let players = (0..players).map(|number| {
            let joined = world.join(&format!("bench {number}"), colour, SpeedRule::TopSpeed);
            joined.expect("a room has as many places")
        });
        let players = players.collect();
        world.tick(0);
        Self {
            world,
            log: SnapshotLog::default(),
            players,
            tick: 0,
        }
    }

    /// Everybody moves back and forth.
    fn tick(&mut self) {
        self.tick += 1;
        let step = if self.tick.is_multiple_of(2) {
            150
        } else {
            -150
        };
        for &cube in &self.players {
            let mut pose = self.world.cube(cube).expect("nobody leaves").pose;
            pose.position.x += step;
            self.world
                .sample(cube, self.tick, vec![CubePose { cube, pose }]);
        }
        let snapshot = self.world.tick(self.tick).expect("everybody has moved");
        self.log.push(ServerMessage::Snapshot(snapshot).to_frame());
    }
}

/// 10,000 cubes are more than a room holds: two rooms.
#[divan::bench(args = [100, 1_000, 10_000])]
fn everybody_moves(bencher: Bencher<'_, '_>, cubes: usize) {
    // One place is the free cube's.
    let most = MAX_CUBES_PER_ROOM - 1;
    let rooms = cubes.div_ceil(most);
    let mut rooms: Vec<_> = (0..rooms)
        .map(|room| Room::new((cubes - room * most).min(most)))
        .collect();
    bencher
        .counter(ItemsCount::new(cubes))
        .bench_local(|| rooms.iter_mut().for_each(Room::tick));
}
