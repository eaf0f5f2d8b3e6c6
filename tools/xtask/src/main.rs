//! `cargo xtask`: the tasks of developers.

mod blender;
mod web;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};

/// Runs the tasks of developers
#[derive(Parser)]
#[command(name = "xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Option<Chore>,
}

#[derive(Subcommand)]
enum Chore {
    /// Pack the add-on for Blender into target/blender/.
    Blender(blender::Options),
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
        Some(Chore::Blender(options)) => blender::run(&options),
        Some(Chore::Web(options)) => web::run(&options),
        None => Ok(Arguments::command().print_help()?),
    }
}
