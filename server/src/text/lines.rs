//! Lines of bounded length.

use bytes::BytesMut;
use cubesync_protocol::Position;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;

use super::positions::parse_position;

/// Longest line that is read; a longer one is answered with an error.
const MAX_LINE_BYTES: usize = 256;

/// A reader of lines of bounded length. tokio-util's `LinesCodec` ends the stream at bytes that are
/// not UTF-8. Here the client gets an error and may go on.
pub(super) struct Lines {
    reader: OwnedReadHalf,
    received: BytesMut,
    /// Whether the rest of a line that is too long is being dropped.
    skipping: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Whole(String),
    TooLong,
}

impl Lines {
    /// Reads from `reader`.
    pub(super) fn new(reader: OwnedReadHalf) -> Self {
        Self {
            reader,
            received: BytesMut::new(),
            skipping: false,
        }
    }

    /// Returns the next line without its line end, or `None` when the stream has ended or failed.
    /// The last line needs no line end. Cancelling this loses nothing.
    pub(super) async fn next(&mut self) -> Option<Line> {
        loop {
            if let Some(line) = take_line(&mut self.received, &mut self.skipping) {
                return Some(line);
            }
            if self.reader.read_buf(&mut self.received).await.ok()? == 0 {
                let rest = self.received.split();
                return (!rest.is_empty()).then(|| whole(&rest));
            }
        }
    }
}

fn take_line(received: &mut BytesMut, skipping: &mut bool) -> Option<Line> {
    loop {
        let end = received.iter().position(|&byte| byte == b'\n');
        match end {
            Some(end) if *skipping => {
                let _rest = received.split_to(end + 1);
                *skipping = false;
            }
            Some(end) if end <= MAX_LINE_BYTES => {
                let line = received.split_to(end + 1);
                return Some(whole(&line));
            }
            None if *skipping => {
                received.clear();
                return None;
            }
            None if received.len() <= MAX_LINE_BYTES => return None,
            _ => {
                *skipping = true;
                return Some(Line::TooLong);
            }
        }
    }
}

/// A received line, as the fuzz targets see it.
#[derive(Debug, PartialEq, Eq)]
pub struct TypedLine {
    /// The line without its line end; `None` for a line that is too long.
    pub line: Option<String>,
    /// The position, or the error that the client gets.
    pub position: Option<Result<Position, String>>,
}

/// Returns the lines of a stream that arrives in pieces, for `tools/fuzz/`.
pub fn read_typed<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<TypedLine> {
    let (mut received, mut skipping) = (BytesMut::new(), false);
    let mut lines = Vec::new();
    for piece in pieces {
        received.extend_from_slice(piece);
        while let Some(line) = take_line(&mut received, &mut skipping) {
            let line = match line {
                Line::Whole(line) => Some(line),
                Line::TooLong => None,
            };
            let position = line.as_deref().map(parse_position);
            lines.push(TypedLine { line, position });
        }
        assert!(received.len() <= MAX_LINE_BYTES, "the buffer is bounded");
    }
    lines
}

fn whole(line: &[u8]) -> Line {
    Line::Whole(
        String::from_utf8_lossy(line)
            .trim_end_matches(['\r', '\n'])
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_reported_once_and_not_kept() {
        let mut skipping = false;
        let mut received = BytesMut::from(&b"one\r\ntw"[..]);
        let mut next = |received: &mut BytesMut| take_line(received, &mut skipping);
        assert_eq!(next(&mut received), Some(Line::Whole("one".into())));
        assert_eq!(next(&mut received), None);
        received.extend_from_slice(b"o\n");
        assert_eq!(next(&mut received), Some(Line::Whole("two".into())));
        received.extend_from_slice(&[b'x'; MAX_LINE_BYTES + 1]);
        assert_eq!(next(&mut received), Some(Line::TooLong));
        for _ in 0..100 {
            received.extend_from_slice(&[b'x'; 10_000]);
            assert_eq!(next(&mut received), None);
            assert!(received.is_empty(), "a long line takes no memory");
        }
        received.extend_from_slice(b"end\nthree\n");
        assert_eq!(next(&mut received), Some(Line::Whole("three".into())));
    }
}
