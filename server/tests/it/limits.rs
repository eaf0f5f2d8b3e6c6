//! The limits: the message for the peer, the counter, and that other players are not affected.

use cubesync_protocol::{ClientMessage, CloseCode, Hello, Message, RejectCode, ResumeToken};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::faults::closed_with;
use crate::files::SCRIPT;
use crate::handshake::{assert_rejected, rejected_hello};
use crate::http::{exchange, request_with};
use crate::support::{COLOUR, Client, Server, soon};

fn disconnects(reason: &str, count: u32) -> String {
    format!("cubesync_disconnects_total{{reason=\"{reason}\"}} {count}")
}

#[tokio::test]
async fn newcomers_who_say_nothing_leave_no_place_for_more_and_none_is_taken_from_players() {
    let server = Server::start(&["--max-pending", "2", "--hello-deadline", "5m"]).await;
    let _player = server.join("Anna").await;
    let (_first, second) = (server.connect().await, server.connect().await);
    server.counts("cubesync_pending_connections 2").await;
    let message = assert_rejected(server.connect().await, RejectCode::Full).await;
    assert!(message.contains("newcomers"), "{message}");
    server.counts(&disconnects("pending_full", 1)).await;
    drop(second);
    server.counts("cubesync_pending_connections 1").await;
    server.join("Boris").await;
}

#[tokio::test]
async fn an_incomplete_frame_is_cut_by_its_deadline() {
    let server = Server::start(&[]).await;
    let mut slow = server.join("slow").await;
    slow.client.send_bytes(&[0, 0]).await;
    assert_eq!(closed_with(&mut slow).await, CloseCode::BadMessage);
    let mut newcomer = server.connect().await;
    newcomer.send_bytes(&[0, 0, 0, 9, 1]).await;
    assert_rejected(newcomer, RejectCode::NotHello).await;
    server.counts(&disconnects("frame_too_slow", 2)).await;
}

#[tokio::test]
async fn bytes_have_a_limit_besides_that_of_messages() {
    let server = Server::start(&["--max-bytes", "4096", "--max-messages", "100000"]).await;
    let mut player = server.join("loud").await;
    let ping = ClientMessage::Ping { sent_us: u64::MAX }.to_frame();
    player
        .client
        .send_bytes(&ping.repeat(20_000 / ping.len()))
        .await;
    assert_eq!(closed_with(&mut player).await, CloseCode::TooManyMessages);
    server.counts(&disconnects("too_many_bytes", 1)).await;
}

#[tokio::test]
async fn a_frame_that_is_too_long_is_answered_with_a_reason() {
    let server = Server::start(&[]).await;
    let mut player = server.join("long").await;
    player.client.send_bytes(&[0, 0, 0x10, 1]).await;
    assert_eq!(closed_with(&mut player).await, CloseCode::BadMessage);
    server.counts(&disconnects("frame_too_long", 1)).await;
}

#[tokio::test]
async fn a_full_room_refuses_players_and_other_rooms_do_not() {
    let server = Server::start(&["--max-cubes", "2"]).await;
    let _first = server.join("Anna").await;
    let hello = Hello::new("lobby", "Boris", COLOUR);
    let message = rejected_hello(&server, hello, RejectCode::Full).await;
    assert!(message.contains("this room is full"), "{message}");
    server.counts(&disconnects("room_full", 1)).await;
    server.join_room("attic", "Boris").await;
}

#[tokio::test]
async fn a_full_room_gives_the_place_of_its_oldest_ghost_away() {
    let server = Server::start(&["--max-cubes", "4", "--resume-within", "5m"]).await;
    let watcher = server.join("watcher").await;
    let (first, second) = (server.join("first").await, server.join("second").await);
    let (gone, kept) = (first.cube(), second.cube());
    first.hang_up().await;
    server.counts(&disconnects("closed", 1)).await;
    second.hang_up().await;
    server.counts(&disconnects("closed", 2)).await;
    let newcomer = server.join("newcomer").await;
    assert!(newcomer.knows(gone).is_none());
    assert!(newcomer.knows(kept).is_some());
    assert!(newcomer.knows(watcher.cube()).is_some());
}

