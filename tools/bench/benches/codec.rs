//! The wire's cost per cube: full state as bincode, and residuals through the motion codec.
//!
//! `cargo bench -p cubesync-bench --bench codec`; items are cubes.

#[path = "../src/cubes/codecs.rs"]
#[allow(dead_code, reason = "the programs compare more of them")]
mod codecs;
#[path = "../src/cubes/full_state.rs"]
mod full_state;
#[path = "../src/relays/motions.rs"]
#[allow(dead_code, reason = "the load generator uses the rest")]
mod motions;
#[path = "../src/cubes/varints.rs"]
mod varints;

use cubesync_protocol::motion::{Codec, MotionSet, MotionState};
use cubesync_protocol::{CubeId, CubePose, Pose, Position};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};

use crate::codecs::Encoding;
use crate::motions::{Motion, append_trace};

const SIZES: [usize; 3] = [100, 1_000, 5_000];
const HZ: u32 = 20;
/// Ticks in a row that are coded at once.
const TICKS: usize = 32;

fn main() {
    divan::main();
}

/// Tick by tick, the poses of people who wander.
fn wander(cubes: usize) -> Vec<Vec<Pose>> {
    let mut ticks = vec![Vec::new(); TICKS];
    let mut trace = Vec::new();
    for cube in 0..cubes {
        trace.clear();
        let home = Position::from_metres([cube as f32 % 100.0, (cube / 100) as f32, 0.5]);
        append_trace(&mut trace, Motion::Wander, cube as u64, home, HZ, TICKS);
        for (tick, &pose) in ticks.iter_mut().zip(&trace) {
            tick.push(pose);
        }
    }
    ticks
}

fn poses(cubes: usize) -> Vec<CubePose> {
    let poses = wander(cubes).swap_remove(0);
    let cubes = poses.into_iter().enumerate().map(|(index, pose)| CubePose {
        cube: CubeId(index as u64),
        pose,
    });
    cubes.collect()
}

#[divan::bench(args = SIZES)]
fn full_state_encode(bencher: Bencher<'_, '_>, cubes: usize) {
    let poses = poses(cubes);
    bencher
        .counter(ItemsCount::new(cubes))
        .bench(|| full_state::encode(black_box(&poses)));
}

#[divan::bench(args = SIZES)]
fn full_state_decode(bencher: Bencher<'_, '_>, cubes: usize) {
    let bytes = full_state::encode(&poses(cubes)).expect("plain data");
    bencher
        .counter(ItemsCount::new(cubes))
        .bench(|| full_state::decode(black_box(&bytes)));
}

/// Returns the set before the first tick.
fn at_start(ticks: &[Vec<Pose>]) -> MotionSet {
    let mut set = MotionSet::new(&Codec::LIVE);
    for (index, &pose) in ticks[0].iter().enumerate() {
        set.insert(CubeId(index as u64), MotionState::at_rest(pose));
    }
    set
}

/// Encodes all ticks and returns the bytes of each.
fn encode(encoding: Encoding, set: &mut MotionSet, ticks: &[Vec<Pose>]) -> Vec<Vec<u8>> {
    let coded = ticks.iter().map(|poses| {
        let mut out = Vec::new();
        set.advance_to(set.tick() + 1);
        let truth = |cube: CubeId| poses[cube.0 as usize];
        encoding.encode_tick(set, &Codec::LIVE, truth, &mut out);
        out
    });
    coded.collect()
}

fn bench_encode(bencher: Bencher<'_, '_>, cubes: usize, encoding: Encoding) {
    let ticks = wander(cubes);
    let start = at_start(&ticks);
    bencher
        .counter(ItemsCount::new(cubes * TICKS))
        .with_inputs(|| start.clone())
        .bench_values(|mut set| encode(encoding, &mut set, &ticks));
}

fn decode_all(bencher: Bencher<'_, '_>, ticks: &[Vec<Pose>], encoding: Encoding) {
    let start = at_start(ticks);
    let coded = encode(encoding, &mut start.clone(), ticks);
    bencher
        .counter(ItemsCount::new(start.len() * TICKS))
        .with_inputs(|| start.clone())
        .bench_values(|mut set| {
            for bytes in &coded {
                set.advance_to(set.tick() + 1);
                if bytes.is_empty() {
                    continue;
                }
                encoding
                    .decode_tick(&mut set, &Codec::LIVE, black_box(bytes))
                    .expect("our own bytes");
            }
            set
        });
}

#[divan::bench(args = SIZES)]
fn varints_encode(bencher: Bencher<'_, '_>, cubes: usize) {
    bench_encode(bencher, cubes, Encoding::Varints);
}

#[divan::bench(args = SIZES)]
fn varints_decode(bencher: Bencher<'_, '_>, cubes: usize) {
    decode_all(bencher, &wander(cubes), Encoding::Varints);
}

#[divan::bench(args = SIZES)]
fn range_coder_encode(bencher: Bencher<'_, '_>, cubes: usize) {
    bench_encode(bencher, cubes, Encoding::Range);
}

#[divan::bench(args = SIZES)]
fn range_coder_decode(bencher: Bencher<'_, '_>, cubes: usize) {
    decode_all(bencher, &wander(cubes), Encoding::Range);
}

/// One cube that has an update in every tick, as a client's own cube may.
fn jostled() -> Vec<Vec<Pose>> {
    let pose = |tick: i32| Pose {
        position: Position {
            x: 120 * tick + 9 * (tick * tick % 7),
            y: 40 * tick - 8 * (tick * tick % 5),
            z: 256,
        },
        ..Pose::default()
    };
    (0..TICKS as i32).map(|tick| vec![pose(tick)]).collect()
}

fn encode_one(bencher: Bencher<'_, '_>, encoding: Encoding) {
    let ticks = jostled();
    let start = at_start(&ticks);
    let coded = encode(encoding, &mut start.clone(), &ticks);
    let updates = coded.iter().filter(|bytes| !bytes.is_empty()).count();
    assert_eq!(updates, TICKS - 1, "all but the first");
    let mut out = Vec::new();
    bencher
        .counter(ItemsCount::new(TICKS))
        .with_inputs(|| start.clone())
        .bench_local_values(|mut set| {
            for poses in &ticks {
                out.clear();
                set.advance_to(set.tick() + 1);
                let truth = |cube: CubeId| poses[cube.0 as usize];
                encoding.encode_tick(&mut set, &Codec::LIVE, truth, &mut out);
            }
            set
        });
}

#[divan::bench]
fn one_moving_cube_varints_encode(bencher: Bencher<'_, '_>) {
    encode_one(bencher, Encoding::Varints);
}

#[divan::bench]
fn one_moving_cube_varints_decode(bencher: Bencher<'_, '_>) {
    decode_all(bencher, &jostled(), Encoding::Varints);
}

#[divan::bench]
fn one_moving_cube_range_coder_encode(bencher: Bencher<'_, '_>) {
    encode_one(bencher, Encoding::Range);
}

#[divan::bench]
fn one_moving_cube_range_coder_decode(bencher: Bencher<'_, '_>) {
    decode_all(bencher, &jostled(), Encoding::Range);
}
