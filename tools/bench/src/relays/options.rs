//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::motions::Motion;
use crate::serve::Baseline;
use crate::systems::System;

/// Compares cubesync's server with other relays under the same load: every client sees every other one.
#[derive(Debug, Parser)]
#[command(
    name = "bench-relays",
    bin_name = "cargo bench-relays",
    max_term_width = 100
)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) mode: Option<Mode>,
    #[command(flatten)]
    pub(crate) comparison: Comparison,
}

/// The modes besides the comparison.
#[derive(Debug, Subcommand)]
pub(crate) enum Mode {
    /// Run one of the baseline servers until the standard input ends.
    #[command(subcommand, hide = true)]
    Serve(Baseline),
    /// Find the largest number of clients that this machine serves in time.
    Capacity(Capacity),
    /// Measure what it costs that several servers show one room over NATS (short: `cargo bench-cluster`).
    Cluster(Cluster),
    /// Measure how the cost grows with the number of clients, each of which sees only what is near.
    Growth(Growth),
    /// Measure the memory of idle connections, and of connections whose clients never read.
    Memory(Memory),
}

/// The comparison.
#[derive(Debug, Clone, Args)]
pub(crate) struct Comparison {
    /// Numbers of clients; a run for each
    #[arg(
        long,
        value_name = "N,...",
        value_delimiter = ',',
        default_value = "100,500"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) clients: Vec<u32>,

    /// Motions of the cubes; only cubesync and the floor run with more than the first
    #[arg(
        long,
        value_name = "MOTION,...",
        value_delimiter = ',',
        default_value = "wander,jump,idle"
    )]
    pub(crate) motion: Vec<Motion>,

    /// Systems to measure; the floor writes as many bytes as `ours`, which comes first
    #[arg(long, value_name = "SYSTEM,...", value_delimiter = ',')]
    #[arg(default_value = "ours,floor,naive,websocket,nats,redis,mosquitto")]
    pub(crate) systems: Vec<System>,

    /// Take less than two minutes: 3 seconds each, and the further motions only for the first number of
    /// clients
    #[arg(long)]
    pub(crate) quick: bool,

    /// Write the rows into a JSON file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Draw CPU and bytes per delivery into an SVG file
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) load: Load,
}

/// The search for the largest number of clients.
#[derive(Debug, Clone, Args)]
pub(crate) struct Capacity {
    /// Bound of the 99th percentile of the time from a sample to its arrival, in ticks
    #[arg(long, value_name = "TICKS", default_value_t = 2.0)]
    pub(crate) staleness: f64,

    /// Number of clients with which the search begins
    #[arg(long, value_name = "N", default_value_t = 250)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) from: u32,

    /// Largest number of clients; a room holds 5,000 cubes, the free one included
    #[arg(long, value_name = "N", default_value_t = 4_999)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) to: u32,

    #[command(flatten)]
    pub(crate) load: Load,
}

/// The measurement of the growth.
#[derive(Debug, Clone, Args)]
pub(crate) struct Growth {
    /// Numbers of clients; a run for each
    #[arg(
        long,
        value_name = "N,...",
        value_delimiter = ',',
        default_value = "50,200,500,1000,2000,4999"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) clients: Vec<u32>,

    /// The view distance is 32 m unless it is given
    #[command(flatten)]
    pub(crate) load: Load,
}

/// Several servers and a bus.
#[derive(Debug, Clone, Args)]
pub(crate) struct Cluster {
    /// Numbers of players at all servers together; a run for each
    #[arg(
        long,
        value_name = "N,...",
        value_delimiter = ',',
        default_value = "90,300"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=2_000))]
    pub(crate) clients: Vec<u32>,

    /// Numbers of servers that share them; a run for each, and one without a bus
    #[arg(
        long,
        value_name = "N,...",
        value_delimiter = ',',
        default_value = "1,2,3"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=20))]
    pub(crate) servers: Vec<u32>,

    /// Number of rounds; the report has medians and ranges
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,

    /// Number of times that the owner of three servers is killed
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    pub(crate) kills: u32,

    /// Take about two minutes: one round of 3 seconds each, one kill
    #[arg(long)]
    pub(crate) quick: bool,

    /// Write the figures into a JSON file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) load: Load,
}

/// The memory of connections.
#[derive(Debug, Clone, Args)]
pub(crate) struct Memory {
    /// Number of idle connections
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=18_000))]
    pub(crate) idle: u32,

    /// Number of clients that never read, beside as many that move and read
    #[arg(long, value_name = "N", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) deaf: u32,

    /// Number of ticks to watch them, at 128 Hz
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1_280..=100_000))]
    pub(crate) ticks: u32,

    #[command(flatten)]
    pub(crate) load: Load,
}

/// The load, for every mode.
#[derive(Debug, Clone, Args)]
pub(crate) struct Load {
    /// Samples per second of each client, and ticks per second of cubesync's server
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=128))]
    pub(crate) hz: u32,

    /// Length of each measurement in seconds, after a second's warm-up
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) seconds: u64,

    /// Number of threads of the load generator [default: half of the cores]
    #[arg(long, value_name = "COUNT")]
    pub(crate) threads: Option<usize>,

    /// Distance between neighbouring clients' homes; 3.5 m spread 5,000 clients over the world
    #[arg(long, value_name = "METRES", default_value_t = 3.5)]
    pub(crate) spacing: f32,

    /// View distance of cubesync's server [default: everything]
    #[arg(long, value_name = "METRES")]
    pub(crate) view_distance: Option<f32>,

    /// A built cubesync-server to measure [default: build it]
    #[arg(long, value_name = "FILE")]
    pub(crate) server: Option<PathBuf>,

    /// An argument for cubesync-server; may be given several times
    #[arg(long = "server-arg", value_name = "ARG", allow_hyphen_values = true)]
    pub(crate) server_arguments: Vec<String>,
}
