use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A message of any bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Raw(Vec<u8>);

impl Payload for Raw {
    fn write(&self, buffer: &mut BytesMut) {
        buffer.extend_from_slice(&self.0);
    }
}

const ID: LinkId = LinkId(0x0403_0201);

fn link(now: Instant) -> Link {
    Link::new(ID, Counter::default(), now)
}

fn raw(number: u8) -> Raw {
    Raw(vec![number; 3])
}

/// Pushes a message, and returns its packets.
fn push(link: &mut Link, message: &Raw, now: Instant) -> Vec<Bytes> {
    link.push(message, now);
    link.take_packets()
}

/// Delivers packets, and returns the messages that are complete.
fn deliver(link: &mut Link, packets: &[Bytes], now: Instant) -> Result<Vec<Raw>, LinkEnd> {
    let mut messages = Vec::new();
    for packet in packets {
        let packet = Packet::read(packet.clone()).unwrap();
        messages.extend(link.receive(packet, now)?);
    }
    Ok(messages.iter().map(|bytes| Raw(bytes.to_vec())).collect())
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn a_packet_is_nine_bytes_and_its_content() {
    let now = Instant::now();
    let mut link = link(now);
    push(&mut link, &raw(7), now);
    assert_eq!(
        push(&mut link, &raw(8), now),
        [&b"\x10\x01\x02\x03\x04\x01\x00\x00\x00\x08\x08\x08"[..]]
    );
    assert_eq!(
        Packet::end(ID),
        &b"\x14\x01\x02\x03\x04\x00\x00\x00\x00"[..]
    );
}

#[test]
fn a_lost_packet_and_those_after_it_are_sent_again_at_once() {
    let now = Instant::now();
    let (mut sender, mut receiver) = (link(now), link(now));
    let packets: Vec<_> = (0..4)
        .flat_map(|number| push(&mut sender, &raw(number), now))
        .collect();
    assert_eq!(deliver(&mut receiver, &packets[..1], now), Ok(vec![raw(0)]));
    assert_eq!(deliver(&mut receiver, &packets[2..], now), Ok(vec![]));
    let asked = receiver.take_packets();
    assert_eq!(asked.len(), 1, "one question");
    deliver(&mut sender, &asked, now).unwrap();
    let again = sender.take_packets();
    assert_eq!(again, packets[1..]);
    assert_eq!(sender.resent.get(), 3);
    let rest = vec![raw(1), raw(2), raw(3)];
    assert_eq!(deliver(&mut receiver, &again, now), Ok(rest));
    assert_eq!(deliver(&mut receiver, &again, now), Ok(vec![]), "copies");
    assert!(receiver.take_packets().is_empty());
}

#[test]
fn a_lost_question_is_repeated_and_repeated_questions_cause_no_flood() {
    let now = Instant::now();
    let (mut sender, mut receiver) = (link(now), link(now));
    let packets: Vec<_> = (0..2)
        .flat_map(|number| push(&mut sender, &raw(number), now))
        .collect();
    deliver(&mut receiver, &packets[1..], now).unwrap();
    receiver.take_packets();
    assert_eq!(receiver.turn_at(), now + ASK_EVERY);
    let now = now + ASK_EVERY;
    receiver.turn(now).unwrap();
    let asked = receiver.take_packets();
    for _ in 0..100 {
        deliver(&mut sender, &asked, now).unwrap();
    }
    let again = sender.take_packets();
    assert_eq!(again, packets);
    assert_eq!(deliver(&mut receiver, &again, now).unwrap().len(), 2);
}

#[test]
fn the_loss_of_the_last_packet_is_noticed_by_the_next_sign_of_life() {
    let now = Instant::now();
    let (mut sender, mut receiver) = (link(now), link(now));
    let lost = push(&mut sender, &raw(1), now);
    assert_eq!(sender.turn_at(), now + ALIVE_EVERY);
    let now = now + ALIVE_EVERY;
    sender.turn(now).unwrap();
    deliver(&mut receiver, &sender.take_packets(), now).unwrap();
    deliver(&mut sender, &receiver.take_packets(), now).unwrap();
    assert_eq!(sender.take_packets(), lost);
}

#[test]
fn a_gap_that_cannot_be_healed_ends_the_link() {
    let now = Instant::now();
    let (mut sender, mut receiver) = (link(now), link(now));
    push(&mut sender, &raw(0), now);
    let mut end = None;
    for tick in 0..70 {
        let now = now + millis(30 * tick);
        let packets = push(&mut sender, &raw(1), now);
        let received = deliver(&mut receiver, &packets, now);
        assert_eq!(received, Ok(vec![]));
        end = end.or(receiver.turn(now).err().map(|end| (end, now)));
        receiver.take_packets();
    }
    let (end, at) = end.unwrap();
    assert_eq!(end, LinkEnd::Lost);
    assert!(at - now >= HEAL_WITHIN && at - now < HEAL_WITHIN + millis(60));
    // The sender no longer has it either.
    receiver.ask(now, now);
    deliver(&mut sender, &receiver.take_packets(), now).unwrap();
    assert!(sender.take_packets().is_empty());
}

#[test]
fn a_sender_keeps_no_more_than_its_bounds() {
    let now = Instant::now();
    let mut sender = link(now);
    for _ in 0..2 * MAX_KEPT {
        push(&mut sender, &raw(0), now);
    }
    assert_eq!(sender.sent.len(), MAX_KEPT);
    let long = Raw(vec![0; MAX_MESSAGE_BYTES]);
    for _ in 0..4 {
        push(&mut sender, &long, now);
    }
    assert!(sender.sent_bytes <= MAX_KEPT_BYTES);
    let kept: usize = sender.sent.iter().map(|(packet, _)| packet.len()).sum();
    assert_eq!(sender.sent_bytes, kept);
    let now = now + KEEP_FOR;
    sender.turn(now - SILENT_AFTER - millis(1)).ok();
    push(&mut sender, &raw(0), now);
    assert_eq!(sender.sent.len(), 1);
}

#[test]
fn silence_and_the_other_sides_goodbye_end_a_link() {
    let now = Instant::now();
    let mut link = link(now);
    link.turn(now + SILENT_AFTER - millis(1)).unwrap();
    assert_eq!(link.turn(now + SILENT_AFTER), Err(LinkEnd::Silent));
    assert_eq!(
        deliver(&mut link, &[Packet::end(ID)], now),
        Err(LinkEnd::Ended)
    );
}

#[test]
fn a_long_message_is_sent_in_packets_that_the_bus_carries() {
    let now = Instant::now();
    let (mut sender, mut receiver) = (link(now), link(now));
    let long = Raw((0..MAX_MESSAGE_BYTES)
        .map(|place| (place / 1_000) as u8)
        .collect());
    let packets = push(&mut sender, &long, now);
    assert_eq!(packets.len(), 9);
    assert!(
        packets
            .iter()
            .all(|packet| packet.len() <= MAX_PACKET_BYTES)
    );
    assert!(deliver(&mut receiver, &packets, now).unwrap() == [long]);
    assert!(receiver.partial.is_empty());
}

#[test]
fn a_message_without_an_end_ends_the_link() {
    let now = Instant::now();
    let mut receiver = link(now);
    for number in 0.. {
        let mut packet = BytesMut::from(&header(Kind::Part, ID, number)[..]);
        packet.resize(MAX_PACKET_BYTES, 0);
        if let Err(end) = deliver(&mut receiver, &[packet.freeze()], now) {
            assert_eq!((end, number), (LinkEnd::Malformed, 8));
            break;
        }
        assert!(receiver.partial.len() <= MAX_MESSAGE_BYTES);
    }
}

#[test]
fn what_is_no_packet_is_refused() {
    let read = |bytes: &[u8]| Packet::read(Bytes::copy_from_slice(bytes)).err();
    assert_eq!(
        read(&[FIRST_KIND; HEADER_BYTES - 1]),
        Some(DecodeError::Truncated)
    );
    assert!(matches!(
        read(&[FIRST_KIND + 5; 9]),
        Some(DecodeError::Malformed(_))
    ));
}

/// Two ends of a link over a network that loses, repeats and delays packets, but keeps their order.
struct Simulation {
    random: fastrand::Rng,
    began: Instant,
    now: Instant,
    links: [Link; 2],
    /// Packets by the time of their arrival and the order of sending, with the end that receives.
    travelling: BTreeMap<(Instant, u64), (usize, Bytes)>,
    published: u64,
    /// When the last packet arrives at each end.
    last_arrival: [Instant; 2],
    sent: [Vec<Raw>; 2],
    received: [Vec<Raw>; 2],
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        Self {
            random: fastrand::Rng::with_seed(seed),
            began: now,
            now,
            links: [link(now), link(now)],
            travelling: BTreeMap::new(),
            published: 0,
            last_arrival: [now, now],
            sent: Default::default(),
            received: Default::default(),
        }
    }

    /// Goes on for a millisecond.
    fn step(&mut self, network: &Network) -> Result<(), LinkEnd> {
        while let Some(first) = self.travelling.first_entry()
            && first.key().0 <= self.now
        {
            let (end, packet) = first.remove();
            let received = deliver(&mut self.links[end], &[packet], self.now)?;
            self.received[end].extend(received);
        }
        for end in 0..2 {
            if self.random.u8(..) < network.message_share {
                let len = self.random.usize(..40);
                let message = Raw((0..len).map(|_| self.random.u8(..)).collect());
                self.links[end].push(&message, self.now);
                self.sent[end].push(message);
            }
            if self.now >= self.links[end].turn_at() {
                self.links[end].turn(self.now)?;
                assert!(self.links[end].turn_at() > self.now);
            }
            let millis_on = (self.now - self.began).as_millis() as u64;
            let is_cut = (network.cut_at..network.cut_at + network.cut_for).contains(&millis_on);
            for packet in self.links[end].take_packets() {
                let is_lost = is_cut || self.random.u8(..) < network.lost_share;
                let copies = match self.random.u8(..) < network.repeated_share {
                    _ if is_lost => 0,
                    repeated => 1 + usize::from(repeated),
                };
                for _ in 0..copies {
                    let delay = millis(self.random.u64(0..=network.max_delay));
                    self.published += 1;
                    let last = &mut self.last_arrival[1 - end];
                    *last = (self.now + delay).max(*last);
                    let arrival = (*last, self.published);
                    self.travelling.insert(arrival, (1 - end, packet.clone()));
                }
            }
        }
        self.now += millis(1);
        Ok(())
    }
}

