//! The protocol over WebSockets at `/ws`.

use bytes::BytesMut;
use cubesync_protocol::{
    ClientMessage, CloseCode, Hello, Message as _, RejectCode, ServerMessage, frame,
};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::support::{COLOUR, Crowd, Server, soon, tight_stream};

pub struct Browser {
    socket: WebSocketStream<TcpStream>,
    received: BytesMut,
}

impl Browser {
    /// Connects as the server's own page does.
    async fn open(server: &Server) -> Self {
        let stream = TcpStream::connect(server.addresses.http).await.unwrap();
        Self::open_on(server, stream).await
    }

    /// Connects through a proxy, from an address behind it.
    pub async fn open_from(server: &Server, address: &str) -> Self {
        let stream = TcpStream::connect(server.addresses.http).await.unwrap();
        Self::open_as(server, stream, &[("X-Forwarded-For", address)]).await
    }

    async fn open_on(server: &Server, stream: TcpStream) -> Self {
        Self::open_as(server, stream, &[]).await
    }

    async fn open_as(server: &Server, stream: TcpStream, headers: &[(&'static str, &str)]) -> Self {
        let address = server.addresses.http;
        let mut request = format!("ws://{address}/ws").into_client_request().unwrap();
        let origin = format!("http://{address}");
        for (name, value) in headers.iter().chain(&[("Origin", origin.as_str())]) {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let (socket, _) = tokio_tungstenite::client_async(request, stream)
            .await
            .unwrap();
        Self {
            socket,
            received: BytesMut::new(),
        }
    }

    async fn join(server: &Server, name: &str) -> (Self, cubesync_protocol::Welcome) {
        let mut browser = Self::open(server).await;
        browser
            .send(&[ClientMessage::Hello(Hello::new("lobby", name, COLOUR))])
            .await;
        let welcome = browser.welcome().await;
        assert!(matches!(
            browser.receive().await,
            Some(ServerMessage::Keyframe(_))
        ));
        (browser, welcome)
    }

    pub async fn welcome(&mut self) -> cubesync_protocol::Welcome {
        match self.receive().await {
            Some(ServerMessage::Welcome(welcome)) => welcome,
            other => panic!("{other:?}"),
        }
    }

    /// Returns the reason why the server does not serve this connection, which it closes cleanly.
    pub async fn refused(mut self) -> (RejectCode, String) {
        let Some(ServerMessage::Reject { code, message }) = self.receive().await else {
            panic!("no reject");
        };
        assert!(self.receive().await.is_none());
        assert!(soon(self.socket.next()).await.is_none());
        (code, message)
    }

    /// Sends messages as the frames of one binary message.
    pub async fn send(&mut self, messages: &[ClientMessage]) {
        let mut frames = BytesMut::new();
        for message in messages {
            message.append_frame(&mut frames);
        }
        self.socket
            .send(Message::Binary(frames.freeze()))
            .await
            .unwrap();
    }

    /// Returns the next message, or `None` at the end.
    pub async fn receive(&mut self) -> Option<ServerMessage> {
        loop {
            let limit = ServerMessage::MAX_PAYLOAD_BYTES;
            if let Some(payload) = frame::split(&mut self.received, limit).unwrap() {
                return Some(ServerMessage::decode(&payload).unwrap());
            }
            match soon(self.socket.next()).await {
                Some(Ok(Message::Binary(bytes))) => self.received.extend_from_slice(&bytes),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(other)) => panic!("{other:?}"),
            }
        }
    }

    pub async fn find<T>(&mut self, mut pick: impl FnMut(ServerMessage) -> Option<T>) -> T {
        loop {
            let message = self.receive().await.expect("the connection should be open");
            if let Some(found) = pick(message) {
                return found;
            }
        }
    }
}

fn closing(message: ServerMessage) -> Option<CloseCode> {
    match message {
        ServerMessage::Closing { code, .. } => Some(code),
        _ => None,
    }
}

#[tokio::test]
async fn clients_over_websocket_and_tcp_see_each_other_move() {
    let server = Server::start(&["--tick", "60"]).await;
    let mut window = server.join("window").await;
    let (mut browser, welcome) = Browser::join(&server, "browser").await;

    let pose = window.step(100).await;
    // The browser's own join is in its keyframe.
    let seen = browser
        .find(|message| match message {
            ServerMessage::Snapshot(snapshot) => Some(snapshot),
            _ => None,
        })
        .await;
    // Both clients receive the same.
    let tick = seen.tick;
    window.sees(window.cube(), pose).await;

    let mut pose = welcome.pose;
    pose.position.y += 200;
    let placed = vec![cubesync_protocol::CubePose {
        cube: welcome.cube,
        pose,
    }];
    let sample = ClientMessage::Sample {
        tick: tick + 1,
        placed,
        residuals: Default::default(),
    };
    browser
        .send(&[ClientMessage::Ping { sent_us: 5 }, sample])
        .await;
    window.sees(welcome.cube, pose).await;
    let pong = |message| matches!(message, ServerMessage::Pong { sent_us: 5, .. }).then_some(());
    browser.find(pong).await;
}

#[tokio::test]
async fn a_reloaded_page_gets_its_cube_back() {
    let server = Server::start(&["--tick", "60", "--resume-within", "15s"]).await;
    let (browser, first) = Browser::join(&server, "browser").await;
    drop(browser);
    let mut again = Browser::open(&server).await;
    let hello = Hello {
        resume: Some(first.resume),
        ..Hello::new("lobby", "browser", COLOUR)
    };
    again.send(&[ClientMessage::Hello(hello)]).await;
    assert_eq!(again.welcome().await.cube, first.cube);
}

#[tokio::test]
async fn a_bad_hello_is_rejected_with_a_reason_and_closed_cleanly() {
    let server = Server::start(&[]).await;
    let mut browser = Browser::open(&server).await;
    browser
        .send(&[ClientMessage::Hello(Hello::new("lobby", " ", COLOUR))])
        .await;
    let Some(ServerMessage::Reject { code, .. }) = browser.receive().await else {
        panic!("no reject");
    };
    assert_eq!(code, RejectCode::Name);
    assert!(matches!(
        soon(browser.socket.next()).await,
        Some(Ok(Message::Close(_)))
    ));
    assert!(soon(browser.socket.next()).await.is_none());
}

#[tokio::test]
async fn invalid_messages_end_the_connection() {
    let server = Server::start(&["--tick", "60"]).await;
    let (mut browser, _) = Browser::join(&server, "a").await;
    browser
        .socket
        .send(Message::Binary(vec![0, 0, 0, 1, 99].into()))
        .await
        .unwrap();
    assert_eq!(browser.find(closing).await, CloseCode::BadMessage);
    assert_eq!(browser.receive().await, None);

    let (mut browser, _) = Browser::join(&server, "b").await;
    browser
        .socket
        .send(Message::Text("hello".into()))
        .await
        .unwrap();
    assert_eq!(browser.find(closing).await, CloseCode::BadMessage);
    assert_eq!(browser.receive().await, None);

    let (mut browser, _) = Browser::join(&server, "c").await;
    let flood = Message::Binary(vec![0; 64 * 1024].into());
    // The server may close while this is still being sent.
    let _ = browser.socket.send(flood).await;
    while browser.receive().await.is_some() {}
    let reason =
        |reason: &str, count| format!("cubesync_disconnects_total{{reason=\"{reason}\"}} {count}");
    server.counts(&reason("bad_message", 2)).await;
    server.counts(&reason("frame_too_long", 1)).await;
    server.counts("cubesync_cubes 1").await;
    server.counts("cubesync_connections 0").await;
}

#[tokio::test]
async fn wrong_websocket_frames_end_the_connection_with_a_reason() {
    let server = Server::start(&["--tick", "60"]).await;
    // With a mask of zero, the payloads stand unchanged in the frames.
    let giant_ping = [&[0x89, 0x80 | 126, 0x0F, 0xA0, 0, 0, 0, 0][..], &[7; 4_000]].concat();
    let claimed = [
        &[0x82, 0x80 | 127][..],
        &(1u64 << 62).to_be_bytes(),
        &[0; 4],
    ]
    .concat();
    let ping = [0, 0, 0, 1, 4];
    let headed = |first: u8| [&[first, 0x80 | 5, 0, 0, 0, 0][..], &ping].concat();
    let frames = [
        [&[0x82, 5][..], &ping].concat(),
        headed(0x82 | 0x70),
        headed(0x83),
        giant_ping,
        claimed,
    ];
    for frame in frames {
        let (mut browser, _) = Browser::join(&server, "a").await;
        browser.socket.get_mut().write_all(&frame).await.unwrap();
        let code = browser.find(closing).await;
        assert_eq!(code, CloseCode::BadMessage, "{frame:?}");
        assert_eq!(browser.receive().await, None);
    }
    for (reason, count) in [("bad_message", 4), ("frame_too_long", 1)] {
        let line = format!("cubesync_disconnects_total{{reason=\"{reason}\"}} {count}");
        server.counts(&line).await;
    }
}

#[tokio::test]
async fn an_incomplete_message_is_cut_by_its_deadline_and_its_parts_count_as_bytes() {
    let part = |kind, bytes: &[u8]| {
        let bytes = bytes.to_vec();
        Message::Frame(Frame::message(bytes, OpCode::Data(kind), false))
    };
    let server = Server::start(&[]).await;
    let (mut browser, _) = Browser::join(&server, "never done").await;
    browser
        .socket
        .send(part(Data::Binary, &[0, 0]))
        .await
        .unwrap();
    assert_eq!(browser.find(closing).await, CloseCode::BadMessage);
    let slow = "cubesync_disconnects_total{reason=\"frame_too_slow\"} 1";
    server.counts(slow).await;

    let server = Server::start(&["--max-bytes", "4096"]).await;
    let (mut browser, _) = Browser::join(&server, "endless").await;
    browser.socket.send(part(Data::Binary, &[])).await.unwrap();
    for _ in 0..2_000 {
        // The server may close while this is still being sent.
        let _ = browser.socket.send(part(Data::Continue, &[])).await;
    }
    while browser.receive().await.is_some() {}
    let many = "cubesync_disconnects_total{reason=\"too_many_bytes\"} 1";
    server.counts(many).await;
}

#[tokio::test]
async fn browsers_get_a_message_when_the_server_stops() {
    let server = Server::start(&[]).await;
    let (mut browser, _) = Browser::join(&server, "a").await;
    server.begin_stop();
    assert_eq!(browser.find(closing).await, CloseCode::ShuttingDown);
    assert_eq!(browser.receive().await, None);
    drop(browser);
    server.stopped().await;
}

#[tokio::test]
async fn a_tab_that_never_reads_is_cut() {
    let server = Server::start(&[
        "--tick",
        "128",
        "--max-speed",
        "0",
        "--slow-reader-after",
        "200ms",
    ])
    .await;
    let stream = tight_stream(server.addresses.http).await;
    let mut sleeper = Browser::open_on(&server, stream).await;
    sleeper
        .send(&[ClientMessage::Hello(Hello::new("lobby", "sleeper", COLOUR))])
        .await;
    let mut crowd = Crowd::join(&server, 200).await;
    let slow = "cubesync_disconnects_total{reason=\"slow_reader\"} 1";
    crowd.jump_until(server.counts(slow)).await;
    drop(sleeper);
}

/// Returns the status of an upgrade request with further headers, which is 101 for a WebSocket.
async fn status(server: &Server, headers: &str) -> u16 {
    let mut stream = TcpStream::connect(server.addresses.http).await.unwrap();
    let request = format!(
        "GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{headers}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    soon(stream.read_exact(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer[9..]).parse().unwrap()
}

#[tokio::test]
async fn only_valid_requests_from_allowed_origins_become_websockets() {
    let allowed = "https://friend.example,http://game.example:8080";
    let server = Server::start(&["--allow-origin", allowed]).await;
    let host = "Host: game.example:8080";
    let key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    for (headers, expected) in [
        (format!("{host}\r\n{key}"), 101),
        (
            format!("{host}\r\n{key}\r\nOrigin: http://game.example:8080"),
            101,
        ),
        (
            format!("{host}\r\n{key}\r\nOrigin: https://friend.example"),
            101,
        ),
        (
            format!("{host}\r\n{key}\r\nOrigin: https://enemy.example"),
            403,
        ),
        (
            format!("{host}\r\n{key}\r\nOrigin: http://game.example:8081"),
            403,
        ),
        (
            format!("{host}\r\n{key}\r\nOrigin: http://game.example:8080.evil"),
            403,
        ),
        (format!("{host}\r\n{key}\r\nOrigin: null"), 403),
        (
            format!("{host}\r\n{key}\r\nOrigin: http://game.example:8080\r\nOrigin: null"),
            403,
        ),
        (key.to_owned(), 400),
        (format!("{host}\r\n{host}\r\n{key}"), 400),
        (host.to_owned(), 426),
        (format!("{host}\r\n{}", key.replace("13", "8")), 426),
        (format!("{host}\r\n{}", key.replace("dGhl", "")), 400),
    ] {
        assert_eq!(status(&server, &headers).await, expected, "{headers}");
    }
}

#[tokio::test]
async fn a_page_whose_name_only_resolves_to_this_server_is_not_its_own() {
    let key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let with =
        |host: &str, scheme: &str| format!("Host: {host}\r\n{key}\r\nOrigin: {scheme}://{host}");
    let foreign = "evil.example:8080";
    let server = Server::start(&["--allow-origin", "http://game.club.example:8080"]).await;
    for (host, scheme, expected) in [
        (foreign, "http", 403),
        ("localhost.evil.example", "http", 403),
        ("127.0.0.1:8080", "http", 101),
        ("192.168.1.5:8080", "http", 101),
        ("[::1]:8080", "http", 101),
        ("localhost:8080", "http", 101),
        ("annas-pc:8080", "http", 101),
        ("annas-pc.local:8080", "http", 101),
        ("game.club.example:8080", "http", 101),
        // A proxy with a certificate of that name is in front.
        (foreign, "https", 101),
    ] {
        let answered = status(&server, &with(host, scheme)).await;
        assert_eq!(answered, expected, "{scheme}://{host}");
    }
    // A program that is no browser names what it likes.
    assert_eq!(
        status(&server, &format!("Host: {foreign}\r\n{key}")).await,
        101
    );

    // What pages tell of players is refused too, and how to allow it is said.
    for (path, expected) in [
        ("/cubes.json", 403),
        ("/status", 403),
        ("/status/events", 403),
        ("/ws?origin=http%3A%2F%2Fevil.example%3A8080", 403),
        ("/healthz", 200),
        ("/metrics", 200),
        ("/time.html", 200),
    ] {
        let target = format!("http://{foreign}{path}");
        let answer = crate::http::get(server.addresses.http, &target).await;
        assert_eq!(answer.status, expected, "{path}");
        let mends = answer
            .body
            .contains("--allow-origin http://evil.example:8080");
        assert_eq!(mends, expected == 403, "{}", answer.body);
    }

    // The proxy that the operator trusts decides about its own names.
    let server = Server::start(&["--trust-proxy", "127.0.0.1"]).await;
    assert_eq!(status(&server, &with(foreign, "http")).await, 101);
}

#[tokio::test]
async fn an_address_over_its_budget_is_read_later_and_nobody_is_ended() {
    // Behind this proxy, players come from any address.
    let flags = [
        "--trust-proxy",
        "127.0.0.1",
        "--max-messages-per-address",
        "20",
    ];
    let server = Server::start(&flags).await;
    let mut players = Vec::new();
    for name in ["Anna", "Boris", "Clara"] {
        let mut player = Browser::open_from(&server, "192.0.2.1").await;
        let hello = Hello::new("lobby", name, COLOUR);
        player.send(&[ClientMessage::Hello(hello)]).await;
        player.welcome().await;
        players.push(player);
    }
    // Each is far within its own limit. Together they send five seconds' worth at once, of which two are the
    // burst.
    let ping = ClientMessage::Ping { sent_us: 7 };
    let messages = [vec![ping; 32], vec![ClientMessage::Leave]].concat();
    for player in &mut players {
        player.send(&messages).await;
    }
    let left = "cubesync_disconnects_total{reason=\"left\"} 3";
    server.counts(left).await;
    let over = "cubesync_over_budget_total{what=\"messages\"} ";
    // The proxy itself may have asked too often.
    let waited = async {
        loop {
            let metrics = crate::http::get(server.addresses.http, "/metrics").await;
            let mut lines = metrics.body.lines();
            if let Some(count) = lines.find_map(|line| line.strip_prefix(over)) {
                return count.parse::<u32>().unwrap();
            }
        }
    };
    assert!(soon(waited).await > 0);
}

#[tokio::test]
async fn who_says_nothing_makes_place_for_newcomers_from_other_addresses() {
    let flags = [
        "--trust-proxy",
        "127.0.0.1",
        "--max-pending",
        "2",
        "--hello-deadline",
        "5m",
    ];
    let server = Server::start(&flags).await;
    let first = Browser::open_from(&server, "192.0.2.1").await;
    let _second = Browser::open_from(&server, "192.0.2.1").await;
    server.counts("cubesync_pending_connections 2").await;
    let mut anna = Browser::open_from(&server, "192.0.2.2").await;
    let (code, _) = first.refused().await;
    assert_eq!(code, RejectCode::Full);
    let hello = Hello::new("lobby", "Anna", COLOUR);
    anna.send(&[ClientMessage::Hello(hello)]).await;
    anna.welcome().await;
    let counted = "cubesync_disconnects_total{reason=\"pending_full\"} 1";
    server.counts(counted).await;
}

#[tokio::test]
async fn what_a_proxy_passes_on_as_this_machine_is_limited_like_anybody() {
    let flags = [
        "--trust-proxy",
        "127.0.0.1",
        "--max-connections-per-address",
        "1",
    ];
    let server = Server::start(&flags).await;
    let mut players = Vec::new();
    for told in ["127.0.0.1", "::1", "127.0.0.2"] {
        players.push(Browser::open_from(&server, told).await);
        let (code, _) = Browser::open_from(&server, told).await.refused().await;
        assert_eq!(code, RejectCode::Full, "{told}");
    }
    let (code, _) = Browser::open_from(&server, "::ffff:127.0.0.1")
        .await
        .refused()
        .await;
    assert_eq!(code, RejectCode::Full, "it is the first one again");
    // This machine itself comes in at the other port as often as it likes.
    let _players = [server.join("Anna").await, server.join("Boris").await];
}

#[tokio::test]
async fn the_networks_of_a_customer_of_ipv6_share_the_places_of_a_few_addresses() {
    let flags = [
        "--trust-proxy",
        "127.0.0.1",
        "--max-connections-per-address",
        "1",
    ];
    let server = Server::start(&flags).await;
    let mut players = Vec::new();
    for (address, is_let_in) in [
        ("2001:db8:7:1::1", true),
        ("2001:db8:7:1::2", false),
        ("2001:db8:7:2::1", true),
        ("2001:db8:7:3::1", false),
        ("2001:db8:7:100::1", true),
        ("2001:db8:7:200::1", true),
        ("2001:db8:7:300::1", false),
        ("2001:db8:8:1::1", true),
        ("2002:c000:201:1::1", true),
        ("192.0.2.1", false),
        ("64:ff9b::c000:201", false),
        ("64:ff9b::c000:202", true),
    ] {
        let player = Browser::open_from(&server, address).await;
        if is_let_in {
            players.push((address, player));
        } else {
            let (code, _) = player.refused().await;
            assert_eq!(code, RejectCode::Full, "{address}");
        }
    }
    for (address, mut player) in players {
        let hello = Hello::new("lobby", "Anna", COLOUR);
        player.send(&[ClientMessage::Hello(hello)]).await;
        let first = player.receive().await;
        assert!(
            matches!(first, Some(ServerMessage::Welcome(_))),
            "{address}: {first:?}"
        );
    }
}

#[tokio::test]
async fn a_websocket_over_a_limit_opens_to_say_so() {
    let limits = [
        "--max-connections",
        "2",
        "--max-connections-per-address",
        "1",
    ];
    let flags = [&["--trust-proxy", "127.0.0.1"], &limits[..]].concat();
    let server = Server::start(&flags).await;
    let _first = Browser::open_from(&server, "192.0.2.1").await;
    let (code, message) = Browser::open_from(&server, "192.0.2.1")
        .await
        .refused()
        .await;
    assert_eq!(code, RejectCode::Full);
    assert!(message.contains("from your address"), "{message}");
    server
        .counts("cubesync_disconnects_total{reason=\"address_full\"} 1")
        .await;
    let _second = Browser::open_from(&server, "192.0.2.2").await;
    let (code, message) = Browser::open_from(&server, "192.0.2.3")
        .await
        .refused()
        .await;
    assert_eq!(code, RejectCode::Full);
    assert!(message.contains("the server is full"), "{message}");
    server
        .counts("cubesync_disconnects_total{reason=\"server_full\"} 1")
        .await;
}

#[tokio::test]
async fn a_refused_websocket_counts_as_a_page_while_it_is_told() {
    let flags = ["--max-connections", "1", "--max-http-connections", "1"];
    let server = Server::start(&flags).await;
    let _player = server.join("Anna").await;
    let crowded = async {
        loop {
            let mut refused = Browser::open(&server).await;
            let answer = crate::http::get(server.addresses.http, "/healthz").await;
            assert!(matches!(
                refused.receive().await,
                Some(ServerMessage::Reject { .. })
            ));
            // A machine that was busy for a second has closed it before.
            if answer.status == 503 {
                return answer.body;
            }
        }
    };
    let body = soon(crowded).await;
    assert!(body.contains("too many connections"), "{body}");
}

#[tokio::test]
async fn a_stopping_server_says_so_to_a_new_websocket() {
    let server = Server::start(&[]).await;
    // A player that stays connected keeps the server draining.
    let player = server.join("Anna").await;
    server.begin_stop();
    let (code, _) = Browser::open(&server).await.refused().await;
    assert_eq!(code, RejectCode::ShuttingDown);
    drop(player);
    server.stopped().await;
}

#[tokio::test]
async fn a_page_that_got_no_websocket_learns_why() {
    let server = Server::start(&["--max-http-connections", "2"]).await;
    let address = server.addresses.http;
    let ask = async |origin: &str| {
        let answer = crate::http::get(address, &format!("/ws?origin={origin}")).await;
        (answer.status, answer.body)
    };
    let own = "http%3A%2F%2Ftest.localhost%3A8080";
    assert_eq!(ask(own).await.0, 426);
    assert_eq!(crate::http::get(address, "/ws").await.status, 426);
    let (status, text) = ask("https%3A%2F%2Fgame.example").await;
    assert_eq!(status, 403);
    let told = "pages of https://game.example may not connect here";
    assert!(text.starts_with(told), "{text}");
    assert!(
        text.contains("--allow-origin https://game.example"),
        "{text}"
    );
    assert_eq!(ask("null").await.0, 403);

    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET").await.unwrap();
    let crowded = async {
        loop {
            // The idle connection may not have been accepted yet.
            if let (503, text) = ask(own).await {
                return text;
            }
        }
    };
    let text = soon(crowded).await;
    assert!(text.contains("too many connections"), "{text}");
    drop(idle);

    let player = server.join("Anna").await;
    server.begin_stop();
    let (status, text) = ask(own).await;
    assert_eq!(status, 503);
    assert!(text.contains("shutting down"), "{text}");
    drop(player);
    server.stopped().await;
}
