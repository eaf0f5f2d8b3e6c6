//! Servers and their players on a simulated network: everything is real but the network, the bus
//! between servers and the time. Faults come from a seed, and when they are over, every player's
//! view must become the truth.
//!
//! `SIM_SEED=17 cargo test -p cubesync-server --test sim alone` repeats one seed with one server and
//! prints what happened, `cluster` one with several. With `--release` hundreds are played in half
//! a minute, with `SIM_SEEDS=5000` as many.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]
#![allow(unreachable_pub, reason = "in a test binary everything is")]

mod checks;
mod cluster;
mod event_log;
mod faults;
mod player;
mod run;
mod server;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, thread};

use self::event_log::Count;
use self::run::Outcome;

type Play = fn(u64, bool) -> Outcome;

/// Seeds that are played unless told otherwise: as many as take half a minute on two cores.
const SEEDS_ALONE: u64 = if cfg!(debug_assertions) { 24 } else { 500 };
const SEEDS_OF_CLUSTER: u64 = if cfg!(debug_assertions) { 12 } else { 150 };

#[test]
fn alone_every_view_becomes_the_truth_whatever_happened() {
    play_seeds("alone", run::play, SEEDS_ALONE, Count::ALONE);
}

#[test]
fn cluster_every_view_becomes_the_truth_whatever_happened() {
    play_seeds("cluster", cluster::play, SEEDS_OF_CLUSTER, Count::CLUSTER);
}

#[test]
fn alone_the_same_seed_is_the_same_run() {
    is_repeated(run::play);
}

#[test]
fn cluster_the_same_seed_is_the_same_run() {
    is_repeated(cluster::play);
}

/// Plays many seeds; all of what is wanted must happen in some of them.
fn play_seeds(name: &str, play: Play, seeds: u64, wanted: &[Count]) {
    let number = |name| env::var(name).ok().and_then(|text| text.parse().ok());
    let (first, end) = match number("SIM_SEED") {
        Some(seed) => (seed, seed + 1),
        None => (0, number("SIM_SEEDS").unwrap_or(seeds)),
    };
    let next = AtomicU64::new(first);
    let sums = Mutex::new(Vec::new());
    let failed = Mutex::new(Vec::new());
    let work = || {
        while let seed = next.fetch_add(1, Ordering::Relaxed)
            && seed < end
        {
            let is_told = end - first == 1;
            match catch_unwind(AssertUnwindSafe(|| play(seed, is_told))) {
                Ok(Outcome { counts, .. }) => sums.lock().unwrap().extend(counts),
                Err(_) => failed.lock().unwrap().push(seed),
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, Into::into) {
            scope.spawn(work);
        }
    });

    let mut failed = failed.into_inner().unwrap();
    failed.sort_unstable();
    for seed in &failed {
        eprintln!("SIM_SEED={seed} cargo test -p cubesync-server --test sim {name}_every");
    }
    assert!(
        failed.is_empty(),
        "{} seeds failed, see above",
        failed.len()
    );
    let sums = sums.into_inner().unwrap();
    eprintln!(
        "{} seeds: {}",
        end - first,
        event_log::summary(&sums, wanted)
    );
    if end - first >= 100 {
        for count in wanted {
            assert!(sums.contains(count), "{count:?} never happened");
        }
    }
}

/// With seeds in which no server is killed: when a program's runtime ends, its connections end in an
/// order that tokio takes from numbers counted in the whole process.
fn is_repeated(play: Play) {
    let plays = (3..).map(|seed| (seed, play(seed, false)));
    let repeatable = plays.filter(|(_, outcome)| !outcome.kills_servers);
    for (seed, Outcome { hash, .. }) in repeatable.take(3) {
        assert_eq!(hash, play(seed, false).hash, "seed {seed}");
        assert_ne!(hash, play(seed + 100, false).hash);
    }
}
