//! HTTP and WebSocket by hand: any bytes, right or wrong.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::{Buf, Bytes, BytesMut};

/// An answer that has not begun after this long does not come.
const PATIENCE: Duration = Duration::from_secs(10);

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

/// The answer to a request.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status code; `None` if there was no answer.
    pub(crate) status: Option<u16>,
    /// What follows the head.
    pub(crate) body: Vec<u8>,
}

/// Asks for a page.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect(address).context("HTTP")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let mut bytes = Vec::new();
    // A server that stops meanwhile resets the connection: what came until then is the answer.
    let _ = stream.write_all(request.as_bytes());
    let _ = stream.read_to_end(&mut bytes);
    let head_len = find(&bytes, b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
    let body = bytes.split_off(head_len);
    let head = String::from_utf8_lossy(&bytes);
    let status = head
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok());
    Ok(Answer { status, body })
}

/// Whether a read ended because its time was over.
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// The request that makes a WebSocket, with further header lines, each ending in CR LF.
pub(crate) fn upgrade(host: SocketAddr, headers: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{headers}\r\n"
    )
}

/// The headers of a right one.
pub(crate) const RIGHT_HEADERS: &str =
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A WebSocket frame from a client. `first` is its first byte: final bit, reserved bits, opcode.
pub(crate) fn ws_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = ws_head(first, payload.len() as u64);
    let masked = payload.iter().zip(MASK.iter().cycle());
    frame.extend(masked.map(|(byte, mask)| byte ^ mask));
    frame
}

/// The beginning of one that claims a length.
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

/// Takes a whole frame of the server off the front: its opcode and payload.
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

/// Where one sequence begins in another.
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
