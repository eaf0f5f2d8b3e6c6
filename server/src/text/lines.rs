//! What people and programs type: lines of bounded length, from `nc`, telnet and raw terminals.

mod decoder;

use std::time::Duration;

use bytes::BytesMut;
use cubesync_protocol::Position;
use cubesync_relay::session::tcp::Socket;
use cubesync_relay::token_bucket::TokenBucket;
use tokio::io::{AsyncReadExt, ReadHalf};
use tokio::time::Instant;

use self::decoder::Decoder;
use super::positions::parse_position;
use cubesync_relay::budget::Budget;

/// Longest line that is read; a longer one is answered with an error.
const MAX_LINE_BYTES: usize = 256;

/// Pause before another line of a client over the limit is considered.
const RETRY: Duration = Duration::from_millis(10);

/// Largest number of bytes that are still read of a client whose connection ends.
const MAX_DRAINED_BYTES: usize = 64 * 1024;

/// Something that came from a text client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// A line without its line end.
    Line(String),
    /// A line that is no text.
    Unreadable(Unreadable),
    /// A negotiation of telnet, with the answer to it.
    Negotiation([u8; 3]),
}

/// The reason why a line is no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("the line is too long: it has more than {MAX_LINE_BYTES} bytes")]
    TooLong,
    #[error("the line is not UTF-8 (Latin-1, Windows-1251 and others are not): send UTF-8")]
    NotUtf8,
    #[error("the line has NUL bytes, as UTF-16 has: send UTF-8")]
    Nul,
}

/// A reader of what a text client sends. tokio-util's `LinesCodec` ends the stream at bytes that are not
/// UTF-8. Here the client gets an error and may go on.
pub(super) struct Lines {
    reader: ReadHalf<Socket>,
    received: BytesMut,
    decoder: Decoder,
    has_ended: bool,
    /// How much may come: each input counts, and each read that makes none.
    own: TokenBucket,
    has_read: bool,
    /// The budget of the client's address, in which the same counts as a message.
    budget: Option<Budget>,
    /// Until when the next input must wait for that.
    turn: Option<Instant>,
    /// The bytes for which the budget has to be paid.
    owed_bytes: u32,
}

impl Lines {
    /// Reads from `reader` as fast as `own` allows, and the budget of the client's address if it has one.
    pub(super) fn new(reader: ReadHalf<Socket>, own: TokenBucket, budget: Option<Budget>) -> Self {
        Self {
            reader,
            budget,
            turn: None,
            owed_bytes: 0,
            received: BytesMut::new(),
            decoder: Decoder::default(),
            has_ended: false,
            own,
            has_read: false,
        }
    }

    /// Returns the next input, or `None` when the client has left, or its stream has ended or failed. The
    /// last line needs no line end. Cancelling this loses nothing.
    pub(super) async fn next(&mut self) -> Option<Input> {
        loop {
            // A file sent through `nc` arrives at once. It is read at the rate that clients may send at.
            while !self.own.holds(1, now()) {
                tokio::time::sleep(RETRY).await;
            }
            if let Some(turn) = self.turn {
                tokio::time::sleep_until(turn).await;
            }
            let input = self.decoder.next(&mut self.received);
            let has_read = std::mem::take(&mut self.has_read);
            if input.is_some() || has_read {
                self.own.take(1, now());
                let budget = self.budget.as_ref();
                self.turn = budget.and_then(|budget| budget.take_message(Instant::now()));
            }
            if input.is_some() {
                return input;
            }
            if self.has_ended || self.decoder.has_left() {
                return None;
            }
            if let Some(budget) = &self.budget {
                budget.pay_bytes(&mut self.owed_bytes).await;
            }
            let mut some = (&mut self.reader).take(MAX_LINE_BYTES as u64);
            let len_bytes = some.read_buf(&mut self.received).await.ok()?;
            if len_bytes == 0 {
                self.has_ended = true;
                return self.decoder.rest();
            }
            self.owed_bytes = u32::try_from(len_bytes).unwrap_or(u32::MAX);
            self.has_read = true;
        }
    }

    /// Waits for the first bytes and returns them. They stay to be read. It waits
    /// until they are one of `beginnings`, or cannot become one.
    pub(super) async fn first_bytes(&mut self, beginnings: &[&[u8]]) -> &[u8] {
        let may_be_one = |received: &[u8]| {
            let longer = |it: &&&[u8]| it.len() > received.len();
            beginnings
                .iter()
                .filter(longer)
                .any(|it| it.starts_with(received))
        };
        while !self.has_ended && may_be_one(&self.received) {
            let read = self.reader.read_buf(&mut self.received).await;
            self.has_ended = read.unwrap_or(0) == 0;
        }
        &self.received
    }

    /// Drops what still comes, until the client closes the connection or has sent too much.
    pub(super) async fn drain(&mut self) {
        let mut left = MAX_DRAINED_BYTES;
        while !self.has_ended && left > 0 {
            self.received.clear();
            let read = self.reader.read_buf(&mut self.received).await;
            let count = read.unwrap_or(0);
            self.has_ended = count == 0;
            left = left.saturating_sub(count);
        }
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// A received line, as the fuzz targets see it.
#[derive(Debug, PartialEq, Eq)]
pub struct TypedLine {
    /// The line without its line end; `None` for one that is no text.
    pub line: Option<String>,
    /// The position, or the error that the client gets.
    pub position: Option<Result<Position, String>>,
}

/// Returns the lines of a stream that arrives in pieces, for `tools/fuzz/`.
pub fn read_typed<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<TypedLine> {
    let (mut received, mut decoder) = (BytesMut::new(), Decoder::default());
    let mut lines = Vec::new();
    for piece in pieces {
        received.extend_from_slice(piece);
        while let Some(input) = decoder.next(&mut received) {
            let line = match input {
                Input::Line(line) => Some(line),
                Input::Unreadable(_) => None,
                Input::Negotiation(_) => continue,
            };
            let position = line.as_deref().map(parse_position);
            lines.push(TypedLine { line, position });
        }
        assert!(decoder.len_bytes() <= MAX_LINE_BYTES, "the line is bounded");
        assert!(received.is_empty() || decoder.has_left());
    }
    lines
}
