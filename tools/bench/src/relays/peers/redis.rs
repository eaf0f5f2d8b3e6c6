//! A Redis client: RESP 3, where one connection may both publish and subscribe.

use anyhow::{Context, Result, bail};

use super::{CHANNEL, Framing, Incoming, line, number};
use crate::payload::Update;

/// The beginning of a pushed message, up to its length.
const MESSAGE: &[u8] = b">3\r\n$7\r\nmessage\r\n$5\r\ncubes\r\n$";
/// The beginning of the confirmation of a subscription.
const SUBSCRIBED: &[u8] = b">3\r\n$9\r\nsubscribe\r\n";

/// PUBLISH and SUBSCRIBE.
#[derive(Debug, Default)]
pub(crate) struct Redis {
    payload: Vec<u8>,
}

impl Framing for Redis {
    fn greet(&self, _client: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("HELLO 3\r\nSUBSCRIBE {CHANNEL}\r\n").as_bytes());
    }

    fn append(&mut self, update: &Update, out: &mut Vec<u8>) {
        self.payload.clear();
        update.append_bincode(&mut self.payload);
        let head = format!(
            "*3\r\n$7\r\nPUBLISH\r\n${}\r\n{CHANNEL}\r\n${}\r\n",
            CHANNEL.len(),
            self.payload.len()
        );
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(&self.payload);
        out.extend_from_slice(b"\r\n");
    }

    fn next(&self, received: &[u8]) -> Result<Option<(usize, Incoming)>> {
        if let Some(rest) = received.strip_prefix(MESSAGE) {
            let Some((digits, digits_bytes)) = line(rest) else {
                return Ok(None);
            };
            let length = number(digits).context("Redis sent a message without a length")?;
            let start = MESSAGE.len() + digits_bytes;
            let end = start + length;
            if received.len() < end + 2 {
                return Ok(None);
            }
            let key = Update::key_from_bincode(&received[start..end])?;
            return Ok(Some((end + 2, Incoming::update(key))));
        }
        if received.first() == Some(&b'-') {
            let text = line(received).map_or(received, |(text, _)| text);
            bail!("Redis said {}", String::from_utf8_lossy(text));
        }
        let Some(len_bytes) = value_bytes(received)? else {
            return Ok(None);
        };
        let is_subscribed = received.starts_with(SUBSCRIBED);
        let heard = if is_subscribed {
            Incoming::Ready
        } else {
            Incoming::Nothing
        };
        Ok(Some((len_bytes, heard)))
    }
}

/// Returns the length of the first value, or `None` while it is incomplete.
fn value_bytes(received: &[u8]) -> Result<Option<usize>> {
    let Some((text, head_bytes)) = line(received) else {
        return Ok(None);
    };
    let count = number(&text[1..]);
    let parts = match text[0] {
        b'$' => {
            let end = head_bytes + count.context("Redis sent a text without a length")? + 2;
            return Ok((received.len() >= end).then_some(end));
        }
        b'*' | b'>' | b'~' => count.context("Redis sent a list without a length")?,
        b'%' => 2 * count.context("Redis sent a map without a length")?,
        _ => 0,
    };
    let mut end = head_bytes;
    for _ in 0..parts {
        match value_bytes(&received[end..])? {
            Some(part_bytes) => end += part_bytes,
            None => return Ok(None),
        }
    }
    Ok(Some(end))
}
