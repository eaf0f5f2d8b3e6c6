//! Stopping: all players get a message, and everything ends.

use cubesync_protocol::{CloseCode, ServerMessage};
use tokio::net::TcpStream;

use crate::support::{Server, config};

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
async fn connections_without_a_hello_do_not_hold_the_server_up() {
    let server = Server::start(&["--hello-deadline", "100ms"]).await;
    let silent = server.connect().await;
    server.begin_stop();
    server.stopped().await;
    drop(silent);
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
