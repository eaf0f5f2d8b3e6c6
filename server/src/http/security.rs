//! Security headers, which limit the harm that a mistake in a page can do.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::shared::Shared;

/// Adds the security headers to every response.
pub(super) async fn add_headers(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let pages = shared.neighbours.pages();
    let policy = policy(request.headers(), &pages);
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

/// Returns the content security policy. Everything is loaded from this server, WebAssembly may run,
/// and nothing may be inline. The game may connect to the other servers of the cluster too, with the
/// addresses in `pages`. That list holds this server as well, because a load balancer may serve the
/// page from here and the game from elsewhere.
pub(super) fn policy(headers: &HeaderMap, pages: &[String]) -> HeaderValue {
    let same_host = same_host(headers);
    let pages = pages.iter().filter_map(|page| source(page));
    let sockets: String = same_host
        .into_iter()
        .chain(pages.filter(|page| Some(*page) != same_host))
        .map(|host| format!(" ws://{host} wss://{host}"))
        .collect();
    let policy = format!(
        "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'{sockets}; \
         img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; \
         frame-ancestors 'self'"
    );
    HeaderValue::try_from(policy).expect("a host of safe characters is a valid header value")
}

/// Returns the host of the request, if it is valid in a policy. The host is named because `'self'`
/// does not cover the page's own WebSocket in Safari before 15.4.
fn same_host(headers: &HeaderMap) -> Option<&str> {
    source(headers.get(header::HOST)?.to_str().ok()?)
}

/// Returns a host, with or without a port, if it is valid in a policy: a name of letters, digits and
/// `-` (CSP level 3, `host-source`). Names with `_` and IPv6 addresses are not, so pages cannot connect
/// to other servers with such addresses.
fn source(host: &str) -> Option<&str> {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':');
    (!host.is_empty() && host.bytes().all(safe)).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy_for(host: &'static str) -> String {
        let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]);
        policy(&headers, &[]).to_str().unwrap().into()
    }

    #[test]
    fn the_socket_of_the_pages_own_host_is_allowed() {
        let policy = policy_for("192.168.1.5:8080");
        let sources = "connect-src 'self' ws://192.168.1.5:8080 wss://192.168.1.5:8080;";
        assert!(policy.contains(sources), "{policy}");
    }

    #[test]
    fn a_host_cannot_extend_the_policy() {
        for host in ["a; script-src *", "a *", "a,b", "[::1]:8080", ""] {
            assert!(policy_for(host).contains("connect-src 'self';"), "{host}");
        }
        assert!(
            policy(&HeaderMap::new(), &[])
                .to_str()
                .unwrap()
                .contains("connect-src 'self';")
        );
    }

    #[test]
    fn only_the_sockets_of_all_servers_are_added() {
        let pages = [
            "a.example:8080",
            "b.example:8080",
            "[2001:db8::2]:8080",
            "c_d.example:1",
            "c *:1",
            "c;d:1",
        ];
        let host = HeaderValue::from_static("a.example:8080");
        let headers = HeaderMap::from_iter([(header::HOST, host)]);
        let policy = policy(&headers, &pages.map(str::to_owned));
        let sources = "connect-src 'self' ws://a.example:8080 wss://a.example:8080 \
                       ws://b.example:8080 wss://b.example:8080;";
        assert!(policy.to_str().unwrap().contains(sources), "{policy:?}");
    }
}
