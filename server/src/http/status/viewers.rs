//! `/status/events`: the feed as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::Feed;
use crate::http::connection::StreamEnds;
use crate::http::meter::Meter;
use crate::http::plain;
use cubesync_relay::by_address::Address;
use cubesync_relay::places::{Place, Places};

/// Largest number of viewers. Each holds one of the connections that all pages share.
const MAX_VIEWERS: usize = 64;

/// Largest number of viewers from one address: a household that has the page open on all its screens.
const MAX_VIEWERS_PER_ADDRESS: usize = 8;

/// Time that the browser waits before it reconnects.
pub(super) const RETRY: Duration = Duration::from_millis(500);

/// The state that all viewers share.
#[derive(Debug, Clone)]
pub(super) struct Viewers {
    feed: watch::Receiver<Feed>,
    places: Arc<Places>,
}

impl Viewers {
    pub(super) fn new(feed: watch::Receiver<Feed>) -> Self {
        Self {
            feed,
            places: Places::new(MAX_VIEWERS, MAX_VIEWERS_PER_ADDRESS),
        }
    }

    /// Returns whether somebody looks at the page.
    pub(super) fn are_present(&self) -> bool {
        self.places.taken() > 0
    }
}

/// Sends one event `history`, then one event `now` each second. A viewer that reads too slowly
/// misses some of them.
pub(super) async fn events(
    State(viewers): State<Viewers>,
    Extension(client): Extension<Address>,
    Extension(meter): Extension<Meter>,
    Extension(StreamEnds(ends)): Extension<StreamEnds>,
) -> Response {
    let Ok(place) = viewers.places.claim(client, move || meter.rested()) else {
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
        place,
    };
    let head = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
        // A new connection has its whole lifetime for the next events.
        (header::CONNECTION, "close"),
    ];
    let events = Body::from_stream(stream::unfold(viewer, next_event));
    (head, events).into_response()
}

struct Viewer {
    feed: watch::Receiver<Feed>,
    ends: Instant,
    has_history: bool,
    place: Place,
}

/// Returns the next event's text, which all viewers share.
async fn next_event(mut viewer: Viewer) -> Option<(Result<Bytes, Infallible>, Viewer)> {
    let event = if viewer.has_history {
        let published = async {
            tokio::select! {
                published = timeout_at(viewer.ends, viewer.feed.changed()) => published.ok()?.ok(),
                // Another address needs the place, as a browser does that comes back soon.
                () = viewer.place.given_away() => None,
            }
        };
        // Otherwise the connection's time is over, or the server stops.
        published.await?;
        viewer.feed.borrow_and_update().now.clone()
    } else {
        viewer.has_history = true;
        viewer.feed.borrow_and_update().history()
    };
    Some((Ok(event), viewer))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use futures_util::StreamExt;

    use super::*;

    fn address(last: u8) -> Address {
        IpAddr::from([192, 0, 2, last]).into()
    }

    fn viewer(feed: watch::Receiver<Feed>, ends: Instant) -> Viewer {
        viewer_at(&Places::new(1, 1), feed, ends)
    }

    fn viewer_at(places: &Arc<Places>, feed: watch::Receiver<Feed>, ends: Instant) -> Viewer {
        Viewer {
            feed,
            ends,
            has_history: false,
            place: places.claim(address(1), || Duration::ZERO).unwrap(),
        }
    }

    async fn events_of(viewer: Viewer, count: usize) -> Vec<String> {
        let events = stream::unfold(viewer, next_event).take(count);
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
            publish.send_modify(|feed| feed.now = Bytes::from(number));
        }
        drop(publish);
        let events = events_of(viewer, 9).await;
        assert_eq!(events, ["3"]);
    }

    #[tokio::test]
    async fn a_viewer_whose_place_another_address_needs_gets_no_more_events() {
        let (publish, feed) = watch::channel(Feed::new(30));
        let places = Places::new(1, 1);
        let viewer = viewer_at(&places, feed, Instant::now() + Duration::from_secs(60));
        let newcomer = places.claim(address(2), || Duration::ZERO);
        assert!(newcomer.is_ok());
        assert_eq!(events_of(viewer, 9).await.len(), 1);
        drop(publish);
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
