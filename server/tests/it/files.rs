//! Embedded files: their types, encodings and caching.

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;

use crate::http::{Answer, get, request, request_with};
use crate::support::Server;

/// A file that is stored uncompressed and is long enough to be compressed.
pub const SCRIPT: &str = "/status/uplot.js";
const SCRIPT_SOURCE: &[u8] = include_bytes!("../../../assets/status/uplot.js");

/// The browser client's page, if the sources have one.
const GAME: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/web/index.html");

async fn get_as(address: SocketAddr, path: &str, accept: &str) -> Answer {
    request_with(address, "GET", path, &[("Accept-Encoding", accept)]).await
}

fn decompress(packed: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(packed)
        .read_to_end(&mut plain)
        .unwrap();
    plain
}

/// Returns the absolute paths that a page refers to on this server.
fn references(page: &str) -> Vec<String> {
    let mut parts = page.split('"');
    let mut found = Vec::new();
    while let (Some(before), Some(value)) = (parts.next(), parts.next()) {
        let names_a_file = ["src=", "href=", "data-wasm="]
            .iter()
            .any(|name| before.ends_with(name));
        if names_a_file && !value.contains(':') {
            found.push(format!("/{}", value.trim_start_matches(['.', '/'])));
        }
    }
    found
}

#[tokio::test]
async fn each_client_gets_the_encoding_it_prefers() {
    let server = Server::start(&[]).await;
    for (accept, encoding) in [
        ("gzip, deflate, br", Some("gzip")),
        ("identity;q=0.2, gzip;q=0.8", Some("gzip")),
        ("gzip;q=0", None),
        ("gzip;q=0.5, identity", None),
        ("zstd", None),
    ] {
        let answer = get_as(server.addresses.http, SCRIPT, accept).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-encoding"), encoding, "{accept}");
        assert_eq!(answer.header("vary"), Some("accept-encoding"));
        let length = answer.bytes.len().to_string();
        assert_eq!(answer.header("content-length"), Some(length.as_str()));
        let content = match encoding {
            Some(_) => decompress(&answer.bytes),
            None => answer.bytes,
        };
        assert!(content == SCRIPT_SOURCE, "{accept}: another content");
    }
    let silent = get(server.addresses.http, SCRIPT).await;
    assert_eq!(silent.header("content-encoding"), None);
    assert_eq!(
        silent.header("content-type"),
        Some("text/javascript; charset=utf-8")
    );
}

#[tokio::test]
async fn head_has_the_headers_of_get_without_the_content() {
    let server = Server::start(&[]).await;
    let accept = [("Accept-Encoding", "gzip")];
    let whole = request_with(server.addresses.http, "GET", SCRIPT, &accept).await;
    let head = request_with(server.addresses.http, "HEAD", SCRIPT, &accept).await;
    assert_eq!((head.status, head.bytes.len()), (200, 0));
    for name in [
        "content-length",
        "content-type",
        "content-encoding",
        "etag",
        "vary",
        "cache-control",
    ] {
        assert!(head.header(name).is_some(), "{name}");
        assert_eq!(head.header(name), whole.header(name), "{name}");
    }
}

#[tokio::test]
async fn a_cached_file_is_not_sent_again() {
    let server = Server::start(&[]).await;
    let address = server.addresses.http;
    let first = get_as(address, SCRIPT, "gzip").await;
    let tag = first.header("etag").unwrap();
    let ask = async |tag: &str, accept: &str| {
        let headers = [("Accept-Encoding", accept), ("If-None-Match", tag)];
        request_with(address, "GET", SCRIPT, &headers).await
    };
    let known = ask(tag, "gzip").await;
    assert_eq!((known.status, known.bytes.len()), (304, 0));
    for name in ["etag", "cache-control", "vary"] {
        assert_eq!(known.header(name), first.header(name), "{name}");
    }
    let weak = ask(&format!("\"other\", W/{tag}"), "gzip").await;
    assert_eq!(weak.status, 304);
    // The same file in another encoding has another tag.
    assert_eq!(ask(tag, "identity").await.status, 200);
    assert_eq!(ask("\"other\"", "gzip").await.status, 200);
}

