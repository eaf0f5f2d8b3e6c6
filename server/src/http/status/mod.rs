//! `/status`: a live page about the running server.
//!
//! One task looks at the rooms for all visitors ([`board`]). One task samples the server once a second ([`sample`]) and encodes the result once ([`feed`]). All
//! viewers get the same text ([`viewers`]).

mod board;
mod feed;
mod page;
mod sample;
mod viewers;

use std::sync::Arc;

use axum::routing::get;
use axum::{Extension, Router};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::board::Board;
use self::feed::Feed;
use self::page::page;
use self::viewers::Viewers;
use crate::shared::Shared;

/// Returns the routes of the page, its assets and its events, and the task that looks at the server
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
    let (board, looking) = Board::new(Arc::clone(shared), stop.clone());
    let mut routes = Router::new().route("/status", get(page));
    if !super::files::has_game() {
        // Without the game, the page stands at the root and shows how to join.
        routes = routes.route("/", get(page));
    }
    let routes = routes
        .merge(super::files::status_page())
        .merge(events)
        .layer(Extension(board));
    let sampling = feed::sample_server(
        Arc::clone(shared),
        publish,
        move || present.are_present(),
        stop,
    );
    (routes, async move {
        tokio::join!(looking, sampling);
    })
}
