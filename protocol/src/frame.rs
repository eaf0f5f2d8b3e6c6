//! Frames: a 4-byte big-endian length, and that many bytes of payload.
//!
//! A TCP stream has no messages, only bytes that arrive in pieces of any size. The length says
//! where a message ends; it is checked before any memory is taken for it.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::limits::FRAME_HEADER_BYTES;

/// Why the bytes of a stream are not frames. The stream cannot be used any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A length of zero: no message is empty.
    #[error("a frame announced an empty payload")]
    Empty,
    /// A length over the limit: a foreign protocol, or an attack.
    #[error("a frame announced {len_bytes} bytes, at most {limit_bytes} are allowed")]
    TooLong {
        /// The announced length.
        len_bytes: usize,
        /// The longest one allowed.
        limit_bytes: usize,
    },
}

/// Takes the payload of the first frame off the front of `buffer`; `None` while the frame is not
/// complete. `limit_bytes` bounds the payload.
///
/// # Errors
/// [`FrameError`] as soon as the four bytes of the length show that no frame follows.
pub fn split(buffer: &mut BytesMut, limit_bytes: usize) -> Result<Option<Bytes>, FrameError> {
    let Some(header) = buffer.first_chunk::<FRAME_HEADER_BYTES>() else {
        return Ok(None);
    };
    let len_bytes = u32::from_be_bytes(*header) as usize;
    if len_bytes == 0 {
        return Err(FrameError::Empty);
    }
    if len_bytes > limit_bytes {
        return Err(FrameError::TooLong {
            len_bytes,
            limit_bytes,
        });
    }
    if buffer.len() < FRAME_HEADER_BYTES + len_bytes {
        return Ok(None);
    }
    buffer.advance(FRAME_HEADER_BYTES);
    Ok(Some(buffer.split_to(len_bytes).freeze()))
}

/// Appends a frame whose payload `write` appends to the same buffer.
pub(crate) fn append(buffer: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let start = buffer.len();
    buffer.put_u32(0);
    write(buffer);
    let len_bytes = buffer.len() - start - FRAME_HEADER_BYTES;
    let header = u32::try_from(len_bytes)
        .expect("messages are far below 4 GiB")
        .to_be_bytes();
    buffer[start..start + FRAME_HEADER_BYTES].copy_from_slice(&header);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(payloads: &[&[u8]]) -> BytesMut {
        let mut buffer = BytesMut::new();
        for payload in payloads {
            append(&mut buffer, |buffer| buffer.put_slice(payload));
        }
        buffer
    }

    #[test]
    fn a_frame_is_a_big_endian_length_and_its_payload() {
        assert_eq!(&framed(&[b"cube"])[..], b"\x00\x00\x00\x04cube");
    }

    #[test]
    fn glued_frames_come_apart_in_order() {
        let mut buffer = framed(&[b"one", b"two"]);
        assert_eq!(split(&mut buffer, 16), Ok(Some(Bytes::from_static(b"one"))));
        assert_eq!(split(&mut buffer, 16), Ok(Some(Bytes::from_static(b"two"))));
        assert_eq!(split(&mut buffer, 16), Ok(None));
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_bad_length_is_refused_before_its_payload_arrives() {
        let split = |bytes: &[u8]| split(&mut BytesMut::from(bytes), 16);
        assert_eq!(split(&[0, 0, 0, 0]), Err(FrameError::Empty));
        let too_long = |len_bytes| {
            Err(FrameError::TooLong {
                len_bytes,
                limit_bytes: 16,
            })
        };
        assert_eq!(split(&[0, 0, 0, 17]), too_long(17));
        assert_eq!(split(&[255; 4]), too_long(0xFFFF_FFFF));
        assert_eq!(split(&[255; 3]), Ok(None));
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting_of_the_stream(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            piece_bytes in 1usize..50,
        ) {
            let slices = payloads.iter().map(Vec::as_slice).collect::<Vec<_>>();
            let stream = framed(&slices);
            let mut buffer = BytesMut::new();
            let mut received = Vec::new();
            for piece in stream.chunks(piece_bytes) {
                buffer.extend_from_slice(piece);
                while let Some(payload) = split(&mut buffer, 40).unwrap() {
                    received.push(payload.to_vec());
                }
            }
            prop_assert_eq!(received, payloads);
        }
    }
}