#[tokio::test]
async fn every_page_has_a_policy_and_the_headers_that_go_with_it() {
    let server = Server::start(&[]).await;
    for path in ["/", "/status", "/time.html", SCRIPT, "/nothing"] {
        let answer = get(server.addresses.http, path).await;
        let policy = answer.header("content-security-policy").unwrap();
        for part in [
            "default-src 'self';",
            "script-src 'self' 'wasm-unsafe-eval';",
            "connect-src 'self' ws://test.localhost:8080 wss://test.localhost:8080;",
            "frame-ancestors 'self'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe-inline"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
    }
}

#[tokio::test]
async fn pages_keep_to_the_policy() {
    let server = Server::start(&[]).await;
    for path in ["/", "/status"] {
        let page = get(server.addresses.http, path).await.body;
        for inline in ["<script>", "<style", " style=", " onclick=", "javascript:"] {
            assert!(!page.contains(inline), "{path} has {inline}");
        }
    }
}

#[tokio::test]
async fn everything_that_a_page_refers_to_exists() {
    let server = Server::start(&[]).await;
    for path in ["/", "/status"] {
        let page = get(server.addresses.http, path).await.body;
        let references = references(&page);
        assert!(references.len() >= 4, "{path}: {references:?}");
        for reference in references {
            let answer = get(server.addresses.http, &reference).await;
            assert_eq!(answer.status, 200, "{path} refers to {reference}");
        }
    }
}

#[tokio::test]
async fn the_root_is_the_game_if_there_is_one() {
    let server = Server::start(&[]).await;
    let address = server.addresses.http;
    let answer = get(address, "/").await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    if !Path::new(GAME).exists() {
        assert!(answer.body.contains("cargo client --server"));
        return;
    }
    assert_eq!(answer.body, std::fs::read_to_string(GAME).unwrap());
    assert_eq!(answer.header("cache-control"), Some("no-cache"));

    let wasm = references(&answer.body)
        .into_iter()
        .find(|reference| reference.ends_with(".wasm"))
        .expect("the page names its program");
    let plain = get(address, &wasm).await;
    assert_eq!(plain.header("content-type"), Some("application/wasm"));
    assert_eq!(plain.header("content-encoding"), None);
    assert!(plain.bytes.starts_with(b"\0asm"));
    assert_eq!(
        plain.header("cache-control"),
        Some("public, max-age=31536000, immutable")
    );
    let gzip = get_as(address, &wasm, "gzip").await;
    assert!(decompress(&gzip.bytes) == plain.bytes, "another program");
    let brotli = get_as(address, &wasm, "gzip, deflate, br, zstd").await;
    assert_eq!(brotli.header("content-encoding"), Some("br"));
    assert!(brotli.bytes.len() < gzip.bytes.len());
}

#[tokio::test]
async fn no_paths_but_the_files_are_served() {
    let server = Server::start(&[]).await;
    for path in [
        "/status/../Cargo.toml",
        "/status/%2e%2e/%2e%2e/Cargo.toml",
        "/status/..%2fstatus%2fuplot.js",
        "/status/uplot.js/",
        "/status/uplot.js%00",
        "/status/README.md",
        "/status/LICENSE-uPlot.txt",
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/%252e%252e%252f%252e%252e%252fetc%252fpasswd",
        "/..%252f..%252fetc/passwd",
        "/..%c0%af..%c0%afetc/passwd",
        "/%c0%ae%c0%ae/%c0%ae%c0%ae/etc/passwd",
        "/..%5c..%5cetc%5cpasswd",
        "/..\\..\\etc\\passwd",
        "/....//....//etc/passwd",
        "/..;/..;/etc/passwd",
        "/assets/web/index.html",
        "/index.html.br",
    ] {
        let answer = get(server.addresses.http, path).await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (404, "Не найдено"),
            "{path}"
        );
    }
    let answer = request(server.addresses.http, "POST", SCRIPT).await;
    assert_eq!(
        (answer.status, answer.header("allow")),
        (405, Some("GET, HEAD, OPTIONS"))
    );
}
