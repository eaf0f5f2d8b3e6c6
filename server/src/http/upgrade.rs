//! `/ws`: the checks before a request becomes a WebSocket.

use std::sync::Arc;

use axum::extract::{Extension, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tracing::warn;

use super::closing::Refusal;
use super::connection::not_admitted;
use super::meter::Meter;
use super::names::{self, Nearby};
use super::{origin, plain, websocket};
use crate::config::Origin;
use crate::shared::Shared;
use cubesync_relay::by_address::Address;
use cubesync_relay::contain::contain;
use cubesync_relay::ending::Ending;
use cubesync_relay::metrics::Task;
use cubesync_relay::places::Place;

/// The only version in use (RFC 6455).
const VERSION: &str = "13";

/// A page's own account of where it comes from.
#[derive(Debug, Deserialize)]
pub(super) struct Asking {
    origin: Option<String>,
}

/// Checks a request, and passes the socket to a session. A request that asks for no WebSocket is one of a page
/// that wants to know why it got none.
pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    Extension(client): Extension<Address>,
    (Extension(meter), Extension(connection)): (Extension<Meter>, Extension<Arc<Place>>),
    nearby: Option<Extension<Nearby>>,
    Query(asking): Query<Asking>,
    mut request: Request,
) -> Response {
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let headers = request.headers();
    let own_host = |origin: Option<&str>| match host(headers) {
        host if nearby.is_some() && names::is_foreign(&shared, host, origin) => "",
        host => host,
    };
    if !headers.contains_key(header::UPGRADE) {
        let origin = asking.origin.as_deref();
        return obstacle(&shared, &connection, origin, own_host(origin));
    }
    let origin = headers.get(header::ORIGIN).map(HeaderValue::to_str);
    let host = own_host(origin.and_then(Result::ok));
    let is_neighbour = |page: &str| shared.neighbours.has_page(page);
    if let Some((origin, reason)) =
        refuse_origin(headers, host, &shared.config.allow_origin, is_neighbour)
    {
        if shared.refused_origins.is_new(&origin) {
            warn!(origin, "refused a page: {reason}");
        }
        return plain(StatusCode::FORBIDDEN, reason + "\n");
    }
    if let Some(refused) = refuse_request(headers) {
        return refused;
    }
    // Only a GET becomes a WebSocket, and only on a connection that can.
    let upgrade = upgrade.filter(|_| request.method() == Method::GET);
    let (Some(key), Some(upgrade)) = (headers.get(header::SEC_WEBSOCKET_KEY), upgrade) else {
        return upgrade_required();
    };
    let answer = switch_protocols(key);
    let admitted = match shared.host.shutdown.is_cancelled() {
        true => Err(Ending::ShuttingDown),
        false => shared.host.admit(client),
    };
    let metrics = shared.host.metrics.clone();
    let tasks = shared.host.tasks.clone();
    let serving = async move {
        // The connection may break before the answer is written.
        let Ok(upgraded) = upgrade.await else {
            return;
        };
        let stream = TokioIo::new(upgraded);
        match admitted {
            Ok(admitted) => {
                drop(connection);
                let (reader, writer) = websocket::split(stream, meter).await;
                shared.host.sessions.serve(reader, writer, admitted).await;
            }
            // Browsers tell a page nothing about a refused WebSocket. Until the peer has read why, it counts
            // as a page's connection.
            Err(ending) => {
                websocket::refuse(stream, ending).await;
                drop(connection);
            }
        }
    };
    tasks.spawn(contain(&metrics, Task::Connection, serving));
    answer
}

/// Returns the answer to a request with this key, after which the connection is a WebSocket.
pub(super) fn switch_protocols(key: &HeaderValue) -> Response {
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
    ];
    let accept = derive_accept_key(key.as_bytes());
    let accept = [(header::SEC_WEBSOCKET_ACCEPT, accept)];
    (StatusCode::SWITCHING_PROTOCOLS, headers, accept).into_response()
}

/// Returns what would be in the way of a WebSocket of the asking page. With 426, nothing would be here.
fn obstacle(shared: &Shared, connection: &Place, origin: Option<&str>, host: &str) -> Response {
    if shared.host.shutdown.is_cancelled() {
        let text = Ending::ShuttingDown.message();
        return plain(StatusCode::SERVICE_UNAVAILABLE, format!("{text}\n"));
    }
    let is_neighbour = |page: &str| shared.neighbours.has_page(page);
    let allowed = &shared.config.allow_origin;
    let refused = origin.and_then(|origin| origin::refusal(origin, host, allowed, is_neighbour));
    if let Some(reason) = refused {
        return plain(StatusCode::FORBIDDEN, reason + "\n");
    }
    match connection.makes_room_for_another() {
        Err(full) => {
            let Refusal { status, reason } = not_admitted(full.into());
            plain(status, format!("{reason}\n"))
        }
        Ok(()) => upgrade_required(),
    }
}

