//! Where a session's frames come from, and how many may come.

use std::time::Duration;

use axum::extract::ws::WebSocket;
use bytes::{Bytes, BytesMut};
use futures_util::stream::SplitStream;
use tokio::io::ReadHalf;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::Instant;

use super::reader::{Heard, Messages, Reader};
use super::stream::BoxedStream;
use super::{LINGER, frame};
use crate::Config;
use crate::budget::Budget;
use crate::ending::{Ending, Problem};
use crate::meter::Meter;

/// A burst is what may come in this time, of messages and of bytes.
const BURST: Duration = Duration::from_secs(2);

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
    pub(super) async fn next_frame(&mut self) -> Result<Bytes, Problem> {
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
                    .map_err(|_| Ending::FrameTooSlow)?,
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
                Heard::End if self.received.is_empty() => return Err(Ending::Closed.into()),
                Heard::End => return Err(Ending::Lost.into()),
            }
        }
    }

    fn charge_message(&mut self) -> Result<(), Ending> {
        let is_allowed = self.messages.take(1, Instant::now());
        is_allowed.then_some(()).ok_or(Ending::TooManyMessages)
    }

    fn charge_bytes(&mut self, len_bytes: usize) -> Result<(), Ending> {
        let len_bytes = u32::try_from(len_bytes).unwrap_or(u32::MAX);
        let is_allowed = self.bytes.take(len_bytes, Instant::now());
        is_allowed.then_some(()).ok_or(Ending::TooManyBytes)
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
