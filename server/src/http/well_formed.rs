//! Requests that HTTP forbids and the library lets pass.

use axum::extract::Request;
use axum::http::{StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::Response;

use super::plain;

/// Answers a request that different programs on its way could read differently: without a single
/// `Host` (RFC 9112, 3.2), or with two ideas of how long its body is (6.3).
pub(super) async fn check(request: Request, next: Next) -> Response {
    match problem(&request) {
        Some(problem) => plain(StatusCode::BAD_REQUEST, problem),
        None => next.run(request).await,
    }
}

pub(super) fn problem<Body>(request: &axum::http::Request<Body>) -> Option<&'static str> {
    let headers = request.headers();
    let hosts = headers.get_all(header::HOST).iter().count();
    let least = usize::from(request.version() >= Version::HTTP_11);
    if !(least..=1).contains(&hosts) {
        return Some("a request has exactly one Host\n");
    }
    let has = |name| headers.contains_key(name);
    if has(header::CONTENT_LENGTH) && has(header::TRANSFER_ENCODING) {
        return Some("a request says once how long its body is\n");
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
    fn exactly_one_host_and_none_needed_before_it_was_invented() {
        let host = ("host", "game.example");
        assert!(!is_refused(Version::HTTP_11, &[host]));
        assert!(is_refused(Version::HTTP_11, &[]));
        assert!(is_refused(Version::HTTP_11, &[host, host]));
        assert!(!is_refused(Version::HTTP_10, &[]));
        assert!(is_refused(Version::HTTP_10, &[host, host]));
    }

    #[test]
    fn one_idea_of_the_bodys_length() {
        let host = ("host", "game.example");
        let (length, chunked) = (("content-length", "3"), ("transfer-encoding", "chunked"));
        assert!(!is_refused(Version::HTTP_11, &[host, length]));
        assert!(!is_refused(Version::HTTP_11, &[host, chunked]));
        assert!(is_refused(Version::HTTP_11, &[host, length, chunked]));
    }
}
