//! The newest versions of a room's page, and their readers.
//!
//! Readers share a version, and there are only a few, however many read and however slowly. When all are
//! held by readers, others get the newest again until the oldest has had its time; then its readers are cut.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::time::Instant;

use super::page::Page;

/// Shortest time between two versions: whoever asks sooner gets the newest once more. A room of 5,000 takes
/// a few milliseconds to encode.
const REFRESH: Duration = Duration::from_millis(100);

/// Largest number of versions. One of a room of 5,000 has a megabyte.
const MAX_VERSIONS: usize = 3;

/// Time for which a version is kept for its readers though others ask for newer ones.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// The newest versions of a page.
#[derive(Debug, Default)]
pub(super) struct Versions {
    /// By age, the newest last.
    held: VecDeque<Version>,
}

#[derive(Debug)]
struct Version {
    made: Instant,
    page: Arc<Page>,
}

impl Version {
    fn is_read(&self) -> bool {
        Arc::weak_count(&self.page) > 0
    }
}

/// A page on its way to one reader, as a stream of chunks.
#[derive(Debug)]
pub(crate) struct Reading {
    /// `None` after the end.
    page: Option<Weak<Page>>,
    len_bytes: usize,
    next: usize,
}

/// Returned when the version is gone, because its reader was too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the reader was too slow for this version of the page")]
pub(crate) struct Gone;

impl Versions {
    /// Returns whether a new version may be made now.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let Some(newest) = self.held.back() else {
            return true;
        };
        if now - newest.made < REFRESH {
            return false;
        }
        self.forget_unread();
        let is_over = |oldest: &Version| now - oldest.made >= READ_WITHIN;
        self.held.len() < MAX_VERSIONS || self.held.front().is_some_and(is_over)
    }

    /// Adds a version that [is due](Self::is_due).
    pub(super) fn add(&mut self, page: Page, now: Instant) {
        if self.held.len() == MAX_VERSIONS {
            self.held.pop_front();
        }
        let page = Arc::new(page);
        self.held.push_back(Version { made: now, page });
    }

    /// Begins to read the newest version.
    pub(super) fn read(&self) -> Option<Reading> {
        let page = &self.held.back()?.page;
        Some(Reading {
            page: Some(Arc::downgrade(page)),
            len_bytes: page.len_bytes,
            next: 0,
        })
    }

    /// Returns whether some version is being read.
    pub(super) fn are_read(&self) -> bool {
        self.held.iter().any(Version::is_read)
    }

    /// Drops the versions that nobody reads.
    pub(super) fn forget_unread(&mut self) {
        self.held.retain(Version::is_read);
    }
}

impl Reading {
    /// Returns the length of the whole page.
    pub(crate) fn len_bytes(&self) -> usize {
        self.len_bytes
    }
}

impl Stream for Reading {
    type Item = Result<Bytes, Gone>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(page) = self.page.take() else {
            return Poll::Ready(None);
        };
        let chunk = match page.upgrade() {
            None => Some(Err(Gone)),
            Some(whole) => {
                let chunk = whole.chunks.get(self.next).cloned();
                self.next += 1;
                self.page = chunk.is_some().then_some(page);
                chunk.map(Ok)
            }
        };
        Poll::Ready(chunk)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    fn page(text: &'static str) -> Page {
        Page {
            chunks: vec![Bytes::from(text)],
            len_bytes: text.len(),
        }
    }

    /// Adds a version if one is due, and begins to read the newest.
    fn ask(versions: &mut Versions, text: &'static str, now: Instant) -> Reading {
        if versions.is_due(now) {
            versions.add(page(text), now);
        }
        versions.read().unwrap()
    }

    async fn text(reading: Reading) -> Result<String, Gone> {
        let chunks: Vec<_> = reading.collect().await;
        let chunks: Result<Vec<_>, _> = chunks.into_iter().collect();
        Ok(String::from_utf8(chunks?.concat()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_soon_shares_a_version() {
        let (mut versions, start) = (Versions::default(), Instant::now());
        let first = ask(&mut versions, "one", start);
        let second = ask(&mut versions, "two", start + REFRESH / 2);
        let third = ask(&mut versions, "three", start + REFRESH);
        assert_eq!(versions.held.len(), 2);
        assert_eq!(text(first).await, Ok("one".into()));
        assert_eq!(text(second).await, Ok("one".into()));
        assert_eq!(text(third).await, Ok("three".into()));
        assert!(!versions.are_read());
    }

    #[tokio::test(start_paused = true)]
    async fn readers_who_never_read_hold_a_few_versions_and_lose_the_oldest_in_the_end() {
        let (mut versions, start) = (Versions::default(), Instant::now());
        let mut stalled = Vec::new();
        let mut now = start;
        while now < start + READ_WITHIN {
            stalled.push(ask(&mut versions, "old", now));
            assert!(versions.held.len() <= MAX_VERSIONS);
            now += REFRESH;
        }
        assert_eq!(text(ask(&mut versions, "new", now)).await, Ok("new".into()));
        assert_eq!(text(stalled.remove(0)).await, Err(Gone));
        let last = stalled.pop().unwrap();
        assert_eq!(text(last).await, Ok("old".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_has_all_the_time_while_few_others_ask() {
        let (mut versions, start) = (Versions::default(), Instant::now());
        let slow = ask(&mut versions, "slow", start);
        for second in 1..100 {
            let now = start + Duration::from_secs(second);
            let quick = ask(&mut versions, "quick", now);
            assert_eq!(text(quick).await, Ok("quick".into()));
        }
        assert_eq!(text(slow).await, Ok("slow".into()));
    }
}
