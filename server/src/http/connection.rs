//! HTTP connections: how many, how long, and how they end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;
use tracing::debug;

use crate::listener;
use crate::session::tcp;

/// Headers a request may have.
const MAX_HEADERS: usize = 64;

/// Bytes a request's head may have.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Time for a request's head, and how long an idle connection is kept.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);

/// A response that is not taken in this time goes to nobody.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(60);

/// Connections served at the same time; more wait in the kernel.
const MAX_CONNECTIONS: usize = 256;

/// Time for running responses when the server stops.
const STOP_DEADLINE: Duration = Duration::from_secs(1);

/// When a request's connection is cut, whatever it carries then.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionEnds(pub(super) Instant);

/// Serves `router` until `stop`, then lets running responses end. Each request knows its peer
/// by an `Extension<SocketAddr>`, and its connection's end by [`ConnectionEnds`].
pub(super) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    listener::accept(listener, stop.clone(), |stream, peer| {
        let (router, stop, connections) = (router.clone(), stop.clone(), connections.clone());
        let places = Arc::clone(&places);
        async move {
            let place = places
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            connections.spawn(async move {
                serve_one(stream, peer, router, stop).await;
                drop(place);
            });
        }
    })
    .await;
    connections.close();
    // Who has not finished by then is cut.
    let _ = tokio::time::timeout(STOP_DEADLINE, connections.wait()).await;
}

async fn serve_one(stream: TcpStream, peer: SocketAddr, router: Router, stop: CancellationToken) {
    if let Err(error) = tcp::prepare(&stream) {
        return debug!(%peer, %error, "http connection broke");
    }
    let end = Instant::now() + CONNECTION_LIFETIME;
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(ConnectionEnds(end));
        let mut router = router.clone();
        async move {
            Ok::<_, Infallible>(
                router
                    .call(request)
                    .await
                    .unwrap_or_else(|never| match never {}),
            )
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let serving = async {
        tokio::select! {
            result = connection.as_mut() => return result,
            () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    };
    if let Ok(Err(error)) = tokio::time::timeout_at(end, serving).await {
        debug!(%peer, %error, "http connection broke");
    }
}
