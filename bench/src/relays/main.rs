//! `cargo bench-relays`: cubesync's server compared with other relays under the same load.
//!
//! The load's way: a [`workload`] says where every cube is at every step; the [`generator`] plays
//! it through a [`dialect`] ([`ours`] or one of the [`peers`]) into a server that [`systems`] has
//! started; a [`tally`] counts what the clients received; [`measure`] makes a [`row`] of it, and
//! [`compare`] the report.

mod belief;
mod compare;
mod connection;
mod dialect;
mod generator;
mod measure;
mod motions;
mod options;
mod ours;
mod payload;
mod peers;
mod process;
mod row;
mod serve;
mod systems;
mod table;
mod tally;
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
    if let Some(Mode::Serve(baseline)) = &options.mode {
        return serve::run(baseline);
    }
    ctrlc::set_handler(|| measure::STOP.store(true, Ordering::Relaxed))?;
    // The servers inherit it.
    rlimit::increase_nofile_limit(u64::MAX)?;
    compare::run(&options.comparison)
}
