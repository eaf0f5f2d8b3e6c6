//! One direction of a network: which packets are lost, and when the others arrive.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

/// What a network does to packets, in each direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Conditions {
    /// The mean time from one end to the other.
    pub(super) latency: Duration,
    /// The largest difference from the mean; differences are uniform and independent.
    pub(super) jitter: Duration,
    pub(super) loss: Loss,
    /// Whether packets may overtake others of the same flow.
    pub(super) reorders: bool,
    pub(super) bottleneck: Option<Bottleneck>,
}

/// The way in which packets are lost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Loss {
    /// Each packet has this probability.
    Independent(f64),
    /// A good state without loss and a bad one take turns (Gilbert 1960, Elliott 1963). Both last
    /// exponentially distributed times, by the clock and not by the packet, so that all protocols meet
    /// the same bursts, however little they send.
    Bursts {
        /// The mean duration of the good state.
        good: Duration,
        /// The mean duration of the bad state.
        bad: Duration,
        /// The probability of a loss in the bad state.
        probability: f64,
    },
}

/// A slow line behind a buffer that drops what does not fit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bottleneck {
    pub(super) bytes_per_s: u32,
    pub(super) buffer_bytes: u32,
}

impl Conditions {
    /// A wire that neither delays nor loses anything.
    pub(super) const PERFECT: Self = Self {
        latency: Duration::ZERO,
        jitter: Duration::ZERO,
        loss: Loss::Independent(0.0),
        reorders: false,
        bottleneck: None,
    };
}

/// What packets of one connection in one direction have in common: protocol, source port and
/// destination port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Flow {
    protocol: u8,
    pub(super) ports: [u16; 2],
}

impl Flow {
    /// Returns the flow of an IPv4 packet, or `None` if it is another kind of packet.
    pub(super) fn of(packet: &[u8]) -> Option<Self> {
        const SHORTEST_HEADER_BYTES: usize = 20;
        if packet.len() < SHORTEST_HEADER_BYTES || packet[0] >> 4 != 4 {
            return None;
        }
        let header_bytes = usize::from(packet[0] & 15) * 4;
        let port = |at: usize| {
            let bytes = packet.get(at..at + 2);
            bytes.map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
        };
        Some(Self {
            protocol: packet[9],
            ports: [port(header_bytes), port(header_bytes + 2)],
        })
    }
}

/// A packet on its way: ordered by its arrival, then by its number.
type Arrival = (Duration, u64, Vec<u8>);

/// One direction of a network. The n-th packet meets the same fate in every run of a seed.
#[derive(Debug)]
pub(super) struct Link {
    conditions: Conditions,
    fates: fastrand::Rng,
    bursts: Bursts,
    /// The time at which the bottleneck has sent everything that it holds.
    free_at: Duration,
    last_arrivals: HashMap<Flow, Duration>,
    on_the_way: BinaryHeap<Reverse<Arrival>>,
    taken: u64,
}

impl Link {
    pub(super) fn new(conditions: Conditions, seed: u64) -> Self {
        Self {
            conditions,
            fates: fastrand::Rng::with_seed(seed),
            bursts: Bursts::new(!seed),
            free_at: Duration::ZERO,
            last_arrivals: HashMap::new(),
            on_the_way: BinaryHeap::new(),
            taken: 0,
        }
    }

    /// Takes a packet that was sent now, and loses it or puts it on its way.
    pub(super) fn take(&mut self, now: Duration, flow: Flow, packet: &[u8]) {
        // Both are drawn for each packet, so that losing one changes nothing for the others.
        let (drawn, spread) = (self.fates.f64(), self.fates.f64() * 2.0 - 1.0);
        let probability = match self.conditions.loss {
            Loss::Independent(probability) => probability,
            Loss::Bursts {
                good,
                bad,
                probability,
            } => match self.bursts.is_bad(now, good, bad) {
                true => probability,
                false => 0.0,
            },
        };
        let Some(sent_at) = self.pass_bottleneck(now, packet.len()) else {
            return;
        };
        if drawn < probability {
            return;
        }
        let latency = self.conditions.latency.as_secs_f64();
        let delay = latency + self.conditions.jitter.as_secs_f64() * spread;
        let mut arrival = sent_at + Duration::from_secs_f64(delay.max(0.0));
        if !self.conditions.reorders {
            let last = self.last_arrivals.entry(flow).or_default();
            arrival = arrival.max(*last);
            *last = arrival;
        }
        self.taken += 1;
        self.on_the_way
            .push(Reverse((arrival, self.taken, packet.to_vec())));
    }

    /// Returns the time at which the next packet arrives.
    pub(super) fn next_arrival(&self) -> Option<Duration> {
        let Reverse((arrival, ..)) = self.on_the_way.peek()?;
        Some(*arrival)
    }

    /// Returns the next packet that has arrived by now.
    pub(super) fn next_arrived(&mut self, now: Duration) -> Option<Vec<u8>> {
        if self.next_arrival()? > now {
            return None;
        }
        let Reverse((_, _, packet)) = self.on_the_way.pop()?;
        Some(packet)
    }

    /// Returns the time at which the bottleneck has sent a packet, or `None` if its buffer is full.
    fn pass_bottleneck(&mut self, now: Duration, len_bytes: usize) -> Option<Duration> {
        let Some(bottleneck) = self.conditions.bottleneck else {
            return Some(now);
        };
        let bytes_per_s = f64::from(bottleneck.bytes_per_s);
        let waiting_bytes = self.free_at.saturating_sub(now).as_secs_f64() * bytes_per_s;
        if waiting_bytes + len_bytes as f64 > f64::from(bottleneck.buffer_bytes) {
            return None;
        }
        let takes = Duration::from_secs_f64(len_bytes as f64 / bytes_per_s);
        self.free_at = self.free_at.max(now) + takes;
        Some(self.free_at)
    }
}

/// The state of a link that loses packets in bursts.
#[derive(Debug)]
struct Bursts {
    random: fastrand::Rng,
    is_bad: bool,
    until: Duration,
}

impl Bursts {
    fn new(seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            // The first state ends at once, so that the second, a good one, is drawn.
            is_bad: true,
            until: Duration::ZERO,
        }
    }

    fn is_bad(&mut self, now: Duration, good: Duration, bad: Duration) -> bool {
        while self.until <= now {
            self.is_bad = !self.is_bad;
            let mean = if self.is_bad { bad } else { good };
            // At least a microsecond, so that the loop ends.
            let times = -(1.0 - self.random.f64()).ln();
            self.until += mean.mul_f64(times) + Duration::from_micros(1);
        }
        self.is_bad
    }
}
