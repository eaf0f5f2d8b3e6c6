//! `cargo bench-relays`: cubesync's server compared with other relays under the same load.
//!
//! A [`workload`] holds the pose of every cube at every step. The [`generator`] sends it through a
//! [`dialect`] ([`ours`] or one of the [`peers`]) to a server that [`systems`] has started. A [`tally`]
//! counts what the clients received, [`measure`] makes a [`row`] of it, and [`compare`] the report.

mod audit;
mod bus;
mod capacity;
mod cell_state;
mod check;
mod client_cells;
mod cluster;
mod compare;
mod connection;
mod dialect;
mod error;
mod generator;
mod growth;
mod head;
mod measure;
mod memory;
mod motions;
mod options;
mod ours;
mod pace;
mod payload;
mod peers;
mod plot;
mod process;
mod progress;
mod room;
mod row;
mod samples;
mod score;
mod serve;
mod systems;
mod table;
mod tally;
mod truth;
mod workload;

use std::process::ExitCode;
use std::sync::atomic::Ordering;

use anyhow::Result;
use clap::Parser;

use crate::options::{Mode, Options};

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    ctrlc::set_handler(|| measure::STOP.store(true, Ordering::Relaxed))?;
    // The servers inherit the limit.
    rlimit::increase_nofile_limit(u64::MAX)?;
    match &options.mode {
        Some(Mode::Serve(baseline)) => serve::run(baseline),
        Some(Mode::Capacity(options)) => capacity::run(options),
        Some(Mode::Cluster(options)) => cluster::run(options),
        Some(Mode::Growth(options)) => growth::run(options),
        Some(Mode::Memory(options)) => memory::run(options),
        None => compare::run(&options.comparison),
    }
}