#[tokio::test]
async fn a_room_with_a_key_of_its_own_requires_that_key() {
    let server = Server::start(&["--room-key", "den=cave"]).await;
    let with_key = |room, key: &str| Hello {
        join_key: Some(key.into()),
        ..Hello::new(room, "Anna", COLOUR)
    };
    let message = rejected_hello(&server, with_key("den", "wrong"), RejectCode::JoinKey).await;
    assert!(message.contains("this room asks"), "{message}");
    for hello in [with_key("den", "cave"), with_key("lobby", "any")] {
        let mut client = server.connect().await;
        client.send(&ClientMessage::Hello(hello)).await;
        client.welcomed().await;
    }
    server.counts(&disconnects("wrong_key", 1)).await;
}

#[tokio::test]
async fn an_address_may_guess_only_a_few_keys() {
    let server = Server::start(&["--join-key", "right"]).await;
    let with_key = |key: &str| Hello {
        join_key: Some(key.into()),
        ..Hello::new("lobby", "Anna", COLOUR)
    };
    for _ in 0..12 {
        rejected_hello(&server, with_key("wrong"), RejectCode::JoinKey).await;
    }
    let message = rejected_hello(&server, with_key("right"), RejectCode::JoinKey).await;
    assert!(message.contains("in a minute"), "{message}");
    server.counts(&disconnects("wrong_key", 9)).await;
    server.counts(&disconnects("too_many_tries", 4)).await;
}

#[tokio::test]
async fn a_token_is_good_once_and_only_in_its_room() {
    let server = Server::start(&["--resume-within", "60s"]).await;
    let first = server.join_room("attic", "Anna").await;
    let (cube, token) = (first.cube(), first.welcome.resume);
    let return_to = async |room: &str, token| {
        let mut client: Client = server.connect().await;
        let hello = Hello {
            resume: Some(token),
            ..Hello::new(room, "Anna", COLOUR)
        };
        client.send(&ClientMessage::Hello(hello)).await;
        client.welcomed().await
    };
    let _elsewhere = return_to("cellar", token).await;
    server
        .counts("cubesync_resumes_total{outcome=\"unknown\"} 1")
        .await;
    let back = return_to("attic", token).await;
    assert_eq!(back.cube(), cube);
    let replayed = return_to("attic", token).await;
    assert_ne!(replayed.cube(), cube);
    let forged = return_to("attic", ResumeToken([7; 16])).await;
    assert_ne!(forged.cube(), cube);
    server
        .counts("cubesync_resumes_total{outcome=\"resumed\"} 1")
        .await;
    server
        .counts("cubesync_resumes_total{outcome=\"unknown\"} 3")
        .await;
}

#[tokio::test]
async fn illegal_moves_are_corrected_and_counted() {
    let server = Server::start(&["--max-speed", "1"]).await;
    let (mut anna, boris) = (server.join("Anna").await, server.join("Boris").await);
    anna.step(100_000).await;
    server
        .counts("cubesync_corrections_total{reason=\"speed\"} 1")
        .await;
    let pose = boris.welcome.pose;
    anna.sample(boris.cube(), pose).await;
    server
        .counts("cubesync_corrections_total{reason=\"authority\"} 1")
        .await;
}

#[tokio::test]
async fn an_http_connection_over_the_limit_is_answered_with_503_at_once() {
    let server = Server::start(&["--max-http-connections", "1"]).await;
    let mut first = TcpStream::connect(server.addresses.http).await.unwrap();
    first.write_all(b"GET").await.unwrap();
    let refused = async {
        loop {
            // The first connection may not have been accepted yet.
            let mut second = TcpStream::connect(server.addresses.http).await.unwrap();
            let mut answer = String::new();
            let read = soon(second.read_to_string(&mut answer)).await;
            if read.is_ok() && !answer.is_empty() {
                return answer;
            }
        }
    };
    let answer = soon(refused).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("too many connections"), "{answer}");
    drop(first);
    server
        .counts("cubesync_http_cuts_total{reason=\"full\"} 1")
        .await;
}

