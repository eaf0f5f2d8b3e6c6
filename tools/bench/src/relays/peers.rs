//! The client sides of the other systems.

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

/// The subject, channel or topic to which all clients publish and subscribe.
const CHANNEL: &str = "cubes";

/// The framing of a relay's messages: the part of its protocol that a client needs here, written by hand.
pub(crate) trait Framing {
    /// Appends the first message of a client, which may send updates after [`Incoming::Ready`].
    fn greet(&self, client: usize, out: &mut Vec<u8>);

    /// Appends a message with an update.
    fn append(&mut self, update: &Update, out: &mut Vec<u8>);

    /// Parses the first message. Returns its length and its meaning, or `None` while it is incomplete.
    fn next(&self, received: &[u8]) -> Result<Option<(usize, Incoming)>>;
}

/// The meaning of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// The relay has accepted the client.
    Ready,
    /// An update of a client.
    Update {
        /// The client.
        client: u32,
        /// The step.
        step: u32,
    },
    /// The relay expects this answer.
    Answer(&'static [u8]),
    /// The message has no meaning for the benchmark.
    Nothing,
}

impl Incoming {
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
    /// Returns the clients of one thread.
    pub(crate) fn new(framing: F, workload: Arc<Workload>) -> Self {
        Self { framing, workload }
    }
}

impl<F: Framing> Dialect for Relay<F> {
    /// Whether the relay has accepted the client.
    type Client = bool;

    fn connected(&mut self, client: usize, out: &mut Vec<u8>) -> bool {
        self.framing.greet(client, out);
        // A client without a first message is accepted at once.
        out.is_empty()
    }

    fn is_ready(&self, state: &bool) -> bool {
        *state
    }

    fn schedule(&mut self, timeline: &Timeline) -> Schedule {
        Schedule::even(&self.workload, timeline)
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
        while let Some((len_bytes, incoming)) = self.framing.next(&received[taken..])? {
            taken += len_bytes;
            match incoming {
                Incoming::Ready => *state = true,
                Incoming::Update { client, step } => {
                    let sampled_us = self.workload.sampled_us(client as usize, step as usize);
                    if let Some(sampled_us) = sampled_us {
                        tally.delivered(now_us, sampled_us, 1);
                    }
                }
                Incoming::Answer(answer) => out.extend_from_slice(answer),
                Incoming::Nothing => {}
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
    fn assert_reads(framing: &impl Framing, message: &[u8], expected: Incoming) {
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
        let incoming = Incoming::update((300, 7));
        let with = |head: &str, tail: &[u8]| [head.as_bytes(), &payload, tail].concat();
        let len_bytes = payload.len();

        let message = [&[0, 0, 0, len_bytes as u8][..], &payload].concat();
        assert_reads(&naive::Naive, &message, incoming);

        let head = format!("MSG cubes 1 {len_bytes}\r\n");
        assert_reads(&nats::Nats::default(), &with(&head, b"\r\n"), incoming);
        assert_reads(&nats::Nats::default(), b"PONG\r\n", Incoming::Ready);
        assert_reads(
            &nats::Nats::default(),
            b"PING\r\n",
            Incoming::Answer(b"PONG\r\n"),
        );

        let head = format!(">3\r\n$7\r\nmessage\r\n$5\r\ncubes\r\n${len_bytes}\r\n");
        assert_reads(&redis::Redis::default(), &with(&head, b"\r\n"), incoming);
        let subscribed = b">3\r\n$9\r\nsubscribe\r\n$5\r\ncubes\r\n:1\r\n";
        assert_reads(&redis::Redis::default(), subscribed, Incoming::Ready);
        let map = b"%2\r\n$5\r\nproto\r\n:3\r\n$7\r\nmodules\r\n*0\r\n";
        assert_reads(&redis::Redis::default(), map, Incoming::Nothing);
        assert_reads(&redis::Redis::default(), b":12\r\n", Incoming::Nothing);

        let publish = [&[0x30, len_bytes as u8 + 7, 0, 5][..], b"cubes", &payload].concat();
        assert_reads(&mqtt::Mqtt::default(), &publish, incoming);
        assert_reads(&mqtt::Mqtt::default(), &[0x90, 3, 0, 1, 0], Incoming::Ready);

        let json = serde_json::to_vec(&update).unwrap();
        let frame = [&[0x81, json.len() as u8][..], &json].concat();
        assert_reads(&websocket::WebSocket::default(), &frame, incoming);
        let upgraded = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n";
        assert_reads(&websocket::WebSocket::default(), upgraded, Incoming::Ready);
    }
}
