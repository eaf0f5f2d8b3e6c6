//! `/status`: a live page about the running server.
//!
//! One task samples the server once a second ([`sample`]) and encodes the result once ([`feed`]). All
//! viewers get the same text ([`viewers`]).

mod feed;
mod page;
mod sample;
mod viewers;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::feed::Feed;
pub(super) use self::page::page;
use self::viewers::Viewers;
use crate::shared::Shared;

/// Returns the routes of the page, its assets and its events, and the task that samples the server
/// until `stop`. When the task ends, all viewers' connections end.
pub(super) fn new(
    shared: &Arc<Shared>,
    stop: CancellationToken,
) -> (Router<Arc<Shared>>, impl Future<Output = ()> + use<>) {
    let (publish, feed) = watch::channel(Feed::new(shared.config.tick));
    let viewers = Viewers::new(feed);
    let present = viewers.clone();
    let events = Router::new()
        .route("/status/events", get(viewers::events))
        .with_state(viewers);
    let routes = Router::new()
        .route("/status", get(page))
        .merge(super::files::status_page())
        .merge(events);
    (
        routes,
        feed::sample_server(
            Arc::clone(shared),
            publish,
            move || present.are_present(),
            stop,
        ),
    )
}
