//! Bad peers: each loses its connection, and other players do not notice.

use crate::support::{Client, Crowd, Player, Server, tight_stream};
use cubesync_protocol::{
    ClientMessage, CloseCode, CubeId, CubePose, Event, Message, Pose, ServerMessage,
};

/// Waits for the server's `Closing`, after which the connection must end.
pub async fn closed_with(player: &mut Player) -> CloseCode {
    let code = player
        .find(|message| match message {
            ServerMessage::Closing {
                code,
                message,
                retry_after_ms,
            } => {
                assert!(message.len() > 10, "a person can read it: {message}");
                // Only a client that was silent or too slow may return at once.
                let is_accident = code == CloseCode::Silent || message.contains("in time");
                assert_eq!(retry_after_ms, is_accident.then_some(0));
                Some(code)
            }
            _ => None,
        })
        .await;
    assert_eq!(player.client.receive().await, None);
    code
}

#[tokio::test]
async fn invalid_messages_end_only_their_own_connection() {
    let server = Server::start(&["--tick", "60"]).await;
    let mut bystander = server.join("bystander").await;
    let hello = cubesync_protocol::Hello::new("lobby", "twice", crate::support::COLOUR);
    let pose = Pose::default();
    let nine = (0..9).map(|id| CubePose {
        cube: CubeId(id),
        pose,
    });
    let bad: Vec<Vec<u8>> = vec![
        vec![0, 0, 0, 0],
        vec![0, 0, 0x10, 1],
        vec![0xFF; 4],
        vec![0, 0, 0, 1, 200],
        vec![0, 0, 0, 3, 2, 0, 0],
        ClientMessage::Hello(hello).to_frame().to_vec(),
        ClientMessage::Continue { releases: 1 }.to_frame().to_vec(),
        ClientMessage::Sample {
            tick: 1,
            placed: nine.collect(),
            residuals: Default::default(),
        }
        .to_frame()
        .to_vec(),
        ClientMessage::Sample {
            tick: 1,
            placed: vec![],
            residuals: vec![0xFF; 40].into(),
        }
        .to_frame()
        .to_vec(),
    ];
    let count = bad.len();
    for bytes in bad {
        let mut player = server.join("bad").await;
        player.client.send_bytes(&bytes).await;
        assert_eq!(
            closed_with(&mut player).await,
            CloseCode::BadMessage,
            "{bytes:?}"
        );
    }
    let counted =
        |reason, count| format!("cubesync_disconnects_total{{reason=\"{reason}\"}} {count}");
    server.counts(&counted("frame_too_long", 2)).await;
    server.counts(&counted("bad_message", count - 2)).await;
    let events = bystander.events(2 * count).await;
    let leaves = events
        .iter()
        .filter(|event| matches!(event, Event::Left { .. }))
        .count();
    assert_eq!(leaves, count);
    let pose = bystander.step(100).await;
    bystander.sees(bystander.cube(), pose).await;
}

#[tokio::test]
async fn a_flood_of_messages_is_cut() {
    let server = Server::start(&["--max-messages", "10"]).await;
    let mut player = server.join("flood").await;
    let mut frames = bytes::BytesMut::new();
    for sent_us in 0..21 {
        ClientMessage::Ping { sent_us }.append_frame(&mut frames);
    }
    player.client.send_bytes(&frames).await;
    assert_eq!(closed_with(&mut player).await, CloseCode::TooManyMessages);
}

#[tokio::test]
async fn a_burst_within_the_limit_is_fine() {
    let server = Server::start(&["--max-messages", "10"]).await;
    let mut player = server.join("eager").await;
    // The burst is twice the limit of a second, and the hello counts too.
    let burst = 20 - 1;
    for sent_us in 0..burst {
        player.client.send(&ClientMessage::Ping { sent_us }).await;
    }
    let mut pongs = 0;
    while pongs < burst {
        pongs += player
            .find(|message| matches!(message, ServerMessage::Pong { .. }).then_some(1))
            .await;
    }
}

#[tokio::test]
async fn a_silent_peer_is_disconnected_with_a_message() {
    let server = Server::start(&["--tick", "60", "--dead-after", "300ms"]).await;
    let mut silent = server.join("silent").await;
    assert_eq!(closed_with(&mut silent).await, CloseCode::Silent);
    server
        .counts("cubesync_disconnects_total{reason=\"silent\"} 1")
        .await;
    server.counts("cubesync_connections 0").await;
}

#[tokio::test]
async fn a_player_whose_connection_is_cut_inside_a_frame_leaves_once() {
    let server = Server::start(&["--tick", "60"]).await;
    let mut watcher = server.join("watcher").await;
    let mut player = server.join("cut").await;
    player.client.send_bytes(&[0, 0, 0, 9, 1]).await;
    let cube = player.cube();
    drop(player);
    let events = watcher.events(2).await;
    assert_eq!(events[1], Event::Left { cube });
    server
        .counts("cubesync_disconnects_total{reason=\"lost\"} 1")
        .await;
}

/// Joins as a player that does not read and whose kernel buffers as little as possible.
async fn join_sleeper(server: &Server) -> Player {
    let stream = tight_stream(server.addresses.tcp).await;
    Client::new(stream).join("lobby", "sleeper").await
}

#[tokio::test]
async fn a_client_that_never_reads_is_cut_and_delays_nobody() {
    let flags = [
        "--tick",
        "128",
        "--max-speed",
        "0",
        "--slow-reader-after",
        "1s",
    ];
    let server = Server::start(&flags).await;
    let sleeper = join_sleeper(&server).await;
    let mut crowd = Crowd::join(&server, 200).await;
    let slow = "cubesync_disconnects_total{reason=\"slow_reader\"} 1";
    crowd.jump_until(server.counts(slow)).await;
    drop(sleeper);
    server.counts("cubesync_connections 200").await;
    let bystander = &mut crowd.players[0];
    let pose = bystander.step(100).await;
    bystander.sees(bystander.cube(), pose).await;
}

#[tokio::test]
async fn a_client_that_pauses_continues_with_a_keyframe() {
    let patient = ["--slow-reader-after", "10m", "--dead-after", "10m"];
    let flags = [&["--tick", "128", "--max-speed", "0"][..], &patient].concat();
    let server = Server::start(&flags).await;
    let mut sleeper = join_sleeper(&server).await;
    let mut crowd = Crowd::join(&server, 200).await;
    // This sends far more than the kernel's buffers and the log hold.
    for _ in 0..200 {
        crowd.jump().await;
    }
    let last = crowd.players.last().unwrap();
    let (cube, pose) = (last.cube(), last.welcome.pose);
    let mut keyframes = 0;
    while !sleeper.has(cube, pose) {
        let (message, _) = sleeper.receive().await;
        keyframes += u32::from(matches!(message, ServerMessage::Keyframe(_)));
    }
    assert!(
        keyframes >= 1,
        "the sleeper read a backlog instead of a keyframe"
    );
}
