//! The results as text.

use std::fmt::Write;

use crate::runner::{Line, MEMORY_TOLERANCE_KIB, Verdict};

/// Largest number of characters of what a peer saw in the table; the JSON file has all of them.
const SAW_CHARS: usize = 64;

/// Returns the line about a fault that has just been run.
pub(crate) fn progress(number: usize, of: usize, line: &Line) -> String {
    let verdict = match &line.verdict {
        Verdict::Survived => "ok".to_owned(),
        Verdict::Failed(why) => format!("FAILED: {why}"),
        Verdict::NotRun(why) => format!("not run: {why}"),
    };
    format!(
        "{number:3}/{of} {:<28} {:5.1} s  {verdict}",
        line.fault, line.took_s
    )
}

/// Returns the table of all faults, by lists.
pub(crate) fn table(lines: &[Line]) -> String {
    let mut text = String::new();
    let mut list = "";
    for line in lines {
        if line.list != list {
            list = line.list;
            let _ = writeln!(
                text,
                "\n{:<28} {:<SAW_CHARS$} {:<24} {:>13} {:>13}  verdict",
                list.to_uppercase(),
                "what the peer saw",
                "counter",
                "p99 ms",
                "RSS MiB"
            );
        }
        let verdict = match &line.verdict {
            Verdict::Survived => "ok",
            Verdict::Failed(_) => "FAILED",
            Verdict::NotRun(_) => "not run",
        };
        let _ = writeln!(
            text,
            "{:<28} {:<SAW_CHARS$} {:<24} {:>13} {:>13}  {verdict}",
            line.fault,
            shortened(&line.saw),
            line.counted,
            lags(line),
            memory(line),
        );
    }
    text.push_str(&summary(lines));
    text
}

fn summary(lines: &[Line]) -> String {
    let count =
        |wanted: fn(&Verdict) -> bool| lines.iter().filter(|line| wanted(&line.verdict)).count();
    let survived = count(|verdict| *verdict == Verdict::Survived);
    let failed = count(|verdict| matches!(verdict, Verdict::Failed(_)));
    let not_run = count(|verdict| matches!(verdict, Verdict::NotRun(_)));
    let noticed = lines.iter().filter(|line| line.is_noticed()).count();
    let mut text = format!(
        "\n{} faults: {survived} survived, {failed} failed, {not_run} not run\n\
         p99: from a tick to the watcher's knowing it, before / during and after; * in {noticed}: \
         more than 20 % worse\n\
         RSS: before / after; + where it is more than {} MiB higher: the allocator keeps it, and the \
         same once more needed no more\n",
        lines.len(),
        MEMORY_TOLERANCE_KIB / 1024,
    );
    for line in lines {
        match &line.verdict {
            Verdict::Survived => {}
            Verdict::Failed(why) => {
                let _ = writeln!(text, "FAILED  {}: {why}", line.fault);
            }
            Verdict::NotRun(why) => {
                let _ = writeln!(text, "not run {}: {why}", line.fault);
            }
        }
    }
    text
}

fn shortened(saw: &str) -> String {
    let saw: String = saw.split_whitespace().collect::<Vec<_>>().join(" ");
    if saw.chars().count() <= SAW_CHARS {
        return saw;
    }
    saw.chars().take(SAW_CHARS - 1).chain(['…']).collect()
}

fn lags(line: &Line) -> String {
    let Some((before, after)) = line.before.zip(line.after) else {
        return "-".into();
    };
    let mark = if line.is_noticed() { "*" } else { "" };
    format!("{:.1} / {:.1}{mark}", before.p99_ms, after.p99_ms)
}

fn memory(line: &Line) -> String {
    let Some(memory_kib) = line.memory_kib else {
        return "-".into();
    };
    let is_kept = memory_kib[1] > memory_kib[0] + MEMORY_TOLERANCE_KIB;
    let mark = if is_kept { "+" } else { "" };
    let [before, after] = memory_kib.map(|kib| kib as f64 / 1024.0);
    format!("{before:.1} / {after:.1}{mark}")
}
