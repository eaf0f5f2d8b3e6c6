//! The WebSocket transport: frames in binary messages.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use bytes::{Bytes, BytesMut};
use cubesync_protocol::{FrameError, Message as _};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;

use super::meter::Meter;
use cubesync_relay::ending::{Ending, Problem};
use cubesync_relay::peer::Transport;
use cubesync_relay::session::{Reader, Received, Writer};

/// Time in which a peer must have taken the reason for its refusal.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(1);

/// Messages of a refused peer that are read: its `Hello`, and its answer to the close.
const MAX_UNREAD_MESSAGES: usize = 4;

/// Splits a WebSocket into the halves of a transport. `meter` counts the stream under it.
pub(super) fn split(socket: WebSocket, meter: Meter) -> (impl Reader, impl Writer) {
    let (sink, stream) = socket.split();
    let counted_bytes = meter.read_bytes();
    let messages = Messages {
        stream,
        meter,
        counted_bytes,
    };
    (messages, Sink(sink))
}

/// Tells the peer of a WebSocket that is not served why, and closes it.
pub(super) async fn refuse(mut socket: WebSocket, ending: Ending) {
    let telling = async {
        let reject = Problem::from(ending).reject().to_frame();
        socket.send(Message::Binary(reject)).await.ok()?;
        socket.send(Message::Close(None)).await.ok()?;
        // Closing while bytes of the peer are unread would reset the connection and could destroy the frame.
        for _ in 0..MAX_UNREAD_MESSAGES {
            socket.recv().await?.ok()?;
        }
        Some(())
    };
    // A peer that takes nothing, or does not close in time, is closed.
    let _ = timeout(REFUSAL_DEADLINE, telling).await;
}

/// The receiving half of a WebSocket. The library returns only whole messages, so the meter under it
/// shows that parts of one have come.
struct Messages {
    stream: SplitStream<WebSocket>,
    meter: Meter,
    counted_bytes: u64,
}

impl Reader for Messages {
    fn poll_read(
        &mut self,
        received: &mut BytesMut,
        context: &mut Context<'_>,
    ) -> Poll<Result<(Received, usize), Problem>> {
        let next = self.stream.poll_next_unpin(context);
        let read_bytes = self.meter.read_bytes();
        let len_bytes = read_bytes - std::mem::replace(&mut self.counted_bytes, read_bytes);
        let len_bytes = usize::try_from(len_bytes).unwrap_or(usize::MAX);
        let what = match next {
            Poll::Pending if len_bytes == 0 => return Poll::Pending,
            Poll::Pending => Received::Part,
            // The library answers a close frame before it ends the stream.
            Poll::Ready(None) => Received::End,
            Poll::Ready(Some(message)) => match message.map_err(problem)? {
                Message::Binary(bytes) if bytes.is_empty() => Received::Control,
                Message::Binary(bytes) => {
                    received.extend_from_slice(&bytes);
                    Received::Bytes
                }
                Message::Text(_) => return Poll::Ready(Err(bad_message("a text message"))),
                _ => Received::Control,
            },
        };
        Poll::Ready(Ok((what, len_bytes)))
    }
}

/// The sending half of a WebSocket.
struct Sink(SplitSink<WebSocket, Message>);

impl Writer for Sink {
    fn transport(&self) -> Transport {
        Transport::WebSocket
    }

    async fn send(&mut self, frames: Bytes) -> io::Result<()> {
        let sent = self.0.send(Message::Binary(frames)).await;
        sent.map_err(io::Error::other)
    }

    async fn close(&mut self) {
        // This fails if the peer has closed already.
        let _ = self.0.close().await;
    }
}

/// Converts an error of the library.
fn problem(error: axum::Error) -> Problem {
    use tungstenite::Error as Library;
    use tungstenite::error::{CapacityError, ProtocolError};
    let error = error.into_inner();
    match error.downcast_ref::<Library>() {
        Some(Library::Capacity(CapacityError::MessageTooLong { size, max_size })) => {
            let (len_bytes, limit_bytes) = (*size, *max_size);
            Problem::from(FrameError::TooLong {
                len_bytes,
                limit_bytes,
            })
        }
        Some(Library::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => Ending::Lost.into(),
        Some(Library::Protocol(_) | Library::Utf8(_)) => bad_message(&error.to_string()),
        _ => Ending::Lost.into(),
    }
}

fn bad_message(problem: &str) -> Problem {
    let message = format!("this is no WebSocket of binary messages: {problem}");
    Problem::new(Ending::BadMessage, message)
}
