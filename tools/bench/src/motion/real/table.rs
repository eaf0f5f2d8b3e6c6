//! The table of the cases: medians over the seeds, with the smallest and the largest.

use std::fmt::Write;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::figures::Figures;
use super::run::Run;
use crate::score::percentile;

/// A case and its runs by rising seed.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Outcome {
    /// Its name.
    pub(super) case: String,
    pub(super) runs: Vec<Run>,
}

/// A column of the table.
struct Column {
    heading: &'static str,
    of: fn(&Figures) -> f64,
    /// The bound in the short form: far above what is measured, because it is one run on a machine
    /// that may be busy.
    bound: f64,
}

const fn column(heading: &'static str, of: fn(&Figures) -> f64, bound: f64) -> Column {
    Column { heading, of, bound }
}

const COLUMNS: [Column; 12] = [
    column("delay ms", |figures| figures.delay_ms, 400.0),
    column("rms cm", |figures| figures.rms_cm, 30.0),
    column("p99 cm", |figures| figures.p99_cm, 100.0),
    column("own rms cm", |figures| figures.own_rms_cm, 20.0),
    column("frozen ms/min", |figures| figures.frozen_ms_per_min, 600.0),
    column("snaps/min", |figures| figures.snaps_per_min, 6.0),
    column("wire B/s", |figures| figures.wire_bytes_per_s, 20_000.0),
    column("down B/s", |figures| figures.down_bytes_per_s, 6_000.0),
    column(
        "datagrams %",
        |figures| figures.by_datagram_percent,
        f64::INFINITY,
    ),
    column(
        "late/min",
        |figures| figures.late_samples_per_min,
        f64::INFINITY,
    ),
    column("lead ms", |figures| figures.lead_ms, 250.0),
    column("witness cm", |figures| figures.witness_rms_cm, 30.0),
];

/// Returns the table as text.
pub(super) fn text(outcomes: &[Outcome]) -> String {
    let headings = COLUMNS.iter().map(|column| column.heading.to_owned());
    let mut lines = vec![["case".to_owned()].into_iter().chain(headings).collect()];
    for Outcome { case, runs } in outcomes {
        let cells = COLUMNS.iter().map(|column| cell(column, runs));
        lines.push([case.clone()].into_iter().chain(cells).collect::<Vec<_>>());
    }
    let width = |index: usize| lines.iter().map(|line| line[index].len()).max();
    let widths: Vec<_> = (0..=COLUMNS.len()).filter_map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths).enumerate();
        let cells = cells.map(|(index, (cell, width))| match index {
            0 => format!("{cell:width$}"),
            _ => format!("{cell:>width$}"),
        });
        let cells: Vec<_> = cells.collect();
        writeln!(text, "{}", cells.join(" | ")).expect("a string takes everything");
    }
    text
}

/// Checks the bounds of the short form.
///
/// # Errors
///
/// Figures above their bounds, or that are no numbers.
pub(super) fn check(outcomes: &[Outcome]) -> Result<()> {
    let mut broken = Vec::new();
    for Column { heading, of, bound } in &COLUMNS {
        for figures in outcomes.iter().flat_map(|outcome| &outcome.runs) {
            let figure = of(&figures.figures);
            if figure.is_nan() || figure > *bound {
                broken.push(format!("{heading}: {figure:.1}, above {bound}"));
            }
        }
    }
    ensure!(broken.is_empty(), "broken bounds:\n{}", broken.join("\n"));
    Ok(())
}

/// Returns the median, with the smallest and the largest if there are several runs.
fn cell(column: &Column, runs: &[Run]) -> String {
    let values: Vec<_> = runs.iter().map(|run| (column.of)(&run.figures)).collect();
    let number = |value: f64| {
        let decimals = usize::from(value.abs() < 100.0);
        format!("{value:.decimals$}")
    };
    let [least, most] = [0.0, 1.0].map(|part| number(percentile(&values, part)));
    let median = number(median(&values));
    match runs {
        [_] => median,
        _ => format!("{median} ({least}..{most})"),
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let last = sorted.len() - 1;
    f64::midpoint(sorted[last / 2], sorted[last.div_ceil(2)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(delays_ms: &[f64]) -> Outcome {
        let run = |&delay_ms: &f64| Run {
            seed: 1,
            figures: Figures {
                delay_ms,
                rms_cm: 1.0,
                p99_cm: 2.0,
                max_cm: 3.0,
                own_rms_cm: 1.0,
                own_p99_cm: 2.0,
                frozen_ms_per_min: 0.0,
                snaps_per_min: 0.0,
                wire_bytes_per_s: 5_000.0,
                down_bytes_per_s: 1_300.0,
                by_datagram_percent: 50.0,
                late_samples_per_min: 0.0,
                lead_ms: 40.0,
                playout_delay_ms: 60.0,
                witness_rms_cm: 1.0,
                longest_frame_ms: 17.0,
            },
            is_disturbed: false,
            trouble: Vec::new(),
        };
        Outcome {
            case: "lan".into(),
            runs: delays_ms.iter().map(run).collect(),
        }
    }

    #[test]
    fn several_runs_make_a_median_and_a_range() {
        let text = text(&[outcome(&[90.0, 120.5, 95.25])]);
        let row = text.lines().nth(1).unwrap();
        assert!(
            row.starts_with("lan  | 95.2 (90.0..120) | 1.0 (1.0..1.0) |"),
            "{row}"
        );
    }

    #[test]
    fn the_median_of_an_even_number_lies_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
    }

    #[test]
    fn figures_above_their_bounds_are_named() {
        assert!(check(&[outcome(&[101.0])]).is_ok());
        let error = check(&[outcome(&[401.0])]).unwrap_err().to_string();
        assert_eq!(error, "broken bounds:\ndelay ms: 401.0, above 400");
        assert!(check(&[outcome(&[f64::NAN])]).is_err());
    }
}