/// Shares are of 256, times in milliseconds.
#[derive(Debug)]
struct Network {
    message_share: u8,
    lost_share: u8,
    repeated_share: u8,
    max_delay: u64,
    cut_at: u64,
    cut_for: u64,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn everything_arrives_once_and_in_order_or_the_link_ends(
        seed: u64,
        message_share in 1..25_u8,
        lost_share in 0..25_u8,
        repeated_share in 0..60_u8,
        max_delay in 0..40_u64,
        cut_at in 0..1_000_u64,
        cut_for in prop_oneof![Just(0), 0..1_500_u64],
    ) {
        let network = Network { message_share, lost_share, repeated_share, max_delay, cut_at, cut_for };
        let mut simulation = Simulation::new(seed);
        let mut end = None;
        for _ in 0..2_000 {
            end = simulation.step(&network).err();
            if end.is_some() {
                break;
            }
        }
        // Nothing more is sent, and what is missing is healed.
        let quiet = Network { message_share: 0, lost_share: 0, cut_for: 0, ..network };
        for _ in 0..800 {
            end = end.or_else(|| simulation.step(&quiet).err());
        }
        for (received, sent) in simulation.received.iter().zip([&simulation.sent[1], &simulation.sent[0]]) {
            prop_assert!(sent.starts_with(received));
            prop_assert!(end.is_some() || sent.len() == received.len());
        }
        // Only a cut that is long, or that lets more packets through than are kept, ends a link.
        prop_assert!(end.is_none() || cut_for > 250, "{end:?}");
    }

