//! `cargo bench-cluster`: what it costs when several servers show one room over a bus.
//!
//! The same players are divided over one, two and three servers, and beside them stands one server
//! without a bus. [`figures`] makes numbers of each run, [`alignment`] looks at the servers' ticks
//! from outside, [`takeover`] kills a server, and [`table`] is the report.

mod alignment;
mod figures;
mod scale;
mod table;
mod takeover;

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use self::alignment::Alignment;
use self::figures::Figures;
use self::takeover::Takeover;
use crate::bus::Bus;
use crate::compare::base_setting;
use crate::measure::{Setting, measure_cluster};
use crate::options::{Cluster, ClusterComparison, ClusterMode};
use crate::process::Server;
use crate::{systems, table::brief};

/// Each measurement of a quick run, in seconds, and how often each is made.
const QUICK: (u64, u32) = (3, 1);
/// The name of the cluster.
const CLUSTER_NAME: &str = "bench";

/// All figures.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// A row for each number of players and servers; the one without a bus is first.
    rows: Vec<Figures>,
    /// The differences between the servers' ticks, for each number of players.
    alignment: Vec<Alignment>,
    /// Figures of the players of killed servers.
    takeover: Vec<Takeover>,
}

/// Runs the measurements of the options and reports them.
pub(crate) fn run(options: &Cluster) -> Result<()> {
    match &options.mode {
        Some(ClusterMode::Scale(options)) => scale::run(options),
        None => compare(&options.comparison),
    }
}

fn compare(options: &ClusterComparison) -> Result<()> {
    let mut setting = base_setting(&options.load)?;
    let mut rounds = options.rounds;
    if options.quick {
        setting.duration = Duration::from_secs(QUICK.0);
        rounds = QUICK.1;
    }
    let mut report = Report::default();
    for &players in &options.clients {
        setting.setup.clients = players as usize;
        // The runs take turns, so that other load on the machine affects all of them.
        let mut rows = vec![Vec::new(); options.servers.len() + 1];
        for round in 1..=rounds {
            let counts = [0].iter().chain(&options.servers);
            for (&servers, rows) in counts.zip(&mut rows) {
                let what = Figures::name(servers);
                eprint!("round {round} of {rounds}, {players} players, {what} ... ");
                let (figures, alignment) = measure_one(&setting, servers)?;
                report.alignment.extend(alignment);
                rows.push(figures);
            }
        }
        report
            .rows
            .extend(rows.iter().map(|rows| Figures::median(rows)));
    }
    for kill in 1..=if options.quick { 1 } else { options.kills } {
        eprint!("killing one of three servers, number {kill} ... ");
        let takeover = takeover::measure(&setting)?;
        eprintln!("{}", takeover.brief());
        report.takeover.push(takeover);
    }
    println!("\n{}", table::report(&report, &options.load));
    if let Some(file) = &options.json {
        let json = serde_json::to_string_pretty(&report)?;
        fs::write(file, json + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// Measures `servers` servers with a bus, or one without a bus if it is 0.
fn measure_one(setting: &Setting, servers: u32) -> Result<(Figures, Option<Alignment>)> {
    let bus = (servers > 0).then(Bus::start).transpose()?;
    let started = start(setting, bus.as_ref(), servers.max(1))?;
    let row = measure_cluster(setting, &started, bus.as_ref())?;
    eprintln!("{}", brief(&row));
    let alignment = match servers {
        0 | 1 => None,
        _ => Some(alignment::measure(&started, &row)?),
    };
    Ok((Figures::new(servers, &row), alignment))
}

/// Starts servers of one cluster, and waits until they have found each other.
fn start(setting: &Setting, bus: Option<&Bus>, count: u32) -> Result<Vec<Server>> {
    let mut setup = setting.setup.clone();
    if let Some(bus) = bus {
        let url = bus.url();
        let arguments = ["--bus", &url, "--cluster-name", CLUSTER_NAME];
        setup.arguments.extend(arguments.map(str::to_owned));
    }
    let servers = (0..count).map(|_| systems::start_ours(&setup));
    let servers = servers.collect::<Result<Vec<_>>>()?;
    alignment::wait(&servers, setup.hz)?;
    Ok(servers)
}
