//! HTTP connections: their limits and their endings.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;
use tracing::debug;

use super::https::Unencrypted;
use super::meter::{Meter, Metered};
use super::proxy;
use crate::listener;
use crate::metrics::{HttpEnding, Listener};
use crate::shared::Shared;
use crate::tls::{self, Arrival};
use cubesync_relay::admission::{Admission, Count};
use cubesync_relay::contain::contain;
use cubesync_relay::metrics::Task;
use cubesync_relay::session::{Stream, tcp};

/// Time for a TLS handshake, for a request's head, and between two requests. A browser sends a head
/// in one packet, so only a stalled network needs seconds.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);

/// Largest number of headers in a request: browsers send about 20, proxies add a few.
const MAX_HEADERS: usize = 64;

/// Largest size of a request's head. The pages set no cookies, so browsers send less than 2 KiB.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Time in which running responses must end when the server stops.
const STOP_DEADLINE: Duration = Duration::from_secs(1);

/// The time at which a request's connection is cut, in a request's extensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionEnds(pub(super) Instant);

/// The response on a connection that is not admitted.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\n\
    Content-Length: 49\r\nConnection: close\r\nRetry-After: 5\r\n\r\n\
    too many connections, try again in a few seconds\n";

/// Serves `router` until `stop`, then lets running responses end. Each request carries the client's
/// address as an `Extension<SocketAddr>` and its connection's end as [`ConnectionEnds`].
pub(super) async fn serve(
    shared: &Arc<Shared>,
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
) {
    let config = &shared.config;
    let at_most = |open| Count {
        open,
        pending: usize::MAX,
    };
    let admission = Admission::new(
        at_most(config.max_http_connections),
        at_most(config.max_http_connections_per_address),
        None,
    );
    let connections = TaskTracker::new();
    let metrics = &shared.metrics;
    listener::accept(Listener::Http, listener, metrics, &stop, |stream, peer| {
        let admitted = match admission.admit(proxy::counted_address(peer.ip(), &config.trust_proxy))
        {
            Ok(admitted) => admitted,
            Err(refused) => {
                metrics.http_cuts.count(HttpEnding::not_admitted(refused));
                // A peer that cannot take a few lines at once only sees the connection close.
                let _ = stream.try_write(FULL);
                return;
            }
        };
        let (router, stop, served) = (router.clone(), stop.clone(), Arc::clone(shared));
        let serving = async move {
            serve_one(&served, stream, peer, router, stop).await;
            drop(admitted);
        };
        connections.spawn(contain(&shared.host.metrics, Task::Connection, serving));
    })
    .await;
    connections.close();
    // Responses that are still running then are cut.
    let _ = tokio::time::timeout(STOP_DEADLINE, connections.wait()).await;
}

async fn serve_one(
    shared: &Shared,
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    stop: CancellationToken,
) {
    if let Err(error) = tcp::prepare(&stream) {
        return debug!(%peer, %error, "http connection broke");
    }
    let Some(tls) = &shared.tls else {
        return serve_stream(shared, stream, peer, None, router, stop).await;
    };
    let deadline = HEAD_DEADLINE;
    match tls::accept(&tls.pages, stream, deadline).await {
        Arrival::Tls(stream) => serve_stream(shared, stream, peer, None, router, stop).await,
        Arrival::Plain(stream) => {
            let is_proxy = proxy::is_trusted(peer.ip(), &shared.config.trust_proxy);
            let unencrypted = (!is_proxy).then_some(Unencrypted);
            serve_stream(shared, stream, peer, unencrypted, router, stop).await
        }
        Arrival::Silent => shared.metrics.http_cuts.count(HttpEnding::HeadTimeout),
        Arrival::Closed => {}
        Arrival::Failed(error) => {
            debug!(%peer, %error, "TLS handshake failed");
            shared.metrics.http_cuts.count(HttpEnding::TlsHandshake);
        }
    }
}

async fn serve_stream(
    shared: &Shared,
    stream: impl Stream,
    peer: SocketAddr,
    unencrypted: Option<Unencrypted>,
    router: Router,
    stop: CancellationToken,
) {
    let config = &shared.config;
    let end = Instant::now() + *config.http_lifetime;
    let was_served = AtomicBool::new(false);
    let meter = Meter::default();
    let stream = Metered::new(stream, meter.clone());
    let service = service_fn(|request: hyper::Request<Incoming>| {
        was_served.store(true, Ordering::Relaxed);
        let mut request = request.map(Body::new);
        let client = proxy::client_address(peer, request.headers(), &config.trust_proxy);
        request.extensions_mut().insert(client);
        request.extensions_mut().insert(meter.clone());
        request.extensions_mut().insert(ConnectionEnds(end));
        if let Some(unencrypted) = unencrypted {
            request.extensions_mut().insert(unencrypted);
        }
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
    let cut = match tokio::time::timeout_at(end, serving).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => {
            debug!(%peer, %error, "http connection broke");
            reason(&error)
        }
        Err(_) => HttpEnding::Lifetime,
    };
    // After a first request, the same timeout only closes an idle connection.
    let is_idle = cut == HttpEnding::HeadTimeout && was_served.load(Ordering::Relaxed);
    if !is_idle {
        shared.metrics.http_cuts.count(cut);
    }
}

fn reason(error: &hyper::Error) -> HttpEnding {
    if error.is_timeout() {
        HttpEnding::HeadTimeout
    } else if error.is_parse_too_large() {
        HttpEnding::HeadTooLong
    } else if error.is_parse() {
        HttpEnding::BadRequest
    } else {
        HttpEnding::Lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_response_to_a_connection_that_is_not_admitted_has_its_stated_length() {
        let text = std::str::from_utf8(FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
    }
}
