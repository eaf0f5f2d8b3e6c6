//! The other systems' client sides, over what they have in common.

pub(crate) mod floor;
pub(crate) mod mqtt;
pub(crate) mod naive;
pub(crate) mod nats;
pub(crate) mod redis;
pub(crate) mod websocket;

use std::sync::Arc;

use anyhow::Result;

use crate::dialect::{Dialect, Schedule};
use crate::payload::Update;
use crate::progress::Timeline;
use crate::tally::Tally;
use crate::workload::Workload;

/// The subject, channel or topic that everybody sends to and hears.
const CHANNEL: &str = "cubes";

/// How a relay's messages stand in the stream. The minimal part of its protocol that a client
/// needs here, written by hand.
pub(crate) trait Framing {
    /// Appends what a client says first; it may begin when [`Heard::Ready`] came.
    fn greet(&self, client: usize, out: &mut Vec<u8>);

    /// Appends a message with an update.
    fn append(&mut self, update: &Update, out: &mut Vec<u8>);

    /// Reads the first message: its bytes and its meaning; `None` while it is not complete.
    fn next(&self, received: &[u8]) -> Result<Option<(usize, Heard)>>;
}

/// What a message means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The relay has let the client in.
    Ready,
    /// A client's step.
    Update {
        /// Whose.
        client: u32,
        /// Which.
        step: u32,
    },
    /// The relay wants this back.
    Answer(&'static [u8]),
    /// Nothing that matters here.
    Nothing,
}

impl Heard {
    fn update((client, step): (u32, u32)) -> Self {
        Self::Update { client, step }
    }
}

/// Clients of a relay that passes every message on to everybody.
pub(crate) struct Relay<F> {
    framing: F,
    workload: Arc<Workload>,
}

impl<F: Framing> Relay<F> {
    /// The clients of one thread.
    pub(crate) fn new(framing: F, workload: Arc<Workload>) -> Self {
        Self { framing, workload }
    }
}

impl<F: Framing> Dialect for Relay<F> {
    /// Whether it is in.
    type Client = bool;

    fn connected(&mut self, client: usize, out: &mut Vec<u8>) -> bool {
        self.framing.greet(client, out);
        // Who need not say anything is in.
        out.is_empty()
    }

    fn is_ready(&self, state: &bool) -> bool {
        *state
    }

    /// The clients of a relay without ticks know nothing of each other.
    fn schedule(&mut self, timeline: &Timeline) -> Schedule {
        let period = self.workload.period();
        Schedule {
            start_us: timeline.start_us,
            period,
            spread: period,
            clients: self.workload.clients,
        }
    }

    fn sample(&mut self, client: usize, _state: &mut bool, step: usize, out: &mut Vec<u8>) {
        let update = Update::new(client, step, self.workload.pose(client, step));
        self.framing.append(&update, out);
    }

    fn receive(
        &mut self,
        state: &mut bool,
        received: &[u8],
        now_us: u64,
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) -> Result<usize> {
        let mut taken = 0;
        while let Some((len_bytes, heard)) = self.framing.next(&received[taken..])? {
            taken += len_bytes;
            match heard {
                Heard::Ready => *state = true,
                Heard::Update { client, step } => {
                    let sampled_us = self.workload.sampled_us(client as usize, step as usize);
                    if let Some(sampled_us) = sampled_us {
                        tally.delivered(now_us, sampled_us, 1);
                    }
                }
                Heard::Answer(answer) => out.extend_from_slice(answer),
                Heard::Nothing => {}
            }
        }
        Ok(taken)
    }
}

/// The text before the first CRLF, and the bytes up to and with it.
fn line(received: &[u8]) -> Option<(&[u8], usize)> {
    let end = received.windows(2).position(|pair| pair == b"\r\n")?;
    Some((&received[..end], end + 2))
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use cubesync_protocol::Pose;

    use super::*;

    /// Every framing reads what its server makes of an update, cut anywhere.
    fn assert_reads(framing: &impl Framing, message: &[u8], expected: Heard) {
        for len_bytes in 0..message.len() {
            let cut = framing.next(&message[..len_bytes]).unwrap();
            assert_eq!(cut, None, "{len_bytes} of {} bytes", message.len());
        }
        let longer = [message, b"and more"].concat();
        assert_eq!(
            framing.next(&longer).unwrap(),
            Some((message.len(), expected))
        );
    }

    #[test]
    fn each_protocol_is_read_byte_by_byte() {
        let update = Update::new(300, 7, Pose::default());
        let mut payload = Vec::new();
        update.append_bincode(&mut payload);
        let heard = Heard::update((300, 7));
        let with = |head: &str, tail: &[u8]| [head.as_bytes(), &payload, tail].concat();
        let len_bytes = payload.len();

        let message = [&[0, 0, 0, len_bytes as u8][..], &payload].concat();
        assert_reads(&naive::Naive, &message, heard);

        let head = format!("MSG cubes 1 {len_bytes}\r\n");
        assert_reads(&nats::Nats::default(), &with(&head, b"\r\n"), heard);
        assert_reads(&nats::Nats::default(), b"PONG\r\n", Heard::Ready);
        assert_reads(
            &nats::Nats::default(),
            b"PING\r\n",
            Heard::Answer(b"PONG\r\n"),
        );

        let head = format!(">3\r\n$7\r\nmessage\r\n$5\r\ncubes\r\n${len_bytes}\r\n");
        assert_reads(&redis::Redis::default(), &with(&head, b"\r\n"), heard);
        let subscribed = b">3\r\n$9\r\nsubscribe\r\n$5\r\ncubes\r\n:1\r\n";
        assert_reads(&redis::Redis::default(), subscribed, Heard::Ready);
        let map = b"%2\r\n$5\r\nproto\r\n:3\r\n$7\r\nmodules\r\n*0\r\n";
        assert_reads(&redis::Redis::default(), map, Heard::Nothing);
        assert_reads(&redis::Redis::default(), b":12\r\n", Heard::Nothing);

        let publish = [&[0x30, len_bytes as u8 + 7, 0, 5][..], b"cubes", &payload].concat();
        assert_reads(&mqtt::Mqtt::default(), &publish, heard);
        assert_reads(&mqtt::Mqtt::default(), &[0x90, 3, 0, 1, 0], Heard::Ready);

        let json = serde_json::to_vec(&update).unwrap();
        let frame = [&[0x81, json.len() as u8][..], &json].concat();
        assert_reads(&websocket::WebSocket::default(), &frame, heard);
        let upgraded = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n";
        assert_reads(&websocket::WebSocket::default(), upgraded, Heard::Ready);
    }
}
