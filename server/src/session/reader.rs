//! The bytes of a connection as they come: from a TCP stream, any other stream, or a WebSocket's
//! binary messages.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::extract::ws::{self, WebSocket};
use bytes::BytesMut;
use cubesync_protocol::FrameError;
use cubesync_protocol::limits::MAX_CLIENT_PAYLOAD_BYTES;
use futures_util::StreamExt;
use futures_util::stream::SplitStream;
use tokio::io::{AsyncRead, ReadBuf, ReadHalf};
use tokio::net::tcp::OwnedReadHalf;
use tokio_tungstenite::tungstenite;

use super::stream::BoxedStream;
use crate::ending::{Ending, Problem};
use crate::meter::Meter;

/// Bytes read at once: the longest frame.
const READ_BYTES: usize = MAX_CLIENT_PAYLOAD_BYTES;

/// The receiving side of a connection, whatever it speaks.
pub(super) enum Reader {
    Tcp(OwnedReadHalf),
    Stream(ReadHalf<BoxedStream>),
    WebSocket(Messages),
}

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Bytes of frames.
    Bytes,
    /// A ping or the like, which the library answers.
    Control,
    /// A part of something that the library tells only when it is whole.
    Part,
    /// Nothing; nothing more will.
    End,
}

impl Reader {
    /// Waits for something, and appends it where it is bytes of frames; also how many bytes came
    /// over the connection for it.
    pub(super) async fn read(
        &mut self,
        received: &mut BytesMut,
    ) -> Result<(Heard, usize), Problem> {
        match self {
            Self::Tcp(stream) => poll_fn(|context| poll_read(stream, received, context)).await,
            Self::Stream(stream) => poll_fn(|context| poll_read(stream, received, context)).await,
            Self::WebSocket(messages) => {
                poll_fn(|context| messages.poll_read(received, context)).await
            }
        }
    }
}

/// The buffer stands on the stack of this call, so it is no part of the waiting task. A read that
/// does not fill it waits for the next bytes without asking the kernel once more.
fn poll_read(
    stream: &mut (impl AsyncRead + Unpin),
    received: &mut BytesMut,
    context: &mut Context<'_>,
) -> Poll<Result<(Heard, usize), Problem>> {
    let mut chunk = [MaybeUninit::uninit(); READ_BYTES];
    let mut buffer = ReadBuf::uninit(&mut chunk);
    let read: io::Result<()> = ready!(Pin::new(stream).poll_read(context, &mut buffer));
    read.map_err(|_| Ending::Lost)?;
    received.extend_from_slice(buffer.filled());
    let heard = if buffer.filled().is_empty() {
        Heard::End
    } else {
        Heard::Bytes
    };
    Poll::Ready(Ok((heard, buffer.filled().len())))
}

/// A WebSocket's messages. The library tells of a message when it is whole, so a meter under it
/// tells of its parts.
pub(super) struct Messages {
    stream: SplitStream<WebSocket>,
    meter: Meter,
    told_bytes: u64,
}

impl Messages {
    pub(super) fn new(stream: SplitStream<WebSocket>, meter: Meter) -> Self {
        let told_bytes = meter.read_bytes();
        Self {
            stream,
            meter,
            told_bytes,
        }
    }

    fn poll_read(
        &mut self,
        received: &mut BytesMut,
        context: &mut Context<'_>,
    ) -> Poll<Result<(Heard, usize), Problem>> {
        let next = self.stream.poll_next_unpin(context);
        let read_bytes = self.meter.read_bytes();
        let len_bytes = read_bytes - std::mem::replace(&mut self.told_bytes, read_bytes);
        let len_bytes = usize::try_from(len_bytes).unwrap_or(usize::MAX);
        let heard = match next {
            Poll::Pending if len_bytes == 0 => return Poll::Pending,
            Poll::Pending => Heard::Part,
            // The stream ends by itself after a close frame, once that is answered.
            Poll::Ready(None) => Heard::End,
            Poll::Ready(Some(message)) => match message.map_err(broken)? {
                ws::Message::Binary(bytes) if bytes.is_empty() => Heard::Control,
                ws::Message::Binary(bytes) => {
                    received.extend_from_slice(&bytes);
                    Heard::Bytes
                }
                ws::Message::Text(_) => {
                    return Poll::Ready(Err(no_websocket("a text message")));
                }
                _ => Heard::Control,
            },
        };
        Poll::Ready(Ok((heard, len_bytes)))
    }
}

/// Returns what an error of the library says of the peer.
fn broken(error: axum::Error) -> Problem {
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
        Some(Library::Protocol(_) | Library::Utf8(_)) => no_websocket(&error.to_string()),
        _ => Ending::Lost.into(),
    }
}

fn no_websocket(problem: &str) -> Problem {
    let message = format!("this is no WebSocket of binary messages: {problem}");
    Problem::new(Ending::BadMessage, message)
}
