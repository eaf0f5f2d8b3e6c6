//! The naive WebSocket relay's client: RFC 6455 with JSON in text messages.

use anyhow::{Context, Result, bail};

use super::{Framing, Incoming};
use crate::payload::Update;

const FINAL_TEXT: u8 = 0x81;
const FINAL_PING: u8 = 0x89;
const END_OF_HEAD: &[u8] = b"\r\n\r\n";
/// The mask of every frame: any will do.
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// One update in one text message, both ways.
#[derive(Debug, Default)]
pub(crate) struct WebSocket {
    json: Vec<u8>,
}

impl Framing for WebSocket {
    fn greet(&self, _client: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(
            b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        );
    }

    fn append(&mut self, update: &Update, out: &mut Vec<u8>) {
        self.json.clear();
        serde_json::to_writer(&mut self.json, update)
            .expect("writing plain data into memory cannot fail");
        let length = u8::try_from(self.json.len()).expect("an update has less than 126 bytes");
        out.extend_from_slice(&[FINAL_TEXT, 0x80 | length]);
        out.extend_from_slice(&MASK);
        out.extend(
            self.json
                .iter()
                .zip(MASK.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
    }

    fn next(&self, received: &[u8]) -> Result<Option<(usize, Incoming)>> {
        let Some(&first) = received.first() else {
            return Ok(None);
        };
        if first == b'H' {
            return upgraded(received);
        }
        let Some(&length) = received.get(1) else {
            return Ok(None);
        };
        if length > 125 {
            bail!("the WebSocket relay sent a message of more than 125 bytes");
        }
        let end = 2 + usize::from(length);
        let Some(payload) = received.get(2..end) else {
            return Ok(None);
        };
        match first {
            FINAL_TEXT => Ok(Some((
                end,
                Incoming::update(Update::key_from_json(payload)?),
            ))),
            FINAL_PING => Ok(Some((end, Incoming::Nothing))),
            other => bail!("the WebSocket relay sent a frame that begins with {other:#x}"),
        }
    }
}

fn upgraded(received: &[u8]) -> Result<Option<(usize, Incoming)>> {
    let end = received
        .windows(END_OF_HEAD.len())
        .position(|bytes| bytes == END_OF_HEAD);
    let Some(end) = end else {
        return Ok(None);
    };
    received
        .starts_with(b"HTTP/1.1 101")
        .then_some(Some((end + END_OF_HEAD.len(), Incoming::Ready)))
        .context("the WebSocket relay refused the upgrade")
}
