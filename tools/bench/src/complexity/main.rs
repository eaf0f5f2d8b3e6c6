//! `cargo bench-complexity`: how the cost of what one player does grows with the number of players.
//!
//! It counts instructions, which valgrind's callgrind does exactly, so that a loaded machine changes nothing.
//! The program runs itself under callgrind, once for each size of the room. What one operation costs is
//! what a tick with many of them costs more than a tick with one: the tick itself, which writes to every
//! player whatever has happened, counts once.

mod callgrind;
mod lab;
mod operations;

use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Parser;

use self::operations::OPERATIONS;

/// Numbers of players in the room.
const SIZES: [usize; 3] = [100, 1_000, 5_000];

/// Number of the operations that a tick has more than the one that it is compared with.
const MORE: usize = 16;

/// Prints how many instructions of the room's task each operation of one player costs in rooms of 100, 1,000
/// and 5,000 players.
#[derive(Debug, Parser)]
#[command(name = "bench-complexity")]
struct Options {
    /// Fail if an operation grows faster than is allowed.
    #[arg(long)]
    check: bool,
    /// Only run the operations, in a room of so many players. This is what runs under callgrind.
    #[arg(long, hide = true)]
    measure: Option<usize>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match options.measure {
        Some(players) => {
            operations::run(players);
            Ok(())
        }
        None => compare(options.check),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-complexity: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compare(is_check: bool) -> anyhow::Result<()> {
    let mut columns = Vec::new();
    for players in SIZES {
        let parts = callgrind::count(players)?;
        columns.push(costs(&parts).context("callgrind has counted another number of parts")?);
    }
    println!("instructions of the room's task for one operation, by the number of players\n");
    print!("{:<44}", "");
    SIZES.iter().for_each(|players| print!("{players:>12}"));
    println!("{:>9}{:>9}", "growth", "allowed");
    let mut too_fast = Vec::new();
    for (number, operation) in OPERATIONS.iter().enumerate() {
        let costs: Vec<_> = columns.iter().map(|column| column[number]).collect();
        let growth = costs[SIZES.len() - 1] as f64 / costs[0] as f64;
        print!("{:<44}", operation.name);
        costs.iter().for_each(|cost| print!("{cost:>12}"));
        println!("{growth:>9.2}{:>9.1}", operation.allowed_growth);
        if growth > operation.allowed_growth {
            too_fast.push(operation.name);
        }
    }
    ensure!(
        !is_check || too_fast.is_empty(),
        "these grow faster than allowed: {}",
        too_fast.join(", ")
    );
    Ok(())
}

/// Returns the cost of each operation: that of a tick, or what one operation adds to a tick.
fn costs(mut parts: &[u64]) -> Option<Vec<u64>> {
    let mut costs = Vec::new();
    for operation in OPERATIONS {
        let (counted, others) = parts.split_at_checked(operation.counts().len())?;
        parts = others;
        costs.push(match counted {
            [one, many] => (many.saturating_sub(*one) / MORE as u64).max(1),
            tick => *tick.first()?,
        });
    }
    parts.is_empty().then_some(costs)
}
