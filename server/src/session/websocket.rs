//! A player in a browser: the same frames inside a WebSocket's binary messages.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::handshake::Refusal;
use super::source::Source;
use super::{Introduction, LINGER, enter, introduction, read_messages, refusal_frame};
use crate::admission::Admitted;
use crate::metrics::Disconnect;
use crate::room::fanout::Outlet;
use crate::run::Shared;

/// Frames that wait between the room and the socket. Few: what waits here is old news.
const OUTPUT_QUEUE: usize = 4;

/// Serves a connection to its end.
pub(crate) async fn serve(shared: Arc<Shared>, socket: WebSocket, admitted: Admitted) {
    shared.metrics.connections.inc();
    let (mut sink, stream) = socket.split();
    let mut source = Source::websocket(stream);
    converse(&shared, &mut sink, &mut source).await;
    // The peer may be gone already.
    let _ = tokio::time::timeout(LINGER, sink.close()).await;
    source.linger().await;
    shared.metrics.connections.dec();
    drop(admitted);
}

async fn converse(shared: &Shared, sink: &mut SplitSink<WebSocket, Message>, source: &mut Source) {
    let hello = match introduction(shared, source).await {
        Introduction::Hello(hello) => hello,
        Introduction::Refused(refusal) => return refuse(shared, sink, refusal).await,
        Introduction::Gone(reason) => return shared.metrics.disconnected(reason),
    };
    let (sender, frames) = mpsc::channel(OUTPUT_QUEUE);
    let ended = CancellationToken::new();
    let (room, cube) = match enter(shared, hello, Outlet::Frames(sender), ended.clone()).await {
        Ok(entered) => entered,
        Err(refusal) => return refuse(shared, sink, refusal).await,
    };
    let mut writing = std::pin::pin!(write_frames(sink, frames, *shared.config.slow_reader_after));
    let reading = ended.run_until_cancelled(read_messages(shared, source, &room, cube));
    let mut is_written = false;
    let reason = tokio::select! {
        reason = reading => reason,
        outcome = &mut writing => {
            is_written = true;
            outcome.err()
        }
    };
    if let Some(reason) = reason {
        // A room that has ended has said goodbye already.
        let _ = room.leave(cube, reason).await;
    }
    if !is_written {
        // The room has let go of the channel: its last words are what is still in there.
        let _ = tokio::time::timeout(LINGER, writing).await;
    }
}

/// Writes until the room lets go of the channel.
async fn write_frames(
    sink: &mut SplitSink<WebSocket, Message>,
    mut frames: mpsc::Receiver<Bytes>,
    deadline: Duration,
) -> Result<(), Disconnect> {
    while let Some(frame) = frames.recv().await {
        match tokio::time::timeout(deadline, sink.send(Message::Binary(frame))).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Disconnect::Lost),
            Err(_) => return Err(Disconnect::SlowReader),
        }
    }
    Ok(())
}

async fn refuse(shared: &Shared, sink: &mut SplitSink<WebSocket, Message>, refusal: Refusal) {
    let frame = refusal_frame(shared, refusal);
    // The peer may be gone already.
    let _ = tokio::time::timeout(LINGER, sink.send(Message::Binary(frame))).await;
}
