//! The pages, as a plain HTTP client sees them.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Server, soon};

pub struct Answer {
    pub status: u16,
    pub head: String,
    /// The body as text.
    pub body: String,
    pub bytes: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// Sends a request with further header lines.
pub async fn request_with(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Answer {
    let mut request =
        format!("{method} {path} HTTP/1.1\r\nHost: test.localhost:8080\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    soon(stream.read_to_end(&mut answer)).await.unwrap();
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let bytes = answer.split_off(end.expect("an answer has a head") + 4);
    let head = String::from_utf8(answer).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer {
        status,
        head,
        body: String::from_utf8_lossy(&bytes).into(),
        bytes,
    }
}

pub async fn request(address: SocketAddr, method: &str, path: &str) -> Answer {
    request_with(address, method, path, &[]).await
}

pub async fn get(address: SocketAddr, path: &str) -> Answer {
    request(address, "GET", path).await
}

#[tokio::test]
async fn the_time_page_is_html_with_its_exact_length_and_never_cached() {
    let server = Server::start(&[]).await;
    let answer = get(server.addresses.http, "/time.html").await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(
        answer.header("content-length"),
        Some(answer.body.len().to_string().as_str())
    );
    assert!(answer.body.contains("<title>Время</title>"));

    let head = request(server.addresses.http, "HEAD", "/time.html").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(
        head.header("content-length"),
        answer.header("content-length")
    );
}

#[tokio::test]
async fn unknown_paths_and_methods_are_answered_in_plain_text() {
    let server = Server::start(&[]).await;
    for path in ["/nothing", "/../etc/passwd", "/cubes.json?room=nowhere"] {
        let answer = get(server.addresses.http, path).await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (404, "Не найдено"),
            "{path}"
        );
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
    }
    let methods = ["POST", "DELETE", "BREW", "PUT", "TRACE", "CONNECT", "get"];
    for method in methods {
        let answer = request(server.addresses.http, method, "/time.html").await;
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.header("allow"), Some("GET, HEAD, OPTIONS"));
    }
}

#[tokio::test]
async fn cubes_are_listed_in_metres() {
    let server = Server::start(&["--tick", "60"]).await;
    let mut player = server.join("Вася").await;
    player.welcome.pose.position = cubesync_protocol::Position {
        x: 768,
        y: -1024,
        z: 256,
    };
    let pose = player.step(0).await;
    player.sees(player.cube(), pose).await;
    let answer = get(server.addresses.http, "/cubes.json").await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let room: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(
        (&room["room"], &room["tick_hz"]),
        (&"lobby".into(), &60.into())
    );
    assert_eq!((&room["role"], room.get("owner")), (&"owner".into(), None));
    assert_eq!(room["cubes"][0]["kind"], "free");
    let own = &room["cubes"][1];
    assert_eq!(
        (&own["name"], &own["colour"]),
        (&"Вася".into(), &"#0ac81e".into())
    );
    assert_eq!(own["position"], serde_json::json!([1.5, -2.0, 0.5]));

    let _other = server.join_room("attic", "Anna").await;
    let answer = get(server.addresses.http, "/cubes.json?room=attic").await;
    assert!(answer.body.contains("Anna") && !answer.body.contains("Вася"));
}

#[tokio::test]
async fn the_status_page_shows_the_players_and_how_to_join() {
    let server = Server::start(&[]).await;
    let _player = server.join("<Вася>").await;
    let answer = get(server.addresses.http, "/status").await;
    let port = server.addresses.tcp.port();
    assert!(
        answer
            .body
            .contains(&format!("cargo client --server test.localhost:{port}"))
    );
    assert!(answer.body.contains("&lt;Вася&gt;") && !answer.body.contains("<Вася>"));
}

#[tokio::test]
async fn metrics_count_what_happens() {
    let server = Server::start(&["--tick", "60"]).await;
    let mut player = server.join("Anna").await;
    let pose = player.step(100).await;
    player.sees(player.cube(), pose).await;
    for line in [
        "cubesync_connections 1",
        "cubesync_rooms 1",
        "cubesync_cubes 2",
    ] {
        server.counts(line).await;
    }
    let metrics = get(server.addresses.http, "/metrics").await;
    assert!(
        metrics
            .header("content-type")
            .unwrap()
            .starts_with("application/openmetrics-text")
    );
    let value = |name: &str| -> f64 {
        let line = metrics
            .body
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(value("cubesync_received_frames_total"), 2.0);
    assert!(value("cubesync_received_bytes_total") > 30.0);
    assert!(value("cubesync_sent_frames_total") >= 3.0);
    assert!(value("cubesync_sent_bytes_total") > 100.0);
    assert!(value("cubesync_ticks_total") >= 1.0);
    assert!(value("cubesync_tick_duration_seconds_count") >= 1.0);
    player.hang_up().await;
    server
        .counts("cubesync_disconnects_total{reason=\"closed\"} 1")
        .await;
    server.counts("cubesync_cubes 1").await;
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut() {
    let server = Server::start(&[]).await;
    let mut stream = TcpStream::connect(server.addresses.http).await.unwrap();
    stream
        .write_all(b"GET /time.html HTTP/1.1\r\nHost: te")
        .await
        .unwrap();
    let mut answer = Vec::new();
    // The head's deadline closes it, with or without a response.
    let _ = soon(stream.read_to_end(&mut answer)).await;
    let mut stream = TcpStream::connect(server.addresses.http).await.unwrap();
    let mut head = b"GET /time.html HTTP/1.1\r\nHost: test\r\n".to_vec();
    for number in 0..65 {
        head.extend_from_slice(format!("X-{number}: 1\r\n").as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    stream.write_all(&head).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

/// Sends bytes as they are and returns everything that the server sends until the end.
pub async fn exchange(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.addresses.http).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    soon(stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_head_that_two_programs_could_read_differently_is_refused_and_ends_the_connection() {
    const HIDDEN: &str = "0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let server = Server::start(&[]).await;
    for headers in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "X-Bare: a\rX-Other: b\r\n",
        "X-Nul: a\0b\r\n",
    ] {
        let request = format!("POST /time.html HTTP/1.1\r\nHost: a\r\n{headers}\r\n{HIDDEN}");
        let answer = exchange(&server, request.as_bytes()).await;
        let is_refused = answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.1 413 ");
        assert!(is_refused, "{headers:?}: {answer}");
        assert_eq!(
            answer.matches("HTTP/1.1 ").count(),
            1,
            "{headers:?}: {answer}"
        );
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_and_http_1_0_is_understood() {
    let server = Server::start(&[]).await;
    let mut requests = "GET /time.html HTTP/1.1\r\nHost: a\r\n\r\n".repeat(19);
    requests += "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answers = exchange(&server, requests.as_bytes()).await;
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 20);
    assert!(answers.ends_with("serving\n"));
    let answer = exchange(&server, b"GET /time.html HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
}
