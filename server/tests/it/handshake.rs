//! The handshake: which clients are welcomed, and what rejected ones receive.

use cubesync_protocol::{
    ClientMessage, CubeId, CubeKind, Hello, Message, RejectCode, ServerMessage,
};

use crate::support::{COLOUR, Client, Server, pose_of};

pub async fn assert_rejected(mut client: Client, expected: RejectCode) -> String {
    let Some(ServerMessage::Reject { code, message }) = client.receive().await else {
        panic!("no reject");
    };
    assert_eq!(code, expected, "{message}");
    assert_eq!(
        client.receive().await,
        None,
        "the connection closes after a reject"
    );
    message
}

pub async fn rejected_hello(server: &Server, hello: Hello, expected: RejectCode) -> String {
    let mut client = server.connect().await;
    client.send(&ClientMessage::Hello(hello)).await;
    assert_rejected(client, expected).await
}

fn hello(name: &str) -> Hello {
    Hello::new("lobby", name, COLOUR)
}

#[tokio::test]
async fn a_good_hello_is_welcomed_and_sees_the_room() {
    let server = Server::start(&["--tick", "60"]).await;
    let player = server.join("  Вася ").await;
    let welcome = &player.welcome;
    assert_eq!(
        (welcome.name.as_str(), welcome.room.as_str()),
        ("Вася", "lobby")
    );
    assert_eq!((welcome.tick_hz, welcome.version), (60, 5));
    assert_eq!(welcome.max_speed, 40 * 512);
    assert!(welcome.since_tick_us < 1_000_000);

    let own = player.knows(player.cube()).unwrap();
    assert_eq!(
        (own.kind, own.colour, pose_of(own)),
        (CubeKind::Player, COLOUR, welcome.pose)
    );
    let free = player.knows(CubeId(0)).unwrap();
    assert_eq!(free.kind, CubeKind::Free { holder: None });
    assert_eq!(player.keyframe.cubes.len(), 2);
}

#[tokio::test]
async fn a_hello_may_arrive_byte_by_byte_or_together_with_the_next_message() {
    let server = Server::start(&[]).await;
    let mut client = server.connect().await;
    for byte in &ClientMessage::Hello(hello("slow")).to_frame()[..] {
        client.send_bytes(&[*byte]).await;
    }
    assert!(matches!(
        client.receive().await,
        Some(ServerMessage::Welcome(_))
    ));

    let mut client = server.connect().await;
    let mut glued = bytes::BytesMut::new();
    ClientMessage::Hello(hello("glued")).append_frame(&mut glued);
    ClientMessage::Ping { sent_us: 77 }.append_frame(&mut glued);
    client.send_bytes(&glued).await;
    assert!(matches!(
        client.receive().await,
        Some(ServerMessage::Welcome(_))
    ));
    let pong = |message| match message {
        ServerMessage::Pong { sent_us, .. } => Some(sent_us),
        _ => None,
    };
    assert_eq!(client.find(pong).await, 77);
}

#[tokio::test]
async fn a_client_of_another_version_is_rejected_with_the_servers_version() {
    let server = Server::start(&[]).await;
    let message = rejected_hello(
        &server,
        Hello {
            version: 9,
            ..hello("new")
        },
        RejectCode::Version,
    )
    .await;
    assert!(
        message.contains("version 9") && message.contains("version 5"),
        "{message}"
    );
    server
        .counts("cubesync_disconnects_total{reason=\"wrong_version\"} 1")
        .await;
}

#[tokio::test]
async fn anything_but_a_hello_is_rejected() {
    let server = Server::start(&[]).await;
    let ping = ClientMessage::Ping { sent_us: 0 }.to_frame();
    let magic = ClientMessage::Hello(Hello {
        magic: *b"CUBA",
        ..hello("a")
    })
    .to_frame();
    let mut trailing = ClientMessage::Hello(hello("a")).to_frame().to_vec();
    trailing[3] += 1;
    trailing.push(0);
    for greeting in [
        &ping[..],
        &magic,
        &trailing,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        &[0; 4],
        &[0xFF; 4],
    ] {
        let mut client = server.connect().await;
        client.send_bytes(greeting).await;
        assert_rejected(client, RejectCode::NotHello).await;
    }
}

#[tokio::test]
async fn names_that_cannot_be_shown_are_rejected_with_a_reason() {
    let server = Server::start(&[]).await;
    let message = rejected_hello(&server, hello(" "), RejectCode::Name).await;
    assert!(message.contains("name needs"), "{message}");
    let long = Hello::new("r".repeat(33), "Anna", COLOUR);
    let message = rejected_hello(&server, long, RejectCode::Name).await;
    assert!(message.contains("room name has at most 32"), "{message}");
    rejected_hello(&server, hello("a\u{202E}b"), RejectCode::Name).await;
}

#[tokio::test]
async fn a_server_with_a_join_key_requires_it() {
    let server = Server::start(&["--join-key", "open sesame"]).await;
    let with_key = |key: &str| Hello {
        join_key: Some(key.into()),
        ..hello("Ali")
    };
    let message = rejected_hello(&server, hello("Ali"), RejectCode::JoinKey).await;
    assert!(message.contains("missing"), "{message}");
    rejected_hello(&server, with_key("open barley"), RejectCode::JoinKey).await;
    rejected_hello(&server, with_key("open sesame "), RejectCode::JoinKey).await;
    let mut client = server.connect().await;
    client
        .send(&ClientMessage::Hello(with_key("open sesame")))
        .await;
    assert!(matches!(
        client.receive().await,
        Some(ServerMessage::Welcome(_))
    ));
}

#[tokio::test]
async fn a_client_without_a_hello_in_time_is_rejected() {
    let server = Server::start(&["--hello-deadline", "50ms"]).await;
    let silent = server.connect().await;
    let message = assert_rejected(silent, RejectCode::NotHello).await;
    assert!(message.contains("within 50ms"), "{message}");
    let mut half = server.connect().await;
    half.send_bytes(&ClientMessage::Hello(hello("half")).to_frame()[..9])
        .await;
    assert_rejected(half, RejectCode::NotHello).await;
    server
        .counts("cubesync_disconnects_total{reason=\"hello_timeout\"} 2")
        .await;
}

#[tokio::test]
async fn a_client_over_the_connection_limit_is_rejected_as_full() {
    let server = Server::start(&["--max-connections", "1"]).await;
    let player = server.join("Anna").await;
    let message = assert_rejected(server.connect().await, RejectCode::Full).await;
    assert!(message.contains("full"), "{message}");
    drop(player);
    server.counts("cubesync_connections 0").await;
    server.join("Boris").await;
}

#[tokio::test]
async fn the_limit_on_rooms_leaves_the_existing_ones_open() {
    let server = Server::start(&["--max-rooms", "2"]).await;
    let _first = server.join_room("attic", "Anna").await;
    let message = rejected_hello(
        &server,
        Hello::new("cellar", "Boris", COLOUR),
        RejectCode::Full,
    )
    .await;
    assert!(message.contains("another room"), "{message}");
    server.join_room("attic", "Boris").await;
    server.join_room("lobby", "Boris").await;
}
