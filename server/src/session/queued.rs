//! A player whose frames go through a queue and a task that writes them: for connections of which
//! the room cannot write to the socket itself, because a library owns it.

use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use futures_util::SinkExt;
use futures_util::stream::SplitSink;
use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::source::Source;
use super::stream::BoxedStream;
use super::{Introduction, LINGER, enter, introduction, read_messages, refusal_frame};
use crate::admission::Admitted;
use crate::ending::{Ending, Problem};
use crate::room::audience::Outlet;
use crate::run::Shared;

/// Frames that wait between the room and the socket. Few: what waits here is old news.
const OUTPUT_QUEUE: usize = 4;

/// The sending side of such a connection.
pub(super) enum Sink {
    Stream(WriteHalf<BoxedStream>),
    WebSocket(SplitSink<WebSocket, Message>),
}

impl Sink {
    /// Sends one or more whole frames.
    async fn send(&mut self, frames: Bytes) -> Result<(), Ending> {
        let sent = match self {
            Self::Stream(stream) => stream.write_all(&frames).await.is_ok(),
            Self::WebSocket(sink) => sink.send(Message::Binary(frames)).await.is_ok(),
        };
        if !sent {
            return Err(Ending::Lost);
        }
        match self {
            // Encryption may keep the last bytes until it is told that no more come.
            Self::Stream(stream) => stream.flush().await.map_err(|_| Ending::Lost),
            Self::WebSocket(_) => Ok(()),
        }
    }

    /// Says that nothing more comes.
    async fn close(&mut self) {
        // The peer may be gone already.
        let _ = match self {
            Self::Stream(stream) => stream.shutdown().await.is_ok(),
            Self::WebSocket(sink) => sink.close().await.is_ok(),
        };
    }
}

/// Serves a connection to its end.
pub(super) async fn serve(shared: &Shared, mut sink: Sink, mut source: Source, admitted: Admitted) {
    let open = shared.metrics.connected();
    converse(shared, &mut sink, &mut source, &admitted).await;
    // Who takes nothing is not waited for.
    let _ = tokio::time::timeout(LINGER, sink.close()).await;
    source.linger().await;
    drop((open, admitted));
}

async fn converse(shared: &Shared, sink: &mut Sink, source: &mut Source, admitted: &Admitted) {
    let hello = match introduction(shared, source, admitted).await {
        Introduction::Hello(hello) => hello,
        Introduction::Refused(problem) => return refuse(shared, sink, problem).await,
        Introduction::Gone(reason) => return shared.metrics.disconnects.count(reason),
    };
    let (sender, frames) = mpsc::channel(OUTPUT_QUEUE);
    let ended = CancellationToken::new();
    let membership = match enter(shared, hello, Outlet::Frames(sender), &ended, admitted).await {
        Ok(membership) => membership,
        Err(ending) => return refuse(shared, sink, ending.into()).await,
    };
    admitted.has_joined();
    let mut writing = std::pin::pin!(write_frames(sink, frames, *shared.config.slow_reader_after));
    let reading = ended.run_until_cancelled(read_messages(shared, source, &membership));
    let mut is_written = false;
    let reason = tokio::select! {
        biased;
        reason = reading => reason,
        outcome = &mut writing => {
            is_written = true;
            outcome.err()
        }
    };
    membership.end(reason).await;
    if !is_written {
        // The room has let go of the channel: its last words are what is still in there.
        let _ = tokio::time::timeout(LINGER, writing).await;
    }
}

/// Writes until the room lets go of the channel.
async fn write_frames(
    sink: &mut Sink,
    mut frames: mpsc::Receiver<Bytes>,
    deadline: Duration,
) -> Result<(), Ending> {
    while let Some(frame) = frames.recv().await {
        tokio::time::timeout(deadline, sink.send(frame))
            .await
            .map_err(|_| Ending::SlowReader)??;
    }
    Ok(())
}

async fn refuse(shared: &Shared, sink: &mut Sink, problem: Problem) {
    let frame = refusal_frame(shared, &problem);
    // The peer may be gone already.
    let _ = tokio::time::timeout(LINGER, sink.send(frame)).await;
}
