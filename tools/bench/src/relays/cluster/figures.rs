//! The figures of a run, and their medians and ranges over several runs.

use std::fmt;

use serde::Serialize;

use crate::bus::Connection;
use crate::row::Row;

/// One figure of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure {
    /// What it says, with its unit.
    name: &'static str,
    /// The decimals that it is written with.
    decimals: usize,
    value: f64,
}

/// The figures of one run, in the order of the report.
pub(crate) type Run = Vec<Figure>;

/// The figures of several runs of a number of players and servers.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// Number of players at all servers.
    pub(crate) players: u32,
    /// Number of servers with a bus; 0 is one server without a bus.
    pub(crate) servers: u32,
    /// The figures in the order of the report.
    pub(crate) spreads: Vec<Spread>,
}

/// The median of a figure over a few runs, and its range.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Spread {
    pub(crate) name: &'static str,
    median: f64,
    least: f64,
    most: f64,
    #[serde(skip)]
    decimals: usize,
}

/// Returns the name of a number of servers in reports.
pub(crate) fn name(servers: u32) -> String {
    match servers {
        0 => "no bus".to_owned(),
        1 => "1 server".to_owned(),
        servers => format!("{servers} servers"),
    }
}

const CPU: &str = "servers, CPU s per million states";
const P50: &str = "at the owner, p50 ms";
const P99: &str = "at the owner, p99 ms";

/// Returns the figures of a measurement. `alone` is the run of one server without a bus in the same round.
pub(crate) fn of(row: &Row, alone: Option<&Run>) -> Run {
    let details = &row.details;
    let mut run = Run::new();
    let mut add = |name, decimals, value: Option<f64>| {
        run.extend(value.map(|value| Figure {
            name,
            decimals,
            value,
        }));
    };
    let before = |name| {
        let mut figures = alone.into_iter().flatten();
        let found = figures.find(|figure| figure.name == name);
        found.map(|figure| figure.value)
    };
    let minus = |value: Option<f64>, name| Some(value? - before(name)?);
    let servers = row.cpu_s_per_million;
    let deliveries = row.delivered_per_s * details.seconds;
    let nats = details.bus.as_ref();
    let nats = nats.map(|bus| bus.cpu.as_secs_f64() * 1e6 / deliveries);
    let all = servers.zip(nats).map(|(servers, nats)| servers + nats);
    let times = |cpu: Option<f64>| Some(cpu? / before(CPU)?);

    add(
        "right at their tick, %",
        2,
        row.right.map(|share| 100.0 * share),
    );
    add(
        "late samples, %",
        2,
        row.late_samples.map(|share| 100.0 * share),
    );
    add(CPU, 3, servers);
    add("NATS, CPU s per million states", 3, nats);
    add("servers, times one without a bus", 2, times(servers));
    add("servers and NATS, times one without a bus", 2, times(all));
    add(P50, 1, row.p50_ms);
    add(P99, 1, row.p99_ms);
    add("at the owner, p50 ms added", 1, minus(row.p50_ms, P50));
    add("at the owner, p99 ms added", 1, minus(row.p99_ms, P99));
    let [once, twice] = details.across_ms.map(Option::unzip);
    add("owner and edge, p50 ms added", 1, minus(once.0, P50));
    add("owner and edge, p99 ms added", 1, minus(once.1, P99));
    add("edge and edge, p50 ms added", 1, minus(twice.0, P50));
    add("edge and edge, p99 ms added", 1, minus(twice.1, P99));
    let edges = details.bus.as_ref().map(|bus| bus.edges(details.owner));
    if let Some(edges) = edges.filter(|edges| !edges.is_empty()) {
        let per_edge_s = |sum: u64| sum as f64 / edges.len() as f64 / details.seconds;
        let of = |count: fn(&Connection) -> u64| per_edge_s(edges.iter().map(count).sum());
        let down = of(|edge| edge.received_bytes);
        let player = details.bytes_per_tick * f64::from(row.hz);
        add("to a player, kB/s", 1, Some(player / 1e3));
        add("bus to an edge, kB/s", 1, Some(down / 1e3));
        add("bus to an edge, times a player", 2, Some(down / player));
        add(
            "bus from an edge, messages/s",
            1,
            Some(of(|edge| edge.published)),
        );
        add(
            "bus from an edge, kB/s",
            1,
            Some(of(|edge| edge.published_bytes) / 1e3),
        );
    }
    let written = details.bus.as_ref().map(|bus| bus.written_bytes);
    let written = written.map(|bytes| bytes as f64 / details.seconds / 1e3);
    add("written by NATS, kB/s", 1, written);
    add("cores that others used", 2, Some(details.other_cores));
    add("generator's p99 lateness, ms", 1, Some(details.late_ms));
    run
}

/// Returns the spread of each figure over the runs of one setting.
pub(crate) fn spreads(runs: &[Run]) -> Vec<Spread> {
    let mut figures = Vec::<&Figure>::new();
    for figure in runs.iter().flatten() {
        if figures.iter().all(|known| known.name != figure.name) {
            figures.push(figure);
        }
    }
    let spread = |figure: &&Figure| {
        let same = runs
            .iter()
            .flatten()
            .filter(|other| other.name == figure.name);
        Spread::of(
            figure.name,
            figure.decimals,
            same.map(|figure| figure.value),
        )
    };
    figures.iter().filter_map(spread).collect()
}

impl Spread {
    /// Returns the spread of these values, if there are any. The median of an even number is the larger of
    /// the middle two.
    pub(crate) fn of(
        name: &'static str,
        decimals: usize,
        values: impl IntoIterator<Item = f64>,
    ) -> Option<Self> {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Some(Self {
            name,
            median: *values.get(values.len() / 2)?,
            least: *values.first()?,
            most: *values.last()?,
            decimals,
        })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            median,
            least,
            most,
            decimals,
            ..
        } = *self;
        write!(
            f,
            "{median:.decimals$} ({least:.decimals$} .. {most:.decimals$})"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_middle_of_the_sorted_and_both_ends() {
        let spread = Spread::of("x", 1, [9.0, 1.0, 2.0]).unwrap();
        assert_eq!(spread.to_string(), "2.0 (1.0 .. 9.0)");
        assert!(Spread::of("x", 1, []).is_none());
    }

    #[test]
    fn a_figure_that_some_runs_lack_is_a_spread_of_the_others() {
        let figure = |name, value| Figure {
            name,
            decimals: 0,
            value,
        };
        let runs = [
            vec![figure("a", 1.0)],
            vec![figure("a", 3.0), figure("b", 5.0)],
        ];
        let texts: Vec<_> = spreads(&runs).iter().map(Spread::to_string).collect();
        assert_eq!(texts, ["3 (1 .. 3)", "5 (5 .. 5)"]);
    }
}
