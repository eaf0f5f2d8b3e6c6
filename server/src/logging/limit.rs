//! A limit on the rate of lines from each place in the code.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Full, Json, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::LogFormat;
use cubesync_relay::token_bucket::TokenBucket;

/// Largest number of lines from one place at once.
const BURST: u32 = 10;

/// Time in which a place regains one line. With about a hundred places, the log has at most twenty
/// lines a second.
const REFILL_INTERVAL: Duration = Duration::from_secs(5);

/// Number of suppressed lines in the whole process.
static SUPPRESSED: AtomicU64 = AtomicU64::new(0);

/// Returns the number of lines that were left out since the process started.
pub(crate) fn suppressed() -> u64 {
    SUPPRESSED.load(Ordering::Relaxed)
}

/// Counts a line that is left out.
pub(super) fn suppress() {
    SUPPRESSED.fetch_add(1, Ordering::Relaxed);
}

/// A formatter that leaves out the events of places that have used up their limit. The next line of
/// such a place ends with `left_out` and the number. `debug` and `trace` have no limit, because they
/// are only on when somebody asks for all of them.
#[derive(Debug)]
pub(super) struct Limited {
    format: LineFormat,
    /// The state of each place that ever logged. The number of places in the program bounds it.
    places: Mutex<HashMap<Identifier, Place>>,
}

#[derive(Debug)]
enum LineFormat {
    Text(Format<Full>),
    Json(Format<Json>),
}

impl Limited {
    /// Makes a formatter. Only text can have colours.
    pub(super) fn new(format: LogFormat, colours: bool) -> Self {
        let format = match format {
            LogFormat::Text => LineFormat::Text(Format::default().with_ansi(colours)),
            LogFormat::Json => LineFormat::Json(Format::default().json().flatten_event(true)),
        };
        Self {
            format,
            places: Mutex::default(),
        }
    }

    /// Returns the number of lines left out before this one, or `None` if this one is left out too.
    fn admit(&self, event: &Event<'_>, now: Instant) -> Option<u64> {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO {
            return Some(0);
        }
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        match places.entry(metadata.callsite()) {
            Entry::Occupied(place) => place.into_mut().admit(now),
            Entry::Vacant(place) => place.insert(Place::new(now)).admit(now),
        }
    }
}

impl<S, N> FormatEvent<S, N> for Limited
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    /// Formats an event. An error makes the layer write nothing.
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(left_out) = self.admit(event, Instant::now()) else {
            suppress();
            return Err(fmt::Error);
        };
        let mut line = String::new();
        let into = Writer::new(&mut line);
        match &self.format {
            LineFormat::Text(format) => format.format_event(context, into, event)?,
            LineFormat::Json(format) => format.format_event(context, into, event)?,
        }
        if left_out > 0 {
            append_left_out(&mut line, &self.format, left_out)?;
        }
        writer.write_str(&line)
    }
}

fn append_left_out(line: &mut String, format: &LineFormat, left_out: u64) -> fmt::Result {
    line.truncate(line.trim_end().len());
    match format {
        LineFormat::Text(_) => writeln!(line, " left_out={left_out}"),
        LineFormat::Json(_) => {
            line.truncate(line.trim_end_matches('}').len());
            writeln!(line, ",\"left_out\":{left_out}}}")
        }
    }
}

/// The limit of one place.
#[derive(Debug)]
struct Place {
    lines: TokenBucket,
    left_out: u64,
}

impl Place {
    fn new(now: Instant) -> Self {
        Self {
            lines: TokenBucket::new(REFILL_INTERVAL, REFILL_INTERVAL * BURST, now),
            left_out: 0,
        }
    }

    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.lines.take(1, now) {
            return Some(std::mem::take(&mut self.left_out));
        }
        self.left_out += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use tracing::{debug, info, warn};

    use super::super::testing::lines;
    use super::*;

    #[test]
    fn a_place_has_ten_lines_then_one_in_five_seconds_with_the_number_left_out() {
        let start = Instant::now();
        let mut place = Place::new(start);
        let admitted = |place: &mut Place, count: usize, second: u64| {
            let now = start + Duration::from_secs(second);
            let admitted = (0..count).filter_map(|_| place.admit(now));
            admitted.collect::<Vec<_>>()
        };
        assert_eq!(admitted(&mut place, 100, 0), [0; 10]);
        assert!(admitted(&mut place, 100, 4).is_empty());
        assert_eq!(admitted(&mut place, 100, 5), [190]);
        assert!(admitted(&mut place, 1, 9).is_empty());
        assert_eq!(admitted(&mut place, 1, 10), [100]);
        assert_eq!(admitted(&mut place, 100, 3600), [0; 10]);
    }

    #[test]
    fn each_place_has_its_own_limit_and_debug_has_none() {
        let before = suppressed();
        let lines = lines(LogFormat::Text, || {
            for number in 0..20 {
                info!(number, "flood");
                debug!(number, "detail");
            }
            warn!("something else");
        });
        let count = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
        assert_eq!(count("flood"), 10);
        assert_eq!(count("detail"), 20);
        assert_eq!(count("something else"), 1);
        assert!(suppressed() - before >= 10);
    }

    #[test]
    fn both_formats_have_one_line_that_can_count_what_was_left_out() {
        let name = "a\n\u{1b}[31m\"b\u{202e}";
        for format in [LogFormat::Text, LogFormat::Json] {
            let said = lines(format, || info!(name, "joined"));
            assert_eq!(said.len(), 1, "{said:?}");
            assert!(!said[0].contains('\u{1b}'), "{said:?}");
            let mut line = format!("{}\n", said[0]);
            append_left_out(&mut line, &Limited::new(format, false).format, 7).unwrap();
            match format {
                LogFormat::Text => assert!(line.ends_with(" left_out=7\n"), "{line}"),
                LogFormat::Json => {
                    let object: serde_json::Value = serde_json::from_str(&line).unwrap();
                    assert_eq!(object["message"], "joined");
                    assert_eq!(object["level"], "INFO");
                    assert_eq!(object["name"], name);
                    assert_eq!(object["left_out"], 7);
                }
            }
        }
    }
}
