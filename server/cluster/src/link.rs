//! A link: two reliable, ordered streams of messages, one each way, between the owner of a room and
//! an edge, over a bus that may lose what it carries but keeps its order. It does no I/O and reads no
//! clock.
//!
//! Each packet has a number. A receiver that misses one asks for it and all after it at once, and again
//! every `ASK_EVERY`; a sender keeps its last packets for that. A link that cannot be healed has
//! ended, and the edge attaches again. As a packet is the only thing that shows that the one before it
//! was lost, a side that has nothing to send says so every `ALIVE_EVERY`.
//!
//! A packet is its kind (1 byte), the link's id (4) and a number (4), little endian, and its content.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use cubesync_protocol::DecodeError;
use cubesync_relay::label::label;
use cubesync_relay::metrics::MetricSet;
use prometheus_client::metrics::counter::Counter;
use serde::{Deserialize, Serialize};

use crate::answers::{AnswerBudget, Answers, Request};

/// The length of a packet's header in bytes.
const HEADER_BYTES: usize = 9;

/// The first of the numbers of kinds. Other payloads on the same topics begin with lower ones.
const FIRST_KIND: u8 = 16;

/// The maximum length of a packet in bytes: half of what NATS carries unless it is configured to
/// carry more. A longer message is sent in several packets.
const MAX_PACKET_BYTES: usize = 512 * 1024;

/// The maximum length of a message in bytes. The longest ones are the keyframes of a whole room in
/// both of its rates (1 MiB each with full-length names), and its roster.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// The maximum number of packets that a sender keeps: two seconds at the highest tick rate, and as
/// many again.
const MAX_KEPT: usize = 512;

/// The maximum length of the kept packets in bytes, a few messages of the maximum length.
const MAX_KEPT_BYTES: usize = 2 * MAX_MESSAGE_BYTES;

/// The time for which a sender keeps a packet, twice as long as a receiver asks for it.
const KEEP_FOR: Duration = Duration::from_secs(2);

/// The interval at which a receiver asks for what is missing. A gap should be healed within 200 ms,
/// even if an answer is lost.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// The interval at which a sender answers, so that repeated questions do not cause a flood.
const ANSWER_EVERY: Duration = Duration::from_millis(25);

/// The time within which something missing must arrive.
const HEAL_WITHIN: Duration = Duration::from_secs(1);

/// The maximum time between two packets of a sender. While a cube moves there are more.
const ALIVE_EVERY: Duration = Duration::from_millis(250);

/// The silence after which the other side counts as gone: as long as a lease is valid.
const SILENT_AFTER: Duration = Duration::from_secs(1);

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
    Last = FIRST_KIND as isize,
    /// A part of a message whose next part is in the next packet.
    Part,
    /// A sign of life with the number of the next packet.
    Alive,
    /// A request for the packets from a number on.
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
    number: u32,
    content: Bytes,
}

impl Packet {
    /// Returns whether a payload claims to be a packet.
    pub(crate) fn is_packet(payload: &[u8]) -> bool {
        payload.first().is_some_and(|kind| *kind >= FIRST_KIND)
    }

    /// Reads a packet.
    ///
    /// # Errors
    /// Returns an error if the payload is none.
    pub fn read(mut payload: Bytes) -> Result<Self, DecodeError> {
        if payload.len() < HEADER_BYTES {
            return Err(DecodeError::Truncated);
        }
        let kind = match payload.get_u8().wrapping_sub(FIRST_KIND) {
            0 => Kind::Last,
            1 => Kind::Part,
            2 => Kind::Alive,
            3 => Kind::Ask,
            4 => Kind::End,
            _ => return Err(DecodeError::Malformed("an unknown kind of packet".into())),
        };
        Ok(Self {
            link: LinkId(payload.get_u32_le()),
            kind,
            number: payload.get_u32_le(),
            content: payload,
        })
    }

    /// Returns the packet that ends a link, or refuses to begin it.
    pub fn end(link: LinkId) -> Bytes {
        Bytes::copy_from_slice(&header(Kind::End, link, 0))
    }
}

