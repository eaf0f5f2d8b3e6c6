//! Headers that tell a browser what our pages may do, so that a mistake in one harms nobody.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;

/// Adds the headers to every answer.
pub(super) async fn secure(request: Request, next: Next) -> Response {
    let policy = policy(request.headers());
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    response
}

/// Everything comes from here, WASM may run, nothing may be inline.
pub(super) fn policy(headers: &HeaderMap) -> HeaderValue {
    let sockets = match same_host(headers) {
        Some(host) => format!(" ws://{host} wss://{host}"),
        None => String::new(),
    };
    let policy = format!(
        "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'{sockets}; \
         img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; \
         frame-ancestors 'self'"
    );
    HeaderValue::try_from(policy).expect("a host of safe characters is a header's value")
}

/// The host by which the page was asked for, if it can stand in a policy. `'self'` covers the
/// page's own WebSocket too, but not in Safari before 15.4, so the host is named as well. IPv6
/// addresses have no form there.
fn same_host(headers: &HeaderMap) -> Option<&str> {
    let host = headers.get(header::HOST)?.to_str().ok()?;
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':');
    (!host.is_empty() && host.bytes().all(safe)).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy_for(host: &'static str) -> String {
        let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]);
        policy(&headers).to_str().unwrap().into()
    }

    #[test]
    fn the_socket_of_the_pages_own_host_is_allowed() {
        let policy = policy_for("192.168.1.5:8080");
        let sources = "connect-src 'self' ws://192.168.1.5:8080 wss://192.168.1.5:8080;";
        assert!(policy.contains(sources), "{policy}");
    }

    #[test]
    fn a_host_cannot_add_to_the_policy() {
        for host in ["a; script-src *", "a *", "a,b", "[::1]:8080", ""] {
            assert!(policy_for(host).contains("connect-src 'self';"), "{host}");
        }
        assert!(
            policy(&HeaderMap::new())
                .to_str()
                .unwrap()
                .contains("connect-src 'self';")
        );
    }
}
