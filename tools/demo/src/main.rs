//! `cargo demo` and `cargo demo-cluster`: what a visitor types instead of several commands.

mod alone;
mod cluster;
mod health;
mod program;
mod setup;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// Shows cubesync.
#[derive(Parser)]
#[command(name = "cargo", bin_name = "cargo")]
enum Demo {
    /// Build everything, start a server and three clients, and print the addresses to open.
    ///
    /// The clients are windows, or headless bots where there is no display. Ctrl-C ends all of it.
    #[command(name = "demo")]
    Alone(alone::Options),
    /// Start three servers that show one world over NATS, with bots on each, and print what to
    /// look at.
    ///
    /// Ctrl-C ends all of it.
    #[command(name = "demo-cluster")]
    Cluster(cluster::Options),
}

fn main() -> ExitCode {
    match run(&Demo::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(demo: &Demo) -> Result<()> {
    match demo {
        Demo::Alone(options) => alone::run(options),
        Demo::Cluster(options) => cluster::run(options),
    }
}
