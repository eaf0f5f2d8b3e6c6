//! Where a session's frames come from, and how many may come.

use std::time::Duration;

use axum::extract::ws::WebSocket;
use bytes::{Bytes, BytesMut};
use cubesync_protocol::FrameError;
use futures_util::stream::SplitStream;
use tokio::io::ReadHalf;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::Instant;

use super::reader::{Heard, Messages, Reader};
use super::stream::BoxedStream;
use super::{LINGER, frame};
use crate::Config;
use crate::budget::Budget;
use crate::meter::Meter;
use crate::metrics::Disconnect;

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
    /// What came is no WebSocket, or not of binary messages.
    #[error("this is no WebSocket of binary messages: {0}")]
    WebSocket(String),
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
            Self::Frame(FrameError::Empty) | Self::WebSocket(_) => Disconnect::BadMessage,
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
    /// Since when the first bytes of an unfinished frame or message are there.
    begun: Option<Instant>,
    max_frame_bytes: usize,
    frame_deadline: Duration,
    messages: Budget,
    bytes: Budget,
}

impl Source {
    pub(super) fn tcp(stream: OwnedReadHalf, config: &Config) -> Self {
        Self::new(Reader::Tcp(stream), config)
    }

    pub(super) fn stream(stream: ReadHalf<BoxedStream>, config: &Config) -> Self {
        Self::new(Reader::Stream(stream), config)
    }

    pub(super) fn websocket(stream: SplitStream<WebSocket>, meter: Meter, config: &Config) -> Self {
        Self::new(Reader::WebSocket(Messages::new(stream, meter)), config)
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
                self.charge_message()?;
                return Ok(payload);
            }
            if self.received.is_empty() {
                // An idle connection holds no memory for reading.
                self.received = BytesMut::new();
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
            let (heard, len_bytes) = read?;
            self.charge_bytes(len_bytes)?;
            match heard {
                Heard::Bytes => {}
                Heard::Control => {
                    self.begun = None;
                    self.charge_message()?;
                }
                Heard::Part => {
                    self.begun.get_or_insert_with(Instant::now);
                }
                Heard::End if self.received.is_empty() => return Err(Error::Closed),
                Heard::End => return Err(Error::Lost),
            }
        }
    }

    fn charge_message(&mut self) -> Result<(), Error> {
        let is_allowed = self.messages.take(1, Instant::now());
        is_allowed.then_some(()).ok_or(Error::TooManyMessages)
    }

    fn charge_bytes(&mut self, len_bytes: usize) -> Result<(), Error> {
        let len_bytes = u32::try_from(len_bytes).unwrap_or(u32::MAX);
        let is_allowed = self.bytes.take(len_bytes, Instant::now());
        is_allowed.then_some(()).ok_or(Error::TooManyBytes)
    }

    /// Reads and drops what still comes until the peer closes, at most for [`LINGER`].
    pub(super) async fn linger(mut self) {
        let drain = async {
            while let Ok((heard, _)) = self.reader.read(&mut self.received).await
                && heard != Heard::End
            {
                self.received.clear();
            }
        };
        // Who does not close in time is closed.
        let _ = tokio::time::timeout(LINGER, drain).await;
    }
}
