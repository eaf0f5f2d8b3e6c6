//! A program on the bus that publishes what it should not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

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

    /// Publishes for `duration` what it receives, with a changed bit or otherwise broken. Returns the number
    /// of messages.
    pub(super) fn publish(&mut self, duration: Duration, changes_bits: bool) -> Result<usize> {
        let (mut published, end) = (0, Instant::now() + duration);
        while Instant::now() < end {
            let mut chunk = [0; 16 * 1024];
            if let Ok(count @ 1..) = self.bus.read(&mut chunk) {
                self.received.extend_from_slice(&chunk[..count]);
            }
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
                let head = format!("PUB {subject} {}\r\n", payload.len());
                let whole = [head.as_bytes(), &payload, b"\r\n"].concat();
                self.bus.write_all(&whole)?;
                published += 1;
            }
        }
        ensure!(published > 0, "no message was received from the bus");
        Ok(published)
    }
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
