//! The chores around cubesync: what a person types instead of several commands.

mod children;
mod cluster;
mod demo;
mod health;
mod stage;
mod web;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};

/// The chores around cubesync.
#[derive(Parser)]
#[command(name = "xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Option<Chore>,
}

#[derive(Subcommand)]
enum Chore {
    /// Build everything, start a server and three clients, and print the addresses to open.
    ///
    /// The clients are windows, or headless bots where there is no display. Ctrl-C ends all of it.
    /// `cargo demo` is short for it.
    Demo(demo::Options),
    /// Start three servers that show one world over NATS, with bots on each, and print what to
    /// look at.
    ///
    /// Ctrl-C ends all of it. `cargo demo-cluster` is short for it.
    DemoCluster(cluster::Options),
    /// Build the browser's client into assets/web/, for the server to embed.
    Web(web::Options),
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    match arguments.chore {
        Some(Chore::Demo(options)) => demo::run(&options),
        Some(Chore::DemoCluster(options)) => cluster::run(&options),
        Some(Chore::Web(options)) => web::run(&options),
        None => Ok(Arguments::command().print_help()?),
    }
}