#[tokio::test]
async fn a_second_host_and_bodies_are_refused() {
    let server = Server::start(&[]).await;
    let length = ("Content-Length", "5");
    let chunked = ("Transfer-Encoding", "chunked");
    for (headers, status) in [
        (&[("Host", "evil.example")][..], 400),
        (&[length], 413),
        (&[chunked], 413),
        (&[length, chunked], 413),
    ] {
        let answer = request_with(server.addresses.http, "GET", "/time.html", headers).await;
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.head);
    }
    server
        .counts("cubesync_http_responses_total{status=\"413\"} 3")
        .await;
}

#[tokio::test]
async fn invalid_http_is_counted_by_its_problem() {
    let server = Server::start(&[]).await;
    let long = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "x".repeat(20_000)
    );
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(64));
    for (bytes, reason) in [
        (&b"\x16\x03\x01\x02\x00\x01\x00"[..], "bad_request"),
        (long.as_bytes(), "head_too_long"),
        (many.as_bytes(), "head_too_long"),
        (b"GET / HTTP/1.1\r\nHost", "head_timeout"),
    ] {
        let mut stream = TcpStream::connect(server.addresses.http).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // The server may answer a head that is too long with a reset.
        let _ = soon(stream.read_to_end(&mut answer)).await;
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{reason}");
    }
    for (reason, count) in [
        ("bad_request", 1),
        ("head_too_long", 2),
        ("head_timeout", 1),
    ] {
        let line = format!("cubesync_http_cuts_total{{reason=\"{reason}\"}} {count}");
        server.counts(&line).await;
    }
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_has_limits_of_its_own() {
    let flags = [
        "--trust-proxy",
        "127.0.0.1",
        "--max-requests-per-address",
        "1",
    ];
    let server = Server::start(&flags).await;
    let ask = async |client: &str| {
        let headers = [("X-Forwarded-For", client)];
        request_with(server.addresses.http, "GET", "/healthz", &headers)
            .await
            .status
    };
    // A burst is 16 seconds' worth; these take less than that many seconds.
    let mut refused = false;
    for _ in 0..60 {
        // The client forged the first address, which is ignored. The proxy added the second.
        refused |= ask("192.0.2.8, 192.0.2.7").await == 429;
    }
    assert!(refused, "too many requests are refused");
    assert_eq!(ask("192.0.2.8").await, 200);
}

#[tokio::test]
async fn a_trusted_proxys_connection_goes_on_after_requests_over_the_limit() {
    let flags = [
        "--trust-proxy",
        "127.0.0.1",
        "--max-requests-per-address",
        "1",
    ];
    let server = Server::start(&flags).await;
    let head = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n";
    // A burst is 16 of them. No header says for whom they come.
    let requests = format!("{head}\r\n").repeat(60) + head + "Connection: close\r\n\r\n";
    let answers = exchange(&server, requests.as_bytes()).await;
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 61);
    assert!(answers.matches("HTTP/1.1 429").count() > 8, "{answers}");
}

#[tokio::test]
async fn an_address_that_got_too_many_bytes_is_refused_and_others_are_not() {
    let flags = [
        "--trust-proxy",
        "127.0.0.1",
        "--max-requests-per-address",
        "100000",
    ];
    let server = Server::start(&flags).await;
    let ask = async |client: &str, method: &str| {
        let headers = [("X-Forwarded-For", client)];
        request_with(server.addresses.http, method, SCRIPT, &headers).await
    };
    let mut got_bytes = 0;
    let refusal = loop {
        let answer = ask("192.0.2.7", "GET").await;
        if answer.status != 200 {
            break answer;
        }
        got_bytes += answer.bytes.len();
    };
    assert_eq!(refusal.status, 429);
    assert!(refusal.body.contains("too many bytes"), "{}", refusal.body);
    assert!(got_bytes >= 32 << 20, "{got_bytes}");
    assert_eq!(ask("192.0.2.8", "GET").await.status, 200);
    assert_eq!(ask("192.0.2.7", "HEAD").await.status, 200, "it has no body");
}
