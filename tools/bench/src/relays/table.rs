//! The report on the terminal.

use std::fmt::Write;

use crate::row::{Details, Row};
use crate::systems::System;

const HEAD: &str = "system                       N  motion  delivered/s  fraction    right    late   CPU/M   x ours   \
                    bytes   x ours  p50 ms  p99 ms  max ms   cores  RSS MB";

/// Number of cores that other programs may use before the report mentions it.
const DISTURBED_CORES: f64 = 0.3;

/// Returns the table of all rows, each with its ratio to cubesync's row of the same workload.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = format!("{HEAD}\n");
    for row in rows {
        let ours = rows
            .iter()
            .find(|other| is_ours(other) && is_same_load(other, row));
        writeln!(text, "{}", line(row, ours)).expect("writing to a string cannot fail");
    }
    text.push_str(
        "\nfraction: of the expected states, those that arrived. right: those that were right at \
         their own tick; of a relay,\nwhich has no ticks, those that arrived before the next one was sampled. \
         late: samples that came after \
         their tick had begun.\nCPU/M: server CPU seconds per million deliveries. bytes: TCP payload received \
         per delivery. cores: what the server used.\n* the load generator was busy or late: on a machine of its own it might \
         find better figures.\n",
    );
    for row in rows.iter().filter(|row| is_ours(row)) {
        writeln!(
            text,
            "cubesync, N = {}, {}: {}.",
            row.n,
            row.motion,
            states(row)
        )
        .expect("writing to a string cannot fail");
    }
    text.push_str(&disturbance(
        rows.iter().map(|row| row.details.other_cores),
        "CPU and bytes per delivery can be compared, fractions and latencies suffer",
    ));
    text.extend(rows.iter().filter_map(loss));
    text
}

/// Tells that other programs used that many cores during some measurements, with its effect.
pub(crate) fn disturbance(cores: impl Iterator<Item = f64>, effect: &str) -> String {
    let most = cores.fold(0.0, f64::max);
    if most > DISTURBED_CORES {
        format!("Other programs used up to {most:.1} cores meanwhile: {effect}.\n")
    } else {
        String::new()
    }
}

/// Tells how many connections a measurement lost, and why.
pub(crate) fn loss(row: &Row) -> Option<String> {
    let (system, n, lost) = (row.system, row.n, row.details.lost);
    let reason = row.details.loss.as_ref()?;
    Some(format!(
        "{system}, N = {n}: lost {lost} connections: {reason}.\n"
    ))
}

/// Describes the errors of the states of cubesync's clients, and of what they received.
pub(crate) fn states(row: &Row) -> String {
    let Details {
        score, findings, ..
    } = &row.details;
    let mut text = format!(
        "of {} states {} right at their tick, {} older, {} wrong ({} of them within twice the bound); \
         largest error {} quanta, {:.2} degrees; of the samples {} late",
        score.expected,
        score.right(),
        score.late,
        score.wrong,
        score.loose,
        score.largest.quanta,
        score.largest.degrees,
        percent(row.late_samples),
    );
    if findings.looks > 0 {
        let looks = findings.looks;
        let mean = |count: u64| count as f64 / looks as f64;
        write!(
            text,
            "; {looks} checks of what clients receive: {:.1} cubes ({:.1} within the view distance), \
             {} unseen, {} twice, {} kept",
            mean(findings.in_sight),
            mean(findings.within),
            findings.unseen,
            findings.twice,
            findings.kept,
        )
        .expect("writing to a string cannot fail");
    }
    text
}

/// Describes a measurement in one line.
pub(crate) fn brief(row: &Row) -> String {
    let details = &row.details;
    format!(
        "{:.0} delivered/s ({:.0} %), server {:.2}, generator {:.2}, others {:.2} cores, sends up to {:.1} ms late{}",
        row.delivered_per_s,
        100.0 * row.fraction,
        details.server_cores,
        details.generator_cores,
        details.other_cores,
        details.late_ms,
        if details.unsent > 0 {
            format!(", {} not sent", details.unsent)
        } else {
            String::new()
        },
    )
}

/// Returns a number, or a dash.
pub(crate) fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.decimals$}"))
}

/// Returns a share in percent.
pub(crate) fn percent(share: Option<f64>) -> String {
    share.map_or("-".to_owned(), |share| format!("{:.2}%", 100.0 * share))
}

fn is_ours(row: &Row) -> bool {
    row.system == System::Ours.name()
}

fn is_same_load(a: &Row, b: &Row) -> bool {
    (a.n, a.hz, a.motion) == (b.n, b.hz, b.motion)
}

fn line(row: &Row, ours: Option<&Row>) -> String {
    let ratio = |value: fn(&Row) -> Option<f64>| {
        let ratio = value(row)
            .zip(ours.and_then(value))
            .filter(|&(_, ours)| ours > 0.0);
        number(ratio.map(|(value, ours)| value / ours), 2)
    };
    let mark = if row.generator_saturated { "*" } else { "" };
    format!(
        "{:<26} {:>4}  {:<6} {:>12}  {:>7.1}%  {:>7}  {:>6}  {:>6} {:>8}  {:>6} {:>8}  {:>6}  {:>6}  {:>6}  {:>6.3}  {:>6.1}",
        format!("{}{mark}", row.system),
        row.n,
        row.motion,
        format!("{:.0}", row.delivered_per_s),
        100.0 * row.fraction,
        percent(row.right),
        percent(row.late_samples),
        number(row.cpu_s_per_million, 3),
        ratio(|row| row.cpu_s_per_million),
        number(row.bytes_per_delivery, 2),
        ratio(|row| row.bytes_per_delivery),
        number(row.p50_ms, 1),
        number(row.p99_ms, 1),
        number(row.max_ms, 0),
        row.details.server_cores,
        row.rss_mb,
    )
}
