//! A server and its players on a simulated network: everything is real but the network and the
//! time. Faults come from a seed, and when they are over, every player's view must become the
//! truth.
//!
//! `SIM_SEED=17 cargo test -p cubesync-server --test sim` repeats one seed and prints what
//! happened. With `--release` hundreds are played in half a minute, with `SIM_SEEDS=5000` as many.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]
#![allow(unreachable_pub, reason = "in a test binary everything is")]

mod faults;
mod journal;
mod judge;
mod player;
mod scene;
mod venue;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, thread};

use self::journal::Count;
use self::scene::{Outcome, play};

/// Seeds that are played unless told otherwise: as many as take half a minute on two cores.
const SEEDS: u64 = if cfg!(debug_assertions) { 24 } else { 500 };

#[test]
fn every_view_becomes_the_truth_whatever_happened() {
    let number = |name| env::var(name).ok().and_then(|text| text.parse().ok());
    let (first, end) = match number("SIM_SEED") {
        Some(seed) => (seed, seed + 1),
        None => (0, number("SIM_SEEDS").unwrap_or(SEEDS)),
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
        eprintln!("SIM_SEED={seed} cargo test -p cubesync-server --test sim");
    }
    assert!(
        failed.is_empty(),
        "{} seeds failed, see above",
        failed.len()
    );
    let sums = sums.into_inner().unwrap();
    let sum = |wanted| sums.iter().filter(|&&count| count == wanted).count();
    eprintln!("{} seeds: {}", end - first, journal::summary(&sums));
    if end - first >= 100 {
        for count in Count::ALL {
            assert!(sum(count) > 0, "{count:?} never happened");
        }
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [3, 14, 15] {
        let hashes = [(); 2].map(|()| play(seed, false).hash);
        assert_eq!(hashes[0], hashes[1], "seed {seed}");
        assert_ne!(hashes[0], play(seed + 100, false).hash);
    }
}
