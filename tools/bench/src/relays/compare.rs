//! The comparison: every system under the same load, one after the other.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::measure::{Setting, is_stopped, measure};
use crate::motions::Motion;
use crate::options::{Comparison, Load};
use crate::plot;
use crate::row::Row;
use crate::systems::{self, Setup, System};
use crate::table;

/// Each measurement of a quick run, in seconds.
const QUICK_SECONDS: u64 = 3;

/// Runs the measurements of the options and reports them.
pub(crate) fn run(options: &Comparison) -> Result<()> {
    let base = base_setting(&options.load)?;
    let mut rows = Vec::new();
    let mut failures = Vec::new();
    for (number, &clients) in options.clients.iter().enumerate() {
        for (further, &motion) in options.motion.iter().enumerate() {
            if options.quick && number > 0 && further > 0 {
                continue;
            }
            let mut setting = base.clone();
            setting.motion = motion;
            setting.setup.clients = clients as usize;
            if options.quick {
                setting.duration = Duration::from_secs(QUICK_SECONDS);
            }
            for &system in &options.systems {
                if further > 0 && !matches!(system, System::Ours | System::Floor) {
                    continue;
                }
                setting.system = system;
                if !is_measured(system, &setting) {
                    continue;
                }
                match measure_one(&mut setting) {
                    Ok(row) => rows.extend(row),
                    // Without ours there is nothing to compare; without another there is less.
                    Err(error) if system == System::Ours || is_stopped() => return Err(error),
                    Err(error) => {
                        eprintln!("failed");
                        failures.push(format!("{error:#}"));
                    }
                }
            }
        }
    }
    println!("\n{}", table::table(&rows));
    for &system in &options.systems {
        if !system.is_installed() {
            println!("{}: not installed.", system.name());
        } else if !is_measured(system, &base) {
            println!("{}: tells everybody everything.", system.name());
        }
    }
    for reason in failures {
        println!("Failed: {reason}.");
    }
    if let Some(file) = &options.json {
        let json = serde_json::to_string_pretty(&rows)?;
        fs::write(file, json + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    if let Some(file) = &options.svg {
        let svg = plot::svg(&rows);
        fs::write(file, svg).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

fn is_measured(system: System, setting: &Setting) -> bool {
    let is_whole = setting.setup.view_distance_m.is_none();
    system.is_installed() && (is_whole || system.has_interest())
}

/// Returns the setting that all measurements of a run share; system, motion and clients are set later.
pub(crate) fn base_setting(load: &Load) -> Result<Setting> {
    let program = match &load.server {
        Some(program) => program.clone(),
        None => systems::build_server()?,
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Setting {
        system: System::Ours,
        motion: Motion::Wander,
        duration: Duration::from_secs(load.seconds),
        threads: load.threads.unwrap_or((cores / 2).max(1)),
        spacing_m: load.spacing,
        deaf_clients: 0,
        setup: Setup {
            program,
            arguments: load.server_arguments.clone(),
            clients: 0,
            hz: load.hz,
            view_distance_m: load.view_distance,
            tick_bytes: 0,
            tick_updates: 0,
        },
    })
}

/// Measures one row. Returns `None` for the floor of a load at which cubesync writes nothing.
fn measure_one(setting: &mut Setting) -> Result<Option<Row>> {
    let Setup {
        clients,
        hz,
        tick_bytes,
        ..
    } = setting.setup;
    let system = setting.system;
    // Heartbeats are no writes per tick.
    let is_silent = setting.motion == Motion::Idle || tick_bytes == 0;
    if system == System::Floor && is_silent {
        return Ok(None);
    }
    let (name, motion) = (system.name(), setting.motion.name());
    eprint!("{name}, {clients} clients, {hz} Hz, {motion} ... ");
    let row = measure(setting).with_context(|| format!("{name} with {clients} clients"))?;
    eprintln!("{}", table::brief(&row));
    if system == System::Ours {
        setting.setup.tick_bytes = row.details.bytes_per_tick.round() as usize;
        setting.setup.tick_updates = row.details.updates_per_tick.round() as usize;
    }
    Ok(Some(row))
}
