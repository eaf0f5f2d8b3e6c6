//! The report on the terminal.

use std::fmt::Write;

use super::Report;
use super::alignment::Alignment;
use super::figures::{Figures, median};
use crate::options::Load;
use crate::table::{disturbance, number, percent};

/// The invariant of writing to a string.
const CANNOT_FAIL: &str = "writing to a string cannot fail";

/// Returns the report with its explanations.
pub(super) fn report(report: &Report, load: &Load) -> String {
    let mut text = format!(
        "wander, {} Hz, one room, everybody sees everybody; loopback, {} cores for servers, NATS and \
         the load generator\n\n",
        load.hz,
        std::thread::available_parallelism().map_or(1, usize::from)
    );
    text.push_str(&latencies(&report.rows));
    text.push_str(&costs(&report.rows));
    let mut alignments: Vec<&Alignment> = report.alignment.iter().collect();
    alignments.sort_by_key(|alignment| (alignment.players, alignment.servers));
    for rounds in alignments.chunk_by(|a, b| (a.players, a.servers) == (b.players, b.servers)) {
        let most = |of: fn(&Alignment) -> f64| rounds.iter().map(|one| of(one)).fold(0.0, f64::max);
        writeln!(
            text,
            "{} players, {} servers: their ticks begin within {:.2} ms (median), {:.2} ms (most), \
             seen by a clock good to {:.2} ms.",
            rounds[0].players,
            rounds[0].servers,
            median(rounds.iter().map(|one| one.spread_p50_ms)),
            most(|one| one.spread_max_ms),
            most(|one| one.uncertainty_ms)
        )
        .expect(CANNOT_FAIL);
    }
    for takeover in &report.takeover {
        writeln!(text, "One of three servers killed: {}.", takeover.brief()).expect(CANNOT_FAIL);
    }
    text.push_str(&disturbance(
        report.rows.iter().map(|row| row.other_cores),
        "latencies and, where samples came late, bytes suffer",
    ));
    text
}

fn latencies(rows: &[Figures]) -> String {
    let mut text = "\
players             right    late   same server      other server     added to the same   added to no bus
                                    p50 / p99 ms     p50 / p99 ms     p50 / p99 ms        p50 / p99 ms
"
    .to_owned();
    for row in rows {
        let alone = alone(rows, row);
        let same = (row.same_p50_ms, row.same_p99_ms);
        let across = (row.across_p50_ms, row.across_p99_ms);
        let slowest = if across.0.is_some() { across } else { same };
        let added =
            |to: (Option<f64>, Option<f64>)| (minus(slowest.0, to.0), minus(slowest.1, to.1));
        let to_same = if across.0.is_some() {
            added(same)
        } else {
            (None, None)
        };
        let to_alone = match row.servers {
            0 => (None, None),
            _ => added((
                alone.and_then(|row| row.same_p50_ms),
                alone.and_then(|row| row.same_p99_ms),
            )),
        };
        writeln!(
            text,
            "{:>5}  {:<10} {:>7}  {:>6}   {:<15}  {:<15}  {:<18}  {}",
            row.players,
            name(row),
            percent(row.right),
            percent(row.late_samples),
            pair(same),
            pair(across),
            pair(to_same),
            pair(to_alone)
        )
        .expect(CANNOT_FAIL);
    }
    text.push_str(
        "right: states that were right at their own tick. late: samples that came after their tick \
         had begun.\nTimes: from taking a sample to its arrival. * the load generator was busy or late.\n\n",
    );
    text
}

fn costs(rows: &[Figures]) -> String {
    let mut text = "\
players            CPU s per million deliveries    bytes per cube and tick                    bus / player   messages
                   servers    NATS    x no bus     to a player  on the bus  with NATS's lines  payload, all   per tick
"
    .to_owned();
    for row in rows {
        let alone = alone(rows, row);
        let servers = row.servers_cpu_s_per_million;
        let bus = row.bus.as_ref();
        let cpu = servers.map(|cpu| cpu + bus.map_or(0.0, |bus| bus.cpu_s_per_million));
        let cpu_alone = alone.and_then(|row| row.servers_cpu_s_per_million);
        let to_alone = cpu.zip(cpu_alone).map(|(cpu, alone)| cpu / alone);
        let to_player = alone.map_or(row.player_bytes, |row| row.player_bytes);
        writeln!(
            text,
            "{:>5}  {:<10} {:>8} {:>7}  {:>9}     {:>11.2}  {:>10}  {:>17}  {:>12}  {:>9}",
            row.players,
            name(row),
            number(servers, 3),
            number(bus.map(|bus| bus.cpu_s_per_million), 3),
            number(to_alone, 2),
            row.player_bytes,
            number(bus.map(|bus| bus.payload_bytes), 2),
            number(bus.map(|bus| bus.wire_bytes), 2),
            bus.map_or("-".to_owned(), |bus| format!(
                "{:.2}, {:.2}",
                bus.payload_bytes / to_player,
                bus.wire_bytes / to_player
            )),
            number(bus.map(|bus| bus.messages_per_tick), 1),
        )
        .expect(CANNOT_FAIL);
    }
    text.push_str(
        "x no bus: servers and NATS together. on the bus: what all servers published, clocks and \
         beats too. bus / player:\nagainst the bytes that one player of one server without a bus \
         receives (the local snapshot).\n\n",
    );
    text
}

/// Returns the row of the same number of players without a bus.
fn alone<'a>(rows: &'a [Figures], row: &Figures) -> Option<&'a Figures> {
    rows.iter()
        .find(|other| other.servers == 0 && other.players == row.players)
}

fn name(row: &Figures) -> String {
    let mark = if row.generator_saturated { "*" } else { "" };
    Figures::name(row.servers) + mark
}

fn minus(value: Option<f64>, other: Option<f64>) -> Option<f64> {
    value.zip(other).map(|(value, other)| value - other)
}

fn pair(values: (Option<f64>, Option<f64>)) -> String {
    match values {
        (Some(p50), Some(p99)) => format!("{p50:.1} / {p99:.1}"),
        _ => "-".to_owned(),
    }
}
