//! Stopping: all players get a message, and everything ends.

use cubesync_protocol::{CloseCode, RejectCode, ServerMessage};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::handshake::assert_rejected;
use crate::support::{Server, config};
use crate::tls::{Pair, counts};

/// Flags of a server that waits longer for connections to begin and to end than a test does.
const PATIENT: [&str; 4] = ["--hello-deadline", "1h", "--drain", "1h"];

#[tokio::test]
async fn all_players_get_a_message_with_a_spread_delay_and_the_server_ends() {
    let server = Server::start(&[]).await;
    let mut players = Vec::new();
    for room in ["lobby", "lobby", "attic"] {
        players.push(server.join_room(room, "Anna").await);
    }
    let addresses = server.addresses;
    server.begin_stop();
    for player in &mut players {
        let (code, retry_after_ms) = player
            .find(|message| match message {
                ServerMessage::Closing {
                    code,
                    retry_after_ms,
                    ..
                } => Some((code, retry_after_ms)),
                _ => None,
            })
            .await;
        assert_eq!(code, CloseCode::ShuttingDown);
        assert!(retry_after_ms.unwrap() < 3_000);
        assert_eq!(player.client.receive().await, None);
    }
    drop(players);
    server.stopped().await;
    assert!(TcpStream::connect(addresses.tcp).await.is_err());
    assert!(TcpStream::connect(addresses.http).await.is_err());
}

#[tokio::test]
async fn health_reports_that_the_server_is_stopping() {
    let server = Server::start(&[]).await;
    let answer = crate::http::get(server.addresses.http, "/healthz").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "serving\n"));
    // A player that stays connected keeps the server draining.
    let player = server.join("Anna").await;
    server.begin_stop();
    let answer = crate::http::get(server.addresses.http, "/healthz").await;
    assert_eq!((answer.status, answer.body.as_str()), (503, "stopping\n"));
    drop(player);
    server.stopped().await;
}

#[tokio::test]
async fn connections_without_a_hello_are_told_and_do_not_hold_the_server_up() {
    let server = Server::start(&PATIENT).await;
    let silent = server.connect().await;
    server.counts("cubesync_pending_connections 1").await;
    server.begin_stop();
    assert_rejected(silent, RejectCode::ShuttingDown).await;
    server.stopped().await;
}

#[tokio::test]
async fn unfinished_handshakes_do_not_hold_the_server_up() {
    let pair = Pair::new();
    let server = pair.serve(&PATIENT).await;
    let mut unfinished = Vec::new();
    for number in 0..32 {
        let ports = [server.addresses.tcp, server.addresses.http];
        let mut stream = TcpStream::connect(ports[number / 2 % 2]).await.unwrap();
        // Every other one has begun its first record.
        let begun = [0x16, 3, 1, 2, 0, 1];
        stream.write_all(&begun[number % 2 * 6..]).await.unwrap();
        unfinished.push(stream);
    }
    counts(
        server.addresses.http,
        &pair.certificate,
        "cubesync_pending_connections 16",
    )
    .await;
    server.begin_stop();
    server.stopped().await;
    drop(unfinished);
}

#[tokio::test]
async fn a_port_in_use_prevents_the_start_with_a_remedy() {
    let server = Server::start(&[]).await;
    let taken = server.addresses.tcp.to_string();
    let config = config(&["--text", &taken]);
    let error = cubesync_server::run(config, Default::default(), |_| unreachable!())
        .await
        .unwrap_err()
        .to_string();
    for part in [taken.as_str(), "in use", "--text"] {
        assert!(error.contains(part), "{error}");
    }
}
