//! The network lab: a network worse than the real one, between socket and session.
//!
//! Bytes and the time go in, the same bytes come out later and in order. A lost segment has the
//! effect that it has with TCP: nothing passes until it was sent again, then everything at once.
//! Datagrams share the bandwidth, but each has a delay of its own, so one may overtake another, and a
//! lost one is gone. Losses and jitter come from a seed: the same bytes at the same times meet the same
//! network.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;

/// Bytes on their way after which a line is full: a slow line makes its sender wait, as a kernel's
/// buffers do.
const MAX_WAITING_BYTES: usize = 64 * 1024;
/// Largest number of bytes that a segment of TCP carries over Ethernet. Longer writes arrive piece by piece.
const SEGMENT_BYTES: usize = 1_460;
/// Time beyond a round trip that a sender waits before it sends a segment again: Linux's minimum.
/// RFC 6298 asks for a second, which no system follows.
const RETRANSMISSION_WAIT: Duration = Duration::from_millis(200);
/// Makes the losses of one direction differ from those of the other.
const OTHER_WAY: u64 = 0x9E37_79B9_7F4A_7C15;
/// Makes the losses of datagrams differ from those of segments.
const OTHER_KIND: u64 = 0xD1B5_4A32_D192_ED03;

/// The simulated conditions of each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conditions {
    /// The delay of each direction. A round trip becomes longer by twice as much.
    pub latency: Duration,
    /// The largest deviation of a direction's delay from the latency, up or down.
    pub jitter: Duration,
    /// The number of lost segments and datagrams in a thousand. Bytes that are sent together are a
    /// segment, or several if they are too many for one.
    pub loss_permille: u16,
    /// The bandwidth of each direction, in bits per second; 0 is without limit.
    pub bandwidth_bps: u32,
    /// Whether no datagram passes, as behind a firewall.
    pub blocks_datagrams: bool,
}

/// Both directions of a client's connection.
#[derive(Debug, Clone)]
pub struct Lab {
    /// From the server.
    pub down: DelayLine,
    /// To the server.
    pub up: DelayLine,
}

/// One direction of a connection.
#[derive(Debug, Clone)]
pub struct DelayLine {
    conditions: Conditions,
    random: fastrand::Rng,
    waiting: VecDeque<Segment>,
    waiting_bytes: usize,
    /// When the line has sent everything that it was given.
    free_at: Duration,
    /// When the newest segment arrives.
    last_due: Duration,
    datagram_random: fastrand::Rng,
    /// Datagrams on their way, by when they arrive.
    datagrams: VecDeque<Segment>,
}

#[derive(Debug, Clone)]
struct Segment {
    due: Duration,
    bytes: Vec<u8>,
}

impl Conditions {
    /// Longest latency and jitter: with more, sessions end before they begin.
    pub const MAX_LATENCY: Duration = Duration::from_secs(2);
    /// Highest loss.
    pub const MAX_LOSS_PERMILLE: u16 = 500;
    /// Lowest bandwidth, in bits per second.
    pub const MIN_BANDWIDTH_BPS: u32 = 1_000;

    /// Whether the bytes pass as if there were no lab.
    pub fn is_perfect(&self) -> bool {
        *self == Self::default()
    }
}

impl Lab {
    /// Makes a lab whose losses and jitter come from `seed`.
    pub fn new(conditions: Conditions, seed: u64) -> Self {
        Self {
            down: DelayLine::new(conditions, seed),
            up: DelayLine::new(conditions, seed ^ OTHER_WAY),
        }
    }

    /// Returns what the lab does to the bytes.
    pub fn conditions(&self) -> Conditions {
        self.up.conditions
    }

    /// Sets what the lab does to bytes that are sent from now on. They still arrive after the bytes
    /// that are on their way.
    pub fn set_conditions(&mut self, conditions: Conditions) {
        self.down.conditions = conditions;
        self.up.conditions = conditions;
    }

    /// Drops all bytes on their way, when the connection has ended.
    pub fn clear(&mut self) {
        self.down.clear();
        self.up.clear();
    }
}

impl DelayLine {
    fn new(conditions: Conditions, seed: u64) -> Self {
        Self {
            conditions,
            random: fastrand::Rng::with_seed(seed),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            free_at: Duration::ZERO,
            last_due: Duration::ZERO,
            datagram_random: fastrand::Rng::with_seed(seed ^ OTHER_KIND),
            datagrams: VecDeque::new(),
        }
    }