/// One side of a link.
#[derive(Debug)]
pub struct Link {
    id: LinkId,
    /// What waits to be published.
    packets: Vec<Bytes>,
    /// The newest packets and when they were sent; the number of the last one is `next_number - 1`.
    sent: VecDeque<(Bytes, Instant)>,
    sent_bytes: usize,
    next_number: u32,
    spoken_at: Instant,
    answered_at: Option<Instant>,
    answers: Answers,
    resent: Counter,
    /// The number of the packet that is expected next.
    expected: u32,
    /// The parts so far of a message that is not complete.
    partial: BytesMut,
    gap: Option<Gap>,
    heard_at: Instant,
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
            next_number: 0,
            spoken_at: now,
            answered_at: None,
            answers: AnswerBudget::new(&MetricSet::default(), now).of_link(now),
            resent,
            expected: 0,
            partial: BytesMut::new(),
            gap: None,
            heard_at: now,
        }
    }

    /// Shares the budget for answers with the other links of this server.
    pub fn with_answers(self, answers: Answers) -> Self {
        Self { answers, ..self }
    }

    /// Returns its id.
    pub fn id(&self) -> LinkId {
        self.id
    }

    /// Returns the budget for answers to the other side.
    pub fn answers(&mut self) -> &mut Answers {
        &mut self.answers
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

    /// Takes in a packet of this link, and returns the message that is complete now.
    ///
    /// # Errors
    /// Returns an error if the link has ended.
    pub fn receive(&mut self, packet: Packet, now: Instant) -> Result<Option<Bytes>, LinkEnd> {
        self.heard_at = now;
        match packet.kind {
            Kind::End => return Err(LinkEnd::Ended),
            Kind::Ask => self.answer(packet.number, now),
            Kind::Alive | Kind::Last | Kind::Part if packet.number > self.expected => {
                if self.gap.is_none() {
                    self.ask(now, now);
                }
            }
            Kind::Last | Kind::Part if packet.number == self.expected => {
                // A link that has carried so much begins anew.
                self.expected = self.expected.checked_add(1).ok_or(LinkEnd::Lost)?;
                self.gap = None;
                return self.take(packet.kind, packet.content);
            }
            // Nothing is missing, whatever somebody else has claimed.
            Kind::Alive if packet.number == self.expected => self.gap = None,
            // A copy.
            Kind::Alive | Kind::Last | Kind::Part => {}
        }
        Ok(None)
    }

    /// Does what is due: asks again for what is missing, and shows that this side is alive.
    ///
    /// # Errors
    /// Returns an error if the link has ended.
    pub fn turn(&mut self, now: Instant) -> Result<(), LinkEnd> {
        if now >= self.heard_at + SILENT_AFTER {
            return Err(LinkEnd::Silent);
        }
        if let Some(gap) = self.gap {
            if now >= gap.since + HEAL_WITHIN {
                return Err(LinkEnd::Lost);
            }
            if now >= gap.asked_at + ASK_EVERY {
                self.ask(gap.since, now);
            }
        }
        if now >= self.spoken_at + ALIVE_EVERY {
            self.spoken_at = now;
            self.forget_sent(now);
            self.control(Kind::Alive, self.next_number);
        }
        Ok(())
    }

    /// Returns when the next [turn](Self::turn) is due.
    pub fn turn_at(&self) -> Instant {
        let due = (self.spoken_at + ALIVE_EVERY).min(self.heard_at + SILENT_AFTER);
        let ask_at = self.gap.map(|gap| gap.asked_at + ASK_EVERY);
        ask_at.map_or(due, |ask_at| ask_at.min(due))
    }

    /// Takes the packets to publish to the other side. There may be some after each other call.
    pub fn take_packets(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.packets)
    }

    fn send(&mut self, kind: Kind, mut packet: BytesMut, now: Instant) {
        packet[..HEADER_BYTES].copy_from_slice(&header(kind, self.id, self.next_number));
        let packet = packet.freeze();
        self.spoken_at = now;
        self.next_number = self.next_number.wrapping_add(1);
        self.sent_bytes += packet.len();
        self.sent.push_back((packet.clone(), now));
        self.packets.push(packet);
        self.forget_sent(now);
    }

    fn control(&mut self, kind: Kind, number: u32) {
        let packet = header(kind, self.id, number);
        self.packets.push(Bytes::copy_from_slice(&packet));
    }

    fn forget_sent(&mut self, now: Instant) {
        while let Some((packet, at)) = self.sent.front() {
            let is_full = self.sent.len() > MAX_KEPT || self.sent_bytes > MAX_KEPT_BYTES;
            if !is_full && now < *at + KEEP_FOR {
                return;
            }
            self.sent_bytes -= packet.len();
            self.sent.pop_front();
        }
    }

    /// Sends packets again. If they are gone, the other side gives up by itself.
    fn answer(&mut self, from: u32, now: Instant) {
        let first_kept = self.next_number.wrapping_sub(self.sent.len() as u32);
        let is_due = self.answered_at.is_none_or(|at| now >= at + ANSWER_EVERY);
        if is_due && (first_kept..self.next_number).contains(&from) {
            self.answered_at = Some(now);
            for (packet, _) in self.sent.range((from - first_kept) as usize..) {
                // The other side asks for the rest.
                if !self.answers.may_answer(Request::Resend, now) {
                    break;
                }
                self.answers.spend(packet.len(), now);
                self.resent.inc();
                self.packets.push(packet.clone());
            }
        }
    }

    fn ask(&mut self, since: Instant, now: Instant) {
        let asked_at = now;
        self.gap = Some(Gap { since, asked_at });
        self.control(Kind::Ask, self.expected);
    }

    /// Returns the message that a packet completes.
    fn take(&mut self, kind: Kind, content: Bytes) -> Result<Option<Bytes>, LinkEnd> {
        if self.partial.len() + content.len() > MAX_MESSAGE_BYTES {
            return Err(LinkEnd::Malformed);
        }
        if kind == Kind::Last && self.partial.is_empty() {
            return Ok(Some(content));
        }
        self.partial.extend_from_slice(&content);
        let is_complete = kind == Kind::Last;
        Ok(is_complete.then(|| std::mem::take(&mut self.partial).freeze()))
    }
}

fn header(kind: Kind, link: LinkId, number: u32) -> [u8; HEADER_BYTES] {
    let mut header = [kind as u8; HEADER_BYTES];
    header[1..5].copy_from_slice(&link.0.to_le_bytes());
    header[5..].copy_from_slice(&number.to_le_bytes());
    header
}

#[cfg(test)]
mod tests;
