//! What servers send each other, changed on the way: links, their messages, rosters and presences.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use cubesync_cluster::Presence;
use cubesync_cluster::link::{Link, LinkId, Payload};
use cubesync_cluster::message::{Down, Envelope, Up};
use cubesync_cluster::roster::{Roster, RosterSender};
use cubesync_protocol::limits::MAX_CUBES_PER_ROOM;

use crate::input::Input;

/// Number of packets that are kept to be delivered, or to be repeated.
const KEPT: usize = 32;

/// A message of any bytes.
struct Raw<'a>(&'a [u8]);

impl Payload for Raw<'_> {
    fn write(&self, buffer: &mut BytesMut) {
        buffer.extend_from_slice(self.0);
    }
}

/// One end of a link, and an edge's roster behind it.
struct End {
    link: Link,
    roster: Roster,
    pushed: Vec<Bytes>,
    received: Vec<Bytes>,
}

/// Checks that what is lost, repeated or delayed arrives once and in order, that messages have one form,
/// and that a roster is no larger than a room.
pub fn check(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut now = Instant::now();
    let mut ends = [(); 2].map(|()| End::new(now));
    // With the end that receives it.
    let mut kept: Vec<(usize, Bytes)> = Vec::new();
    let mut is_changed = false;
    while !input.is_empty() {
        let [operation, argument] = input.array();
        let number = usize::from(operation >> 4) % 2;
        let chosen = (!kept.is_empty()).then(|| kept[usize::from(argument) % kept.len()].clone());
        match (operation % 8, chosen) {
            (0, _) => {
                is_changed = true;
                ends[number].receive(Bytes::copy_from_slice(input.short_bytes()), now);
            }
            (1, _) => ends[number].push(input.short_bytes(), now),
            (2, Some((to, packet))) => ends[to].receive(packet, now),
            (3, Some((to, packet))) => {
                is_changed = true;
                let mut packet = packet.to_vec();
                let [place, change] = input.array();
                let place = usize::from(place) % packet.len();
                packet[place] = packet[place].wrapping_add(change);
                ends[to].receive(packet.into(), now);
            }
            (4, _) => decode(
                &Bytes::copy_from_slice(input.short_bytes()),
                &mut ends[number],
            ),
            // Time goes on, and what is sent arrives, or is lost.
            _ => {
                now += Duration::from_millis(u64::from(argument % 64) * 4);
                ends.iter_mut().for_each(|end| end.turn(now));
                for to in 0..2 {
                    for packet in ends[1 - to].link.take_packets() {
                        kept.push((to, packet.clone()));
                        if argument < 192 {
                            ends[to].receive(packet, now);
                        }
                    }
                }
                kept.drain(..kept.len().saturating_sub(KEPT));
            }
        }
        let [a, b] = &ends;
        for (from, to) in [(a, b), (b, a)] {
            assert!(is_changed || from.pushed.starts_with(&to.received));
            assert!(to.roster.cubes().len() <= MAX_CUBES_PER_ROOM);
        }
    }
}

/// Decodes bytes as every message that they may be.
fn decode(bytes: &Bytes, end: &mut End) {
    let _ = Presence::decode(bytes);
    if let Ok(down) = Down::decode(bytes) {
        // A motion that no cube has is not written as it came.
        assert_eq!(Down::decode(&write(&down)).as_ref(), Ok(&down));
        if let Down::Roster(update) = down
            && end.roster.apply(update).is_err()
        {
            end.roster = Roster::default();
        }
        // A new owner goes on with the cubes of the roster.
        let cubes = end.roster.cubes().cloned().collect();
        let (_, whole) = RosterSender::new(cubes, end.roster.last_id(), Instant::now());
        let mut copy = Roster::default();
        assert_eq!(copy.apply(whole), Ok(()));
        assert!(copy.cubes().eq(end.roster.cubes()));
    }
    if let Ok(up) = Up::decode(bytes) {
        assert_eq!(write(&up), bytes);
    }
}

fn write(message: &impl Payload) -> BytesMut {
    let mut buffer = BytesMut::new();
    message.write(&mut buffer);
    buffer
}

impl End {
    fn new(now: Instant) -> Self {
        Self {
            link: Link::new(LinkId(1), Default::default(), now),
            roster: Roster::default(),
            pushed: Vec::new(),
            received: Vec::new(),
        }
    }

    fn push(&mut self, message: &[u8], now: Instant) {
        self.link.push(&Raw(message), now);
        self.pushed.push(Bytes::copy_from_slice(message));
    }

    fn receive(&mut self, packet: Bytes, now: Instant) {
        if let Ok(Envelope::Packet(packet)) = Envelope::decode(packet) {
            // A link that has ended stays as it is.
            let received = self.link.receive(packet, now).unwrap_or_default();
            if let Some(message) = received {
                decode(&message, self);
                self.received.push(message);
            }
        }
    }

    fn turn(&mut self, now: Instant) {
        if now >= self.link.turn_at() {
            let _ = self.link.turn(now);
        }
    }
}
