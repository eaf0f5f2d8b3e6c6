//! Echoes WebSocket messages with the library and the settings of `/ws`, for conformance suites:
//!
//! ```sh
//! cargo run --release -p cubesync-server --example websocket_echo -- 127.0.0.1:9001 &
//! pip install kosoku && kosoku -x '12.*' -x '13.*' 127.0.0.1:9001
//! ```
//!
//! Only the limit on a message's size differs: the suites send up to 16 MiB, our clients 16 KiB.

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::any;

const MAX_MESSAGE_BYTES: usize = 32 * 1024 * 1024;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:9001".into());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("echoing on {}", listener.local_addr()?);
    axum::serve(listener, Router::new().fallback(any(upgrade))).await?;
    Ok(())
}

async fn upgrade(upgrade: WebSocketUpgrade) -> Response {
    upgrade
        .max_message_size(MAX_MESSAGE_BYTES)
        .max_frame_size(MAX_MESSAGE_BYTES)
        .read_buffer_size(4 * 1024)
        .write_buffer_size(0)
        .on_upgrade(echo)
}

/// Reads to the end, past a close frame, as a session does: then the close is answered.
async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if matches!(message, Message::Text(_) | Message::Binary(_))
            && socket.send(message).await.is_err()
        {
            return;
        }
    }
}
