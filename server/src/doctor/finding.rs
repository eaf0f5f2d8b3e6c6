//! The findings of the checks, and the report for people.

use std::fmt::{self, Write};

use cubesync_protocol::help::FOR_OPERATORS;

/// Width of a line in columns. Longer texts are wrapped.
const WIDTH: usize = 80;

/// Width of the columns before the summary: the verdict and the subject.
const INDENT: usize = 23;

/// The verdict of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Everything is as it should be.
    Ok,
    /// The operator should know this, but may have intended it.
    Note,
    /// Something does not work or is not safe.
    Problem,
}

/// One result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The verdict.
    pub verdict: Verdict,
    /// The subject.
    pub about: &'static str,
    /// The state of the subject.
    pub summary: String,
    /// The remedy, or something to know; may be empty.
    pub advice: String,
}

impl Finding {
    pub(super) fn ok(about: &'static str, summary: impl Into<String>) -> Self {
        Self::new(Verdict::Ok, about, summary.into(), String::new())
    }

    pub(super) fn note(
        about: &'static str,
        summary: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::new(Verdict::Note, about, summary.into(), advice.into())
    }

    pub(super) fn problem(
        about: &'static str,
        summary: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::new(Verdict::Problem, about, summary.into(), advice.into())
    }

    fn new(verdict: Verdict, about: &'static str, summary: String, advice: String) -> Self {
        Self {
            verdict,
            about,
            summary,
            advice,
        }
    }
}

/// All findings.
#[derive(Debug, Clone)]
pub struct Report {
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(findings: Vec<Finding>) -> Self {
        Self { findings }
    }

    /// Returns whether there is no problem.
    pub fn is_in_order(&self) -> bool {
        self.count(Verdict::Problem) == 0
    }

    /// Renders the report for a terminal, with or without colours.
    pub fn render(&self, colours: bool) -> String {
        let mut text = String::new();
        self.write(&mut text, colours)
            .expect("writing to a string cannot fail");
        text
    }

    fn count(&self, verdict: Verdict) -> usize {
        let findings = self.findings.iter();
        findings
            .filter(|finding| finding.verdict == verdict)
            .count()
    }

    fn write(&self, f: &mut impl Write, colours: bool) -> fmt::Result {
        for finding in &self.findings {
            let (word, colour) = match finding.verdict {
                Verdict::Ok => ("ok", "32"),
                Verdict::Note => ("note", "33"),
                Verdict::Problem => ("problem", "1;31"),
            };
            let (before, after) = match colours {
                true => (format!("\x1b[{colour}m"), "\x1b[0m"),
                false => (String::new(), ""),
            };
            let about = finding.about;
            let mut lines = wrapped(&finding.summary, WIDTH - INDENT).into_iter();
            let first = lines.next().unwrap_or_default();
            writeln!(f, "{before}{word:<8}{after} {about:<13} {first}")?;
            let advice = wrapped(&finding.advice, WIDTH - INDENT - 2);
            let advice = advice.iter().enumerate().map(|(row, line)| {
                let mark = if row == 0 { "> " } else { "  " };
                format!("{mark}{line}")
            });
            for line in lines.chain(advice) {
                writeln!(f, "{:INDENT$}{line}", "")?;
            }
        }
        let (problems, notes) = (self.count(Verdict::Problem), self.count(Verdict::Note));
        let number = |count: usize, what: &str| match count {
            0 => format!("no {what}s"),
            1 => format!("1 {what}"),
            _ => format!("{count} {what}s"),
        };
        writeln!(
            f,
            "\n{}, {}.",
            number(problems, "problem"),
            number(notes, "note")
        )?;
        match problems + notes {
            0 => Ok(()),
            _ => writeln!(f, "More help: {FOR_OPERATORS}"),
        }
    }
}

/// Wraps a text at a number of columns. A longer word gets a line of its own.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_problems_and_notes_and_says_where_to_read_more_if_there_are_any() {
        let ok = Finding::ok("one", "good");
        let note = Finding::note("two", "hm", "look");
        let problem = Finding::problem("three", "bad", "mend it");
        let text = Report::new(vec![ok.clone()]).render(false);
        assert!(text.ends_with("\nno problems, no notes.\n"), "{text}");
        let more = format!("\nMore help: {FOR_OPERATORS}\n");
        let report = Report::new(vec![ok.clone(), note.clone(), note]);
        assert!(report.is_in_order());
        let text = report.render(false);
        let end = format!("\nno problems, 2 notes.{more}");
        assert!(text.ends_with(&end), "{text}");
        let report = Report::new(vec![ok, problem]);
        assert!(!report.is_in_order());
        let text = report.render(false);
        let end = format!("\n1 problem, no notes.{more}");
        assert!(text.ends_with(&end), "{text}");
    }

    #[test]
    fn long_texts_are_wrapped_and_every_line_fits() {
        let text = "word ".repeat(60);
        let report = Report::new(vec![Finding::note("something", text.clone(), text)]);
        let text = report.render(false);
        let lines = text.lines().filter(|line| !line.contains(FOR_OPERATORS));
        let widest = lines.map(|line| line.chars().count()).max();
        assert!(widest <= Some(WIDTH), "{text}");
        assert_eq!(text.matches("word").count(), 120);
        assert_eq!(text.matches("> ").count(), 1);
    }
}
