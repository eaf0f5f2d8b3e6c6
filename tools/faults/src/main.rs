//! Tries faults that a cubesync server must survive on a real server process.
//!
//! A [`fault`] is a bad peer, a bad network or a mishap of the machine. The faults stand in five lists:
//! [`transport`], [`datagram`], [`http`], [`operation`] and [`loose`]. The [`runner`] does one after the other and checks the
//! process, its memory, its descriptors, its counters, and two bystanders whose game must go on; the
//! [`report`] prints the results. [`few`] tries what a few addresses can do to everybody, [`soak`] runs for
//! hours, [`figures`] measures what faults cost, and [`cluster`] tries faults on several servers.

mod cluster;
mod datagram;
mod fault;
mod few;
mod figures;
mod harness;
mod http;
mod loose;
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

/// Tries faults that a cubesync server must survive on a server process of its own
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
        /// The server program [default: the one of this build, built first]
        #[arg(long, value_name = "FILE")]
        server_bin: Option<PathBuf>,
    },
    /// Tries faults on a cluster: a nats-server, three servers and players on each
    Cluster {
        /// Run only faults whose name contains NAME; may be repeated
        #[arg(long, value_name = "NAME")]
        only: Vec<String>,
        /// Wait for shorter times, for CI
        #[arg(long)]
        quick: bool,
        /// Write the results into a JSON file
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// The server program [default: the one of this build, built first]
        #[arg(long, value_name = "FILE")]
        server_bin: Option<PathBuf>,
    },
    /// Tries what a few addresses can do to everybody, as root
    Few(few::Options),
    /// Lets players join, move and leave in every possible way for a long time
    Soak {
        /// Length of the run
        #[arg(long = "for", value_name = "TIME", default_value = "1h")]
        duration: humantime::Duration,
        /// Number of players at a time
        #[arg(long, value_name = "COUNT", default_value_t = 60)]
        players: usize,
        /// Write memory, descriptors and more, every 10 s, into a CSV file
        #[arg(long, value_name = "FILE")]
        csv: Option<PathBuf>,
        /// The server program [default: the one of this build, built first]
        #[arg(long, value_name = "FILE")]
        server_bin: Option<PathBuf>,
    },
    /// Joins and pings until its connection is lost; the suite runs it in a network namespace
    #[command(hide = true)]
    Peer {
        /// The server's address for clients, or for pages
        server: SocketAddr,
        /// Join over a WebSocket
        #[arg(long)]
        websocket: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Suite {
    /// Run only faults whose name contains NAME; may be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,

    /// Print the names of the faults and exit
    #[arg(long)]
    list: bool,

    /// Do fewer repeats and wait for shorter times, for CI
    #[arg(long)]
    quick: bool,

    /// Write the results into a JSON file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Exit with 0 even if faults could not be run because a program or a right is missing
    #[arg(long)]
    allow_missing: bool,

    /// The server program [default: the one of this build, built first]
    #[arg(long, value_name = "FILE")]
    server_bin: Option<PathBuf>,
}

/// The lists, in the order in which they are run.
const LISTS: [(&str, &[Fault]); 5] = [
    ("transport", transport::FAULTS),
    ("datagram", datagram::FAULTS),
    ("http", http::FAULTS),
    ("operation", operation::FAULTS),
    ("loose", loose::FAULTS),
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
        Some(Command::Few(options)) => server_binary(options.server_bin.as_deref())
            .and_then(|binary| few::run(&binary, &options)),
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

/// Runs the faults of the options, and returns whether the server survived all of them.
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

/// Returns the path of the given server, or builds the one beside this program and returns its path.
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
