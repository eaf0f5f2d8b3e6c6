//! The log: its filter, format and destination.

use std::io::IsTerminal;

use super::Finding;
use crate::config::Config;
use crate::logging::{self, LogError, LogFormat};

pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let is_terminal = std::io::stderr().is_terminal();
    let filter = logging::filter().map(|_| ());
    vec![judge(filter, config.log_format, is_terminal)]
}

fn judge(filter: Result<(), LogError>, format: LogFormat, is_terminal: bool) -> Finding {
    const ABOUT: &str = "log";
    match (filter, format) {
        (Err(error), _) => Finding::problem(
            ABOUT,
            format!("the server would not start: {error}"),
            "unset CUBESYNC_LOG, or mend it",
        ),
        (Ok(()), LogFormat::Json) if is_terminal => Finding::note(
            ABOUT,
            "JSON lines, onto this terminal",
            "--log-format text is for people",
        ),
        (Ok(()), LogFormat::Json) => Finding::ok(ABOUT, "JSON lines on standard error"),
        (Ok(()), LogFormat::Text) if is_terminal => Finding::ok(ABOUT, "onto this terminal"),
        (Ok(()), LogFormat::Text) => Finding::ok(
            ABOUT,
            "text lines on standard error, which is no terminal here",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn an_invalid_filter_is_a_problem_and_json_on_a_terminal_a_note() {
        let verdict = |filter, format, terminal| judge(filter, format, terminal).verdict;
        for terminal in [false, true] {
            assert_eq!(verdict(Ok(()), LogFormat::Text, terminal), Verdict::Ok);
            let wrong = Err(LogError::Filter("loud".into()));
            assert_eq!(verdict(wrong, LogFormat::Text, terminal), Verdict::Problem);
        }
        assert_eq!(verdict(Ok(()), LogFormat::Json, false), Verdict::Ok);
        assert_eq!(verdict(Ok(()), LogFormat::Json, true), Verdict::Note);
    }
}
