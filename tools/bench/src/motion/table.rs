//! The table of the cases, and its comparison with the one in `tools/bench/motion.txt`.

use std::fmt::Write;

use anyhow::{Context, bail};

use crate::cases::{ALL_MOTIONS, Case, System};
use crate::score::Score;

/// The share and the amount by which a figure may be worse: mathematical functions differ in the last bit
/// from machine to machine, so that a frame may fall on the other side of a limit.
const TOLERANCE: f64 = 0.03;

/// A column of the table.
struct Figure {
    heading: &'static str,
    /// The amount by which it may be worse in any case, in its own unit.
    slack: f64,
    of: fn(&Score) -> f64,
}

const fn figure(heading: &'static str, slack: f64, of: fn(&Score) -> f64) -> Figure {
    Figure { heading, slack, of }
}

const FIGURES: [Figure; 9] = [
    figure("delay ms", 0.5, |score| score.delay_ms),
    figure("rms cm", 0.05, |score| score.rms_cm),
    figure("p99 cm", 0.1, |score| score.p99_cm),
    figure("max cm", 2.0, |score| score.max_cm),
    figure("turn °", 0.05, |score| score.turn_degrees),
    figure("jerk x", 0.03, |score| score.jerk),
    figure("frozen", 20.0, |score| score.frozen_ms),
    // One of a trace's two minutes.
    figure("snaps", 0.6, |score| score.snaps),
    figure("recovery", 20.0, |score| score.recovery_ms),
];
const NAME_WIDTHS: [usize; 3] = [16, 9, 15];

/// Returns the table as text.
pub(crate) fn text(cases: &[Case]) -> String {
    let mut text = String::new();
    let mut line = |names: [&str; 3], figures: Vec<String>| {
        let names = names.into_iter().zip(NAME_WIDTHS);
        let mut columns: Vec<_> = names
            .map(|(name, width)| format!("{name:width$}"))
            .collect();
        columns.extend(figures.iter().map(|figure| format!("{figure:>8}")));
        writeln!(text, "{}", columns.join(" | ").trim_end()).expect("a string takes everything");
    };
    let headings = FIGURES.map(|figure| figure.heading.to_owned());
    line(["network", "motion", "system"], headings.into());
    for case in cases {
        let figures = FIGURES.map(|figure| format!("{:.2}", (figure.of)(&case.score)));
        line(
            [&case.network, &case.motion, case.system.name()],
            figures.into(),
        );
    }
    text
}

/// Returns the rows of all traces together as Markdown, without the rotation and the largest error.
pub(crate) fn markdown(cases: &[Case]) -> String {
    const HEADINGS: [(usize, &str); 7] = [
        (0, "delay, ms"),
        (1, "error rms, cm"),
        (2, "p99, cm"),
        (5, "jerk, times"),
        (6, "frozen, ms/min"),
        (7, "snaps/min"),
        (8, "recovery, ms"),
    ];
    let mut lines = vec!["| network | shown by |".to_owned(), "|---|---|".to_owned()];
    for (_, heading) in HEADINGS {
        lines[0] += &format!(" {heading} |");
        lines[1] += "---|";
    }
    for case in cases.iter().filter(|case| case.motion == ALL_MOTIONS) {
        let name = case.system.name();
        let network = match case.system == System::ALL[0] {
            true => &case.network,
            false => "",
        };
        let mut line = match case.system.is_ours() {
            true => format!("| {network} | **{name}** |"),
            false => format!("| | {name} |"),
        };
        for (index, _) in HEADINGS {
            let figure = (FIGURES[index].of)(&case.score);
            let decimals = usize::from(figure > 0.0 && figure < 100.0);
            line += &format!(" {figure:.decimals$} |");
        }
        lines.push(line);
    }
    lines.join("\n") + "\n"
}

/// Compares the cases with a table that was written before.
///
/// # Errors
///
/// Figures that are worse, or lines that do not belong to these cases.
pub(crate) fn check(cases: &[Case], before: &str) -> anyhow::Result<()> {
    let mut worse = Vec::new();
    let mut lines = before.lines().skip(1);
    for case in cases {
        let system = case.system.name();
        let name = format!("{}, {}, {system}", case.network, case.motion);
        let line = lines.next().context("the committed table is too short")?;
        let columns: Vec<_> = line.split('|').map(str::trim).collect();
        if columns[..3] != [&case.network, &case.motion, system] {
            bail!("the committed table has another case in the place of {name}");
        }
        if !case.system.is_ours() {
            continue;
        }
        for (index, figure) in FIGURES.iter().enumerate() {
            let column = columns.get(index + NAME_WIDTHS.len());
            let before: f64 = column.context("a column is missing")?.parse()?;
            let now = (figure.of)(&case.score);
            // A figure that is no number is worse than any.
            if now.is_nan() || now > before * (1.0 + TOLERANCE) + figure.slack {
                let heading = figure.heading;
                worse.push(format!("{name}: {heading} was {before:.2}, is {now:.2}"));
            }
        }
    }
    if worse.is_empty() {
        return Ok(());
    }
    bail!("worse than the committed table:\n{}", worse.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(rms_cm: f64) -> Case {
        let score = Score {
            rms_cm,
            p99_cm: 2.0,
            max_cm: 3.0,
            turn_degrees: 4.0,
            delay_ms: 5.0,
            jerk: 7.0,
            frozen_ms: 8.0,
            snaps: 9.0,
            recovery_ms: 10.0,
        };
        Case {
            network: "LAN".into(),
            motion: "people".into(),
            system: System::ALL[0],
            score,
        }
    }

    #[test]
    fn only_what_is_worse_than_the_committed_table_is_named() {
        let before = text(&[case(1.0)]);
        assert!(check(&[case(1.0)], &before).is_ok());
        assert!(check(&[case(0.5)], &before).is_ok());
        let error = check(&[case(1.2)], &before).unwrap_err().to_string();
        assert!(
            error.ends_with("LAN, people, TCP, viewer: rms cm was 1.00, is 1.20"),
            "{error}"
        );
        assert!(check(&[case(f64::NAN)], &before).is_err());
        assert!(check(&[case(1.0), case(1.0)], &before).is_err());
    }
}
