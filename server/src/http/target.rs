//! Request targets: what a request asks for, in whatever usual form it does.
//!
//! Pages refer to each other by relative addresses, so that they work under any path of a reverse proxy. A
//! page therefore has one address; other forms of it lead there, relatively too.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::{Parts, PathAndQuery};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{ALLOW, plain};
use crate::shared::Shared;

/// The pages that people and programs ask for by name.
const PAGES: [&str; 8] = [
    "/",
    "/status",
    "/time.html",
    "/cubes.json",
    "/healthz",
    "/metrics",
    "/favicon.ico",
    "/robots.txt",
];

/// Lets `Host` name the server that an absolute target names (RFC 9112, 3.2.2).
pub(super) async fn name_host(mut request: Request, next: Next) -> Response {
    let authority = request.uri().authority();
    let host = authority.and_then(|it| HeaderValue::from_str(it.as_str()).ok());
    if let Some(host) = host {
        request.headers_mut().insert(header::HOST, host);
    }
    next.run(request).await
}

/// Passes a request on by its page's own path, or answers with where that page is. Answers `OPTIONS`, by which
/// load balancers ask for a server's health, for all paths.
pub(super) async fn resolve(
    State(shared): State<Arc<Shared>>,
    mut request: Request,
    next: Next,
) -> Response {
    if request.method() == Method::OPTIONS {
        return options(shared.host.shutdown.is_cancelled());
    }
    let uri = request.uri();
    let pages = shared.config.http_path.as_ref();
    let path = pages.map_or(uri.path(), |pages| pages.rest_of(uri.path()));
    let seen = path;
    let path = &*merged(path);
    let is_read = [Method::GET, Method::HEAD].contains(request.method());
    let location = match pages.is_some_and(|pages| pages.is(path)) {
        true => Some(relative(seen, &format!("{path}/"))),
        false => usual_form(path).map(|page| relative(seen, page)),
    };
    if let Some(location) = location.filter(|_| is_read) {
        return redirect(location, uri.query());
    }
    let hint = is_under_a_path(path);
    let shorter = (path.len() < uri.path().len()).then(|| with_path(uri, path));
    if let Some(shorter) = shorter.flatten() {
        *request.uri_mut() = shorter;
    }
    let response = next.run(request).await;
    if hint && response.status() == StatusCode::NOT_FOUND {
        return plain(StatusCode::NOT_FOUND, UNDER_A_PATH);
    }
    response
}

/// The answer to a page of this server under a path that it does not know.
const UNDER_A_PATH: &str = "Не найдено\n\nThis server has its pages at /. If they are under another path of a \
    reverse proxy, let the proxy remove that path, or give it to the server with --http-path.\n";

fn options(is_stopping: bool) -> Response {
    let allow = [(header::ALLOW, ALLOW)];
    match is_stopping {
        true => (allow, plain(StatusCode::SERVICE_UNAVAILABLE, "stopping\n")).into_response(),
        false => (StatusCode::NO_CONTENT, allow).into_response(),
    }
}

/// Returns a path with one slash wherever it has several. nginx makes two of `location /game` without a slash at its
/// end. A proxy that blocks `/metrics` blocks that name alone, so there is no other.
fn merged(path: &str) -> Cow<'_, str> {
    if !path.contains("//") {
        return path.into();
    }
    let names = path.split('/').filter(|name| !name.is_empty());
    let mut merged: String = names.flat_map(|name| ["/", name]).collect();
    if path.ends_with('/') {
        merged.push('/');
    }
    match merged.as_str() {
        "/metrics" => path.into(),
        _ => merged.into(),
    }
}

/// Returns the page of which a path is another usual form: with a slash at the end, in capitals, or with the
/// name that files of folders have.
fn usual_form(path: &str) -> Option<&'static str> {
    let lower = path.to_ascii_lowercase();
    let plain = lower.strip_suffix('/').unwrap_or(&lower);
    let plain = plain.strip_suffix("/index.html").unwrap_or(plain);
    let is_meant = |page: &&&str| page.trim_end_matches('/') == plain;
    let page = PAGES.iter().find(is_meant)?;
    (path.starts_with('/') && *page != path).then_some(page)
}

/// Returns the address of one path as seen from another, where browsers may not see that it begins with several
/// slashes. It names no other server, whatever the paths are.
fn relative(from: &str, to: &str) -> String {
    let depth = from.trim_start_matches('/').matches('/').count();
    match (depth, to.trim_start_matches('/')) {
        (0, "") => "./".to_owned(),
        (0, to) => format!("./{to}"),
        (_, to) => "../".repeat(depth) + to,
    }
}

fn redirect(mut location: String, query: Option<&str>) -> Response {
    if let Some(query) = query {
        location.push('?');
        location.push_str(query);
    }
    match HeaderValue::try_from(location) {
        Ok(location) => {
            let location = [(header::LOCATION, location)];
            let moved = plain(StatusCode::TEMPORARY_REDIRECT, "the page is elsewhere\n");
            (location, moved).into_response()
        }
        Err(_) => plain(StatusCode::BAD_REQUEST, "this address cannot be read\n"),
    }
}

fn with_path(uri: &Uri, path: &str) -> Option<Uri> {
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut parts = Parts::default();
    parts.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
    Uri::from_parts(parts).ok()
}

/// Returns whether a path ends like one of a page, behind other names. A name with a dot is a file's.
fn is_under_a_path(path: &str) -> bool {
    PAGES.iter().any(|page| {
        let before = path.strip_suffix(page);
        before.is_some_and(|names| !names.is_empty() && !names.contains('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_forms_of_pages_lead_to_them() {
        for (path, page) in [
            ("/index.html", "/"),
            ("/Index.HTML", "/"),
            ("/status/", "/status"),
            ("/STATUS", "/status"),
            ("/status/index.html", "/status"),
            ("/time.html/", "/time.html"),
            ("/healthz/", "/healthz"),
        ] {
            assert_eq!(usual_form(path), Some(page), "{path}");
        }
        for path in PAGES {
            assert_eq!(usual_form(path), None, "{path}");
        }
        for path in [
            "/nothing",
            "/nothing/",
            "/../status/..",
            "",
            "*",
            "//metrics",
            "/status/status.css",
        ] {
            assert_eq!(usual_form(path), None, "{path}");
        }
    }

    #[test]
    fn several_slashes_count_as_one_but_for_the_metrics() {
        for (path, expected) in [
            ("//", "/"),
            ("//status", "/status"),
            ("/status///icon.svg", "/status/icon.svg"),
            ("//status//", "/status/"),
            ("//metrics", "//metrics"),
            ("/time.html", "/time.html"),
        ] {
            assert_eq!(merged(path), expected, "{path}");
        }
    }

    #[test]
    fn a_page_is_found_from_every_form_of_its_path_and_under_any_other_path() {
        for (from, to, expected) in [
            ("/index.html", "/", "./"),
            ("/status/", "/status", "../status"),
            ("/STATUS", "/status", "./status"),
            ("/status//", "/status", "../../status"),
            ("//status/", "/status", "../status"),
            ("/status/index.html", "/status", "../status"),
        ] {
            assert_eq!(relative(from, to), expected, "{from}");
        }
    }
}
