//! `cargo bench-cubes`: the motion codec on Glenn Fiedler's trace and on people's motion, and the
//! training of its tables.

mod codecs;
mod encodings;
mod full_state;
mod live;
#[path = "../relays/motions.rs"]
#[allow(dead_code)]
mod motions;
mod people;
mod touched;
mod trace;
mod train;
mod trainer;
mod varints;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Codes recorded motion with the codec of the wire, decodes it, compares every frame, and
/// prints what it costs.
#[derive(Debug, Parser)]
#[command(name = "bench-cubes")]
struct Options {
    /// A recording of 901 cubes in the format of the compression challenge, unpacked.
    #[arg(required_unless_present_any = ["live", "train"])]
    file: Option<PathBuf>,
    /// Code people's motion as in live play instead.
    #[arg(long)]
    live: bool,
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
    Ok(())
}
