//! `cargo bench-cluster`: what it costs when several servers show one room over a bus.
//!
//! The same players are divided over one, two and three servers, and beside them stands one server
//! without a bus. [`figures`] makes numbers of each run, [`takeover`] kills the room's owner, and [`table`]
//! is the report.

mod figures;
mod table;
mod takeover;

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cubesync_harness::wait::comes_true;
use cubesync_harness::{http, players};
use serde::Serialize;

use self::figures::{Figures, Run, Spread};
use crate::bus::Bus;
use crate::compare::base_setting;
use crate::measure::{Setting, measure_cluster};
use crate::options::Cluster;
use crate::process::Server;
use crate::{systems, table::brief};

/// Each measurement of a quick run, in seconds, and how often each is made.
const QUICK: (u64, u32) = (3, 1);
/// The measurement fails if servers that were just started do not find each other in this time.
const FOUND_WITHIN: Duration = Duration::from_secs(20);

/// All figures.
#[derive(Debug, Serialize)]
struct Report {
    /// A row for each number of players and servers; the one without a bus is first.
    rows: Vec<Figures>,
    /// Seconds from the kill of the owner until everybody sees everybody.
    kills: Option<Spread>,
}

/// Runs the measurements of the options and reports them.
pub(crate) fn run(options: &Cluster) -> Result<()> {
    let mut setting = base_setting(&options.load)?;
    let (mut rounds, mut kills) = (options.rounds, options.kills);
    if options.quick {
        setting.duration = Duration::from_secs(QUICK.0);
        (rounds, kills) = (QUICK.1, kills.min(QUICK.1));
    }
    let mut rows = Vec::new();
    for &players in &options.clients {
        setting.setup.clients = players as usize;
        // The runs take turns, so that other load on the machine affects all of them.
        let mut runs = vec![Vec::new(); options.servers.len() + 1];
        for round in 1..=rounds {
            let mut alone = None;
            let counts = [0].iter().chain(&options.servers);
            for (&servers, runs) in counts.zip(&mut runs) {
                let what = figures::name(servers);
                eprint!("round {round} of {rounds}, {players} players, {what} ... ");
                let run = measure_one(&setting, servers, alone.as_ref())?;
                alone.get_or_insert_with(|| run.clone());
                runs.push(run);
            }
        }
        let counts = [0].iter().chain(&options.servers);
        rows.extend(counts.zip(&runs).map(|(&servers, runs)| Figures {
            players,
            servers,
            spreads: figures::spreads(runs),
        }));
    }
    let mut times_s = Vec::new();
    for kill in 1..=kills {
        eprint!("killing the owner, number {kill} ... ");
        times_s.push(takeover::measure(&setting)?.as_secs_f64());
        eprintln!("{:.2} s", times_s[times_s.len() - 1]);
    }
    let report = Report {
        rows,
        kills: Spread::of("owner killed, everybody sees everybody after s", 2, times_s),
    };
    println!("\n{}", table::report(&report, &options.load));
    if let Some(file) = &options.json {
        let json = serde_json::to_string_pretty(&report)?;
        fs::write(file, json + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// Measures `servers` servers with a bus, or one without a bus if it is 0.
fn measure_one(setting: &Setting, servers: u32, alone: Option<&Run>) -> Result<Run> {
    let bus = (servers > 0).then(Bus::start).transpose()?;
    let started = start(setting, bus.as_ref(), servers.max(1))?;
    let row = measure_cluster(setting, &started, bus.as_ref())?;
    eprintln!("{}", brief(&row));
    Ok(figures::of(&row, alone))
}

/// Starts servers of one cluster, and waits until they have found each other.
fn start(setting: &Setting, bus: Option<&Bus>, count: u32) -> Result<Vec<Server>> {
    let mut setup = setting.setup.clone();
    if let Some(bus) = bus {
        setup.arguments.extend(["--bus".to_owned(), bus.url()]);
    }
    let servers = (0..count).map(|_| systems::start_ours(&setup));
    let servers = servers.collect::<Result<Vec<_>>>()?;
    let known = format!("\ncubesync_cluster_servers {count}\n");
    let knows_all = |server: &Server| {
        let page = server
            .pages
            .and_then(|pages| http::get(pages, "/metrics").ok());
        page.is_some_and(|page| String::from_utf8_lossy(&page.body).contains(&known))
    };
    let pages: Vec<_> = servers.iter().filter_map(|server| server.pages).collect();
    // One of them owns the lobby as soon as they can have leases.
    let are_together =
        || servers.iter().all(knows_all) && players::owner(&pages, players::ROOM).is_ok();
    if bus.is_some() && !comes_true(FOUND_WITHIN, are_together) {
        bail!("the servers do not find each other");
    }
    Ok(servers)
}
