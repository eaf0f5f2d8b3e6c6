//! No floods: each place in the code says only so much, and how much it left out.

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

/// Lines one place may say at once.
const BURST: u32 = 10;

/// Then it may say one in this time: with the hundred places there are, twenty lines a second
/// when everything goes wrong at once.
const EVERY: Duration = Duration::from_secs(5);

/// Lines that nobody will read, in the whole process.
static SUPPRESSED: AtomicU64 = AtomicU64::new(0);

/// How many lines were left out since the process started.
pub(crate) fn suppressed() -> u64 {
    SUPPRESSED.load(Ordering::Relaxed)
}

/// Counts a line that is left out.
pub(super) fn suppress() {
    SUPPRESSED.fetch_add(1, Ordering::Relaxed);
}

/// Formats events as lines, as long as their place may say something; its next line then ends
/// with `left_out` and a number. `debug` and `trace` are not limited: who asks for them wants all.
#[derive(Debug)]
pub(super) struct Limited {
    shape: Shape,
    /// One entry for each place that ever said something, so no more than the program has.
    places: Mutex<HashMap<Identifier, Place>>,
}

#[derive(Debug)]
enum Shape {
    Text(Format<Full>),
    Json(Format<Json>),
}

impl Limited {
    /// `colours` are for a terminal's text.
    pub(super) fn new(format: LogFormat, colours: bool) -> Self {
        let shape = match format {
            LogFormat::Text => Shape::Text(Format::default().with_ansi(colours)),
            LogFormat::Json => Shape::Json(Format::default().json().flatten_event(true)),
        };
        Self {
            shape,
            places: Mutex::default(),
        }
    }

    /// How many lines were left out before this one; `None` leaves out this one too.
    fn admit(&self, event: &Event<'_>, now: Instant) -> Option<u64> {
        let about = event.metadata();
        if *about.level() > Level::INFO {
            return Some(0);
        }
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        match places.entry(about.callsite()) {
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
    /// An error leaves the line out: the layer writes nothing then.
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
        match &self.shape {
            Shape::Text(format) => format.format_event(context, into, event)?,
            Shape::Json(format) => format.format_event(context, into, event)?,
        }
        if left_out > 0 {
            append(&mut line, &self.shape, left_out)?;
        }
        writer.write_str(&line)
    }
}

fn append(line: &mut String, shape: &Shape, left_out: u64) -> fmt::Result {
    line.truncate(line.trim_end().len());
    match shape {
        Shape::Text(_) => writeln!(line, " left_out={left_out}"),
        Shape::Json(_) => {
            line.truncate(line.trim_end_matches('}').len());
            writeln!(line, ",\"left_out\":{left_out}}}")
        }
    }
}

/// What a place may still say.
#[derive(Debug)]
struct Place {
    lines: TokenBucket,
    left_out: u64,
}

impl Place {
    fn new(now: Instant) -> Self {
        Self {
            lines: TokenBucket::new(EVERY, EVERY * BURST, now),
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
    fn a_place_says_ten_lines_then_one_in_five_seconds_with_the_number_left_out() {
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
    fn places_are_limited_each_by_itself_and_details_not_at_all() {
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
    fn both_shapes_are_one_line_and_can_say_what_was_left_out() {
        let name = "a\n\u{1b}[31m\"b\u{202e}";
        for format in [LogFormat::Text, LogFormat::Json] {
            let said = lines(format, || info!(name, "joined"));
            assert_eq!(said.len(), 1, "{said:?}");
            assert!(!said[0].contains('\u{1b}'), "{said:?}");
            let mut line = format!("{}\n", said[0]);
            append(&mut line, &Limited::new(format, false).shape, 7).unwrap();
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
