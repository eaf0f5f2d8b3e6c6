//! The results as a table in Markdown.

use std::fmt::Write;

use super::trial::{Line, Seen};
use crate::runner::Verdict;

/// Returns the line about an attack that has just been tried.
pub(super) fn progress(number: usize, of: usize, line: &Line) -> String {
    let verdict = match &line.verdict {
        Verdict::Survived => "ok".to_owned(),
        Verdict::Failed(why) => format!("FAILED: {why}"),
        Verdict::NotRun(why) => format!("not run: {why}"),
    };
    let during = line.during.map_or(String::new(), |seen| {
        format!(
            "{:.1}/s, gap {:.0} ms, CPU {:.2}",
            seen.flow.updates_per_s, seen.flow.longest_gap_ms, seen.cpu
        )
    });
    let tries = if line.tries > 1 {
        format!(" ({} tries)", line.tries)
    } else {
        String::new()
    };
    format!(
        "{number:3}/{of} {:<24} {:>3}  {during:<34} {verdict}{tries} [{}] {}",
        line.attack, line.addresses, line.force, line.saw
    )
}

/// Returns the table of all attacks.
pub(super) fn table(lines: &[Line]) -> String {
    let mut text = String::from(
        "| attack | addresses | force | updates a second | longest gap, ms | CPU s/s | RSS, MiB | kB/s to a player | |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for line in lines {
        let both = line.before.zip(line.during);
        let pair = |value: fn(&Seen) -> f64, digits: usize| {
            both.map_or("–".to_owned(), |(before, during)| {
                format!("{:.digits$} / {:.digits$}", value(&before), value(&during))
            })
        };
        let memory = line.memory_kib.map_or("–".to_owned(), |memory| {
            let [before, peak, after] = memory.map(|kib| kib as f64 / 1024.0);
            let mark = if line.keeps_memory { "+" } else { "" };
            format!("{before:.1} / {peak:.1} / {after:.1}{mark}")
        });
        let verdict = match &line.verdict {
            Verdict::Survived if line.tries == 1 => "ok".to_owned(),
            Verdict::Survived => format!("ok (try {})", line.tries),
            Verdict::Failed(_) => "FAILED".to_owned(),
            Verdict::NotRun(_) => "not run".to_owned(),
        };
        let force = [line.force.as_str(), &line.saw].join("; ");
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {memory} | {} | {verdict} |",
            line.attack,
            line.addresses,
            force.trim_end_matches("; "),
            pair(|seen| seen.flow.updates_per_s, 1),
            pair(|seen| seen.flow.longest_gap_ms, 0),
            pair(|seen| seen.cpu, 2),
            pair(|seen| seen.watcher_kb_per_s, 1),
        );
    }
    for line in lines {
        if let Verdict::Failed(why) | Verdict::NotRun(why) = &line.verdict {
            let _ = writeln!(text, "\n{} from {}: {why}", line.attack, line.addresses);
        }
    }
    text
}
