//! An MQTT 3.1.1 client at QoS 0.

use anyhow::{Context, Result, bail};

use super::{CHANNEL, Framing, Incoming};
use crate::payload::Update;

const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;

/// CONNECT, SUBSCRIBE and PUBLISH.
#[derive(Debug, Default)]
pub(crate) struct Mqtt {
    body: Vec<u8>,
}

impl Framing for Mqtt {
    fn greet(&self, client: usize, out: &mut Vec<u8>) {
        // Level 4 (3.1.1), a clean session, no keep-alive.
        let mut body = text("MQTT");
        body.extend_from_slice(&[4, 2, 0, 0]);
        body.extend(text(&format!("bench{client}")));
        append_packet(out, CONNECT, &body);
        // Packet 1; QoS 0.
        let mut body = vec![0, 1];
        body.extend(text(CHANNEL));
        body.push(0);
        append_packet(out, SUBSCRIBE, &body);
    }

    fn append(&mut self, update: &Update, out: &mut Vec<u8>) {
        self.body.clear();
        self.body.extend(text(CHANNEL));
        update.append_bincode(&mut self.body);
        append_packet(out, PUBLISH, &self.body);
    }

    fn next(&self, received: &[u8]) -> Result<Option<(usize, Incoming)>> {
        let Some((&kind, rest)) = received.split_first() else {
            return Ok(None);
        };
        let Some((length, length_bytes)) = remaining_length(rest)? else {
            return Ok(None);
        };
        let end = 1 + length_bytes + length;
        let Some(body) = received.get(1 + length_bytes..end) else {
            return Ok(None);
        };
        let heard = match kind {
            PUBLISH => {
                let payload = body
                    .get(2 + CHANNEL.len()..)
                    .context("MQTT sent half a packet")?;
                Incoming::update(Update::key_from_bincode(payload)?)
            }
            SUBACK => Incoming::Ready,
            CONNACK if body.get(1) != Some(&0) => bail!("the MQTT broker refused the client"),
            _ => Incoming::Nothing,
        };
        Ok(Some((end, heard)))
    }
}

fn text(text: &str) -> Vec<u8> {
    let length = text.len() as u16;
    [&length.to_be_bytes()[..], text.as_bytes()].concat()
}

fn append_packet(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    out.push(kind);
    let mut left = body.len();
    loop {
        let more = if left > 127 { 0x80 } else { 0 };
        out.push((left % 128) as u8 | more);
        left /= 128;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
}

/// Parses a body's length: seven bits a byte, lowest first. Returns it and the number of its bytes.
fn remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>> {
    let mut length = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((length, index + 1)));
        }
    }
    match bytes.len() {
        0..4 => Ok(None),
        _ => bail!("MQTT sent a length of more than four bytes"),
    }
}
