//! The pages: `/time.html`, the game, the server's state for people and programs, and clear errors.

mod closing;
pub(crate) mod conformance;
mod connection;
mod cubes;
mod encoding;
mod files;
mod first_bytes;
mod foreign;
pub(crate) mod fuzzing;
mod https;
mod meter;
mod names;
mod origin;
mod places;
mod proxy;
mod security;
mod status;
mod target;
mod time;
mod upgrade;
mod websocket;
mod well_formed;

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(crate) use self::files::game_file;
use crate::shared::Shared;
use cubesync_relay::by_address::Address;
use cubesync_relay::ending::Ending;
use cubesync_relay::token_bucket::TokenBucket;

/// Serves HTTP until `stop`, then lets running responses end.
pub(crate) async fn serve(shared: Arc<Shared>, listener: TcpListener, stop: CancellationToken) {
    let (status, watching) = status::new(&shared, stop.clone());
    let router = router(Arc::clone(&shared), status);
    tokio::join!(watching, connection::serve(&shared, listener, router, stop));
}

fn router(shared: Arc<Shared>, status: Router<Arc<Shared>>) -> Router {
    let about_players = Router::new()
        .merge(status)
        .route("/cubes.json", get(cubes::page))
        .route_layer(from_fn_with_state(Arc::clone(&shared), names::check));
    let pages = Router::new()
        .merge(files::game().unwrap_or_default())
        .merge(about_players)
        .route("/time.html", get(time::page))
        .route("/healthz", get(health))
        .route("/metrics", get(metrics))
        .route("/ws", get(upgrade::page))
        .route("/favicon.ico", get(files::icon))
        .route("/robots.txt", get(robots))
        .layer(Extension(Arc::new(MetricsText::new())))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(Arc::clone(&shared));
    // What is asked of all requests stands before the choice of a page, the last layer first.
    Router::new()
        .fallback_service(pages)
        .layer(from_fn_with_state(Arc::clone(&shared), target::resolve))
        .layer(from_fn(https::redirect))
        .layer(from_fn_with_state(
            Arc::clone(&shared),
            security::add_headers,
        ))
        .layer(from_fn(target::name_host))
        .layer(from_fn(well_formed::check))
        .layer(from_fn_with_state(shared, limit_and_count))
}

/// Limits the rate of each address's requests, and counts the responses.
async fn limit_and_count(
    State(shared): State<Arc<Shared>>,
    Extension(client): Extension<Address>,
    request: Request,
    next: Next,
) -> Response {
    let response = if shared.host.bans.has(client.ip()) {
        // A proxy's connection may bring others' requests as well.
        plain(
            StatusCode::FORBIDDEN,
            format!("{}\n", Ending::Banned.message()),
        )
    } else if shared.requests.allows(client) {
        next.run(request).await
    } else {
        let problem = "too many requests came from your address, try again in a few seconds\n";
        plain(StatusCode::TOO_MANY_REQUESTS, problem)
    };
    shared.metrics.count_response(response.status().as_u16());
    response
}

async fn health(State(shared): State<Arc<Shared>>) -> Response {
    if shared.host.shutdown.is_cancelled() {
        plain(StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
    } else {
        plain(StatusCode::OK, "serving\n")
    }
}

/// The metrics as text. A flood of requests gets the same one again.
#[derive(Debug)]
struct MetricsText(Mutex<(TokenBucket, Bytes)>);

impl MetricsText {
    /// Largest number of texts that are made in a second. Each takes a tenth of a millisecond.
    const PER_SECOND: NonZeroU32 = NonZeroU32::new(50).expect("it is not zero");

    /// What may be made in this time may be made at once.
    const BURST: Duration = Duration::from_secs(2);

    fn new() -> Self {
        let bucket = TokenBucket::per_second(Self::PER_SECOND, Self::BURST, Instant::now());
        Self(Mutex::new((bucket, Bytes::new())))
    }

    fn get(&self, make: impl FnOnce() -> String) -> Bytes {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (bucket, text) = &mut *newest;
        if bucket.take(1, Instant::now()) {
            *text = make().into();
        }
        text.clone()
    }
}

async fn metrics(
    State(shared): State<Arc<Shared>>,
    Extension(text): Extension<Arc<MetricsText>>,
) -> Response {
    const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    (
        [(header::CONTENT_TYPE, OPENMETRICS), NOT_CACHED],
        text.get(|| shared.host.metrics.set.render()),
    )
        .into_response()
}

/// Keeps search engines from the names of players.
async fn robots() -> Response {
    let rules = "User-agent: *\nDisallow: /status\nDisallow: /cubes.json\nDisallow: /metrics\n";
    plain(StatusCode::OK, rules)
}

async fn not_found() -> Response {
    plain(StatusCode::NOT_FOUND, "Не найдено")
}

async fn method_not_allowed() -> Response {
    let allow = [(header::ALLOW, ALLOW)];
    (
        allow,
        plain(StatusCode::METHOD_NOT_ALLOWED, "Метод не поддерживается"),
    )
        .into_response()
}

/// The methods that each page understands.
const ALLOW: &str = "GET, HEAD, OPTIONS";

const NOT_CACHED: (header::HeaderName, &str) = (header::CACHE_CONTROL, "no-store");

fn plain(status: StatusCode, text: impl IntoResponse) -> Response {
    (
        status,
        [
            (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
            NOT_CACHED,
        ],
        text,
    )
        .into_response()
}

fn html(page: String) -> Response {
    (
        [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            NOT_CACHED,
        ],
        page,
    )
        .into_response()
}

/// Returns a text with the characters escaped that are special in HTML.
fn escaped(text: &str) -> String {
    text.chars().fold(
        String::with_capacity(text.len()),
        |mut escaped, character| {
            match character {
                '&' => escaped.push_str("&amp;"),
                '<' => escaped.push_str("&lt;"),
                '>' => escaped.push_str("&gt;"),
                '"' => escaped.push_str("&quot;"),
                other => escaped.push(other),
            }
            escaped
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_requests_gets_the_same_metrics_again() {
        let (text, mut made) = (MetricsText::new(), 0);
        for _ in 0..10_000 {
            text.get(|| {
                made += 1;
                made.to_string()
            });
        }
        // A hundred at once, and as many as the loop has time for.
        assert!((100..5_000).contains(&made), "{made}");
    }

    #[test]
    fn names_cannot_become_markup() {
        assert_eq!(escaped("<b a=\"1\">&"), "&lt;b a=&quot;1&quot;&gt;&amp;");
    }
}
