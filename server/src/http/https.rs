//! What happens to requests without encryption where there is some: they are sent on to it, but
//! for the question whether the server is well.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::plain;

/// Stands in each request that came without encryption to a port that has it; but for those of a
/// trusted proxy, which came to that one as they may.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unencrypted;

/// Answers such a request with the same address over https. Browsers try http first when a person
/// leaves the beginning out. Not for good: the operator may turn encryption off again.
pub(super) async fn only(request: Request, next: Next) -> Response {
    let is_encrypted = request.extensions().get::<Unencrypted>().is_none();
    // A load balancer or a container asks from nearby and knows no certificates.
    if is_encrypted || request.uri().path() == "/healthz" {
        return next.run(request).await;
    }
    const WORDS: &str = "this server speaks https only\n";
    match encrypted(request.headers(), request.uri()) {
        Some(address) => {
            let location = [(header::LOCATION, address)];
            (location, plain(StatusCode::TEMPORARY_REDIRECT, WORDS)).into_response()
        }
        None => plain(StatusCode::BAD_REQUEST, WORDS),
    }
}

fn encrypted(headers: &HeaderMap, asked: &Uri) -> Option<HeaderValue> {
    let host = headers.get(header::HOST)?.to_str().ok()?;
    // Nothing but a host and its port, or the address would lead elsewhere.
    let authority: axum::http::uri::Authority = host.parse().ok()?;
    let path = asked.path_and_query()?;
    (!host.contains('@'))
        .then(|| HeaderValue::try_from(format!("https://{authority}{path}")).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: &'static str, asked: &'static str) -> Option<String> {
        let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]);
        let address = encrypted(&headers, &Uri::from_static(asked))?;
        Some(address.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_same_address_is_asked_for_with_encryption() {
        let expected = Some("https://192.168.1.5:8080/?room=den".to_owned());
        assert_eq!(address("192.168.1.5:8080", "/?room=den"), expected);
        assert_eq!(address("[::1]:1", "/").as_deref(), Some("https://[::1]:1/"));
        for host in ["", "a b", "game.example/evil", "me@evil.example", "a\"b"] {
            assert_eq!(address(host, "/"), None, "{host}");
        }
        assert_eq!(encrypted(&HeaderMap::new(), &Uri::from_static("/")), None);
    }
}
