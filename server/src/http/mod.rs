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
use hyper::body::Body as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(crate) use self::files::game_file;
use crate::shared::Shared;
use cubesync_relay::by_address::Address;
use cubesync_relay::ending::Ending;
use cubesync_relay::pace::Pace;
use cubesync_relay::token_bucket::TokenBucket;

/// Bytes of answers that an address gets in a second; what comes in [16 seconds](Pace) may come at once. The
/// game takes 0.3 MB, so all players that an address may have can load it together.
pub(crate) const ANSWER_BYTES_PER_SECOND: NonZeroU32 =
    NonZeroU32::new(2 * 1024 * 1024).expect("it is not zero");

/// The same of `/cubes.json` alone: a room of 5,000 has a megabyte, and nobody needs many of them at once.
pub(crate) const ROOM_BYTES_PER_SECOND: NonZeroU32 =
    NonZeroU32::new(1024 * 1024).expect("it is not zero");
pub(crate) const ROOM_BYTES_BURST: Duration = Duration::from_secs(2);

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

/// Limits the rate of each address's requests and of what answers them, and counts the responses.
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
        let response = next.run(request).await;
        limit_bytes(&shared.answer_bytes, client, response)
    } else {
        let problem = "too many requests came from your address, try again in a few seconds\n";
        plain(StatusCode::TOO_MANY_REQUESTS, problem)
    };
    shared.metrics.count_response(response.status().as_u16());
    response
}

/// Returns a response, or a refusal if too much has been sent to its client. What it sends is counted
/// whole, whether its client reads it or not.
fn limit_bytes(pace: &Pace, client: Address, response: Response) -> Response {
    let len_bytes = len_bytes(&response);
    if len_bytes == 0 || pace.allows_whole(client, len_bytes) {
        return response;
    }
    too_many_bytes()
}

fn too_many_bytes() -> Response {
    let problem = "too many bytes were sent to your address, try again in a few seconds\n";
    plain(StatusCode::TOO_MANY_REQUESTS, problem)
}

/// Returns the size of a response's body. A stream of events has none, and nor has a WebSocket: other limits
/// hold there.
fn len_bytes(response: &Response) -> u32 {
    let told = || {
        let length = response.headers().get(header::CONTENT_LENGTH)?;
        length.to_str().ok()?.parse().ok()
    };
    // What answers HEAD tells a length and has no body.
    let len_bytes: u64 = response
        .body()
        .size_hint()
        .exact()
        .or_else(told)
        .unwrap_or(0);
    u32::try_from(len_bytes).unwrap_or(u32::MAX)
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

    /// A burst is what may be made in this time.
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
    use std::convert::Infallible;

    use axum::body::Body;

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

    #[tokio::test(start_paused = true)]
    async fn an_address_gets_so_many_bytes_of_answers_and_others_as_many() {
        let pace = Pace::new(ANSWER_BYTES_PER_SECOND);
        let client = |ip: &str| Address::told(ip.parse().unwrap());
        let answers = |ip, make: fn() -> Response, count: usize| {
            let answer = || limit_bytes(&pace, client(ip), make()).status();
            let answers = std::iter::repeat_with(answer).take(count);
            answers.filter(|status| status.is_success()).count()
        };
        // Half of a megabyte, whose length the body or only the head tells.
        let whole = || vec![0; 512 * 1024].into_response();
        let stream = || {
            let length = [(header::CONTENT_LENGTH, 512 * 1024)];
            let body =
                Body::from_stream(futures_util::stream::empty::<Result<Bytes, Infallible>>());
            (length, body).into_response()
        };
        // The last one overdraws.
        assert_eq!(answers("192.0.2.1", whole, 100), 65);
        assert_eq!(answers("192.0.2.2", stream, 100), 65);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(answers("192.0.2.1", stream, 100), 4);
        // What has no body costs nothing: the answer to HEAD, and a file that the client has.
        let empty = || ([(header::CONTENT_LENGTH, 512 * 1024)], ()).into_response();
        assert_eq!(answers("192.0.2.2", empty, 1_000), 1_000);
        assert_eq!(answers("192.0.2.2", whole, 100), 4);
        // All networks of a /56 have twice as much.
        let networks = ["2001:db8::1", "2001:db8:0:1::1", "2001:db8:0:2::1"];
        let counts = networks.map(|ip| answers(ip, whole, 100));
        assert_eq!(counts, [65, 64, 0]);
    }

    #[test]
    fn names_cannot_become_markup() {
        assert_eq!(escaped("<b a=\"1\">&"), "&lt;b a=&quot;1&quot;&gt;&amp;");
    }
}
