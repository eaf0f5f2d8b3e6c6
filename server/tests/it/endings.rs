//! How connections to the pages end: announced where HTTP can announce it, and never with an answer
//! that is lost.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::{Server, soon};
use crate::tls::Pair;

const GET: &str = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";

/// A client that keeps its connection, over any stream.
struct Keeper<S>(BufReader<S>);

/// The head of an answer, in lower case, and its body.
#[derive(Debug)]
struct Answer {
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn is_last(&self) -> bool {
        self.head.contains("connection: close\r\n")
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Keeper<S> {
    /// Sends a request and returns the answer, or `None` if the connection ends without one.
    async fn ask(&mut self, request: &str) -> Option<Answer> {
        self.0.write_all(request.as_bytes()).await.ok()?;
        self.answer().await
    }

    async fn answer(&mut self) -> Option<Answer> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = soon(self.0.read_line(&mut head)).await.ok()?;
            if read == 0 {
                return None;
            }
        }
        head.make_ascii_lowercase();
        let length = head.split("content-length: ").nth(1)?;
        let length = length.split("\r\n").next()?.parse().ok()?;
        let mut body = vec![0; length];
        soon(self.0.read_exact(&mut body)).await.ok()?;
        Some(Answer { head, body })
    }

    /// Waits for the end and returns whether it was a clean one, without further bytes.
    async fn ends(&mut self) -> bool {
        let mut rest = Vec::new();
        soon(self.0.read_to_end(&mut rest)).await.is_ok() && rest.is_empty()
    }
}

async fn keep(address: SocketAddr) -> Keeper<TcpStream> {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    Keeper(BufReader::new(stream))
}

/// Asks without a pause until an answer announces the end of the connection.
///
/// # Panics
/// A request gets no answer.
async fn ask_until_the_last<S: AsyncRead + AsyncWrite + Unpin>(
    mut client: Keeper<S>,
    request: &str,
) {
    while !client.ask(request).await.expect("an answer").is_last() {}
    assert!(client.ends().await);
}

#[tokio::test]
async fn a_busy_connection_loses_no_request_at_its_greatest_age() {
    // An end is announced from half of it on, which leaves a slow machine the other half.
    let flags = ["--http-lifetime", "4s"];
    let server = Server::start(&flags).await;
    let pair = Pair::new();
    let encrypted = pair.serve(&flags).await;
    let old = "GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let plain = [GET, old, GET, old].map(async |request| {
        ask_until_the_last(keep(server.addresses.http).await, request).await;
    });
    let over_tls = [(); 2].map(async |()| {
        let stream = pair.connect(encrypted.addresses.http).await;
        ask_until_the_last(Keeper(BufReader::new(stream)), GET).await;
    });
    tokio::join!(
        futures_util::future::join_all(plain),
        futures_util::future::join_all(over_tls)
    );
}

#[tokio::test]
async fn a_server_that_stops_announces_the_end_to_busy_connections() {
    for is_playing in [true, false] {
        let server = Server::start(&["--drain", "1s"]).await;
        // A player that stays connected keeps the server draining.
        let player = match is_playing {
            true => Some(server.join("Anna").await),
            false => None,
        };
        let mut client = keep(server.addresses.http).await;
        assert!(!client.ask(GET).await.unwrap().is_last());
        let mut other = keep(server.addresses.http).await;
        assert!(!other.ask(GET).await.unwrap().is_last());
        server.begin_stop();
        loop {
            let answer = client.ask(GET).await.expect("an answer before the end");
            if answer.is_last() {
                assert_eq!(answer.body, b"stopping\n");
                break;
            }
        }
        assert!(client.ends().await);
        drop(player);
        assert!(other.ends().await, "an idle connection ends too");
        server.stopped().await;
    }
}

#[tokio::test]
async fn whoever_still_reaches_a_server_that_stops_gets_an_answer() {
    let server = Server::start(&[]).await;
    let address = server.addresses.http;
    // Each answer is the last one, so these connect again for each request, until nobody listens.
    let ask = async |_| {
        while let Ok(stream) = TcpStream::connect(address).await {
            let mut client = Keeper(BufReader::new(stream));
            if client.ask(GET).await.is_none() {
                // It came between the last look at the listener and the listener's end.
                let next = TcpStream::connect(address).await;
                assert!(next.is_err(), "connected and not answered");
                return;
            }
            server.begin_stop();
        }
    };
    soon(futures_util::future::join_all((0..4).map(ask))).await;
    server.stopped().await;
}

