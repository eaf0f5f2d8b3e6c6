//! Redirects from http to https on an encrypted port, except for checks of its health.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::plain;

/// Marks a request that came without encryption to an encrypted port, in the request's extensions. A
/// trusted proxy's requests are not marked, because the proxy decides about its own clients.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unencrypted;

/// Redirects an [`Unencrypted`] request to the same address over https, because browsers try http
/// first when a person omits the scheme. The redirect is temporary, so that the operator can turn
/// encryption off again.
pub(super) async fn redirect(request: Request, next: Next) -> Response {
    let is_encrypted = request.extensions().get::<Unencrypted>().is_none();
    // Load balancers and containers check the health from nearby and verify no certificates.
    // The path is as it came: under another one, or with more slashes.
    let path = request.uri().path().trim_end_matches('/');
    let is_check = path.ends_with("/healthz") || request.method() == Method::OPTIONS;
    if is_encrypted || is_check {
        return next.run(request).await;
    }
    const MESSAGE: &str = "this server speaks https only\n";
    match https_address(request.headers(), request.uri()) {
        Some(address) => {
            let location = [(header::LOCATION, address)];
            (location, plain(StatusCode::TEMPORARY_REDIRECT, MESSAGE)).into_response()
        }
        None => plain(StatusCode::BAD_REQUEST, MESSAGE),
    }
}

/// Returns the https address of a request, or `None` if its `Host` is no plain host.
fn https_address(headers: &HeaderMap, requested: &Uri) -> Option<HeaderValue> {
    let host = headers.get(header::HOST)?.to_str().ok()?;
    // Anything but a host and its port could redirect to another server.
    let authority: axum::http::uri::Authority = host.parse().ok()?;
    let path = requested.path_and_query()?;
    (!host.contains('@'))
        .then(|| HeaderValue::try_from(format!("https://{authority}{path}")).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: &'static str, requested: &'static str) -> Option<String> {
        let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]);
        let address = https_address(&headers, &Uri::from_static(requested))?;
        Some(address.to_str().unwrap().to_owned())
    }

    #[test]
    fn requests_are_redirected_to_the_same_address_over_https() {
        let expected = Some("https://192.168.1.5:8080/?room=den".to_owned());
        assert_eq!(address("192.168.1.5:8080", "/?room=den"), expected);
        assert_eq!(address("[::1]:1", "/").as_deref(), Some("https://[::1]:1/"));
        for host in ["", "a b", "game.example/evil", "me@evil.example", "a\"b"] {
            assert_eq!(address(host, "/"), None, "{host}");
        }
        let missing = https_address(&HeaderMap::new(), &Uri::from_static("/"));
        assert_eq!(missing, None);
    }
}
