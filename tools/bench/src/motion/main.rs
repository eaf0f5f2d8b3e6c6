//! `cargo bench-motion`: how good remote cubes look under bad networks, in simulated time.
//!
//! A [`trace`] goes [the whole way](whole_way) from a walker's client to a viewer's through a
//! [`network`], and [to the displays](play) of the [`rivals`]. A [`score`] measures what is shown, all [`cases`] make a [`table`], and there is a
//! [`plot`] for each network. [`contact`] measures what players see of
//! cubes that they push. [`cost`] measures the CPU time, [`real`] the whole way over the kernel's TCP.

mod cases;
mod contact;
mod cost;
mod network;
mod play;
mod player;
mod plot;
#[cfg(target_os = "linux")]
mod real;
mod rivals;
mod score;
mod table;
mod timeline;
mod trace;
mod whole_way;

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
    /// Fail if a figure of cubesync is worse than in the committed table; with `--contact`, than its goal.
    #[arg(long, conflicts_with_all = ["update", "seed"])]
    check: bool,
    /// Write the table and the charts; run it in the repository's root.
    #[arg(long, conflicts_with = "seed")]
    update: bool,
    /// Print the rows of all traces together as Markdown.
    #[arg(long)]
    markdown: bool,
    /// Measure the CPU time of a frame beside 1,000 cubes, and in a heap of 2,000, instead.
    #[arg(long, conflicts_with_all = ["check", "update", "markdown", "seed"])]
    cost: bool,
    /// Measure instead how loose cubes look that a player pushes.
    #[arg(long, conflicts_with_all = ["update", "markdown", "seed", "cost"])]
    contact: bool,
    /// With `--contact`, play the seeds on which the client's constants were chosen, which do not count.
    #[arg(long, requires = "contact", conflicts_with = "check")]
    tuning: bool,
    /// Seed of the traces and of the networks.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[cfg(target_os = "linux")]
    #[command(flatten)]
    real: real::Options,
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
    #[cfg(target_os = "linux")]
    if options.real.real {
        return real::run(&options.real);
    }
    if options.cost {
        return cost::run();
    }
    if options.contact && options.check {
        return contact::check();
    }
    if options.contact {
        contact::run(options.tuning);
        return Ok(());
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
