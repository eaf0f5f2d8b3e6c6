//! A program on the bus that publishes what it should not.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// The first kind of a link's packets, and the one that asks for earlier ones.
const FIRST_KIND: u8 = 16;
const ASK: u8 = 19;

/// Packets of a second at the default tick rate.
const A_SECOND: u32 = 30;

/// The requests that are repeated, and how long each may be.
const MAX_REQUESTS: usize = 64;
const SHORT_BYTES: usize = 64;

/// A client of the bus that publishes everything that it receives, in another form.
pub(super) struct Intruder {
    bus: TcpStream,
    received: Vec<u8>,
    random: fastrand::Rng,
}

impl Intruder {
    /// Connects to a nats-server.
    pub(super) fn on(nats: SocketAddr) -> Result<Self> {
        let mut bus = TcpStream::connect(nats)?;
        bus.set_read_timeout(Some(Duration::from_millis(20)))?;
        bus.write_all(b"CONNECT {\"verbose\":false,\"echo\":false}\r\nSUB cubesync.> 1\r\n")?;
        Ok(Self {
            bus,
            received: Vec::new(),
            random: fastrand::Rng::with_seed(7),
        })
    }

    /// Asks both ends of every link for `duration` to send their packets again, and repeats every other short
    /// request, whenever something has come. Returns the number of messages.
    pub(super) fn flood(&mut self, duration: Duration) -> Result<usize> {
        let (mut published, end) = (0, Instant::now() + duration);
        // The newest number on each subject of a link, and requests that are no packets.
        let (mut links, mut requests) = (BTreeMap::new(), BTreeSet::new());
        while Instant::now() < end {
            self.read();
            while let Some((subject, payload)) = take_message(&mut self.received) {
                match packet(&payload) {
                    Some((link, number)) => {
                        let of_link: &mut BTreeMap<_, _> = links.entry(link).or_default();
                        of_link.insert(subject, number);
                    }
                    None if requests.len() < MAX_REQUESTS && payload.len() <= SHORT_BYTES => {
                        requests.insert((subject, payload));
                    }
                    None => {}
                }
            }
            let mut flood = requests.clone();
            for (link, subjects) in &links {
                for at in subjects.keys() {
                    let others = subjects.iter().filter(|(other, _)| *other != at);
                    flood.extend(others.map(|(_, number)| (at.clone(), ask(*link, *number))));
                }
            }
            for (subject, payload) in &flood {
                self.send(subject, payload)?;
            }
            published += flood.len();
        }
        ensure!(!links.is_empty(), "no link was heard on the bus");
        Ok(published)
    }

    /// Reads what has come, or waits for it a moment.
    fn read(&mut self) {
        let mut chunk = [0; 64 * 1024];
        if let Ok(count @ 1..) = self.bus.read(&mut chunk) {
            self.received.extend_from_slice(&chunk[..count]);
        }
    }

    fn send(&mut self, subject: &str, payload: &[u8]) -> Result<()> {
        let head = format!("PUB {subject} {}\r\n", payload.len());
        let whole = [head.as_bytes(), payload, b"\r\n"].concat();
        Ok(self.bus.write_all(&whole)?)
    }

    /// Publishes for `duration` what it receives, with a changed bit or otherwise broken. Returns the number
    /// of messages.
    pub(super) fn publish(&mut self, duration: Duration, changes_bits: bool) -> Result<usize> {
        let (mut published, end) = (0, Instant::now() + duration);
        while Instant::now() < end {
            self.read();
            while let Some((subject, mut payload)) = take_message(&mut self.received) {
                let random = &mut self.random;
                if changes_bits && !payload.is_empty() {
                    let at = random.usize(..payload.len());
                    payload[at] ^= 1 << random.u8(..8);
                } else {
                    match random.u8(..3) {
                        0 => payload = (0..random.usize(..64)).map(|_| random.u8(..)).collect(),
                        1 => payload.truncate(random.usize(..=payload.len())),
                        _ => {}
                    }
                }
                self.send(&subject, &payload)?;
                published += 1;
            }
        }
        ensure!(published > 0, "no message was received from the bus");
        Ok(published)
    }
}

/// Returns the link and the number of a link's packet: its kind, and both in little endian.
fn packet(payload: &[u8]) -> Option<(u32, u32)> {
    let (&kind, header) = payload.split_first()?;
    let (&link, header) = header.split_first_chunk()?;
    let (&number, _) = header.split_first_chunk()?;
    (kind >= FIRST_KIND).then_some((u32::from_le_bytes(link), u32::from_le_bytes(number)))
}

/// Returns a packet that asks for those of the last second before `newest`.
fn ask(link: u32, newest: u32) -> Vec<u8> {
    let from = newest.saturating_sub(A_SECOND);
    [&[ASK][..], &link.to_le_bytes(), &from.to_le_bytes()].concat()
}

/// Removes a complete `MSG` from the front of what a nats-server sent, and returns its subject and payload.
fn take_message(received: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    loop {
        let end = received.windows(2).position(|two| two == b"\r\n")?;
        let line = String::from_utf8_lossy(&received[..end]).into_owned();
        let mut words = line.split(' ');
        if words.next() != Some("MSG") {
            received.drain(..end + 2);
            continue;
        }
        let subject = words.next()?.to_owned();
        let length: usize = words.next_back()?.parse().ok()?;
        let (from, to) = (end + 2, end + 2 + length);
        if received.len() < to + 2 {
            return None;
        }
        let payload = received[from..to].to_vec();
        received.drain(..to + 2);
        return Some((subject, payload));
    }
}
