//! HTTP connections: their limits and their endings.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncBufReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;
use tracing::debug;

use super::closing::{self, Persistence, Refusal};
use super::first_bytes::{beginning, look};
use super::foreign;
use super::https::Unencrypted;
use super::meter::{Meter, Metered};
use super::names::{Nearby, is_nearby};
use super::proxy;
use crate::config::Network;
use crate::listener;
use crate::metrics::{HttpEnding, Listener};
use crate::players::{MAX_REFUSALS, MAX_REFUSALS_PER_ADDRESS};
use crate::shared::Shared;
use crate::tls::Arrival;
use cubesync_relay::contain::contain;
use cubesync_relay::ending::Ending;
use cubesync_relay::metrics::Task;
use cubesync_relay::pace::Pace;
use cubesync_relay::places::{Place, Places};
use cubesync_relay::session::{Stream, tcp};

/// Time for the first byte, for a TLS handshake, for a request's head, and between two requests. A browser
/// sends a head in one packet, so only a stalled network needs seconds.
pub(super) const HEAD_DEADLINE: Duration = Duration::from_secs(5);

/// Largest number of headers in a request: browsers send about 20, proxies add a few.
const MAX_HEADERS: usize = 64;

/// Largest size of a request's head. The pages set no cookies, so browsers send less than 2 KiB.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Time in which clients of a server that stops learn from their next answer that it is the last one.
const STOP_GRACE: Duration = Duration::from_millis(500);

/// Time in which running responses must end when the server stops.
const STOP_DEADLINE: Duration = Duration::from_secs(1);

/// Number of connections that a browser opens for a page: so many times as often as on the game's port may
/// connections of one address come here.
const CONNECTIONS_OF_A_PAGE: NonZeroU32 = NonZeroU32::new(6).expect("it is not zero");

/// Largest number of requests over the limit of their address that are answered on one connection. A
/// browser that asks for too much has learnt it by then, and a new connection costs a flood an arrival.
const MAX_REFUSED_REQUESTS: u32 = 8;

/// Time between the end of a stream of events and the moment at which its connection would be cut, if that
/// is short beside the connection's lifetime. After a clean end the browser reconnects.
const BEFORE_CUT: Duration = Duration::from_secs(5);

/// A connection and its place among all connections.
struct Visit {
    peer: SocketAddr,
    place: Arc<Place>,
    nearby: Option<Nearby>,
    /// The count of what the connection moves.
    meter: Meter,
}

/// The time at which a stream of events ends, because its connection would be cut a little later, in a
/// request's extensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamEnds(pub(super) Instant);

/// The answer to a head that does not come.
pub(super) const TOO_SLOW: Refusal = Refusal {
    status: StatusCode::REQUEST_TIMEOUT,
    reason: "the head of a request did not come within 5 seconds; send it in one go",
};

/// Serves `router` until `stop`, then lets running responses end. Each request carries the client's
/// address as an `Extension<Address>`, the end of its stream as [`StreamEnds`] and its connection's
/// place among all connections as [`Place`].
pub(super) async fn serve(
    shared: &Arc<Shared>,
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
) {
    let config = &shared.config;
    let arrivals = config
        .max_arrivals_per_address
        .saturating_mul(CONNECTIONS_OF_A_PAGE);
    let arrivals = Pace::new(arrivals);
    let places = Places::new(
        config.max_http_connections,
        config.max_http_connections_per_address,
    );
    let admit = |address, meter: &Meter| {
        let admission = &shared.host.admission;
        admission.check_arrival(Some(&arrivals), address)?;
        let meter = meter.clone();
        Ok::<_, Ending>(places.claim(address, move || meter.rested())?)
    };
    let connections = TaskTracker::new();
    let refusals = Places::new(MAX_REFUSALS, MAX_REFUSALS_PER_ADDRESS);
    let metrics = &shared.metrics;
    let is_over = CancellationToken::new();
    let accepting = listener::accept(
        Listener::Http,
        listener,
        metrics,
        &is_over,
        |stream, peer| {
            let meter = Meter::new();
            let counted = proxy::counted_address(peer.ip(), &config.trust_proxy);
            let place = match admit(counted, &meter) {
                Ok(place) => Arc::new(place),
                Err(refused) => {
                    metrics.http_cuts.count(HttpEnding::not_admitted(refused));
                    // Only a handshake could tell this peer why, which costs more than it may.
                    let may_cost = !matches!(refused, Ending::Banned | Ending::TooManyArrivals);
                    if shared.tls.is_some() && !may_cost {
                        return;
                    }
                    let refusal = not_admitted(refused);
                    match refusals.take(counted) {
                        Ok(permit) => {
                            let served = Arc::clone(shared);
                            connections.spawn(async move {
                                refuse(&served, stream, peer, refusal).await;
                                drop(permit);
                            });
                        }
                        // Too many peers have to be told.
                        Err(_) => tcp::send_at_once(&stream, &refusal.to_bytes()),
                    }
                    return;
                }
            };
            let (router, stop, served) = (router.clone(), stop.clone(), Arc::clone(shared));
            let given_away = place.given_away();
            // Under TLS a name is checked by the browser, behind a proxy by the proxy.
            let local = stream.local_addr().ok().map(|address| address.ip());
            let is_straight =
                shared.tls.is_none() && !proxy::is_trusted(peer.ip(), &config.trust_proxy);
            let nearby = (is_straight && is_nearby(peer.ip(), local)).then_some(Nearby);
            let serving = async move {
                let (cuts, bans) = (&served.metrics.http_cuts, &served.host.bans);
                let address = place.address().ip();
                let visit = Visit {
                    peer,
                    place,
                    nearby,
                    meter,
                };
                tokio::select! {
                    () = serve_one(&served, stream, visit, router, stop) => {}
                    () = given_away => cuts.count(HttpEnding::GaveWay),
                    () = bans.banned(address) => cuts.count(HttpEnding::Banned),
                }
            };
            connections.spawn(contain(&shared.host.metrics, Task::Connection, serving));
        },
    );
    let ending = async {
        stop.cancelled().await;
        connections.close();
        // Clients whose last answer said so connect once more.
        let _ = timeout(STOP_GRACE, connections.wait()).await;
        is_over.cancel();
    };
    tokio::join!(accepting, ending);
    // Responses that are still running then are cut.
    let _ = timeout(STOP_DEADLINE, connections.wait()).await;
}