    #[test]
    fn no_packet_makes_a_link_grow_or_panic(
        packets in prop::collection::vec((0..6_u8, any::<u32>(), prop::collection::vec(any::<u8>(), 0..20), 0..300_u64), 0..200)
    ) {
        let mut now = Instant::now();
        let mut link = link(now);
        for (kind, number, content, pause) in packets {
            link.push(&raw(kind), now);
            let mut packet = vec![FIRST_KIND + kind];
            packet.extend_from_slice(&ID.0.to_le_bytes());
            // Half of the numbers are plausible.
            let number = if pause % 2 == 0 { number % 64 } else { number };
            packet.extend_from_slice(&number.to_le_bytes());
            packet.extend_from_slice(&content);
            if let Ok(packet) = Packet::read(packet.into()) {
                let _ = link.receive(packet, now);
            }
            now += millis(pause);
            let _ = link.turn(now);
            prop_assert!(link.take_packets().len() <= MAX_KEPT + 4);
            prop_assert!(link.sent.len() <= MAX_KEPT && link.partial.len() <= MAX_MESSAGE_BYTES);
        }
    }
}

#[test]
fn a_flood_of_requests_draws_no_more_than_the_budget() {
    let start = Instant::now();
    let mut sender = link(start);
    for _ in 0..15 {
        push(&mut sender, &Raw(vec![7; 500_000]), start);
    }
    let ask = Packet::read(Bytes::copy_from_slice(&header(Kind::Ask, ID, 0))).unwrap();
    let mut drawn = 0;
    for ms in 0..1_000 {
        let now = start + millis(ms);
        assert!(sender.receive(ask.clone(), now).is_ok());
        drawn += sender.take_packets().iter().map(Bytes::len).sum::<usize>();
    }
    // Without the budget it would be 7.5 MB forty times.
    assert!((7_000_000..11_000_000).contains(&drawn), "{drawn}");
}

#[test]
fn a_false_word_of_what_is_next_does_not_end_a_link() {
    let start = Instant::now();
    let (mut sender, mut receiver) = (link(start), link(start));
    let packets = push(&mut sender, &raw(1), start);
    assert_eq!(deliver(&mut receiver, &packets, start).unwrap(), [raw(1)]);
    let false_word = Packet::read(Bytes::copy_from_slice(&header(Kind::Alive, ID, u32::MAX)));
    assert!(receiver.receive(false_word.unwrap(), start).is_ok());
    for ms in (0..3_000).step_by(10) {
        let now = start + millis(ms);
        sender.turn(now).unwrap();
        let alive = sender.take_packets();
        deliver(&mut receiver, &alive, now).unwrap();
        receiver.turn(now).unwrap();
        let asks = receiver.take_packets();
        deliver(&mut sender, &asks, now).unwrap();
    }
}
