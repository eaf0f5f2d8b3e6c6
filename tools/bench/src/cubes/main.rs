//! `cargo bench-cubes`: the motion codec on Glenn Fiedler's trace, on people's motion and on rooms with loose cubes, and
//! the training of its tables.

mod codecs;
mod encodings;
mod full_state;
mod live;
#[path = "../relays/motions.rs"]
#[allow(dead_code)]
mod motions;
mod people;
mod recorded;
mod rooms;
mod scenes;
mod touched;
mod trace;
mod train;
mod trainer;
mod varints;
// How bots wander; they are a program, which cannot be depended on.
#[path = "../../../../client/bots/src/wander.rs"]
mod wander;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Codes recorded motion with the codec of the wire, decodes it, compares every frame, and
/// prints what it costs.
#[derive(Debug, Parser)]
#[command(name = "bench-cubes")]
struct Options {
    /// A recording of 901 cubes in the format of the compression challenge, unpacked.
    #[arg(required_unless_present_any = ["live", "room", "rooms", "train"])]
    file: Option<PathBuf>,
    /// Code people's motion as in live play instead.
    #[arg(long)]
    live: bool,
    /// Code what a server recorded of a room, its first five minutes.
    #[arg(long, value_name = "FILE")]
    room: Option<PathBuf>,
    /// Code rooms with loose cubes, played from seeds.
    #[arg(long)]
    rooms: bool,
    /// Train the tables on this recording and on people's motion, and write them into the
    /// sources, from the repository's root.
    #[arg(long, value_name = "FILE")]
    train: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-cubes: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    if let Some(file) = &options.train {
        train::run(file)?;
    }
    if let Some(file) = &options.file {
        encodings::run(file)?;
    }
    if options.live {
        live::run()?;
    }
    if let Some(file) = &options.room {
        rooms::code_recording(file)?;
    }
    if options.rooms {
        rooms::run()?;
    }
    Ok(())
}