    /// Whether the line is not full. It takes bytes in any case.
    pub fn has_room(&self) -> bool {
        self.waiting_bytes < MAX_WAITING_BYTES
    }

    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Sends `bytes` in segments and takes them out.
    pub fn send(&mut self, now: Duration, bytes: &mut BytesMut) {
        for segment in bytes.chunks(SEGMENT_BYTES) {
            self.free_at = self.free_at.max(now) + self.sending_time(segment.len());
            let arrives = self.free_at + self.delay();
            self.last_due = self.last_due.max(arrives);
            self.waiting_bytes += segment.len();
            self.waiting.push_back(Segment {
                due: self.last_due,
                bytes: segment.to_vec(),
            });
        }
        bytes.clear();
    }

    /// Appends the bytes that have arrived to `bytes` and returns how many they are.
    pub fn receive(&mut self, now: Duration, bytes: &mut BytesMut) -> usize {
        let has_arrived = |segment: &&Segment| segment.due <= now;
        let arrived = self.waiting.iter().take_while(has_arrived).count();
        let before = bytes.len();
        for segment in self.waiting.drain(..arrived) {
            bytes.extend_from_slice(&segment.bytes);
        }
        let count = bytes.len() - before;
        self.waiting_bytes -= count;
        count
    }

    /// Sends a datagram. It is lost when the line is full.
    pub fn send_datagram(&mut self, now: Duration, datagram: &[u8]) {
        let Conditions {
            latency,
            jitter,
            loss_permille,
            blocks_datagrams,
            ..
        } = self.conditions;
        let random = &mut self.datagram_random;
        let is_lost = random.u16(..1_000) < loss_permille;
        let delay = strayed(latency, jitter, random);
        if is_lost || blocks_datagrams || !self.has_room() {
            return;
        }
        self.free_at = self.free_at.max(now) + self.sending_time(datagram.len());
        let due = self.free_at + delay;
        self.waiting_bytes += datagram.len();
        let place = self.datagrams.partition_point(|other| other.due <= due);
        let bytes = datagram.to_vec();
        self.datagrams.insert(place, Segment { due, bytes });
    }

    /// Returns the next datagram that has arrived.
    pub fn receive_datagram(&mut self, now: Duration) -> Option<Vec<u8>> {
        self.datagrams.front().filter(|next| next.due <= now)?;
        let datagram = self.datagrams.pop_front()?;
        self.waiting_bytes -= datagram.bytes.len();
        Some(datagram.bytes)
    }

    fn clear(&mut self) {
        *self = Self {
            random: self.random.clone(),
            datagram_random: self.datagram_random.clone(),
            ..Self::new(self.conditions, 0)
        };
    }

    fn sending_time(&self, bytes: usize) -> Duration {
        let us = (bytes as u64 * 8_000_000).checked_div(self.conditions.bandwidth_bps.into());
        Duration::from_micros(us.unwrap_or_default())
    }

    /// Returns the delay of the next segment.
    fn delay(&mut self) -> Duration {
        let Conditions {
            latency, jitter, ..
        } = self.conditions;
        let strayed = strayed(latency, jitter, &mut self.random);
        let is_lost = self.random.u16(..1_000) < self.conditions.loss_permille;
        if is_lost {
            return strayed + 2 * latency + RETRANSMISSION_WAIT;
        }
        strayed
    }
}

