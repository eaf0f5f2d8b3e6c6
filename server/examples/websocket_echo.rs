//! Echoes WebSocket messages with the code of `/ws`, for conformance suites:
//!
//! ```sh
//! cargo run --release -p cubesync-server --example websocket_echo -- 127.0.0.1:9001 &
//! pip install kosoku && kosoku -x '12.*' -x '13.*' 127.0.0.1:9001
//! ```

use axum::Router;
use axum::routing::any;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:9001".into());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("echoing on {}", listener.local_addr()?);
    let echo = any(cubesync_server::websocket::echo);
    axum::serve(listener, Router::new().fallback(echo)).await?;
    Ok(())
}
