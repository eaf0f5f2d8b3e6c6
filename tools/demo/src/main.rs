//! `cargo demo` and `cargo demo-cluster`: one command each that shows cubesync.

mod alone;
mod cluster;
mod setup;

use std::process::ExitCode;

use anyhow::Result;
use clap::Command;

fn main() -> ExitCode {
    let matches = commands().get_matches();
    match run(matches.subcommand()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn commands() -> Command {
    Command::new("cargo")
        .bin_name("cargo")
        .about("Shows cubesync")
        .subcommand_required(true)
        .subcommand(alone::command())
        .subcommand(cluster::command())
}

fn run(chosen: Option<(&str, &clap::ArgMatches)>) -> Result<()> {
    match chosen {
        Some((cluster::NAME, flags)) => cluster::run(&cluster::Options::read(flags)),
        Some((_, flags)) => alone::run(&alone::Options::read(flags)),
        None => Ok(()),
    }
}
