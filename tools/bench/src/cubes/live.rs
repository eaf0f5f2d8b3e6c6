//! The encodings compared on people's motion, within the bounds of live play; every tick is
//! decoded and compared with the truth.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use cubesync_protocol::motion::{Codec, MotionSet, MotionState};
use cubesync_protocol::{CubeId, CubePose, Pose, Rotation};

use crate::codecs::Encoding;
use crate::full_state;
use crate::people::{People, ticks, tracks};

/// Cubes of a run. The seeds are not those of the training.
const CUBES: u64 = 100;
const SECONDS: usize = 60;

/// The cost of motion in one set.
#[derive(Default)]
pub(crate) struct Cost {
    pub(crate) bytes: usize,
    /// Ticks with bytes.
    pub(crate) ticks: usize,
    updates: usize,
    encode: Duration,
    decode: Duration,
    pub(crate) error_quanta: i32,
    pub(crate) error_degrees: f64,
}

/// Prints the table.
pub(crate) fn run() -> anyhow::Result<()> {
    println!(
        "{CUBES} cubes in one set, {SECONDS} s; bytes per cube and tick, headers of snapshots not counted;"
    );
    println!("ns per cube that moves (idle: per cube); updates per cube and tick; largest errors");
    println!();
    println!(
        "| motion | Hz | encoding | bytes | updates | encode ns | decode ns | error, quanta | error, degrees |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let motions = [
        ("wander", People::Wander),
        ("play", People::Play),
        ("jump", People::Jump),
        ("jump unturned", People::JumpUnturned),
        ("idle", People::Idle),
    ];
    for (name, people) in motions {
        for hz in [20, 30] {
            eprint!("\r\x1b[K{name} at {hz} Hz");
            let tracks = tracks(people, 0..CUBES, hz, SECONDS * hz as usize);
            let rows = [
                ("full poses of changed cubes, bincode", full_poses(&tracks)?),
                (
                    "residual varints",
                    residuals(&tracks, &Codec::LIVE, Encoding::Varints)?,
                ),
                (
                    "residuals, range coder",
                    residuals(&tracks, &Codec::LIVE, Encoding::Range)?,
                ),
            ];
            eprint!("\r\x1b[K");
            for (encoding, cost) in rows {
                row(name, hz, encoding, &cost, &tracks);
            }
        }
    }
    Ok(())
}

fn row(name: &str, hz: u32, encoding: &str, cost: &Cost, tracks: &[Vec<Pose>]) {
    let all = (tracks.len() * tracks[0].len()) as f64;
    let moving = match moves(tracks) {
        0 => all,
        moving => moving as f64,
    };
    println!(
        "| {name} | {hz} | {encoding} | {:.3} | {:.3} | {:.0} | {:.0} | {} | {:.2} |",
        cost.bytes as f64 / all,
        cost.updates as f64 / all,
        cost.encode.as_nanos() as f64 / moving,
        cost.decode.as_nanos() as f64 / moving,
        cost.error_quanta,
        cost.error_degrees,
    );
}

fn full_poses(tracks: &[Vec<Pose>]) -> anyhow::Result<Cost> {
    let mut cost = Cost::default();
    // A list without cubes: what it costs anyway.
    let empty = full_state::encode(&[])?.len();
    for tick in ticks(tracks) {
        let started = Instant::now();
        let changed = tracks
            .iter()
            .enumerate()
            .filter(|(_, track)| track[tick] != track[tick - 1]);
        let cubes = changed
            .map(|(index, track)| CubePose {
                cube: CubeId(index as u64),
                pose: track[tick],
            })
            .collect::<Vec<_>>();
        cost.updates += cubes.len();
        let bytes = full_state::encode(&cubes)?;
        cost.encode += started.elapsed();
        cost.bytes += bytes.len() - empty;
        let started = Instant::now();
        full_state::decode(&bytes)?;
        cost.decode += started.elapsed();
    }
    Ok(cost)
}

/// Returns the number of poses that differ from that of the tick before.
pub(crate) fn moves(tracks: &[Vec<Pose>]) -> usize {
    let moves = |track: &Vec<Pose>| track.windows(2).filter(|pair| pair[0] != pair[1]).count();
    tracks.iter().map(moves).sum()
}

/// Encodes the residuals of tracks, decodes them, and compares with the truth.
pub(crate) fn residuals(
    tracks: &[Vec<Pose>],
    codec: &'static Codec,
    encoding: Encoding,
) -> anyhow::Result<Cost> {
    let mut cost = Cost::default();
    let mut sender = at_start(tracks, codec);
    let mut receiver = sender.clone();
    let mut bytes = Vec::new();
    for tick in ticks(tracks) {
        let started = Instant::now();
        bytes.clear();
        sender.advance_to(sender.tick() + 1);
        let truth = |id: CubeId| tracks[id.0 as usize][tick];
        cost.updates += encoding.encode_tick(&mut sender, codec, truth, &mut bytes);
        cost.encode += started.elapsed();
        cost.bytes += bytes.len();
        cost.ticks += usize::from(!bytes.is_empty());

        let started = Instant::now();
        receiver.advance_to(receiver.tick() + 1);
        if !bytes.is_empty() {
            encoding
                .decode_tick(&mut receiver, codec, &bytes)
                .with_context(|| format!("tick {tick}"))?;
        }
        cost.decode += started.elapsed();
        ensure!(
            sender == receiver,
            "tick {tick}: sender and receiver disagree"
        );
        for (id, pose) in receiver.poses() {
            let truth = tracks[id.0 as usize][tick];
            let (is, should) = (pose.position, truth.position);
            let off = [is.x - should.x, is.y - should.y, is.z - should.z];
            cost.error_quanta = off
                .iter()
                .fold(cost.error_quanta, |most, off| most.max(off.abs()));
            cost.error_degrees = cost
                .error_degrees
                .max(degrees(pose.rotation, truth.rotation));
        }
    }
    Ok(cost)
}

/// Returns every cube at rest where it is at first.
pub(crate) fn at_start(tracks: &[Vec<Pose>], codec: &'static Codec) -> MotionSet {
    let mut set = MotionSet::new(codec);
    for (index, track) in tracks.iter().enumerate() {
        set.insert(CubeId(index as u64), MotionState::at_rest(track[0]));
    }
    set
}

fn degrees(a: Rotation, b: Rotation) -> f64 {
    if a == b {
        return 0.0;
    }
    let [a, b] = [a, b].map(|rotation| rotation.to_quaternion().map(f64::from));
    // The chord, not the cosine, which hides small angles.
    let chord = |sign: f64| {
        let squares = a.iter().zip(b).map(|(a, b)| (a - sign * b).powi(2));
        squares.sum::<f64>().sqrt()
    };
    4.0 * (chord(1.0).min(chord(-1.0)) / 2.0).asin().to_degrees()
}
