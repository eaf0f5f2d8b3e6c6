//! A link: two reliable, ordered streams of messages, one each way, between the owner of a room and
//! an edge, over a bus that may lose what it carries. It does no I/O and reads no clock.
//!
//! Each packet has a number. A receiver that finds one missing asks for it at once, and again every
//! [`ASK_EVERY`]; a sender keeps its last packets for that. A link that cannot be healed has ended,
//! and the edge attaches again. As a packet is the only thing that shows that the one before it was
//! lost, a side that has nothing to send says so every [`ALIVE_EVERY`].
//!
//! A packet is its kind (1 byte), the link's id (4) and a number (2, the low bits of the whole one),
//! little endian, and its content.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use cubesync_protocol::DecodeError;
use cubesync_relay::label::label;
use prometheus_client::metrics::counter::Counter;
use serde::{Deserialize, Serialize};

/// The length of a packet's header in bytes.
const HEADER_BYTES: usize = 7;

/// The maximum length of a packet in bytes: half of what NATS carries unless it is configured to
/// carry more. A longer message is sent in several packets.
const MAX_PACKET_BYTES: usize = 512 * 1024;

/// The maximum length of a message in bytes. The longest ones are the keyframes of a whole room in
/// both of its rates (1 MiB each with full-length names), and its roster.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// The maximum number of packets that a sender keeps, and that a receiver keeps while an earlier one
/// is missing: two seconds at the highest tick rate, and as many again.
const MAX_KEPT: u64 = 512;

/// The maximum length of the kept packets in bytes, a few messages of the maximum length.
const MAX_KEPT_BYTES: usize = 2 * MAX_MESSAGE_BYTES;

/// The time for which a sender keeps a packet, twice as long as a receiver asks for it.
const KEEP_FOR: Duration = Duration::from_secs(2);

/// The interval at which a receiver asks for what is missing. A gap should be healed within 200 ms,
/// even if an answer is lost.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// The interval at which a packet may be sent again, so that repeated questions do not cause a flood
/// of answers.
const RESEND_EVERY: Duration = Duration::from_millis(25);

/// The time within which something missing must arrive.
const HEAL_WITHIN: Duration = Duration::from_secs(1);

/// The maximum time between two packets of a sender.
const ALIVE_EVERY: Duration = Duration::from_millis(100);

/// The silence after which the other side counts as gone: as long as a lease is valid.
const SILENT_AFTER: Duration = Duration::from_secs(1);

/// The number of the first packet. No number near it is below 0.
const FIRST_NUMBER: u64 = 1 << 16;

/// The id of a link. The edge draws it at random when it attaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LinkId(pub u32);

/// A message that can be sent over a link.
pub trait Payload {
    /// Appends the encoded message.
    fn write(&self, buffer: &mut BytesMut);
}

label! {
    /// Why a link has ended.
    pub enum LinkEnd("reason") {
        /// Packets were lost for good.
        Lost => "lost",
        /// Nothing came for too long.
        Silent => "silent",
        /// The other side has ended it.
        Ended => "ended",
        /// What came is nothing that a server sends.
        Malformed => "malformed",
    }
}

/// The kinds of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A message, or the last part of one.
    Last = 1,
    /// A part of a message whose next part is in the next packet.
    Part,
    /// A sign of life with the number of the next packet.
    Alive,
    /// A request for lost packets, whose numbers are the content.
    Ask,
    /// The end of the link.
    End,
}

/// A packet of a link.
#[derive(Debug, Clone)]
pub struct Packet {
    /// The link that it belongs to.
    pub link: LinkId,
    kind: Kind,
    number: u16,
    content: Bytes,
}

impl Packet {
    /// Reads a packet.
    ///
    /// # Errors
    /// Returns an error if the payload is none.
    pub fn read(mut payload: Bytes) -> Result<Self, DecodeError> {
        if payload.len() < HEADER_BYTES {
            return Err(DecodeError::Truncated);
        }
        if payload.len() > MAX_PACKET_BYTES {
            return Err(DecodeError::TooLarge);
        }
        let kind = match payload.get_u8() {
            1 => Kind::Last,
            2 => Kind::Part,
            3 => Kind::Alive,
            4 => Kind::Ask,
            5 => Kind::End,
            _ => return Err(DecodeError::Malformed("an unknown kind of packet".into())),
        };
        Ok(Self {
            link: LinkId(payload.get_u32_le()),
            kind,
            number: payload.get_u16_le(),
            content: payload,
        })
    }

    /// Returns the packet that ends a link, or refuses to begin it.
    pub fn end(link: LinkId) -> Bytes {
        control(Kind::End, link, 0)
    }
}

