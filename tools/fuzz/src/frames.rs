//! A stream of frames, in any pieces.

use bytes::{Bytes, BytesMut};
use cubesync_protocol::limits::{MAX_CLIENT_PAYLOAD_BYTES, MAX_SERVER_PAYLOAD_BYTES};
use cubesync_protocol::{FrameError, frame};

use crate::input::Input;

/// Checks that a stream has the same frames in any pieces, and that the frames make up the stream.
pub fn check(bytes: &[u8]) {
    let mut input = Input(bytes);
    let limit_bytes = match input.byte() % 2 {
        0 => MAX_CLIENT_PAYLOAD_BYTES,
        _ => MAX_SERVER_PAYLOAD_BYTES,
    };
    let mut pieces = u32::from_le_bytes(input.array());
    let stream = input.0;

    let mut whole = Received::default();
    whole.take(stream, limit_bytes);
    let mut cut = Received::default();
    let mut rest = stream;
    while !rest.is_empty() {
        // Pieces of 1 to 16 bytes, and now and then of 256 times as many.
        let mut piece_bytes = (pieces >> 28) as usize + 1;
        if pieces & 0x7000 == 0 {
            piece_bytes <<= 8;
        }
        pieces = pieces.wrapping_mul(0x9E37_79B1).wrapping_add(0x7F4A_7C15);
        let (piece, after) = rest.split_at(piece_bytes.min(rest.len()));
        cut.take(piece, limit_bytes);
        rest = after;
    }
    assert_eq!(whole.payloads, cut.payloads);
    assert_eq!(whole.error, cut.error);

    let mut again = Vec::new();
    for payload in &whole.payloads {
        assert!((1..=limit_bytes).contains(&payload.len()));
        again.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        again.extend_from_slice(payload);
    }
    again.extend_from_slice(&whole.buffer);
    assert_eq!(again, stream);
}

#[derive(Default)]
struct Received {
    buffer: BytesMut,
    payloads: Vec<Bytes>,
    error: Option<FrameError>,
}

impl Received {
    fn take(&mut self, piece: &[u8], limit_bytes: usize) {
        self.buffer.extend_from_slice(piece);
        while self.error.is_none() {
            match frame::split(&mut self.buffer, limit_bytes) {
                Ok(Some(payload)) => self.payloads.push(payload),
                Ok(None) => return,
                Err(error) => self.error = Some(error),
            }
        }
    }
}
