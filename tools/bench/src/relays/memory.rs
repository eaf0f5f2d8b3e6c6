//! The memory of idle connections, and of connections whose clients never read.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::compare::base_setting;
use crate::measure::measure;
use crate::motions::Motion;
use crate::options::Memory;
use crate::table;

/// The highest tick rate: most ticks in the least time.
const HZ: u32 = 128;
/// Flags without which the server would close the connections of clients that do not read.
const PATIENCE: [&str; 2] = ["--slow-reader-after=1h", "--dead-after=1h"];

/// Measures both and prints a line for each.
pub(crate) fn run(options: &Memory) -> Result<()> {
    let mut setting = base_setting(&options.load)?;
    setting.motion = Motion::Idle;
    setting.setup.clients = options.idle as usize;
    eprint!("{} idle clients ... ", options.idle);
    let row = measure(&setting)?;
    eprintln!("{}", table::brief(&row));
    let details = &row.details;
    let after = *details
        .memory
        .last()
        .context("a second is the shortest measurement")?;
    let per_connection = after.saturating_sub(details.memory_before) as f64 / row.n as f64;
    println!(
        "idle: {:.1} KiB resident per TCP connection ({} connections; {:.1} MB before, {:.1} MB \
         with them)",
        per_connection / 1024.0,
        row.n,
        details.memory_before as f64 / 1e6,
        after as f64 / 1e6,
    );

    setting.motion = Motion::Wander;
    setting.deaf_clients = options.deaf as usize;
    setting.setup.clients = options.deaf as usize;
    setting.setup.hz = HZ;
    setting.setup.arguments.extend(PATIENCE.map(str::to_owned));
    setting.duration = Duration::from_secs(options.ticks.div_ceil(HZ).into());
    eprint!(
        "{} clients that never read, {} ticks ... ",
        options.deaf, options.ticks
    );
    let row = measure(&setting)?;
    eprintln!("{}", table::brief(&row));
    let memory = &row.details.memory;
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let at = |part: usize| megabytes(memory[(memory.len() - 1) * part / 4]);
    println!(
        "never reading: {} clients beside {} that do, {} ticks: {:.2} MB resident at first, then \
         {:.2}, {:.2}, {:.2}, and {:.2} MB at the end",
        options.deaf,
        row.n,
        options.ticks,
        at(0),
        at(1),
        at(2),
        at(3),
        at(4),
    );
    Ok(())
}