/// One side of a link.
#[derive(Debug)]
pub struct Link {
    id: LinkId,
    /// What waits to be published.
    packets: Vec<Bytes>,
    /// The newest packets that were sent; the number of the last one is `next_number - 1`.
    sent: VecDeque<Sent>,
    sent_bytes: usize,
    next_number: u64,
    spoken_at: Instant,
    resent: Counter,
    /// The number of the packet that is expected next.
    expected: u64,
    /// The end of the numbers that the other side is known to have used.
    known_end: u64,
    /// Packets that came before the expected one.
    early: BTreeMap<u64, (Kind, Bytes)>,
    early_bytes: usize,
    /// The parts so far of a message that is not complete.
    partial: BytesMut,
    gap: Option<Gap>,
    /// The end of the numbers that are there or were asked for.
    asked_end: u64,
    heard_at: Instant,
}

/// A packet that was sent.
#[derive(Debug)]
struct Sent {
    packet: Bytes,
    at: Instant,
    resent_at: Option<Instant>,
}

/// The time since which the expected packet is missing, and when it was last asked for.
#[derive(Debug, Clone, Copy)]
struct Gap {
    since: Instant,
    asked_at: Instant,
}

impl Link {
    /// Creates one side of a link. `resent` counts the packets that it sends again.
    pub fn new(id: LinkId, resent: Counter, now: Instant) -> Self {
        Self {
            id,
            packets: Vec::new(),
            sent: VecDeque::new(),
            sent_bytes: 0,
            next_number: FIRST_NUMBER,
            spoken_at: now,
            resent,
            expected: FIRST_NUMBER,
            known_end: FIRST_NUMBER,
            early: BTreeMap::new(),
            early_bytes: 0,
            partial: BytesMut::new(),
            gap: None,
            asked_end: FIRST_NUMBER,
            heard_at: now,
        }
    }

    /// Returns its id.
    pub fn id(&self) -> LinkId {
        self.id
    }

    /// Returns when the last packet came from the other side.
    pub fn heard_at(&self) -> Instant {
        self.heard_at
    }

    /// Sends a message.
    pub fn push(&mut self, message: &impl Payload, now: Instant) {
        let mut packet = BytesMut::zeroed(HEADER_BYTES);
        message.write(&mut packet);
        // Nearly every message fits a packet, and then it is not copied.
        let mut rest = packet.split_off(packet.len().min(MAX_PACKET_BYTES));
        while !rest.is_empty() {
            self.send(Kind::Part, packet, now);
            let part = rest.split_to(rest.len().min(MAX_PACKET_BYTES - HEADER_BYTES));
            packet = BytesMut::zeroed(HEADER_BYTES);
            packet.extend_from_slice(&part);
        }
        self.send(Kind::Last, packet, now);
    }

    /// Takes in a packet of this link, and returns the messages that are complete now, in order.
    ///
    /// # Errors
    /// Returns an error if the link has ended.
    pub fn receive(&mut self, packet: Packet, now: Instant) -> Result<Vec<Bytes>, LinkEnd> {
        self.heard_at = now;
        match packet.kind {
            Kind::End => return Err(LinkEnd::Ended),
            Kind::Ask => self.resend(packet.content, now),
            Kind::Alive => {
                let end = whole_number(packet.number, self.expected);
                self.known_end = self.known_end.max(end);
            }
            Kind::Last | Kind::Part => {
                let number = whole_number(packet.number, self.expected);
                self.known_end = self.known_end.max(number + 1);
                self.keep(number, packet);
            }
        }
        if self.known_end > self.expected + MAX_KEPT {
            return Err(LinkEnd::Lost);
        }
        let before = self.expected;
        let complete = self.take_complete()?;
        if self.known_end == self.expected {
            self.gap = None;
        } else {
            let asked_at = self.gap.map_or(now, |gap| gap.asked_at);
            let since = self.gap.filter(|_| self.expected == before);
            let since = since.map_or(now, |gap| gap.since);
            self.gap = Some(Gap { since, asked_at });
            // What is new among the missing.
            self.ask(self.asked_end);
        }
        Ok(complete)
    }

    /// Does what is due: asks again for what is missing, and shows that this side is alive.
    ///
    /// # Errors
    /// Returns an error if the link has ended.
    pub fn turn(&mut self, now: Instant) -> Result<(), LinkEnd> {
        if now >= self.heard_at + SILENT_AFTER {
            return Err(LinkEnd::Silent);
        }
        if let Some(gap) = &mut self.gap {
            if now >= gap.since + HEAL_WITHIN {
                return Err(LinkEnd::Lost);
            }
            if now >= gap.asked_at + ASK_EVERY {
                gap.asked_at = now;
                self.ask(self.expected);
            }
        }
        if now >= self.spoken_at + ALIVE_EVERY {
            self.forget_sent(now);
            self.publish(control(Kind::Alive, self.id, self.next_number), now);
        }
        Ok(())
    }

