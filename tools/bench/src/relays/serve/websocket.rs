//! axum's chat example with cubes: a broadcast channel and JSON texts.

use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::get;
use axum::serve::ListenerExt;
use tokio::sync::broadcast::{self, error::RecvError};

use super::{BROADCAST_CAPACITY, listen};
use crate::payload::Update;

type Updates = broadcast::Sender<Utf8Bytes>;

/// Serves until the process ends.
pub(crate) async fn serve() -> Result<()> {
    let (updates, _) = broadcast::channel::<Utf8Bytes>(BROADCAST_CAPACITY);
    let router = Router::new().route("/ws", get(upgrade)).with_state(updates);
    // It fails for a socket that is closed already.
    let listener = listen()
        .await?
        .tap_io(|stream| drop(stream.set_nodelay(true)));
    Ok(axum::serve(listener, router).await?)
}

async fn upgrade(upgrade: WebSocketUpgrade, State(updates): State<Updates>) -> Response {
    upgrade.on_upgrade(|socket| async {
        // A connection that breaks ends its task, and nobody needs to know.
        let _ = converse(socket, updates).await;
    })
}

async fn converse(mut socket: WebSocket, updates: Updates) -> Result<()> {
    let mut others = updates.subscribe();
    loop {
        tokio::select! {
            message = socket.recv() => match message.transpose()? {
                Some(Message::Text(text)) => {
                    let update: Update = serde_json::from_str(&text)?;
                    // Fails only when nobody is there.
                    let _ = updates.send(serde_json::to_string(&update)?.into());
                }
                Some(_) => {}
                None => return Ok(()),
            },
            update = others.recv() => match update {
                Ok(text) => socket.send(Message::Text(text)).await?,
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Ok(()),
            },
        }
    }
}
