//! The bytes of a WebSocket client, written by hand.

use std::io;
use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};

/// The mask of every frame we send: it hides nothing.
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// A WebSocket frame's first byte: the last part of a binary message.
pub(crate) const BINARY: u8 = 0x82;

/// How a connection's bytes ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The server closed it.
    Fin,
    /// The server reset it.
    Reset,
    /// It is still open.
    Open,
}

/// Returns whether a read ended because its time was over.
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// Returns the request that opens a WebSocket, with further header lines, each ending in CR LF.
pub(crate) fn upgrade(host: SocketAddr, headers: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{headers}\r\n"
    )
}

/// The header lines that a valid such request needs.
pub(crate) const RIGHT_HEADERS: &str =
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Returns a WebSocket frame from a client. `first` is its first byte: final bit, reserved bits, opcode.
pub(crate) fn ws_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = ws_head(first, payload.len() as u64);
    let masked = payload.iter().zip(MASK.iter().cycle());
    frame.extend(masked.map(|(byte, mask)| byte ^ mask));
    frame
}

/// Returns the head of a frame that announces a payload of `len_bytes`.
pub(crate) fn ws_head(first: u8, len_bytes: u64) -> Vec<u8> {
    const IS_MASKED: u8 = 0x80;
    let mut head = vec![first];
    match len_bytes {
        0..=125 => head.push(IS_MASKED | len_bytes as u8),
        126..=0xFFFF => {
            head.push(IS_MASKED | 126);
            head.extend((len_bytes as u16).to_be_bytes());
        }
        _ => {
            head.push(IS_MASKED | 127);
            head.extend(len_bytes.to_be_bytes());
        }
    }
    head.extend(MASK);
    head
}

/// Removes a whole frame of the server from the front, and returns its opcode and payload.
pub(crate) fn take_ws_frame(bytes: &mut BytesMut) -> Option<(u8, Bytes)> {
    let short = usize::from(bytes.get(1)? & 0x7F);
    let (head, len_bytes) = match short {
        126 => (
            4,
            usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
        ),
        127 => (
            10,
            u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize,
        ),
        _ => (2, short),
    };
    if bytes.len() < head + len_bytes {
        return None;
    }
    let opcode = bytes[0] & 0x0F;
    bytes.advance(head);
    Some((opcode, bytes.split_to(len_bytes).freeze()))
}

/// Returns the position of the first occurrence of `sequence`.
pub(crate) fn find(bytes: &[u8], sequence: &[u8]) -> Option<usize> {
    bytes
        .windows(sequence.len())
        .position(|window| window == sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_length_are_headed_as_rfc_6455_says() {
        assert_eq!(ws_head(BINARY, 125)[..2], [0x82, 0x80 | 125]);
        assert_eq!(ws_head(BINARY, 126)[..4], [0x82, 0x80 | 126, 0, 126]);
        assert_eq!(
            ws_head(BINARY, 1 << 16)[1..10],
            [0x80 | 127, 0, 0, 0, 0, 0, 1, 0, 0]
        );
        assert_eq!(
            ws_frame(BINARY, &[0x12, 0]),
            [0x82, 0x82, 0x12, 0x34, 0x56, 0x78, 0, 0x34]
        );
    }

    #[test]
    fn a_servers_frame_is_taken_when_it_is_whole() {
        let mut bytes = BytesMut::from(&[0x82, 126, 0, 3, 1, 2][..]);
        assert_eq!(take_ws_frame(&mut bytes), None);
        bytes.extend_from_slice(&[3, 0x88]);
        assert_eq!(
            take_ws_frame(&mut bytes),
            Some((2, Bytes::from_static(&[1, 2, 3])))
        );
        assert_eq!(&bytes[..], [0x88]);
    }
}
