//! The log on standard error, one line for each event.
//!
//! The log never slows the game down. Each place in the code has a limited rate of lines (`limit`),
//! and a thread of its own writes them (`outlet`).

mod limit;
mod outlet;
#[cfg(test)]
mod testing;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;

use tracing::error;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use self::limit::Limited;
pub(crate) use self::limit::suppressed;
use self::outlet::Outlet;

/// The environment variable with the [`filter`].
const FILTER_VARIABLE: &str = "CUBESYNC_LOG";

/// The target of a library whose events the server logs itself, in its own words.
const SILENCED_TARGET: &str = "async_nats";

/// The format of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object a line, for programs.
    Json,
}

/// The reason why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The environment variable is not a filter.
    #[error("CUBESYNC_LOG={0:?} is no log filter; try info, debug or cubesync_relay=debug")]
    Filter(String),
    /// The system cannot start a thread.
    #[error("cannot start the thread that writes the log: {0}")]
    Thread(#[from] io::Error),
    /// Another logger is installed already.
    #[error("cannot log: {0}")]
    Taken(#[from] TryInitError),
}

/// A running log. Dropping it writes the remaining lines, for at most a second.
#[derive(Debug)]
pub struct Log {
    outlet: Outlet,
}

/// Starts logging to standard error, filtered by `CUBESYNC_LOG` and with panics included.
///
/// # Errors
/// [`LogError`].
pub fn start(format: LogFormat) -> Result<Log, LogError> {
    let filter = filter()?;
    let outlet = Outlet::new(io::stderr())?;
    let lines = tracing_subscriber::fmt::layer()
        .event_format(Limited::new(format, wants_colours(&io::stderr())))
        .with_writer(outlet.clone())
        // The library would use `eprintln!`, which panics on a closed standard error.
        .log_internal_errors(false)
        .with_filter(filter);
    tracing_subscriber::registry().with(lines).try_init()?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(Log { outlet })
}

impl Drop for Log {
    fn drop(&mut self) {
        self.outlet.flush();
    }
}

/// Reads the filter from `CUBESYNC_LOG`: levels such as `warn`, or `target=level` for a part of the
/// program, separated by commas. The level of all other parts is `info`.
///
/// # Errors
/// [`LogError::Filter`].
pub fn filter() -> Result<Targets, LogError> {
    let text = std::env::var_os(FILTER_VARIABLE).unwrap_or_default();
    match text.to_string_lossy().trim() {
        text if !text.is_empty() => parse_filter(text).ok_or(LogError::Filter(text.to_owned())),
        _ => Ok(Targets::new()
            .with_default(LevelFilter::INFO)
            .with_target(SILENCED_TARGET, LevelFilter::OFF)),
    }
}

/// Returns whether an output is a terminal whose user has not turned colours off (no-color.org).
pub fn wants_colours(output: &impl IsTerminal) -> bool {
    output.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn parse_filter(text: &str) -> Option<Targets> {
    // The library would take a word that is no level as a target to log completely.
    let is_level = |part: &str| !part.is_empty() && part.parse::<LevelFilter>().is_ok();
    let is_clear = |part: &str| part.contains('=') || is_level(part);
    if !text.split(',').all(is_clear) {
        return None;
    }
    let targets: Targets = text.parse().ok()?;
    let targets = match text.contains(SILENCED_TARGET) {
        true => targets,
        false => targets.with_target(SILENCED_TARGET, LevelFilter::OFF),
    };
    Some(match targets.default_level() {
        Some(_) => targets,
        None => targets.with_default(LevelFilter::INFO),
    })
}

/// Logs a panic as one line, in place of the several lines that Rust prints.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload();
    let cause = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let backtrace = Backtrace::capture();
    let backtrace =
        (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    error!(
        location = panic.location().map(tracing::field::display),
        task = tokio::task::try_id().map(tracing::field::display),
        cause,
        backtrace,
        "panicked; please report this"
    );
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn a_filter_is_levels_and_targets() {
        let enabled = |filter: &str, target: &str, level: Level| {
            parse_filter(filter).unwrap().would_enable(target, &level)
        };
        assert!(enabled("debug", "hyper", Level::DEBUG));
        assert!(!enabled("warn", "cubesync_server", Level::INFO));
        let one = "cubesync_relay::session=debug";
        assert!(enabled(one, "cubesync_relay::session", Level::DEBUG));
        assert!(!enabled(one, "cubesync_relay::room", Level::DEBUG));
        assert!(enabled(one, "cubesync_relay::room", Level::INFO));
        assert!(!enabled("off", "cubesync_server", Level::ERROR));
        assert!(!enabled("debug", "async_nats::connector", Level::INFO));
        assert!(enabled("async_nats=info", "async_nats", Level::INFO));
    }

    #[test]
    fn a_panic_is_one_line_with_its_location_and_message() {
        let said = testing::lines(LogFormat::Json, || {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(log_panic));
            let outcome = std::panic::catch_unwind(|| panic!("two\nlines of {}", 7));
            std::panic::set_hook(before);
            assert!(outcome.is_err());
        });
        assert_eq!(said.len(), 1, "{said:?}");
        let line: serde_json::Value = serde_json::from_str(&said[0]).unwrap();
        assert_eq!(line["level"], "ERROR");
        assert_eq!(line["cause"], "two\nlines of 7");
        assert!(line["location"].as_str().unwrap().contains(file!()));
    }

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for wrong in ["loud", "info,loud", "cubesync_server=loud", ","] {
            assert!(parse_filter(wrong).is_none(), "{wrong}");
        }
    }
}
