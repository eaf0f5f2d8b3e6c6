//! A NATS client: its text protocol (docs.nats.io, "Client Protocol").

use anyhow::{Context, Result, bail};

use super::{CHANNEL, Framing, Incoming, line, number};
use crate::payload::Update;

/// PUB, SUB and MSG.
#[derive(Debug, Default)]
pub(crate) struct Nats {
    payload: Vec<u8>,
}

impl Framing for Nats {
    fn greet(&self, _client: usize, out: &mut Vec<u8>) {
        let options = r#"{"verbose":false,"pedantic":false}"#;
        out.extend_from_slice(
            format!("CONNECT {options}\r\nSUB {CHANNEL} 1\r\nPING\r\n").as_bytes(),
        );
    }

    fn append(&mut self, update: &Update, out: &mut Vec<u8>) {
        self.payload.clear();
        update.append_bincode(&mut self.payload);
        out.extend_from_slice(format!("PUB {CHANNEL} {}\r\n", self.payload.len()).as_bytes());
        out.extend_from_slice(&self.payload);
        out.extend_from_slice(b"\r\n");
    }

    fn next(&self, received: &[u8]) -> Result<Option<(usize, Incoming)>> {
        let Some((text, head_bytes)) = line(received) else {
            return Ok(None);
        };
        let heard = match text.split(|&byte| byte == b' ').next() {
            Some(b"MSG") => {
                let length = text.rsplit(|&byte| byte == b' ').next().and_then(number);
                let end = head_bytes + length.context("NATS sent a MSG without a length")?;
                let Some(payload) = received.get(head_bytes..end) else {
                    return Ok(None);
                };
                if received.len() < end + 2 {
                    return Ok(None);
                }
                return Ok(Some((
                    end + 2,
                    Incoming::update(Update::key_from_bincode(payload)?),
                )));
            }
            Some(b"PONG") => Incoming::Ready,
            Some(b"PING") => Incoming::Answer(b"PONG\r\n"),
            Some(b"-ERR") => bail!("NATS said {}", String::from_utf8_lossy(text)),
            _ => Incoming::Nothing,
        };
        Ok(Some((head_bytes, heard)))
    }
}
