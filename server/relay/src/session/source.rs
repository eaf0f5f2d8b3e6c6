//! Where a session's frames come from, and how many may come.

use std::future::poll_fn;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cubesync_protocol::{ClientMessage, Message, frame};
use tokio::time::Instant;

use super::transport::{Reader, Received};
use super::{LINGER, SessionSettings};
use crate::ending::{Ending, Problem};
use crate::token_bucket::TokenBucket;

/// A frame that was begun must end within this time. Clients write whole frames of a few dozen bytes,
/// so only a stalled network is slower, and the longest frame passes in it at 2 kB/s.
const FRAME_DEADLINE: Duration = Duration::from_secs(2);

/// A burst is what may come in this time, of messages and of bytes.
const BURST: Duration = Duration::from_secs(2);

/// Frames from the receiving half of a connection.
pub(super) struct Source<From> {
    reader: From,
    received: BytesMut,
    /// Since when the first bytes of an unfinished frame or message are there.
    begun: Option<Instant>,
    messages: TokenBucket,
    bytes: TokenBucket,
}

impl<From: Reader> Source<From> {
    pub(super) fn new(reader: From, settings: &SessionSettings) -> Self {
        let now = Instant::now().into_std();
        Self {
            reader,
            received: BytesMut::new(),
            begun: None,
            messages: TokenBucket::per_second(settings.max_messages_per_second, BURST, now),
            bytes: TokenBucket::per_second(settings.max_bytes_per_second, BURST, now),
        }
    }

    /// Returns the next frame's payload. Cancelling it loses nothing.
    pub(super) async fn next_frame(&mut self) -> Result<Bytes, Problem> {
        loop {
            if let Some(payload) =
                frame::split(&mut self.received, ClientMessage::MAX_PAYLOAD_BYTES)?
            {
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
            let Self {
                reader, received, ..
            } = self;
            let read = poll_fn(|context| reader.poll_read(received, context));
            let read = match self.begun {
                None => read.await,
                Some(begun) => tokio::time::timeout_at(begun + FRAME_DEADLINE, read)
                    .await
                    .map_err(|_| Ending::FrameTooSlow)?,
            };
            let (what, len_bytes) = read?;
            self.charge_bytes(len_bytes)?;
            match what {
                Received::Bytes => {}
                Received::Control => {
                    self.begun = None;
                    self.charge_message()?;
                }
                Received::Part => {
                    self.begun.get_or_insert_with(Instant::now);
                }
                Received::End if self.received.is_empty() => return Err(Ending::Closed.into()),
                Received::End => return Err(Ending::Lost.into()),
            }
        }
    }

    /// Returns the bytes that are no frame yet, or will never be one.
    pub(super) fn received(&self) -> &[u8] {
        &self.received
    }

    fn charge_message(&mut self) -> Result<(), Ending> {
        let is_allowed = self.messages.take(1, Instant::now().into_std());
        is_allowed.then_some(()).ok_or(Ending::TooManyMessages)
    }

    fn charge_bytes(&mut self, len_bytes: usize) -> Result<(), Ending> {
        let len_bytes = u32::try_from(len_bytes).unwrap_or(u32::MAX);
        let is_allowed = self.bytes.take(len_bytes, Instant::now().into_std());
        is_allowed.then_some(()).ok_or(Ending::TooManyBytes)
    }

    /// Reads and drops what still comes until the peer closes, at most for [`LINGER`].
    pub(super) async fn linger(mut self) {
        let drain = async {
            let Self {
                reader, received, ..
            } = &mut self;
            while let Ok((what, _)) = poll_fn(|context| reader.poll_read(received, context)).await
                && what != Received::End
            {
                received.clear();
            }
        };
        // A peer that does not close in time is closed.
        let _ = tokio::time::timeout(LINGER, drain).await;
    }
}
