//! What a tick costs a room before the sockets: every player tells that their cube has moved, and
//! one frame in the log tells it to everybody.
//!
//! `cargo bench -p cubesync-bench --bench tick`; items are cubes.

use std::cell::RefCell;

use cubesync_protocol::cells::Grid;
use cubesync_protocol::limits::MAX_CUBES_PER_ROOM;
use cubesync_protocol::motion::{Codec, MotionSet, MotionState};
use cubesync_protocol::{Colour, CubeId, CubePose, Pose};
use cubesync_relay::room::log::SnapshotLog;
use cubesync_relay::room::publisher::{Publisher, frames};
use cubesync_relay::room::speed::SpeedRule;
use cubesync_relay::room::world::World;
use divan::Bencher;
use divan::counter::ItemsCount;

const HZ: u8 = 20;

fn main() {
    divan::main();
}

/// A room without its connections.
struct Room {
    world: World,
    publisher: Publisher,
    log: SnapshotLog,
    players: Vec<Player>,
    tick: u64,
}

/// A player's client.
struct Player {
    cube: CubeId,
    pose: Pose,
    told: MotionSet,
}

/// The residuals that each player tells of at a tick.
type Samples = Vec<Vec<u8>>;

impl Room {
    fn new(players: usize) -> Self {
        let mut world = World::new(HZ, None);
        let mut publisher = Publisher::new(Grid::WHOLE);
        let players = (0..players).map(|number| Player::join(number, &mut world));
        let players = players.collect();
        let changes = world.tick(1);
        publisher.tick(1, changes, &world);
        Self {
            log: SnapshotLog::new(publisher.streams()),
            world,
            publisher,
            players,
            tick: 1,
        }
    }

    fn samples(&mut self) -> Samples {
        self.players.iter_mut().map(Player::sample).collect()
    }

    fn tick(&mut self, samples: &Samples) {
        self.tick += 1;
        for (player, residuals) in self.players.iter().zip(samples) {
            let taken = self.world.sample(player.cube, self.tick, &[], residuals);
            taken.expect("the players tell the truth");
        }
        let changes = self.world.tick(self.tick);
        let frames = frames(self.publisher.tick(self.tick, changes, &self.world));
        assert_eq!(frames.len(), 1, "everybody has moved");
        self.log.push(self.tick, frames, self.players.len());
    }
}

impl Player {
    fn join(number: usize, world: &mut World) -> Self {
        let colour = Colour::from([0x80; 3]);
        let name = format!("bench {number}");
        let joined = world.join(&name, colour, SpeedRule::TopSpeed, None);
        let cube = joined.expect("a room has as many places");
        let pose = world.pose(cube).expect("it has just come in");
        let taken = world.sample(cube, 1, &[CubePose { cube, pose }], &[]);
        taken.expect("it is the first");
        let mut told = MotionSet::at_tick(&Codec::LIVE, 1);
        told.insert(cube, MotionState::at_rest(pose));
        Self { cube, pose, told }
    }

    /// Back and forth: nobody can predict it.
    fn sample(&mut self) -> Vec<u8> {
        self.told.advance_to(self.told.tick() + 1);
        let is_even = self.told.tick().is_multiple_of(2);
        self.pose.position.x += if is_even { 150 } else { -150 };
        let mut residuals = Vec::new();
        self.told.encode_tick(|_| self.pose, &mut residuals);
        residuals
    }
}

/// 10,000 cubes are more than a room holds: two rooms and more.
#[divan::bench(args = [100, 1_000, 10_000])]
fn everybody_moves(bencher: Bencher<'_, '_>, cubes: usize) {
    // One place is the free cube's.
    let most = MAX_CUBES_PER_ROOM - 1;
    let rooms = cubes.div_ceil(most);
    let rooms: Vec<_> = (0..rooms)
        .map(|room| RefCell::new(Room::new((cubes - room * most).min(most))))
        .collect();
    bencher
        .counter(ItemsCount::new(cubes))
        .with_inputs(|| {
            let samples = rooms.iter().map(|room| room.borrow_mut().samples());
            samples.collect::<Vec<_>>()
        })
        .bench_local_refs(|samples| {
            for (room, samples) in rooms.iter().zip(samples) {
                room.borrow_mut().tick(samples);
            }
        });
}
