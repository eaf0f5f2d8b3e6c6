//! `/status/events`: what the feed publishes, as server-sent events.

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
use crate::http::connection::ConnectionEnds;
use crate::http::plain;

/// People who look at the same time. Each holds one of the connections that all pages share.
const MAX_VIEWERS: usize = 64;

/// A viewer's connection ends this long before it would be cut, so that the browser sees a clean
/// end and comes back.
const BEFORE_CUT: Duration = Duration::from_secs(5);

/// How long the browser waits before it comes back.
const RETRY: Duration = Duration::from_millis(500);

/// What a viewer needs.
#[derive(Debug, Clone)]
pub(super) struct Viewers {
    feed: watch::Receiver<Feed>,
    places: Arc<Semaphore>,
}

impl Viewers {
    pub(super) fn new(feed: watch::Receiver<Feed>) -> Self {
        Self {
            feed,
            places: Arc::new(Semaphore::new(MAX_VIEWERS)),
        }
    }
}

/// First an event `history`, then one event `now` a second. A viewer who reads too slowly misses
/// some; nobody waits for them.
pub(super) async fn events(
    State(viewers): State<Viewers>,
    Extension(ConnectionEnds(end)): Extension<ConnectionEnds>,
) -> Response {
    let Ok(place) = viewers.places.try_acquire_owned() else {
        let busy = plain(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many people are looking at the moment\n",
        );
        return ([(header::RETRY_AFTER, "10")], busy).into_response();
    };
    let viewer = Viewer {
        feed: viewers.feed,
        ends: end.checked_sub(BEFORE_CUT).unwrap_or(end),
        greeted: false,
        _place: place,
    };
    // The browser is to come back on a connection that is young.
    let close = [(header::CONNECTION, "close")];
    (close, Sse::new(stream::unfold(viewer, next_event))).into_response()
}

struct Viewer {
    feed: watch::Receiver<Feed>,
    ends: Instant,
    greeted: bool,
    _place: OwnedSemaphorePermit,
}

async fn next_event(mut viewer: Viewer) -> Option<(Result<Event, Infallible>, Viewer)> {
    let event = if viewer.greeted {
        let published = timeout_at(viewer.ends, viewer.feed.changed()).await;
        // Out of time, or the server stops.
        published.ok()?.ok()?;
        let now = &viewer.feed.borrow_and_update().now;
        Event::default().event("now").data(&**now)
    } else {
        viewer.greeted = true;
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
        let places = Arc::new(Semaphore::new(1));
        Viewer {
            feed,
            ends,
            greeted: false,
            _place: places.try_acquire_owned().unwrap(),
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
    async fn a_late_reader_goes_on_with_the_newest_and_held_nobody_up() {
        let (publish, feed) = watch::channel(Feed::new(30));
        let mut viewer = viewer(feed, Instant::now() + Duration::from_secs(60));
        viewer.greeted = true;
        for number in ["1", "2", "3"] {
            publish.send_modify(|feed| feed.now = Arc::from(number));
        }
        drop(publish);
        let events = events_of(viewer, 9).await;
        assert_eq!(events, ["event: now\ndata: 3\n\n"]);
    }

    #[tokio::test]
    async fn a_viewer_is_let_go_before_the_connection_is_cut() {
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
