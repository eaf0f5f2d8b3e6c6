//! Where a session's bytes come from: a TCP stream, or a WebSocket's binary messages.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::extract::ws::{self, WebSocket};
use bytes::{Bytes, BytesMut};
use cubesync_protocol::FrameError;
use cubesync_protocol::limits::MAX_CLIENT_PAYLOAD_BYTES;
use futures_util::StreamExt;
use futures_util::stream::SplitStream;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::tcp::OwnedReadHalf;

use super::{LINGER, frame};

/// Bytes read at once: the longest frame.
const READ_BYTES: usize = MAX_CLIENT_PAYLOAD_BYTES;

/// Why no frame comes.
#[derive(Debug)]
pub(super) enum Error {
    /// The peer closed between two frames.
    Closed,
    /// The connection broke, or ended inside a frame.
    Lost,
    /// What came is no frame.
    Frame(FrameError),
}

/// The receiving side of a connection.
pub(super) struct Source {
    reader: Reader,
    received: BytesMut,
}

enum Reader {
    Tcp(OwnedReadHalf),
    WebSocket(SplitStream<WebSocket>),
}

impl Source {
    pub(super) fn tcp(stream: OwnedReadHalf) -> Self {
        Self {
            reader: Reader::Tcp(stream),
            received: BytesMut::new(),
        }
    }

    pub(super) fn websocket(stream: SplitStream<WebSocket>) -> Self {
        Self {
            reader: Reader::WebSocket(stream),
            received: BytesMut::new(),
        }
    }

    /// The next frame's payload. Cancelling it loses nothing.
    pub(super) async fn next_frame(&mut self) -> Result<Bytes, Error> {
        loop {
            match frame::split(&mut self.received, MAX_CLIENT_PAYLOAD_BYTES) {
                Ok(Some(payload)) => return Ok(payload),
                Ok(None) => {}
                Err(error) => return Err(Error::Frame(error)),
            }
            // An idle connection holds no memory for reading.
            if self.received.is_empty() {
                self.received = BytesMut::new();
            }
            match self.reader.read(&mut self.received).await {
                Ok(0) if self.received.is_empty() => return Err(Error::Closed),
                Ok(0) | Err(_) => return Err(Error::Lost),
                Ok(_) => {}
            }
        }
    }

    /// Reads and drops what still comes until the peer closes, at most for [`LINGER`].
    pub(super) async fn linger(mut self) {
        let drain = async {
            while matches!(self.reader.read(&mut self.received).await, Ok(1..)) {
                self.received.clear();
            }
        };
        // Who does not close in time is closed.
        let _ = tokio::time::timeout(LINGER, drain).await;
    }
}

impl Reader {
    /// Waits for bytes and appends them; 0 is the end.
    async fn read(&mut self, received: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => poll_fn(|context| poll_read(stream, received, context)).await,
            Self::WebSocket(stream) => read_message(stream, received).await,
        }
    }
}

/// The buffer stands on the stack of this call, so it is no part of the waiting task. A read that
/// does not fill it waits for the next bytes without asking the kernel once more.
fn poll_read(
    stream: &mut OwnedReadHalf,
    received: &mut BytesMut,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut chunk = [MaybeUninit::uninit(); READ_BYTES];
    let mut buffer = ReadBuf::uninit(&mut chunk);
    ready!(Pin::new(stream).poll_read(context, &mut buffer))?;
    received.extend_from_slice(buffer.filled());
    Poll::Ready(Ok(buffer.filled().len()))
}

async fn read_message(
    stream: &mut SplitStream<WebSocket>,
    received: &mut BytesMut,
) -> io::Result<usize> {
    // The stream ends by itself after a close frame, once that is answered.
    while let Some(message) = stream.next().await {
        match message.map_err(io::Error::other)? {
            ws::Message::Binary(bytes) if !bytes.is_empty() => {
                received.extend_from_slice(&bytes);
                return Ok(bytes.len());
            }
            ws::Message::Text(_) => return Err(io::ErrorKind::InvalidData.into()),
            // Pings are answered by the library.
            _ => {}
        }
    }
    Ok(0)
}
