//! `/status/events`: the feed as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout_at};

use super::Feed;
use crate::http::connection::StreamEnds;
use crate::http::plain;

/// Largest number of viewers. Each holds one of the connections that all pages share.
const MAX_VIEWERS: usize = 64;

/// Time that the browser waits before it reconnects.
const RETRY: Duration = Duration::from_millis(500);

/// The state that all viewers share.
#[derive(Debug, Clone)]
pub(super) struct Viewers {
    feed: watch::Receiver<Feed>,
    permits: Arc<Semaphore>,
}

impl Viewers {
    pub(super) fn new(feed: watch::Receiver<Feed>) -> Self {
        Self {
            feed,
            permits: Arc::new(Semaphore::new(MAX_VIEWERS)),
        }
    }

    /// Returns whether somebody looks at the page.
    pub(super) fn are_present(&self) -> bool {
        self.permits.available_permits() < MAX_VIEWERS
    }
}

/// Sends one event `history`, then one event `now` each second. A viewer that reads too slowly
/// misses some of them.
pub(super) async fn events(
    State(viewers): State<Viewers>,
    Extension(StreamEnds(ends)): Extension<StreamEnds>,
) -> Response {
    let Ok(permit) = viewers.permits.try_acquire_owned() else {
        let busy = plain(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many people are looking at the moment\n",
        );
        return ([(header::RETRY_AFTER, "10")], busy).into_response();
    };
    let viewer = Viewer {
        feed: viewers.feed,
        ends,
        has_history: false,
        _permit: permit,
    };
    // A new connection has its whole lifetime for the next events.
    let close = [(header::CONNECTION, "close")];
    (close, Sse::new(stream::unfold(viewer, next_event))).into_response()
}

struct Viewer {
    feed: watch::Receiver<Feed>,
    ends: Instant,
    has_history: bool,
    _permit: OwnedSemaphorePermit,
}

async fn next_event(mut viewer: Viewer) -> Option<(Result<Event, Infallible>, Viewer)> {
    let event = if viewer.has_history {
        let published = timeout_at(viewer.ends, viewer.feed.changed()).await;
        // The connection's time is over, or the server stops.
        published.ok()?.ok()?;
        let now = &viewer.feed.borrow_and_update().now;
        Event::default().event("now").data(&**now)
    } else {
        viewer.has_history = true;
        let history = viewer.feed.borrow_and_update().history();
        Event::default().event("history").retry(RETRY).data(history)
    };
    Some((Ok(event), viewer))
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    fn viewer(feed: watch::Receiver<Feed>, ends: Instant) -> Viewer {
        let permits = Arc::new(Semaphore::new(1));
        Viewer {
            feed,
            ends,
            has_history: false,
            _permit: permits.try_acquire_owned().unwrap(),
        }
    }

    async fn events_of(viewer: Viewer, count: usize) -> Vec<String> {
        let body = Sse::new(stream::unfold(viewer, next_event)).into_response();
        let events = body.into_body().into_data_stream().take(count);
        events
            .map(|event| String::from_utf8(event.unwrap().into()).unwrap())
            .collect()
            .await
    }

    #[tokio::test]
    async fn a_slow_viewer_continues_with_the_newest_event() {
        let (publish, feed) = watch::channel(Feed::new(30));
        let mut viewer = viewer(feed, Instant::now() + Duration::from_secs(60));
        viewer.has_history = true;
        for number in ["1", "2", "3"] {
            publish.send_modify(|feed| feed.now = Arc::from(number));
        }
        drop(publish);
        let events = events_of(viewer, 9).await;
        assert_eq!(events, ["event: now\ndata: 3\n\n"]);
    }

    #[tokio::test]
    async fn a_viewers_stream_ends_before_the_connection_is_cut() {
        let (publish, feed) = watch::channel(Feed::new(30));
        let events = events_of(viewer(feed, Instant::now()), 9).await;
        assert_eq!(events.len(), 1);
        assert!(
            events[0].starts_with("event: history\nretry: 500\ndata: {"),
            "{events:?}"
        );
        drop(publish);
    }
}
