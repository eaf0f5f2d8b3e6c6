//! The report on the terminal.

use std::fmt::Write;

use super::Report;
use super::figures::{Spread, name};
use crate::options::Load;

/// The width of a figure's name, and of its values.
const NAME: usize = 42;
const VALUE: usize = 24;
/// The invariant of writing to a string.
const CANNOT_FAIL: &str = "writing to a string cannot fail";

/// Returns the report with its explanations: a table for each number of players, a column for each number
/// of servers.
pub(super) fn report(report: &Report, load: &Load) -> String {
    let mut text = format!(
        "wander, {} Hz, one room, everybody sees everybody; loopback, {} cores for servers, NATS and the load \
         generator\nmedian (least .. most)\n",
        load.hz,
        std::thread::available_parallelism().map_or(1, usize::from)
    );
    for columns in report.rows.chunk_by(|a, b| a.players == b.players) {
        let players = format!("{} players", columns[0].players);
        write!(text, "\n{players:<NAME$}").expect(CANNOT_FAIL);
        for column in columns {
            write!(text, "{:<VALUE$}", name(column.servers)).expect(CANNOT_FAIL);
        }
        // The one with the most servers has all figures.
        for figure in columns.last().iter().flat_map(|last| &last.spreads) {
            write!(text, "\n{:<NAME$}", figure.name).expect(CANNOT_FAIL);
            for column in columns {
                let mut spreads = column.spreads.iter();
                let spread = spreads.find(|spread| spread.name == figure.name);
                let value = spread.map_or_else(|| "-".to_owned(), Spread::to_string);
                write!(text, "{value:<VALUE$}").expect(CANNOT_FAIL);
            }
        }
        text.push('\n');
    }
    if let Some(kills) = &report.kills {
        write!(text, "\n{}: {kills}\n", kills.name).expect(CANNOT_FAIL);
    }
    text.push_str(
        "\nStates are right if they are known at their own tick. Times: from taking a sample to its arrival; owner \
         and edge: one of the\ntwo players is at an edge; edge and edge: both are, at the same edge or at two. What \
         is added compares with the run without\na bus of the same round.\n",
    );
    text
}
