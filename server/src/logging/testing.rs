//! What would be logged, for tests.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use tracing_subscriber::layer::SubscriberExt;

use super::LogFormat;
use super::limit::Limited;

/// Collects what the layer writes.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines of what `say` says on its thread.
pub(super) fn lines(format: LogFormat, say: impl FnOnce()) -> Vec<String> {
    let page = Page::default();
    let writer = page.clone();
    let layer = tracing_subscriber::fmt::layer()
        .event_format(Limited::new(format, false))
        .with_writer(move || writer.clone())
        .log_internal_errors(false);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), say);
    let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}
