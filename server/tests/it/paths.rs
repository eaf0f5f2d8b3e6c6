//! Pages under a reverse proxy's path, other forms of their addresses, and what load balancers ask for.

use crate::http::{Answer, exchange, get, request, request_with};
use crate::support::Server;

/// Every page that has a name of its own.
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

/// Returns where a link on a page leads, as a browser resolves it (RFC 3986, 5.3), for paths without a query.
fn resolved(page: &str, link: &str) -> String {
    let mut names: Vec<_> = match link.starts_with('/') {
        true => vec![""],
        false => page.split('/').collect(),
    };
    names.pop();
    for name in link.trim_start_matches('/').split('/') {
        match name {
            ".." => drop(names.pop()),
            "." => {}
            name => names.push(name),
        }
    }
    // A dot at the end leaves a folder.
    let ends_open = link.ends_with('/') || link.ends_with('.');
    let path = names.join("/");
    let needs_slash = ends_open && !path.ends_with('/');
    format!(
        "{}{path}{}",
        if path.starts_with('/') { "" } else { "/" },
        if needs_slash { "/" } else { "" }
    )
}

/// Returns the links of a page to this server.
fn links(page: &str) -> Vec<&str> {
    let values =
        ["href=\"", "src=\"", "EventSource(\"", "fetch(\""].map(|name| page.split(name).skip(1));
    let values = values.into_iter().flatten();
    values.filter_map(|rest| rest.split('"').next()).collect()
}

#[test]
fn links_are_resolved_as_browsers_do() {
    for (page, link, expected) in [
        ("/game/status", "status/icon.svg", "/game/status/icon.svg"),
        ("/game/status", "./", "/game/"),
        ("/game/status/", "../status", "/game/status"),
        ("/game//", "../", "/game/"),
        ("/status", "/time.html", "/time.html"),
    ] {
        assert_eq!(resolved(page, link), expected, "{link} of {page}");
    }
}

/// What a proxy makes of the rest of a path under `/game`.
type Proxy = fn(&str) -> String;

/// Proxies by what they do with `/game`, and the flags of a server behind them.
const PROXIES: [(&str, Proxy, &[&str]); 3] = [
    ("removes it", |rest| rest.to_owned(), &[]),
    (
        "passes it on",
        |rest| format!("/game{rest}"),
        &["--http-path", "/game"],
    ),
    // nginx does this with `location /game` and `proxy_pass http://server/`.
    ("leaves a slash", |rest| format!("/{rest}"), &[]),
];

/// Asks for a page under `/game` as the browser does, through a proxy.
async fn get_under_game(server: &Server, path: &str, proxy: Proxy) -> Answer {
    let rest = path.strip_prefix("/game");
    let rest = rest.unwrap_or_else(|| panic!("{path} leads away from /game"));
    get(server.addresses.http, &proxy(rest)).await
}

#[tokio::test]
async fn pages_work_under_a_path_of_a_proxy() {
    for (does, proxy, flags) in PROXIES {
        let server = Server::start(flags).await;
        for page in ["/game/", "/game/status"] {
            let answer = get_under_game(&server, page, proxy).await;
            assert_eq!(answer.status, 200, "{page}, {does}");
            let mut found = links(&answer.body)
                .into_iter()
                .map(str::to_owned)
                .collect::<Vec<_>>();
            assert!(found.len() >= 5, "{found:?}");
            if page == "/game/status" {
                let script = get_under_game(&server, "/game/status/status.js", proxy).await;
                found.extend(links(&script.body).into_iter().map(str::to_owned));
                assert!(found.contains(&"status/events".to_owned()), "{found:?}");
            }
            for link in found.iter().filter(|link| *link != "status/events") {
                let path = resolved(page, link);
                let answer = get_under_game(&server, &path, proxy).await;
                // Metrics have one name, by which proxies block them.
                let status = if proxy("/metrics") == "//metrics" && link == "metrics" {
                    404
                } else {
                    200
                };
                assert_eq!(answer.status, status, "{link} of {page}, {does}");
            }
        }
        for (path, page) in [
            ("/game/status/", "/game/status"),
            ("/game/index.html", "/game/"),
            ("/game/STATUS", "/game/status"),
            ("/game/time.html/", "/game/time.html"),
        ] {
            let answer = get_under_game(&server, path, proxy).await;
            assert_eq!(answer.status, 307, "{path}, {does}");
            let location = answer.header("location").unwrap();
            assert_eq!(resolved(path, location), page, "{path}");
        }
    }
}

#[tokio::test]
async fn a_path_that_is_passed_on_has_a_socket_and_a_slash_at_its_end_and_leaves_the_pages_at_the_root()
 {
    let server = Server::start(&["--http-path", "game/"]).await;
    let address = server.addresses.http;
    let bare = get(address, "/game?room=den").await;
    let location = bare.header("location").unwrap();
    assert_eq!((bare.status, location), (307, "./game/?room=den"));
    assert_eq!(get(address, "/healthz").await.status, 200);
    let upgrade = "GET /game/ws HTTP/1.1\r\nHost: a.example\r\nOrigin: https://a.example\r\nConnection: Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    // The server ends the socket because no greeting comes.
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, upgrade.as_bytes())
        .await
        .unwrap();
    let mut head = [0; 12];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut head)
        .await
        .unwrap();
    assert_eq!(&head, b"HTTP/1.1 101");
}

