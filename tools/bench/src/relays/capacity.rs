//! The search for the largest number of clients on this machine, which runs the load generator too.

use anyhow::{Result, bail};

use crate::compare::base_setting;
use crate::measure::{Setting, measure};
use crate::options::Capacity;
use crate::row::Row;
use crate::table;

/// A number of clients is too large if less than this share of the states is delivered. A busy machine
/// leaves out a tick now and then, and a sample that misses its tick is replaced by the next one; neither
/// is the limit.
const LEAST_FRACTION: f64 = 0.95;
/// Number of halvings between the last number that held and the first that did not: the noise of a machine
/// is larger than the 1/16 that is left.
const HALVINGS: u32 = 3;
/// How often in a row a number must fail: a moment's noise is not the limit.
const TRIES: u32 = 2;

/// Searches and prints a report.
pub(crate) fn run(options: &Capacity) -> Result<()> {
    let mut setting = base_setting(&options.load)?;
    let mut best = None;
    let mut failed = None;
    let mut clients = options.from.min(options.to);
    loop {
        match try_clients(&mut setting, clients, options.staleness)? {
            Ok(row) => best = Some(row),
            Err(row) => {
                failed = Some(row);
                break;
            }
        }
        if clients == options.to {
            break;
        }
        clients = (clients * 2).min(options.to);
    }
    for _ in 0..HALVINGS {
        let held = best.as_ref().map_or(0, |row| row.n);
        let Some(too_many) = failed.as_ref().map(|row| row.n) else {
            break;
        };
        let between = (held + too_many) / 2;
        match try_clients(&mut setting, between as u32, options.staleness)? {
            Ok(row) => best = Some(row),
            Err(row) => failed = Some(row),
        }
    }
    match best {
        Some(best) => println!("\n{}", report(&best, failed.as_ref(), options)),
        None => bail!("even the fewest clients were too many; try a lower --hz"),
    }
    Ok(())
}

/// Measures up to `TRIES` times. Returns `Ok(Ok(_))` if this number of clients holds, and `Ok(Err(_))` if
/// it does not.
fn try_clients(
    setting: &mut Setting,
    clients: u32,
    staleness_ticks: f64,
) -> Result<Result<Row, Row>> {
    setting.setup.clients = clients as usize;
    for attempt in 1.. {
        eprint!("{clients} clients ... ");
        let row = measure(setting)?;
        let is_held = holds(&row, staleness_ticks);
        let p99_ms = row.p99_ms.unwrap_or(f64::INFINITY);
        let verdict = if is_held { "holds" } else { "too many" };
        eprintln!("{verdict}: p99 {p99_ms:.0} ms, {}", table::brief(&row));
        if is_held {
            return Ok(Ok(row));
        }
        if attempt == TRIES {
            return Ok(Err(row));
        }
    }
    unreachable!("the tries end")
}

fn holds(row: &Row, staleness_ticks: f64) -> bool {
    let bound_ms = staleness_ticks * 1_000.0 / f64::from(row.hz);
    let is_fresh = row.p99_ms.is_some_and(|p99_ms| p99_ms <= bound_ms);
    is_fresh && row.fraction >= LEAST_FRACTION && row.details.lost == 0
}

fn report(row: &Row, failed: Option<&Row>, options: &Capacity) -> String {
    let details = &row.details;
    let bound_ms = options.staleness * 1_000.0 / f64::from(row.hz);
    let end = match failed {
        Some(failed) if failed.generator_saturated => {
            format!(
                "{} no longer, and there the load generator was busy or late itself",
                failed.n
            )
        }
        Some(failed) => format!("{} no longer", failed.n),
        None => "where the search ended".to_owned(),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let ms = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.0} ms"));
    let view = match options.load.view_distance {
        Some(metres) => format!("{metres} m of view, homes {} m apart", options.load.spacing),
        None => "everybody sees everybody".to_owned(),
    };
    let kilobytes_per_s = details.bytes_per_tick * f64::from(row.hz) / 1e3;
    format!(
        "cubesync on this machine ({cores} cores{})\n\
         \n\
         \x20 holds       {} clients ({end})\n\
         \x20 load        {}, {} Hz, in one room, {}, the load generator on the same machine\n\
         \x20 staleness   p50 {}, p99 {}, max {} (bound: p99 of {:.0} ms, {} ticks)\n\
         \x20 delivered   {:.1} million updates a second, {:.1} %\n\
         \x20 per client  {:.0} kB/s down, {:.2} bytes an update\n\
         \x20 server      {:.2} cores, {:.0} MB resident\n\
         \x20 generator   {:.2} cores; other programs {:.2} cores\n\
         \x20 states      {}\n",
        model()
            .map(|model| format!(", {model}"))
            .unwrap_or_default(),
        row.n,
        row.motion,
        row.hz,
        view,
        ms(row.p50_ms),
        ms(row.p99_ms),
        ms(row.max_ms),
        bound_ms,
        options.staleness,
        row.delivered_per_s / 1e6,
        100.0 * row.fraction,
        kilobytes_per_s,
        row.bytes_per_delivery.unwrap_or(0.0),
        details.server_cores,
        row.rss_mb,
        details.generator_cores,
        details.other_cores,
        table::states(row),
    )
}

fn model() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(": ")?.1.to_owned())
}
