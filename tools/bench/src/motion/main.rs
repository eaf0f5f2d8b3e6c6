//! `cargo bench-motion`: how good remote cubes look under bad networks, in simulated time.
//!
//! In the order of the data: a [`trace`] goes through a [`network`] to a display, which [`play`]
//! steps frame by frame: ours or one of the [`rivals`]. A [`score`] says how well it did; all
//! [`cases`] make a [`table`], and a [`plot`] per network. What all of it costs is the [`cost`].

mod cases;
mod cost;
mod network;
mod play;
mod plot;
mod rivals;
mod score;
mod table;
mod trace;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use crate::cases::SECONDS;
use crate::network::Network;
use crate::trace::{Motion, Trace};

/// Plays seeded motion through simulated networks, and scores what a viewer sees.
#[derive(Debug, Parser)]
#[command(name = "bench-motion")]
struct Options {
    /// Fail if a figure of ours is worse than in the committed table.
    #[arg(long, conflicts_with_all = ["update", "seed"])]
    check: bool,
    /// Write the table and the pictures, from the repository's root.
    #[arg(long, conflicts_with = "seed")]
    update: bool,
    /// Print what all traces come to as Markdown.
    #[arg(long)]
    markdown: bool,
    /// Measure what a frame costs beside 1,000 cubes instead, in real time.
    #[arg(long, conflicts_with_all = ["check", "update", "markdown", "seed"])]
    cost: bool,
    /// Other traces and other trouble.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-motion: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    if options.cost {
        return cost::run();
    }
    let path = PathBuf::from("tools/bench/motion.txt");
    let cases = cases::run(options.seed);
    if options.markdown {
        print!("{}", table::markdown(&cases));
    } else {
        print!("{}", table::text(&cases));
    }
    let context = || format!("{}; run this from the repository's root", path.display());
    if options.update {
        std::fs::write(&path, table::text(&cases)).with_context(context)?;
        let trace = Trace::new(Motion::People, options.seed, SECONDS);
        for network in &Network::ALL {
            let path = format!("docs/motion/{}.svg", network.file);
            let svg = plot::svg(network, options.seed, &trace, &cases);
            std::fs::write(&path, svg).with_context(|| path)?;
        }
    }
    if options.check {
        let before = std::fs::read_to_string(&path).with_context(context)?;
        table::check(&cases, &before)?;
    }
    Ok(())
}
