//! Servers and their players on a simulated network. Everything is real but the network, the bus
//! between servers and the time. A seed decides the faults. When they are over, every player's view
//! must match the servers' rooms.
//!
//! `SIM_SEED=17 cargo test -p cubesync-server --test sim alone` repeats one seed with one server and
//! prints its events, `cluster` does so with several servers. `SIM_SEEDS=5000` sets the number of
//! seeds. With `--release`, hundreds of seeds take a minute.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]
#![allow(unreachable_pub, reason = "in a test binary everything is")]

mod bus;
mod checks;
mod datagrams;
mod event_log;
mod faults;
mod leases;
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

/// Numbers of seeds by default: as many as take a minute on two cores.
const SEEDS_ALONE: u64 = if cfg!(debug_assertions) { 24 } else { 500 };
const SEEDS_OF_CLUSTER: u64 = if cfg!(debug_assertions) { 12 } else { 150 };

#[test]
fn alone_every_view_matches_the_room_after_all_faults() {
    play_seeds("alone", run::alone, SEEDS_ALONE, Count::ALONE);
}

#[test]
fn cluster_every_view_matches_the_room_after_all_faults() {
    play_seeds("cluster", run::cluster, SEEDS_OF_CLUSTER, Count::CLUSTER);
}

#[test]
fn alone_the_same_seed_gives_the_same_run() {
    assert_repeatable(run::alone);
}

#[test]
fn cluster_the_same_seed_gives_the_same_run() {
    assert_repeatable(run::cluster);
}

/// Runs many seeds. Each of the expected counts must occur in some of them.
fn play_seeds(name: &str, play: Play, seeds: u64, expected: &[Count]) {
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
            let is_printed = end - first == 1;
            match catch_unwind(AssertUnwindSafe(|| play(seed, is_printed))) {
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
        event_log::summary(&sums, expected)
    );
    if end - first >= 100 {
        for count in expected {
            assert!(sums.contains(count), "{count:?} never happened");
        }
    }
}

/// Runs seeds twice. Seeds that kill a server are left out: when a program's runtime ends, its
/// connections end in an order that depends on counters of the whole process.
fn assert_repeatable(play: Play) {
    let plays = (3..).map(|seed| (seed, play(seed, false)));
    let repeatable = plays.filter(|(_, outcome)| !outcome.kills_servers);
    for (seed, Outcome { hash, .. }) in repeatable.take(3) {
        assert_eq!(hash, play(seed, false).hash, "seed {seed}");
        assert_ne!(hash, play(seed + 100, false).hash);
    }
}