/// Returns the answer to a connection that is not admitted.
pub(super) fn not_admitted(refused: Ending) -> Refusal {
    let reason = match refused {
        Ending::Banned => {
            return Refusal {
                status: StatusCode::FORBIDDEN,
                reason: refused.message(),
            };
        }
        Ending::AddressFull => {
            "too many connections to the pages come from your address, try again in a few seconds"
        }
        Ending::TooManyArrivals => {
            "connections to the pages come from your address too fast, try again in a few seconds"
        }
        _ => "the server's pages have too many connections, try again in a few seconds",
    };
    Refusal {
        status: StatusCode::SERVICE_UNAVAILABLE,
        reason,
    }
}

/// Refuses a connection in the way in which its peer expects an answer.
async fn refuse(shared: &Shared, stream: TcpStream, peer: SocketAddr, refusal: Refusal) {
    let Some(tls) = &shared.tls else {
        return closing::refuse(stream, refusal).await;
    };
    match tls.pages.accept(stream, peer.ip(), HEAD_DEADLINE).await {
        Arrival::Tls(stream) => closing::refuse(stream, refusal).await,
        Arrival::Plain(stream) => closing::refuse(stream, refusal).await,
        Arrival::Silent | Arrival::Closed | Arrival::Failed(_) => {}
    }
}

async fn serve_one(
    shared: &Shared,
    stream: TcpStream,
    visit: Visit,
    router: Router,
    stop: CancellationToken,
) {
    if let Err(error) = tcp::prepare(&stream) {
        return debug!(peer = %visit.peer, %error, "http connection broke");
    }
    let Some(tls) = &shared.tls else {
        return serve_plain(shared, stream, visit, None, router, stop).await;
    };
    let arriving = tls.pages.accept(stream, visit.peer.ip(), HEAD_DEADLINE);
    let arrival = tokio::select! {
        arrival = arriving => arrival,
        () = grace_after(&stop) => return,
    };
    match arrival {
        Arrival::Tls(mut stream) => {
            let first = async { Ok(beginning(stream.fill_buf().await?)) };
            match look(shared, first, &stop).await {
                None => serve_stream(shared, stream, visit, None, router, stop).await,
                Some(end) => end.of(shared, stream).await,
            }
        }
        Arrival::Plain(stream) => {
            let is_proxy = proxy::is_trusted(visit.peer.ip(), &shared.config.trust_proxy);
            let unencrypted = (!is_proxy).then_some(Unencrypted);
            serve_plain(shared, stream, visit, unencrypted, router, stop).await
        }
        Arrival::Silent => shared.metrics.http_cuts.count(HttpEnding::HeadTimeout),
        Arrival::Closed => {}
        Arrival::Failed(error) => {
            debug!(peer = %visit.peer, %error, "TLS handshake failed");
            shared.metrics.http_cuts.count(HttpEnding::TlsHandshake);
        }
    }
}

/// Serves a connection without encryption, unless it begins with another protocol than HTTP.
async fn serve_plain(
    shared: &Shared,
    stream: TcpStream,
    visit: Visit,
    unencrypted: Option<Unencrypted>,
    router: Router,
    stop: CancellationToken,
) {
    let first = async {
        let mut first = [0; foreign::FIRST_BYTES];
        let len_bytes = stream.peek(&mut first).await?;
        Ok(beginning(&first[..len_bytes]))
    };
    match look(shared, first, &stop).await {
        None => {
            let stream = tcp::Socket::new(stream);
            serve_stream(shared, stream, visit, unencrypted, router, stop).await
        }
        Some(end) => end.of(shared, stream).await,
    }
}

