//! What can be asked for.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::motions::Motion;
use crate::serve::Baseline;
use crate::systems::System;

/// Compares cubesync's server with other relays: everybody sees everybody, the same motion for
/// all, one run.
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

/// Other things than the comparison.
#[derive(Debug, Subcommand)]
pub(crate) enum Mode {
    /// Run one of the baseline servers until the standard input ends.
    #[command(subcommand, hide = true)]
    Serve(Baseline),
    /// Find out how many clients this machine holds.
    Capacity(Capacity),
    /// Find out what it costs when several servers show one room over NATS. `cargo bench-cluster`
    /// is short for it.
    Cluster(Cluster),
    /// Find out how the cost grows with the number of clients who see only what is near.
    Growth(Growth),
    /// Find out what connections cost in memory, those of clients that never read too.
    Memory(Memory),
}

/// The comparison.
#[derive(Debug, Clone, Args)]
pub(crate) struct Comparison {
    /// How many clients; a run for each number
    #[arg(
        long,
        value_name = "N,...",
        value_delimiter = ',',
        default_value = "100,500"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) clients: Vec<u32>,

    /// How the cubes move; only ours and the floor run with more than the first
    #[arg(
        long,
        value_name = "MOTION,...",
        value_delimiter = ',',
        default_value = "wander,jump,idle"
    )]
    pub(crate) motion: Vec<Motion>,

    /// What to measure, ours first: the floor writes as many bytes as ours
    #[arg(long, value_name = "SYSTEM,...", value_delimiter = ',')]
    #[arg(default_value = "ours,floor,naive,websocket,nats,redis,mosquitto")]
    pub(crate) systems: Vec<System>,

    /// Everything within two minutes: 3 seconds each, and the further motions for the first
    /// number of clients only
    #[arg(long)]
    pub(crate) quick: bool,

    /// Write the rows as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Draw CPU and bytes per delivery
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) load: Load,
}

/// The search for the largest number of clients.
#[derive(Debug, Clone, Args)]
pub(crate) struct Capacity {
    /// Largest age of what 99 % of the receivers see, in ticks
    #[arg(long, value_name = "TICKS", default_value_t = 2.0)]
    pub(crate) staleness: f64,

    /// Where the search begins
    #[arg(long, value_name = "N", default_value_t = 250)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) from: u32,

    /// Where it ends at the latest; a room holds 5,000 cubes, a free one included
    #[arg(long, value_name = "N", default_value_t = 4_999)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) to: u32,

    #[command(flatten)]
    pub(crate) load: Load,
}

/// The growth of the cost.
#[derive(Debug, Clone, Args)]
pub(crate) struct Growth {
    /// How many clients; a run for each number
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
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Cluster {
    #[command(subcommand)]
    pub(crate) mode: Option<ClusterMode>,
    #[command(flatten)]
    pub(crate) comparison: ClusterComparison,
}

/// What can be done with several servers besides measuring them.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterMode {
    /// Count what goes over the bus between thousands of simulated servers and cells.
    Scale(Scale),
}

/// What is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum World {
    /// One room on one server: what a player receives
    One,
    /// More players on ten servers
    Players,
    /// The same players on more servers
    Servers,
    /// One room of 1,089 cells on more servers, each with players near each other
    Near,
    /// The same with players anywhere
    Anywhere,
    /// Many rooms, each on three servers
    Rooms,
}

/// A simulation.
#[derive(Debug, Clone, Args)]
pub(crate) struct Scale {
    /// What to simulate; a table for each
    #[arg(long, value_name = "WORLD,...", value_delimiter = ',')]
    #[arg(default_value = "one,players,servers,near,anywhere,rooms")]
    pub(crate) worlds: Vec<World>,

    /// Leave out what has more servers
    #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) most: u32,

    /// Ticks per second
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=128))]
    pub(crate) hz: u32,

    /// Ticks that are counted, after all have settled
    #[arg(long, value_name = "COUNT", default_value_t = 40)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) ticks: u32,
}

/// The measurement of real servers.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClusterComparison {
    /// How many players in all; a run for each number
    #[arg(
        long,
        value_name = "N,...",
        value_delimiter = ',',
        default_value = "60,150"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=2_000))]
    pub(crate) clients: Vec<u32>,

    /// How many servers share them, beside one without a bus; a run for each number
    #[arg(
        long,
        value_name = "N,...",
        value_delimiter = ',',
        default_value = "1,2,3"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=20))]
    pub(crate) servers: Vec<u32>,

    /// How often each run is made, by turns; the median counts
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,

    /// How often one of three servers is killed
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    pub(crate) kills: u32,

    /// Everything within two minutes: one round of 3 seconds each, one kill
    #[arg(long)]
    pub(crate) quick: bool,

    /// Write the figures as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) load: Load,
}

/// The memory of connections.
#[derive(Debug, Clone, Args)]
pub(crate) struct Memory {
    /// Idle connections that share the memory
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=18_000))]
    pub(crate) idle: u32,

    /// Clients that never read, and as many that move and read
    #[arg(long, value_name = "N", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) deaf: u32,

    /// Ticks that they are watched, at 128 Hz
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1_280..=100_000))]
    pub(crate) ticks: u32,

    #[command(flatten)]
    pub(crate) load: Load,
}

/// What every mode needs.
#[derive(Debug, Clone, Args)]
pub(crate) struct Load {
    /// Samples per second of each client, and ticks of our server
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=128))]
    pub(crate) hz: u32,

    /// Seconds of each measurement, after a second's warm-up
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) seconds: u64,

    /// Threads of the load generator [default: half of the cores]
    #[arg(long, value_name = "COUNT")]
    pub(crate) threads: Option<usize>,

    /// Distance of neighbouring clients' homes in metres; 3.5 m spreads 5,000 over the world
    #[arg(long, value_name = "METRES", default_value_t = 3.5)]
    pub(crate) spacing: f32,

    /// Let our server tell its clients only what is this near [default: everything]
    #[arg(long, value_name = "METRES")]
    pub(crate) view_distance: Option<f32>,

    /// A built cubesync-server to measure [default: build it]
    #[arg(long, value_name = "FILE")]
    pub(crate) server: Option<PathBuf>,

    /// An argument for cubesync-server; may be given several times
    #[arg(long = "server-arg", value_name = "ARG", allow_hyphen_values = true)]
    pub(crate) server_arguments: Vec<String>,
}
