//! Checks of requests that the library omits.

use axum::extract::Request;
use axum::http::{StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::Response;

use super::plain;

/// Refuses requests without exactly one `Host` (RFC 9112, 3.2), and requests with a body. No page
/// takes a body, and a proxy and this server could disagree on its length (6.3).
pub(super) async fn check(request: Request, next: Next) -> Response {
    match problem(&request) {
        Some((status, problem)) => plain(status, problem),
        None => next.run(request).await,
    }
}

pub(super) fn problem<Body>(
    request: &axum::http::Request<Body>,
) -> Option<(StatusCode, &'static str)> {
    let headers = request.headers();
    let hosts = headers.get_all(header::HOST).iter().count();
    let least = usize::from(request.version() >= Version::HTTP_11);
    if !(least..=1).contains(&hosts) {
        let problem = "a request has exactly one Host\n";
        return Some((StatusCode::BAD_REQUEST, problem));
    }
    let lengths = headers.get_all(header::CONTENT_LENGTH);
    let is_chunked = headers.contains_key(header::TRANSFER_ENCODING);
    if is_chunked || lengths.iter().any(|length| length != "0") {
        let problem = "a request has no body here\n";
        return Some((StatusCode::PAYLOAD_TOO_LARGE, problem));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(version: Version, headers: &[(&str, &str)]) -> bool {
        let mut request = axum::http::Request::builder().version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        problem(&request.body(()).unwrap()).is_some()
    }

    #[test]
    fn a_request_has_exactly_one_host_which_http_1_0_may_omit() {
        let host = ("host", "game.example");
        assert!(!is_refused(Version::HTTP_11, &[host]));
        assert!(is_refused(Version::HTTP_11, &[]));
        assert!(is_refused(Version::HTTP_11, &[host, host]));
        assert!(!is_refused(Version::HTTP_10, &[]));
        assert!(is_refused(Version::HTTP_10, &[host, host]));
    }

    #[test]
    fn a_body_is_refused_however_its_length_is_given() {
        let host = ("host", "game.example");
        assert!(!is_refused(
            Version::HTTP_11,
            &[host, ("content-length", "0")]
        ));
        assert!(is_refused(
            Version::HTTP_11,
            &[host, ("content-length", "3")]
        ));
        assert!(is_refused(
            Version::HTTP_11,
            &[host, ("transfer-encoding", "chunked")]
        ));
    }
}