/// Answers the requests of a connection until it ends. In the second half of its lifetime each answer
/// announces that it is the last one, so that only an answer which takes as long is cut.
async fn serve_stream(
    shared: &Shared,
    stream: impl Stream,
    visit: Visit,
    unencrypted: Option<Unencrypted>,
    router: Router,
    stop: CancellationToken,
) {
    let config = &shared.config;
    let lifetime = config.http_lifetime;
    let (announced, end) = (Instant::now() + lifetime / 2, Instant::now() + lifetime);
    let stream_end = end - BEFORE_CUT.min(lifetime / 4);
    let was_served = AtomicBool::new(false);
    // Requests over the limit of their address.
    let refused = AtomicU32::new(0);
    let most_refused = most_refused(visit.peer.ip(), &config.trust_proxy);
    let Visit {
        peer,
        place,
        nearby,
        meter,
    } = visit;
    let stream = Metered::new(stream, meter.clone());
    let service = service_fn(|request: hyper::Request<Incoming>| {
        was_served.store(true, Ordering::Relaxed);
        let persistence = Persistence::of(request.version(), request.headers());
        // A body is refused, and where the next request begins is then unknown.
        let has_body = !request.body().is_end_stream();
        let mut request = request.map(Body::new);
        let client = proxy::client_address(peer.ip(), request.headers(), &config.trust_proxy);
        request.extensions_mut().insert(client);
        request.extensions_mut().insert(meter.clone());
        request.extensions_mut().insert(StreamEnds(stream_end));
        request.extensions_mut().insert(Arc::clone(&place));
        if let Some(nearby) = nearby {
            request.extensions_mut().insert(nearby);
        }
        if let Some(unencrypted) = unencrypted {
            request.extensions_mut().insert(unencrypted);
        }
        let mut router = router.clone();
        let refused = &refused;
        async move {
            let called = router.call(request).await;
            let mut response = called.unwrap_or_else(|never| match never {});
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                let is_stopping = shared.host.shutdown.is_cancelled();
                let is_flood = response.status() == StatusCode::TOO_MANY_REQUESTS
                    && refused.fetch_add(1, Ordering::Relaxed) + 1 == most_refused;
                if is_flood {
                    let cuts = &shared.metrics.http_cuts;
                    cuts.count(HttpEnding::TooManyRequests);
                }
                let is_last = has_body || is_stopping || is_flood || Instant::now() >= announced;
                persistence.announce(is_last, HEAD_DEADLINE, &mut response);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        // A client that has sent all of its requests may still read.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut result = tokio::select! {
        result = &mut connection => Some(result),
        () = grace_after(&stop) => None,
        () = tokio::time::sleep_until(end) => None,
    };
    if result.is_none() {
        // A connection without a request ends at once, a running response has until the connection's end.
        Pin::new(&mut connection).graceful_shutdown();
        result = timeout_at(end, &mut connection).await.ok();
    }
    let Some(result) = result else {
        return shared.metrics.http_cuts.count(HttpEnding::Lifetime);
    };
    // A WebSocket has taken its stream.
    let Some(rest) = connection.into_parts() else {
        return;
    };
    let stream = rest.io.into_inner();
    let Err(error) = result else {
        return closing::close(stream).await;
    };
    let ending = reason(&error);
    // After a first request, the same timeout only closes an idle connection.
    let is_idle = was_served.load(Ordering::Relaxed) && rest.read_buf.is_empty();
    if ending == HttpEnding::HeadTimeout && is_idle {
        return closing::close(stream).await;
    }
    debug!(%peer, %error, "http connection broke");
    shared.metrics.http_cuts.count(ending);
    match ending {
        HttpEnding::HeadTimeout => closing::refuse(stream, TOO_SLOW).await,
        HttpEnding::Lost | HttpEnding::SlowReader => {}
        // The library has answered.
        _ => closing::close(stream).await,
    }
}

/// Returns the number of requests over the limit of their address that end a peer's connection. A proxy's
/// goes on: it carries the requests of others too.
fn most_refused(peer: IpAddr, trusted: &[Network]) -> u32 {
    match proxy::is_trusted(peer, trusted) {
        true => u32::MAX,
        false => MAX_REFUSED_REQUESTS,
    }
}

/// Waits until connections without a request end because the server stops.
pub(super) async fn grace_after(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(STOP_GRACE).await;
}

fn reason(error: &hyper::Error) -> HttpEnding {
    if error.is_timeout() {
        HttpEnding::HeadTimeout
    } else if error.is_user() {
        // The only body of ours that fails is a version of a page that is gone.
        HttpEnding::SlowReader
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
    fn a_flood_ends_the_connection_of_its_sender_and_never_a_trusted_proxys() {
        let trusted = ["10.0.0.1".parse().unwrap()];
        let most = |peer: &str| most_refused(peer.parse().unwrap(), &trusted);
        assert_eq!(most("192.0.2.7"), MAX_REFUSED_REQUESTS);
        assert_eq!(most("10.0.0.1"), u32::MAX);
        assert_eq!(most("::ffff:10.0.0.1"), u32::MAX);
    }
}
