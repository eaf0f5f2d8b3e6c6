//! `/status`: a page for people about the running server, live.
//!
//! One task looks at the server once a second ([`sample`]) and encodes what it saw once ([`feed`]);
//! every viewer is sent the same text ([`viewers`]).

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

/// The page with what it refers to, and the task that looks at the server until it is stopped.
/// When the task ends, so do all viewers' connections.
pub(super) fn new(
    shared: &Arc<Shared>,
    stop: CancellationToken,
) -> (Router<Arc<Shared>>, impl Future<Output = ()> + use<>) {
    let (publish, feed) = watch::channel(Feed::new(shared.config.tick));
    let events = Router::new()
        .route("/status/events", get(viewers::events))
        .with_state(Viewers::new(feed));
    let routes = Router::new()
        .route("/status", get(page))
        .merge(super::files::status_page())
        .merge(events);
    (
        routes,
        feed::watch_server(Arc::clone(shared), publish, stop),
    )
}