    /// Returns when the next [turn](Self::turn) is due.
    pub fn turn_at(&self) -> Instant {
        let due = (self.spoken_at + ALIVE_EVERY).min(self.heard_at + SILENT_AFTER);
        self.gap.map_or(due, |gap| {
            due.min(gap.asked_at + ASK_EVERY)
                .min(gap.since + HEAL_WITHIN)
        })
    }

    /// Takes the packets to publish to the other side. There may be some after each other call.
    pub fn take_packets(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.packets)
    }

    fn send(&mut self, kind: Kind, mut packet: BytesMut, now: Instant) {
        packet[..HEADER_BYTES].copy_from_slice(&header(kind, self.id, self.next_number));
        let packet = packet.freeze();
        self.next_number += 1;
        self.sent_bytes += packet.len();
        self.sent.push_back(Sent {
            packet: packet.clone(),
            at: now,
            resent_at: None,
        });
        self.forget_sent(now);
        self.publish(packet, now);
    }

    fn publish(&mut self, packet: Bytes, now: Instant) {
        self.packets.push(packet);
        self.spoken_at = now;
    }

    fn forget_sent(&mut self, now: Instant) {
        while self.sent.front().is_some_and(|sent| {
            let is_full = self.sent.len() as u64 > MAX_KEPT || self.sent_bytes > MAX_KEPT_BYTES;
            is_full || now >= sent.at + KEEP_FOR
        }) {
            let forgotten = self.sent.pop_front();
            self.sent_bytes -= forgotten.map_or(0, |sent| sent.packet.len());
        }
    }

    /// Sends packets again that the other side misses. If they are gone, it gives up by itself.
    fn resend(&mut self, mut numbers: Bytes, now: Instant) {
        let first_kept = self.next_number - self.sent.len() as u64;
        for _ in 0..MAX_KEPT {
            let Ok(number) = numbers.try_get_u16_le() else {
                return;
            };
            let place = whole_number(number, self.next_number).checked_sub(first_kept);
            let sent = place.and_then(|place| self.sent.get_mut(usize::try_from(place).ok()?));
            if let Some(sent) = sent
                && sent.resent_at.is_none_or(|at| now >= at + RESEND_EVERY)
            {
                sent.resent_at = Some(now);
                self.resent.inc();
                self.packets.push(sent.packet.clone());
            }
        }
    }

    /// Asks for the missing packets from a number on.
    fn ask(&mut self, from: u64) {
        let mut packet = BytesMut::from(&header(Kind::Ask, self.id, 0)[..]);
        let numbers = from.max(self.expected)..self.known_end;
        for number in numbers.filter(|number| !self.early.contains_key(number)) {
            packet.put_u16_le(number as u16);
        }
        self.asked_end = self.known_end;
        if packet.len() > HEADER_BYTES {
            self.packets.push(packet.freeze());
        }
    }

    /// Keeps a packet until those before it are there, unless it is a copy or there is no place: then
    /// it is asked for later.
    fn keep(&mut self, number: u64, packet: Packet) {
        let is_wanted = (self.expected..self.expected + MAX_KEPT).contains(&number)
            && !self.early.contains_key(&number);
        let fits = self.early_bytes + packet.content.len() <= MAX_KEPT_BYTES;
        if is_wanted && (fits || number == self.expected) {
            self.early_bytes += packet.content.len();
            self.early.insert(number, (packet.kind, packet.content));
        }
    }

    fn take_complete(&mut self) -> Result<Vec<Bytes>, LinkEnd> {
        let mut complete = Vec::new();
        while let Some((kind, content)) = self.early.remove(&self.expected) {
            self.expected += 1;
            self.early_bytes -= content.len();
            if self.partial.len() + content.len() > MAX_MESSAGE_BYTES {
                return Err(LinkEnd::Malformed);
            }
            match kind {
                Kind::Last if self.partial.is_empty() => complete.push(content),
                Kind::Last => {
                    self.partial.extend_from_slice(&content);
                    complete.push(std::mem::take(&mut self.partial).freeze());
                }
                _ => self.partial.extend_from_slice(&content),
            }
        }
        Ok(complete)
    }
}

fn header(kind: Kind, link: LinkId, number: u64) -> [u8; HEADER_BYTES] {
    let mut header = [kind as u8; HEADER_BYTES];
    header[1..5].copy_from_slice(&link.0.to_le_bytes());
    // The low bits of the number.
    header[5..].copy_from_slice(&number.to_le_bytes()[..2]);
    header
}

fn control(kind: Kind, link: LinkId, number: u64) -> Bytes {
    Bytes::copy_from_slice(&header(kind, link, number))
}

/// Returns the whole number with these low bits that is nearest to `near`.
fn whole_number(low: u16, near: u64) -> u64 {
    let difference = low.wrapping_sub(near as u16) as i16;
    near.saturating_add_signed(difference.into())
}

#[cfg(test)]
mod tests;
