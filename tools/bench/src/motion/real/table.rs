//! The table of the cases: medians over the seeds, with the smallest and the largest.

use std::fmt::Write;

use super::figures::Figures;
use crate::score::percentile;

/// A column of the table.
struct Column {
    heading: &'static str,
    of: fn(&Figures) -> f64,
}

const fn column(heading: &'static str, of: fn(&Figures) -> f64) -> Column {
    Column { heading, of }
}

const COLUMNS: [Column; 14] = [
    column("delay ms", |figures| figures.delay_ms),
    column("rms cm", |figures| figures.rms_cm),
    column("p99 cm", |figures| figures.p99_cm),
    column("max cm", |figures| figures.max_cm),
    column("own rms cm", |figures| figures.own_rms_cm),
    column("frozen ms/min", |figures| figures.frozen_ms_per_min),
    column("snaps/min", |figures| figures.snaps_per_min),
    column("wire B/s", |figures| figures.wire_bytes_per_s),
    column("down B/s", |figures| figures.down_bytes_per_s),
    column("late/min", |figures| figures.late_samples_per_min),
    column("lead ms", |figures| figures.lead_ms),
    column("playout ms", |figures| figures.playout_delay_ms),
    column("witness cm", |figures| figures.witness_rms_cm),
    column("frame ms", |figures| figures.longest_frame_ms),
];
const NAME_WIDTH: usize = 18;
const COLUMN_WIDTH: usize = 16;

/// Returns the table as text.
pub(super) fn text(cases: &[(String, Vec<Figures>)]) -> String {
    let mut text = String::new();
    let mut line = |name: &str, cells: Vec<String>| {
        let cells: String = cells
            .iter()
            .map(|cell| format!(" | {cell:>COLUMN_WIDTH$}"))
            .collect();
        writeln!(text, "{name:NAME_WIDTH$}{cells}").expect("a string takes everything");
    };
    let headings = COLUMNS.map(|column| column.heading.to_owned());
    line("case", headings.into());
    for (name, runs) in cases {
        let cells = COLUMNS.map(|column| {
            let values: Vec<_> = runs.iter().map(column.of).collect();
            let [least, median, most] = [0.0, 0.5, 1.0].map(|part| percentile(&values, part));
            let number = |value: f64| {
                let decimals = if value.abs() < 100.0 { 1 } else { 0 };
                format!("{value:.decimals$}")
            };
            match runs.len() {
                1 => number(median),
                _ => format!("{} ({}..{})", number(median), number(least), number(most)),
            }
        });
        line(name, cells.into());
    }
    text
}
