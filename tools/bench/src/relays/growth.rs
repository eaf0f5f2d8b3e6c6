//! The cost of more and more clients, each of which sees only what is near: the density stays the same.

use std::fmt::Write;

use anyhow::Result;

use crate::compare::base_setting;
use crate::measure::measure;
use crate::options::Growth;
use crate::row::Row;
use crate::table;

/// The view distance without `--view-distance`.
const VIEW_DISTANCE_M: f32 = 32.0;

const HEAD: &str = "    N  in sight  states/s    right    late  p50 ms (ticks)  p99 ms (ticks)   cores  \
                    us/client/s  bytes/client/s   bytes  generator";

/// Measures every number of clients and prints a table.
pub(crate) fn run(options: &Growth) -> Result<()> {
    let view_distance_m = options.load.view_distance.unwrap_or(VIEW_DISTANCE_M);
    let mut setting = base_setting(&options.load)?;
    setting.setup.view_distance_m = Some(view_distance_m);
    let mut rows = Vec::new();
    for &clients in &options.clients {
        setting.setup.clients = clients as usize;
        eprint!("{clients} clients ... ");
        let row = measure(&setting)?;
        eprintln!("{}", table::brief(&row));
        rows.push(row);
    }
    println!(
        "\nwander, {} Hz, in one room, {view_distance_m} m of view, homes {} m apart\n",
        options.load.hz, options.load.spacing
    );
    println!("{}", growth_table(&rows));
    Ok(())
}

fn growth_table(rows: &[Row]) -> String {
    let mut text = format!("{HEAD}\n");
    for row in rows {
        writeln!(text, "{}", line(row)).expect("writing to a string cannot fail");
    }
    text.push_str(
        "\nin sight: clients' cubes, the own one included. states/s: what a client should get, far \
         cubes less often. right: states that were right \
         at their own tick.\nlate: samples that came after their tick had begun. us/client/s: server CPU microseconds per client and second. bytes: TCP \
         payload per delivery.\n* the load generator, on the same cores, was busy or late: on a \
         machine of its own it might find better figures.\n",
    );
    for row in rows {
        writeln!(text, "N = {}: {}.", row.n, table::states(row))
            .expect("writing to a string cannot fail");
        text.extend(table::loss(row));
    }
    text
}

fn line(row: &Row) -> String {
    let details = &row.details;
    let findings = &details.findings;
    let hz = f64::from(row.hz);
    let staleness = |ms: Option<f64>| match ms {
        Some(ms) => format!("{ms:.1} ({:.2})", ms * hz / 1_000.0),
        None => "-".to_owned(),
    };
    let in_sight = match findings.looks {
        0 => "-".to_owned(),
        looks => format!("{:.1}", findings.in_sight as f64 / looks as f64),
    };
    format!(
        "{:>5}  {in_sight:>8}  {:>8.0}  {:>7}  {:>6}  {:>14}  {:>14}  {:>6.3}  {:>11.0}  {:>14.0}  {:>6.2}  {:.2} cores{}",
        row.n,
        details.updates_per_tick * hz,
        table::percent(row.right),
        table::percent(row.late_samples),
        staleness(row.p50_ms),
        staleness(row.p99_ms),
        details.server_cores,
        details.server_cores * 1e6 / row.n as f64,
        details.bytes_per_tick * hz,
        row.bytes_per_delivery.unwrap_or(0.0),
        details.generator_cores,
        if row.generator_saturated { " *" } else { "" },
    )
}