#[tokio::test]
async fn a_page_under_an_unknown_path_says_what_to_do() {
    let server = Server::start(&[]).await;
    for path in ["/game/", "/game/status", "/a/b/healthz"] {
        let answer = get(server.addresses.http, path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.body.contains("--http-path"), "{}", answer.body);
    }
}

#[tokio::test]
async fn a_redirect_keeps_the_query_and_leads_to_no_other_server() {
    let server = Server::start(&[]).await;
    for (path, location) in [
        ("/index.html?room=den&name=A%26B", "./?room=den&name=A%26B"),
        ("/status/?", "../status?"),
        ("//status/", "../status"),
        ("/status//", "../../status"),
    ] {
        let answer = get(server.addresses.http, path).await;
        let found = (answer.status, answer.header("location"));
        assert_eq!(found, (307, Some(location)), "{path}");
    }
    assert_eq!(
        get(server.addresses.http, "//evil.example/").await.status,
        404
    );
}

#[tokio::test]
async fn every_page_answers_head_as_get_and_says_what_it_understands() {
    let server = Server::start(&[]).await;
    let address = server.addresses.http;
    for page in PAGES {
        let (full, head) = (
            get(address, page).await,
            request(address, "HEAD", page).await,
        );
        assert_eq!((full.status, head.status), (200, 200), "{page}");
        for name in ["content-type", "cache-control", "etag", "vary"] {
            assert_eq!(full.header(name), head.header(name), "{page} {name}");
        }
        // Metrics change from one request to the next.
        assert!(head.header("content-length").is_some() && head.bytes.is_empty());
        let options = request(address, "OPTIONS", page).await;
        let allow = options.header("allow");
        assert_eq!((options.status, allow), (204, Some("GET, HEAD, OPTIONS")));
        assert!(options.bytes.is_empty() && options.header("content-length").is_none());
        let posted = request(address, "POST", page).await;
        let allow = posted.header("allow");
        assert_eq!((posted.status, allow), (405, Some("GET, HEAD, OPTIONS")));
    }
    let head = request(address, "HEAD", "/status/events").await;
    assert_eq!((head.status, head.bytes.len()), (200, 0));
    let robots = get(address, "/robots.txt").await.body;
    assert!(robots.contains("Disallow: /status\n"), "{robots}");
    let icon = get(address, "/favicon.ico").await;
    assert_eq!(icon.header("content-type"), Some("image/svg+xml"));
}

#[tokio::test]
async fn load_balancers_get_what_they_expect() {
    let server = Server::start(&[]).await;
    let own = server.addresses.http;
    for (bytes, expected) in [
        // HAProxy's `option httpchk` without arguments.
        ("OPTIONS / HTTP/1.0\r\n\r\n".to_owned(), "HTTP/1.0 204 "),
        (
            "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned(),
            "HTTP/1.1 204 ",
        ),
        ("GET /healthz HTTP/1.0\r\n\r\n".to_owned(), "HTTP/1.0 200 "),
        ("HEAD /healthz HTTP/1.0\r\n\r\n".to_owned(), "HTTP/1.0 200 "),
        (
            "GET /healthz HTTP/1.0\r\nHost: localhost\r\nUser-Agent: check_http/v2.3\r\n\r\n"
                .to_owned(),
            "HTTP/1.0 200 ",
        ),
        // AWS names the target's address and closes after each answer.
        (
            format!(
                "GET / HTTP/1.1\r\nHost: {own}\r\nConnection: close\r\nUser-Agent: ELB-HealthChecker/2.0\r\nAccept-Encoding: gzip, compressed\r\n\r\n"
            ),
            "HTTP/1.1 200 ",
        ),
        (
            format!(
                "GET /healthz HTTP/1.1\r\nHost: {own}\r\nUser-Agent: kube-probe/1.31\r\nAccept: */*\r\nConnection: close\r\n\r\n"
            ),
            "HTTP/1.1 200 ",
        ),
    ] {
        let answer = exchange(&server, bytes.as_bytes()).await;
        assert!(answer.starts_with(expected), "{bytes}: {answer}");
    }
    let player = server.join("Anna").await;
    server.begin_stop();
    let answer = exchange(&server, b"OPTIONS / HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 503 "), "{answer}");
    drop(player);
}

#[tokio::test]
async fn an_absolute_target_names_the_server_whatever_host_says() {
    let server = Server::start(&[]).await;
    let request = "GET http://game.localhost/status HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n";
    let answer = exchange(&server, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("--server game.localhost:"), "{answer}");
    assert!(answer.contains("ws://game.localhost "), "{answer}");
    let answer = request_with(server.addresses.http, "GET", "http://game.localhost", &[]).await;
    assert_eq!(answer.status, 200);
}