/// Returns a latency with its random deviation.
fn strayed(latency: Duration, jitter: Duration, random: &mut fastrand::Rng) -> Duration {
    let strays_us = random.u64(..=2 * jitter.as_micros() as u64);
    (latency + Duration::from_micros(strays_us)).saturating_sub(jitter)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    const BAD: Conditions = Conditions {
        latency: Duration::from_millis(150),
        jitter: Duration::from_millis(50),
        loss_permille: 50,
        bandwidth_bps: 0,
        blocks_datagrams: false,
    };

    /// Sends the frame's number as four bytes in each of `frames` frames of 16 ms. Returns when each
    /// number arrived, as read once a millisecond.
    fn arrivals(conditions: Conditions, seed: u64, frames: u32) -> Vec<Duration> {
        let mut line = Lab::new(conditions, seed).down;
        let (mut arrived, mut incoming) = (Vec::new(), BytesMut::new());
        for now in (0u64..).map(ms) {
            let number = now.as_millis() as u32 / 16;
            if now.as_millis() % 16 == 0 && number < frames {
                line.send(now, &mut BytesMut::from(&number.to_be_bytes()[..]));
            }
            line.receive(now, &mut incoming);
            for number in incoming.split().chunks(4) {
                assert_eq!(number, (arrived.len() as u32).to_be_bytes());
                arrived.push(now);
            }
            if number >= frames && line.is_empty() {
                return arrived;
            }
        }
        unreachable!("time does not end");
    }

    fn delays(conditions: Conditions, frames: u32) -> impl Iterator<Item = Duration> {
        let arrived = arrivals(conditions, 7, frames);
        let sent = (0..).map(|number| ms(number * 16));
        arrived.into_iter().zip(sent).map(|(due, sent)| due - sent)
    }

    #[test]
    fn a_perfect_network_passes_bytes_at_once_and_whole() {
        assert!(Conditions::default().is_perfect());
        assert!(delays(Conditions::default(), 100).all(|delay| delay.is_zero()));
    }

    #[test]
    fn without_loss_every_delay_is_within_the_jitter_and_all_of_it_is_used() {
        let jittered = Conditions {
            loss_permille: 0,
            ..BAD
        };
        let delays: Vec<_> = delays(jittered, 2_000).collect();
        let (least, most) = (delays.iter().min().unwrap(), delays.iter().max().unwrap());
        // Read once a millisecond.
        assert!(*least >= ms(100) && *most <= ms(201), "{least:?} {most:?}");
        assert!(*least < ms(110) && *most > ms(195), "{least:?} {most:?}");
    }

    #[test]
    fn a_loss_stops_everything_for_a_retransmission_and_then_all_comes_at_once() {
        let stalling = Conditions {
            latency: ms(60),
            jitter: Duration::ZERO,
            loss_permille: 20,
            ..Conditions::default()
        };
        let arrived = arrivals(stalling, 3, 2_000);
        let stall = ms(60 + 2 * 60 + 200);
        let lost = (0u64..).zip(&arrived);
        let lost: Vec<_> = lost
            .filter(|&(number, &due)| due == ms(number * 16) + stall)
            .collect();
        // Losses in the wake of a loss do not show; of 2,000 there are 40.
        assert!((20..=60).contains(&lost.len()), "{}", lost.len());
        let (first, &due) = lost[0];
        let waited = arrived[first as usize..]
            .iter()
            .take_while(|&&at| at == due);
        assert!(waited.count() > 200 / 16);
    }

    #[test]
    fn the_bandwidth_is_respected() {
        let slow = Conditions {
            bandwidth_bps: 8_000,
            ..Conditions::default()
        };
        let mut line = Lab::new(slow, 1).up;
        let mut incoming = BytesMut::new();
        for _ in 0..10 {
            line.send(ms(0), &mut BytesMut::from(&[0; 500][..]));
        }
        // 1,000 bytes a second.
        for (at_ms, bytes) in [(499, 0), (500, 500), (2_999, 2_000), (5_000, 2_500)] {
            assert_eq!(line.receive(ms(at_ms), &mut incoming), bytes, "{at_ms}");
        }
        // A long write arrives piece by piece.
        line.send(ms(5_000), &mut BytesMut::from(&[0; 3_000][..]));
        for (at_ms, bytes) in [(6_459, 0), (6_460, 1_460), (7_920, 1_460), (8_000, 80)] {
            assert_eq!(line.receive(ms(at_ms), &mut incoming), bytes, "{at_ms}");
        }
        while line.has_room() {
            line.send(ms(8_000), &mut BytesMut::from(&[0; 500][..]));
        }
        assert!(line.waiting_bytes < MAX_WAITING_BYTES + 500);
        line.receive(Duration::MAX, &mut incoming);
        assert!(line.is_empty() && line.has_room());
    }

    #[test]
    fn the_same_seed_makes_the_same_network_and_another_seed_another_one() {
        assert_eq!(arrivals(BAD, 7, 500), arrivals(BAD, 7, 500));
        assert_ne!(arrivals(BAD, 7, 500), arrivals(BAD, 8, 500));
    }

    #[test]
    fn a_better_network_keeps_the_order_of_bytes_and_a_new_connection_begins_empty() {
        let mut lab = Lab::new(BAD, 1);
        lab.up.send(ms(0), &mut BytesMut::from(&b"old"[..]));
        lab.set_conditions(Conditions::default());
        lab.up.send(ms(1), &mut BytesMut::from(&b"new"[..]));
        let mut incoming = BytesMut::new();
        lab.up.receive(ms(1_000), &mut incoming);
        assert_eq!(incoming, "oldnew");
        lab.up.send(ms(1_001), &mut BytesMut::from(&b"gone"[..]));
        lab.clear();
        assert_eq!(lab.up.receive(Duration::MAX, &mut incoming), 0);
    }

    /// Sends its number as a datagram in each of 2,000 frames of 16 ms. Returns when each arrived, or
    /// `None` for a lost one.
    fn datagrams(conditions: Conditions) -> Vec<Option<Duration>> {
        let mut line = Lab::new(conditions, 7).down;
        let mut arrived = vec![None; 2_000];
        for now in (0..40_000).map(ms) {
            let number = now.as_millis() as u32 / 16;
            if now.as_millis() % 16 == 0 && number < 2_000 {
                line.send_datagram(now, &number.to_be_bytes());
            }
            while let Some(datagram) = line.receive_datagram(now) {
                let number = u32::from_be_bytes(datagram.try_into().unwrap());
                arrived[number as usize] = Some(now);
            }
        }
        assert!(line.datagrams.is_empty() && line.waiting_bytes == 0);
        arrived
    }

    #[test]
    fn a_datagram_is_lost_or_late_by_itself() {
        let arrived = datagrams(BAD);
        let lost = arrived.iter().filter(|at| at.is_none()).count();
        assert!((60..=140).contains(&lost), "{lost} of 2,000 at 5 %");
        let sent = (0..).map(|number| ms(number * 16));
        let delays = arrived
            .iter()
            .zip(sent)
            .filter_map(|(at, sent)| Some((*at)? - sent));
        assert!(
            delays
                .clone()
                .all(|delay| (ms(100)..=ms(201)).contains(&delay))
        );
        let came: Vec<_> = arrived.iter().flatten().collect();
        assert!(!came.is_sorted(), "some overtake others");
        assert!(datagrams(Conditions::default()).iter().all(Option::is_some));
        let blocked = Conditions {
            blocks_datagrams: true,
            ..Conditions::default()
        };
        assert!(datagrams(blocked).iter().all(Option::is_none));
    }

    #[test]
    fn datagrams_share_the_bandwidth_and_change_no_loss_of_the_stream() {
        let slow = Conditions {
            bandwidth_bps: 8_000,
            ..Conditions::default()
        };
        let mut line = Lab::new(slow, 1).up;
        line.send(ms(0), &mut BytesMut::from(&[0; 500][..]));
        line.send_datagram(ms(0), &[0; 500]);
        assert_eq!(line.receive_datagram(ms(999)), None);
        assert!(line.receive_datagram(ms(1_000)).is_some());
        for _ in 0..1_000 {
            line.send_datagram(ms(1_000), &[0; 500]);
        }
        assert!(line.waiting_bytes < MAX_WAITING_BYTES + 1_000);

        let [mut with, mut without] = [(); 2].map(|()| Lab::new(BAD, 3).up);
        for _ in 0..100 {
            with.send_datagram(ms(0), &[0; 9]);
            for line in [&mut with, &mut without] {
                line.send(ms(0), &mut BytesMut::from(&[0; 9][..]));
            }
            assert_eq!(with.last_due, without.last_due);
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_the_order_is_kept_whatever_the_network(
            seed: u64,
            latency in 0u64..300,
            jitter in 0u64..300,
            loss_permille in 0u16..=500,
            bandwidth_bps in prop_oneof![Just(0), 4_000u32..1_000_000],
        ) {
            let conditions = Conditions {
                latency: ms(latency),
                jitter: ms(jitter),
                loss_permille,
                bandwidth_bps,
                blocks_datagrams: false,
            };
            // The helper checks the order.
            let arrived = arrivals(conditions, seed, 100);
            prop_assert_eq!(arrived.len(), 100);
        }
    }
}
