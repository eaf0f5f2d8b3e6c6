//! Where a session's bytes come from, and how many may come: a TCP stream, any other stream, or a
//! WebSocket's binary messages.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::ws::{self, WebSocket};
use bytes::{Bytes, BytesMut};
use cubesync_protocol::FrameError;
use cubesync_protocol::limits::{FRAME_HEADER_BYTES, MAX_CLIENT_PAYLOAD_BYTES};
use futures_util::StreamExt;
use futures_util::stream::SplitStream;
use tokio::io::{AsyncRead, ReadBuf, ReadHalf};
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::Instant;

use super::stream::BoxedStream;
use super::{LINGER, frame};
use crate::Config;
use crate::budget::Budget;
use crate::metrics::Disconnect;

/// Bytes read at once: the longest frame.
const READ_BYTES: usize = MAX_CLIENT_PAYLOAD_BYTES;

/// A burst is what may come in this time, of messages and of bytes.
const BURST: Duration = Duration::from_secs(2);

/// Why no frame comes.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The peer closed between two frames.
    #[error("the peer closed the connection")]
    Closed,
    /// The connection broke, or ended inside a frame.
    #[error("the connection was lost")]
    Lost,
    /// What came is no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame was begun and did not end in time.
    #[error("a frame that was begun did not end in time")]
    TooSlow,
    /// More messages came than may.
    #[error("too many messages came")]
    TooManyMessages,
    /// More bytes came than may.
    #[error("too many bytes came")]
    TooManyBytes,
}

impl Error {
    /// The same as a reason why a connection ended.
    pub(super) fn disconnect(&self) -> Disconnect {
        match self {
            Self::Closed => Disconnect::Closed,
            Self::Lost => Disconnect::Lost,
            Self::Frame(FrameError::Empty) => Disconnect::BadMessage,
            Self::Frame(FrameError::TooLong { .. }) => Disconnect::FrameTooLong,
            Self::TooSlow => Disconnect::FrameTooSlow,
            Self::TooManyMessages => Disconnect::TooManyMessages,
            Self::TooManyBytes => Disconnect::TooManyBytes,
        }
    }
}

/// The receiving side of a connection.
pub(super) struct Source {
    reader: Reader,
    received: BytesMut,
    /// Since when the first bytes of an unfinished frame are there.
    begun: Option<Instant>,
    max_frame_bytes: usize,
    frame_deadline: Duration,
    messages: Budget,
    bytes: Budget,
}

enum Reader {
    Tcp(OwnedReadHalf),
    Stream(ReadHalf<BoxedStream>),
    WebSocket(SplitStream<WebSocket>),
}

/// What a read brought.
enum Heard {
    Bytes,
    /// A ping or the like, which the library answers.
    Control,
    End,
}

impl Source {
    pub(super) fn tcp(stream: OwnedReadHalf, config: &Config) -> Self {
        Self::new(Reader::Tcp(stream), config)
    }

    pub(super) fn stream(stream: ReadHalf<BoxedStream>, config: &Config) -> Self {
        Self::new(Reader::Stream(stream), config)
    }

    pub(super) fn websocket(stream: SplitStream<WebSocket>, config: &Config) -> Self {
        Self::new(Reader::WebSocket(stream), config)
    }

    fn new(reader: Reader, config: &Config) -> Self {
        Self {
            reader,
            received: BytesMut::new(),
            begun: None,
            max_frame_bytes: config.max_frame,
            frame_deadline: *config.frame_deadline,
            messages: Budget::new(config.max_messages, BURST),
            bytes: Budget::new(config.max_bytes, BURST),
        }
    }

    /// The next frame's payload. Cancelling it loses nothing.
    pub(super) async fn next_frame(&mut self) -> Result<Bytes, Error> {
        loop {
            if let Some(payload) = frame::split(&mut self.received, self.max_frame_bytes)? {
                self.begun = None;
                self.charge(payload.len() + FRAME_HEADER_BYTES)?;
                return Ok(payload);
            }
            if self.received.is_empty() {
                // An idle connection holds no memory for reading.
                self.received = BytesMut::new();
                self.begun = None;
            } else {
                self.begun.get_or_insert_with(Instant::now);
            }
            let read = self.reader.read(&mut self.received);
            let read = match self.begun {
                None => read.await,
                Some(begun) => tokio::time::timeout_at(begun + self.frame_deadline, read)
                    .await
                    .map_err(|_| Error::TooSlow)?,
            };
            match read.map_err(|_| Error::Lost)? {
                Heard::Bytes => {}
                Heard::Control => self.charge(1)?,
                Heard::End if self.received.is_empty() => return Err(Error::Closed),
                Heard::End => return Err(Error::Lost),
            }
        }
    }

    /// Counts a message of so many bytes.
    fn charge(&mut self, len_bytes: usize) -> Result<(), Error> {
        let now = Instant::now();
        let len_bytes = u32::try_from(len_bytes).unwrap_or(u32::MAX);
        if !self.messages.take(1, now) {
            Err(Error::TooManyMessages)
        } else if !self.bytes.take(len_bytes, now) {
            Err(Error::TooManyBytes)
        } else {
            Ok(())
        }
    }

    /// Reads and drops what still comes until the peer closes, at most for [`LINGER`].
    pub(super) async fn linger(mut self) {
        let drain = async {
            while matches!(
                self.reader.read(&mut self.received).await,
                Ok(Heard::Bytes | Heard::Control)
            ) {
                self.received.clear();
            }
        };
        // Who does not close in time is closed.
        let _ = tokio::time::timeout(LINGER, drain).await;
    }
}

impl Reader {
    /// Waits for bytes and appends them.
    async fn read(&mut self, received: &mut BytesMut) -> io::Result<Heard> {
        match self {
            Self::Tcp(stream) => poll_fn(|context| poll_read(stream, received, context)).await,
            Self::Stream(stream) => poll_fn(|context| poll_read(stream, received, context)).await,
            Self::WebSocket(stream) => read_message(stream, received).await,
        }
    }
}

/// The buffer stands on the stack of this call, so it is no part of the waiting task. A read that
/// does not fill it waits for the next bytes without asking the kernel once more.
fn poll_read(
    stream: &mut (impl AsyncRead + Unpin),
    received: &mut BytesMut,
    context: &mut Context<'_>,
) -> Poll<io::Result<Heard>> {
    let mut chunk = [MaybeUninit::uninit(); READ_BYTES];
    let mut buffer = ReadBuf::uninit(&mut chunk);
    ready!(Pin::new(stream).poll_read(context, &mut buffer))?;
    received.extend_from_slice(buffer.filled());
    Poll::Ready(Ok(if buffer.filled().is_empty() {
        Heard::End
    } else {
        Heard::Bytes
    }))
}

async fn read_message(
    stream: &mut SplitStream<WebSocket>,
    received: &mut BytesMut,
) -> io::Result<Heard> {
    // The stream ends by itself after a close frame, once that is answered.
    let Some(message) = stream.next().await else {
        return Ok(Heard::End);
    };
    match message.map_err(io::Error::other)? {
        ws::Message::Binary(bytes) => {
            received.extend_from_slice(&bytes);
            Ok(if bytes.is_empty() {
                Heard::Control
            } else {
                Heard::Bytes
            })
        }
        ws::Message::Text(_) => Err(io::ErrorKind::InvalidData.into()),
        _ => Ok(Heard::Control),
    }
}
