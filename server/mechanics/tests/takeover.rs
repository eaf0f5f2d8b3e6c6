//! A room with a heap goes on at another server, with the real mechanics.

use std::sync::Arc;
use std::time::Duration;

use cubesync_mechanics::create;
use cubesync_protocol::cells::Grid;
use cubesync_protocol::motion::{Codec, MotionState};
use cubesync_protocol::{Colour, CubeId, Pose, Position, Rotation, Width};
use cubesync_relay::mechanics::{Field, FieldCube, KeptCube, Velocity};
use cubesync_relay::metrics::Metrics;
use cubesync_relay::room::backplane::Alone;
use cubesync_relay::room::{Connections, Room, RoomSettings};
use tokio::sync::watch;

const HZ: u8 = 30;
const COUNT: u64 = 60;
const QUANTA_PER_METRE: f32 = 512.0;

fn settings(field: Field) -> RoomSettings {
    RoomSettings {
        name: "lobby".into(),
        tick_hz: HZ,
        top_speed: None,
        grid: Grid::WHOLE,
        slow_reader_after: Duration::from_secs(5),
        resume_within: Duration::from_secs(15),
        drain: Duration::ZERO,
        max_cubes: 10,
        field: Some(field),
        permanent: true,
        backplane: Arc::new(Alone),
    }
}

/// Returns a room in which cubes begin to fall onto a heap.
fn falling(random: &mut fastrand::Rng) -> Room {
    let mut cube = |id: u64| KeptCube {
        width: Width::from_metres(0.4 + 0.6 * random.f32()),
        pose: Pose {
            position: Position::from_metres([
                (id % 4) as f32 * 1.05 + random.f32() * 0.2,
                (id / 4 % 4) as f32 * 1.05,
                1.0 + (id / 16) as f32 * 1.1,
            ]),
            rotation: Rotation::IDENTITY,
        },
        velocity: Some(Velocity::default()),
    };
    let kept: Vec<_> = (0..COUNT).map(&mut cube).collect();
    let cubes = kept.iter().map(|cube| FieldCube {
        width: cube.width,
        colour: Colour::from([9; 3]),
        pose: cube.pose,
    });
    let field = Field {
        cubes: cubes.collect(),
        create: Some(create),
        kept: Some(watch::channel(kept).0),
    };
    let (_, connections) = Connections::new(settings(field), Metrics::default());
    Room::new(connections)
}

fn poses(room: &Room) -> Vec<Pose> {
    let pose = |id| room.world().pose(CubeId(id)).expect("it is there");
    (0..COUNT).map(pose).collect()
}

/// Returns how far the farthest cube has moved, in metres.
fn farthest(before: &[Pose], after: &[Pose]) -> f32 {
    let ways = before.iter().zip(after);
    let ways = ways.map(|(a, b)| a.position.distance(b.position));
    ways.max().unwrap_or(0) as f32 / QUANTA_PER_METRE
}

/// Ticks, and returns the farthest way of a cube in one tick.
fn tick(room: &mut Room) -> f32 {
    let before = poses(room);
    room.tick(room.next_tick());
    farthest(&before, &poses(room))
}

fn settle(room: &mut Room) {
    let mut still = 0;
    for _ in 0..3_000 {
        still = if tick(room) == 0.0 { still + 1 } else { 0 };
        if still > 90 {
            return;
        }
    }
    panic!("a heap comes to rest");
}

/// Lets another server own the room, which knows of resting cubes what its players were shown.
fn take_over(room: Room, random: &mut fastrand::Rng) -> Room {
    let (connections, mut state) = room.hand_over();
    let bound = Codec::LIVE.position_bound;
    for cube in &mut state.cubes {
        if cube.info.motion.is_still() {
            let mut shown = cube.info.motion.pose(&Codec::LIVE);
            let Position { x, y, z } = &mut shown.position;
            for axis in [x, y, z] {
                *axis += random.i32(-bound..=bound);
            }
            cube.info.motion = MotionState::at_rest(shown);
        }
    }
    let missed = Duration::from_millis(400);
    let now = state.began + missed;
    Room::take_over(connections, state, now)
}

#[test]
fn a_resting_heap_stays_within_a_centimetre_of_where_it_was_shown() {
    for seed in 0..4 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut room = falling(&mut random);
        settle(&mut room);
        let mut room = take_over(room, &mut random);
        let shown = poses(&room);
        for _ in 0..10 * u32::from(HZ) {
            room.tick(room.next_tick());
        }
        let moved = farthest(&shown, &poses(&room));
        assert!(moved <= 0.01, "seed {seed}: {moved} m");
    }
}

#[test]
fn a_heap_that_falls_goes_on_falling_and_does_not_burst() {
    for after_ticks in [3, 10, 20, 40] {
        let mut random = fastrand::Rng::with_seed(after_ticks);
        let mut room = falling(&mut random);
        for _ in 0..after_ticks {
            tick(&mut room);
        }
        let before = poses(&room);
        let mut room = take_over(room, &mut random);
        assert!(farthest(&before, &poses(&room)) < 0.02);
        // From the highest place a cube falls no faster than this.
        let bound_m = (2.0_f32 * 9.81 * 5.0).sqrt() / f32::from(HZ);
        for _ in 0..300 {
            let way = tick(&mut room);
            assert!(
                way <= bound_m,
                "after {after_ticks} ticks: {way} m in a tick"
            );
        }
        let highest = poses(&room).iter().map(|pose| pose.position.z).max();
        let highest_m = highest.unwrap() as f32 / QUANTA_PER_METRE;
        assert!(highest_m < 3.5, "after {after_ticks} ticks: {highest_m} m");
        settle(&mut room);
    }
}
