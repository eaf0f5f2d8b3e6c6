//! Tries everything that must not bring a cubesync server down, on a real server process.
//!
//! A [`fault`] is one way to be a bad peer, or bad luck. They stand in three lists:
//! [`transport`], [`http`] and [`operation`]. The [`runner`] does one after the other and looks
//! at the process, its memory, its descriptors, its counters, and at two bystanders whose game
//! must go on; the [`report`] tells it. [`soak`] is the long run, [`figures`] what it all costs, [`cluster`]
//! what several servers must survive together.

mod cluster;
mod fault;
mod figures;
mod harness;
mod http;
mod operation;
mod report;
mod runner;
mod soak;
mod transport;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use cubesync_harness::programs::{build_command, neighbour};

use crate::fault::Fault;
use crate::runner::{Runner, Verdict};

/// Tries everything that must not bring a cubesync server down, on a server process of its own
#[derive(Debug, Parser)]
#[command(name = "faults", version, max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true)]
struct Options {
    #[command(flatten)]
    suite: Suite,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Measures what faults cost: times to notice and to recover, memory per connection
    Figures {
        /// The server to measure [default: the one of this build, built first]
        #[arg(long, value_name = "FILE")]
        server_bin: Option<PathBuf>,
    },
    /// Tears a cluster apart: a real nats-server, three servers and players on each
    Cluster {
        /// Only faults whose name contains this; repeat it for more
        #[arg(long, value_name = "NAME")]
        only: Vec<String>,
        /// Shorter waits, for CI
        #[arg(long)]
        quick: bool,
        /// Write what was seen into this file as well
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// The server to try it on [default: the one of this build, built first]
        #[arg(long, value_name = "FILE")]
        server_bin: Option<PathBuf>,
    },
    /// Soaks a server with players who come, move and go in every way there is
    Soak {
        /// For how long
        #[arg(long = "for", value_name = "TIME", default_value = "1h")]
        duration: humantime::Duration,
        /// How many visitors at a time
        #[arg(long, value_name = "COUNT", default_value_t = 60)]
        players: usize,
        /// Write what was seen every 10 s into this file
        #[arg(long, value_name = "FILE")]
        csv: Option<PathBuf>,
        /// The server to soak [default: the one of this build, built first]
        #[arg(long, value_name = "FILE")]
        server_bin: Option<PathBuf>,
    },
    /// Joins and pings until it is cut off: what the suite runs in a network of its own
    #[command(hide = true)]
    Peer {
        /// The server's port for clients, or for pages
        server: SocketAddr,
        /// Join in a WebSocket
        #[arg(long)]
        websocket: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Suite {
    /// Only faults whose name contains this; repeat it for more
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,

    /// Print the faults' names and end
    #[arg(long)]
    list: bool,

    /// Fewer repeats and shorter waits, for CI
    #[arg(long)]
    quick: bool,

    /// Write what was seen into this file as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// End well even if a fault could not be run because a program or a right is missing
    #[arg(long)]
    allow_missing: bool,

    /// The server to try it on [default: the one of this build, built first]
    #[arg(long, value_name = "FILE")]
    server_bin: Option<PathBuf>,
}

/// The lists, in the order in which they are run.
const LISTS: [(&str, &[Fault]); 3] = [
    ("transport", transport::FAULTS),
    ("http", http::FAULTS),
    ("operation", operation::FAULTS),
];

fn main() -> ExitCode {
    harness::process::raise_descriptor_limit();
    let options = Options::parse();
    let outcome = match options.command {
        None => run_suite(&options.suite),
        Some(Command::Figures { server_bin }) => server_binary(server_bin.as_deref())
            .and_then(|binary| figures::figures(&binary))
            .map(|()| true),
        Some(Command::Cluster {
            only,
            quick,
            json,
            server_bin,
        }) => server_binary(server_bin.as_deref())
            .and_then(|binary| cluster::run(&binary, &only, quick, json.as_deref())),
        Some(Command::Soak {
            duration,
            players,
            csv,
            server_bin,
        }) => server_binary(server_bin.as_deref())
            .and_then(|binary| soak::soak(&binary, *duration, players, csv.as_deref())),
        Some(Command::Peer { server, websocket }) => {
            transport::play_half_open(server, websocket).map(|()| true)
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all went well.
fn run_suite(suite: &Suite) -> Result<bool> {
    let is_wanted = |fault: &Fault| {
        suite.only.is_empty()
            || suite
                .only
                .iter()
                .any(|part| fault.name.contains(part.as_str()))
    };
    let wanted: Vec<(&str, &Fault)> = LISTS
        .into_iter()
        .flat_map(|(list, faults)| faults.iter().map(move |fault| (list, fault)))
        .filter(|(_, fault)| is_wanted(fault))
        .collect();
    ensure!(
        !wanted.is_empty(),
        "no fault has such a name; --list shows them"
    );
    if suite.list {
        for (list, fault) in wanted {
            println!("{list:<10} {}", fault.name);
        }
        return Ok(true);
    }
    let binary = server_binary(suite.server_bin.as_deref())?;
    let mut runner = Runner::new(&binary, suite.quick);
    let mut lines = Vec::new();
    for (number, (list, fault)) in wanted.iter().enumerate() {
        let line = runner.run(list, fault);
        println!("{}", report::progress(number + 1, wanted.len(), &line));
        lines.push(line);
    }
    println!("{}", report::table(&lines));
    if let Some(file) = &suite.json {
        let text = serde_json::to_string_pretty(&lines)?;
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(lines.iter().all(|line| match line.verdict {
        Verdict::Survived => true,
        Verdict::Failed(_) => false,
        Verdict::NotRun(_) => suite.allow_missing,
    }))
}

/// The given server, or the one that lies beside this program, brought up to its sources.
fn server_binary(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(given) = given {
        ensure!(given.is_file(), "there is no server at {}", given.display());
        return Ok(given.to_owned());
    }
    let status = build_command(&["cubesync-server"], !cfg!(debug_assertions))
        .arg("--quiet")
        .status()
        .context("cannot run cargo to build the server; name one with --server-bin")?;
    ensure!(status.success(), "the server cannot be built");
    neighbour("cubesync-server")
}
