//! Trains the tables of the range coder and writes them where the sources include them.

use std::path::Path;

use anyhow::Context;
use cubesync_protocol::Pose;
use cubesync_protocol::motion::{Codec, GROUPS};

use crate::codecs::PHYSICS;
use crate::encodings;
use crate::live;
use crate::people::{People, ticks, tracks};
use crate::scenes::{self, Kind};
use crate::trace::Trace;
use crate::trainer::Trainer;

const LIVE_TABLE: &str = "protocol/vectors/motion_table.bin";
const PHYSICS_TABLE: &str = "tools/bench/src/cubes/physics.bin";
const SIX_BACK_TABLE: &str = "tools/bench/src/cubes/six_back.bin";

/// Number of passes over the recorded motion.
const PASSES: usize = 12;
/// Entries of the table of live play are multiples of this. Browsers load it: packed it takes 19 kB instead of 26, for half a
/// per cent more bytes of motion at most.
const LIVE_STEP: f32 = 3.0;
/// Number of last passes with smaller steps, so that the entries converge.
const FINE_PASSES: usize = 3;

/// Trains all tables: on a recording of tumbling cubes, and that of live play on people and on rooms with loose cubes.
pub(crate) fn run(recording: &Path) -> anyhow::Result<()> {
    let trace = Trace::read(recording)?;
    for (path, back) in [(PHYSICS_TABLE, 1), (SIX_BACK_TABLE, 6)] {
        train(path, 1.0, |trainer| on_trace(&trace, back, trainer))?;
    }
    let (people, rooms) = (people(), rooms());
    train(LIVE_TABLE, LIVE_STEP, |trainer| {
        // Rooms have three times as many bits. With people once, people cost 8 % more than by a table of their own.
        for tracks in people.iter().chain(&rooms).chain(&people) {
            on_tracks(tracks, trainer);
        }
    })
}

/// Trains one table by passes over motion, and writes it in steps of `step`.
fn train(path: &str, step: f32, mut pass: impl FnMut(&mut Trainer)) -> anyhow::Result<()> {
    let mut trainer = Trainer::new();
    for number in 1..=PASSES {
        trainer.set_fine(number + FINE_PASSES > PASSES);
        trainer.take_bits();
        pass(&mut trainer);
        eprint!("\r{path}: pass {number} of {PASSES}");
    }
    eprintln!();
    let bits = trainer.take_bits();
    let all = bits.iter().sum::<f64>();
    for ((name, _), bits) in GROUPS.iter().zip(bits) {
        println!(
            "{path}: {name} takes {:.1} % of {:.0} bytes",
            bits / all * 100.0,
            all / 8.0
        );
    }
    std::fs::write(path, trainer.table(step))
        .with_context(|| format!("cannot write {path}: start this in the repository's root"))
}

fn on_trace(trace: &Trace, back: usize, trainer: &mut Trainer) {
    let mut set = encodings::at_start(trace, &PHYSICS);
    for (baseline, now) in trace.frames.iter().zip(&trace.frames[back..]) {
        let truth = |id: cubesync_protocol::CubeId| now.poses[id.0 as usize];
        set.advance_to(set.tick() + 1);
        if back == 1 {
            set.train_tick(truth, trainer);
            continue;
        }
        set.encode_tick(|id| baseline.poses[id.0 as usize], &mut Vec::new());
        let mut later = set.clone();
        later.advance_to(set.tick() + back as u64);
        later.train_tick(truth, trainer);
    }
}

fn on_tracks(tracks: &[Vec<Pose>], trainer: &mut Trainer) {
    let mut set = live::at_start(tracks, &Codec::LIVE);
    for tick in ticks(tracks) {
        set.advance_to(set.tick() + 1);
        set.train_tick(|id| tracks[id.0 as usize][tick], trainer);
    }
}

/// Rooms full of people and single ones (a client sends only its own cube), at the usual rates,
/// some among cubes that rest, and a few that jump about.
fn people() -> Vec<Vec<Vec<Pose>>> {
    let mut sets = Vec::new();
    let mut seeds = 1_000..;
    let mut next = |count: u64| {
        let first = seeds.next().unwrap_or(0) * 1_000;
        first..first + count
    };
    for hz in [20, 30, 60] {
        let ticks = 40 * hz as usize;
        for people in [People::Wander, People::Play] {
            sets.push(tracks(people, next(40), hz, ticks));
            let mut with_resting = tracks(People::Idle, next(300), hz, ticks);
            for (place, track) in tracks(people, next(12), hz, ticks).into_iter().enumerate() {
                with_resting[place * 23 + 7] = track;
            }
            sets.push(with_resting);
            sets.extend((0..8).map(|_| tracks(people, next(1), hz, ticks)));
        }
        sets.push(tracks(People::Jump, next(4), hz, 400));
        sets.push(tracks(People::JumpUnturned, next(4), hz, 400));
    }
    sets
}

/// Rooms with loose cubes, of [`Kind::TRAINED`] and of seeds that are not scored.
fn rooms() -> Vec<Vec<Vec<Pose>>> {
    let mut sets = Vec::new();
    for hz in [20, 30, 60] {
        for kind in Kind::TRAINED {
            let seeds = if kind == Kind::Shove { 1 } else { 3 };
            let first = 1_000 + u64::from(hz) * 10;
            sets.extend((first..first + seeds).map(|seed| scenes::play(kind, seed, hz)));
        }
    }
    sets
}
