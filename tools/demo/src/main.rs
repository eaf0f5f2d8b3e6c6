//! `cargo demo` and `cargo demo-cluster`: one command each that shows cubesync.

mod alone;
mod cluster;
mod setup;

use std::process::ExitCode;

use anyhow::Result;
use clap::Command;
use cubesync_arguments::{warn_of_unknown_variables, without_empty_variables};

fn main() -> ExitCode {
    let matches = without_empty_variables(commands()).get_matches();
    warn_of_unknown_variables();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_values_are_refused_or_work() {
        cubesync_arguments::testing::try_all(&commands());
    }
}