#[tokio::test]
async fn a_client_that_has_sent_everything_still_gets_its_answer() {
    let server = Server::start(&[]).await;
    for path in ["/cubes.json", "/status", "/time.html", "/"] {
        let mut client = keep(server.addresses.http).await;
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        client.0.write_all(request.as_bytes()).await.unwrap();
        client.0.shutdown().await.unwrap();
        let answer = client.answer().await.expect(path);
        assert!(answer.head.starts_with("http/1.1 200 "), "{}", answer.head);
        assert!(client.ends().await);
    }
}

#[tokio::test]
async fn a_head_that_does_not_end_in_time_is_answered_with_408() {
    let server = Server::start(&[]).await;
    let first = ["GET /time.html HTTP/1.1\r\n", "G"].map(|part| (false, part));
    // The next request of a connection, too.
    let next = (true, "GET /time.html HTTP/1.1\r\nHo");
    let typing = first
        .into_iter()
        .chain([next])
        .map(async |(was_served, part)| {
            let mut client = keep(server.addresses.http).await;
            if was_served {
                client.ask(GET).await.unwrap();
            }
            let answer = client.ask(part).await.expect(part);
            assert!(answer.head.starts_with("http/1.1 408 "), "{}", answer.head);
            assert!(answer.is_last() && !answer.body.is_empty());
            assert!(client.ends().await);
        });
    let encrypted = async {
        let pair = Pair::new();
        let server = pair.serve(&[]).await;
        let stream = pair.connect(server.addresses.http).await;
        let mut client = Keeper(BufReader::new(stream));
        let answer = client.ask("GET / HTTP/1.1\r\n").await.unwrap();
        assert!(answer.head.starts_with("http/1.1 408 ") && client.ends().await);
    };
    // Browsers keep connections in reserve, and would show an answer that they did not ask for.
    let silent = async { assert!(keep(server.addresses.http).await.ends().await) };
    tokio::join!(futures_util::future::join_all(typing), encrypted, silent);
    server
        .counts("cubesync_http_cuts_total{reason=\"head_timeout\"} 4")
        .await;
}

#[tokio::test]
async fn an_idle_connection_ends_without_an_answer_and_was_told_when() {
    let server = Server::start(&[]).await;
    let mut client = keep(server.addresses.http).await;
    let answer = client.ask(GET).await.unwrap();
    assert!(
        answer.head.contains("keep-alive: timeout=5\r\n"),
        "{answer:?}"
    );
    assert!(client.ends().await);
    server
        .counts("cubesync_http_responses_total{status=\"200\"} 2")
        .await;
}

/// Sends a request whose bytes the server does not all read, and returns the head of the answer.
async fn answer_in_spite_of(address: SocketAddr, request: &[u8]) -> String {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let request = request.to_vec();
    // The answer may come before everything is sent.
    let sending = tokio::spawn(async move {
        let _ = writer.write_all(&request).await;
        writer
    });
    // Whoever reads late would find the answer destroyed by a reset.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut answer = String::new();
    soon(reader.read_to_string(&mut answer)).await.unwrap();
    drop(sending.await);
    answer.to_ascii_lowercase()
}

#[tokio::test]
async fn an_answer_survives_bytes_that_nobody_reads() {
    let server = Server::start(&["--max-http-connections-per-address", "1000"]).await;
    let body = "x".repeat(300_000);
    for (request, status) in [
        (
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n{body}"),
            413,
        ),
        (
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nxxxxxxxxx{GET}"),
            413,
        ),
        (
            format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}"),
            413,
        ),
        (format!("GET /{body} HTTP/1.1\r\nHost: a\r\n\r\n"), 431),
        (format!("no http\r\n\r\n{body}"), 400),
    ] {
        let answer = answer_in_spite_of(server.addresses.http, request.as_bytes()).await;
        let expected = format!("http/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{status}: {answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert_eq!(answer.matches("http/1.1 ").count(), 1, "{answer}");
    }
}

#[tokio::test]
async fn a_connection_too_many_reads_why() {
    let server = Server::start(&["--max-http-connections", "1"]).await;
    let mut first = keep(server.addresses.http).await;
    first.ask(GET).await.unwrap();
    let answer = answer_in_spite_of(server.addresses.http, GET.as_bytes()).await;
    assert!(answer.starts_with("http/1.1 503 "), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert!(answer.ends_with("too many connections, try again in a few seconds\n"));
}

#[tokio::test]
async fn other_protocols_are_refused_in_words() {
    let server = Server::start(&[]).await;
    let proxy_v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\x12\x34\x1f\x90";
    for (bytes, status, word) in [
        (
            &b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            400,
            "x-forwarded-for",
        ),
        (proxy_v2, 400, "x-forwarded-for"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "http/1.1"),
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", 400, "https"),
    ] {
        let answer = answer_in_spite_of(server.addresses.http, bytes).await;
        assert!(
            answer.starts_with(&format!("http/1.1 {status} ")),
            "{answer}"
        );
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(body.contains(word), "{answer}");
    }
}