fn upgrade_required() -> Response {
    let version = [(header::SEC_WEBSOCKET_VERSION, VERSION)];
    let response = plain(
        StatusCode::UPGRADE_REQUIRED,
        "this is a WebSocket, version 13\n",
    );
    (version, response).into_response()
}

/// Returns the origin that may not connect and the reason. Programs that are not browsers send no origin.
/// Pages at `host` are this server's own.
pub(super) fn refuse_origin(
    headers: &HeaderMap,
    host: &str,
    allowed: &[Origin],
    is_neighbour: impl Fn(&str) -> bool,
) -> Option<(String, String)> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let origin = match (origins.next(), origins.next()) {
        (None, _) => return None,
        (Some(origin), None) => origin.to_str().unwrap_or_default(),
        _ => "",
    };
    let reason = origin::refusal(origin, host, allowed, is_neighbour)?;
    Some((origin.to_owned(), reason))
}

/// Returns the `Host` of a request, or nothing.
pub(super) fn host(headers: &HeaderMap) -> &str {
    let host = headers.get(header::HOST).map(HeaderValue::to_str);
    host.and_then(Result::ok).unwrap_or_default()
}

/// Returns the response to a request for something else than a WebSocket, with another version than ours, or
/// with a key that is not 16 bytes in base64.
pub(super) fn refuse_request(headers: &HeaderMap) -> Option<Response> {
    let names = |name, word: &str| {
        let words = headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let mut words = words.flat_map(|value| value.split(','));
        words.any(|given| given.trim().eq_ignore_ascii_case(word))
    };
    if !names(header::UPGRADE, "websocket") || !names(header::CONNECTION, "upgrade") {
        return Some(plain(
            StatusCode::BAD_REQUEST,
            "this is no upgrade to a WebSocket\n",
        ));
    }
    let one = |name| {
        let mut values = headers.get_all(name).iter();
        values
            .next()
            .filter(|_| values.next().is_none())
            .and_then(|value| value.to_str().ok())
    };
    if one(header::SEC_WEBSOCKET_VERSION) != Some(VERSION) {
        return Some(upgrade_required());
    }
    // In base64, 16 bytes have 22 digits and two characters of padding.
    let digits = one(header::SEC_WEBSOCKET_KEY).and_then(|key| key.strip_suffix("=="));
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    match digits {
        Some(digits) if digits.len() == 22 && digits.bytes().all(is_digit) => None,
        _ => Some(plain(
            StatusCode::BAD_REQUEST,
            "Sec-WebSocket-Key is missing or malformed\n",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_the_clusters_servers_may_connect() {
        let refused = |origin: &'static str| {
            let headers = [(header::ORIGIN, HeaderValue::from_static(origin))];
            let is_neighbour = |page: &str| ["b.example:8080", "c.example:443"].contains(&page);
            let headers = HeaderMap::from_iter(headers);
            refuse_origin(&headers, "a.example:8080", &[], is_neighbour).is_some()
        };
        for page in [
            "http://a.example:8080",
            "http://B.example:8080",
            "https://b.example:8080",
            "https://c.example",
        ] {
            assert!(!refused(page), "{page}");
        }
        for page in [
            "http://b.example",
            "http://c.example",
            "http://b.example:8080/",
            "file://b.example:8080",
            "http://user@b.example:8080",
            "null",
        ] {
            assert!(refused(page), "{page}");
        }
    }

    #[test]
    fn a_key_is_16_bytes_in_base64() {
        let check = |key: &str| {
            let version = (header::SEC_WEBSOCKET_VERSION, "13".parse().unwrap());
            let key = (header::SEC_WEBSOCKET_KEY, key.parse().unwrap());
            let upgrade = [
                (header::CONNECTION, "keep-alive, Upgrade"),
                (header::UPGRADE, "websocket"),
            ];
            let upgrade = upgrade.map(|(name, value)| (name, HeaderValue::from_static(value)));
            let headers = HeaderMap::from_iter(upgrade.into_iter().chain([version, key]));
            refuse_request(&headers).map(|refused| refused.status())
        };
        assert_eq!(check("dGhlIHNhbXBsZSBub25jZQ=="), None);
        for wrong in [
            "",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25j==",
            "dGhlIHNhb!BsZSBub25jZQ==",
        ] {
            assert_eq!(check(wrong), Some(StatusCode::BAD_REQUEST), "{wrong:?}");
        }
    }
}
