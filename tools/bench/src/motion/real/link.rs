//! One direction of a network: which packets are lost, and when the others arrive.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use super::bursts::Bursts;
use super::conditions::{Conditions, Loss};

/// The number of UDP in IP headers.
const UDP: u8 = 17;

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
    random: fastrand::Rng,
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
            random: fastrand::Rng::with_seed(seed),
            bursts: Bursts::new(!seed),
            free_at: Duration::ZERO,
            last_arrivals: HashMap::new(),
            on_the_way: BinaryHeap::new(),
            taken: 0,
        }
    }

    /// Takes a packet that was sent now, and loses it or puts it on its way.
    pub(super) fn take(&mut self, now: Duration, flow: Flow, packet: &[u8]) {
        if self.conditions.blocks_udp && flow.protocol == UDP {
            return;
        }
        // Both are drawn for each packet, so that losing one changes nothing for the others.
        let (drawn, spread) = (self.random.f64(), self.random.f64() * 2.0 - 1.0);
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

#[cfg(test)]
mod tests {
    use super::super::conditions::Bottleneck;
    use super::*;

    const PACKETS: u64 = 20_000;
    const FLOW: Flow = Flow {
        protocol: 6,
        ports: [40_000, 14_900],
    };
    const LOSSY: Conditions = Conditions {
        latency: Duration::from_millis(60),
        jitter: Duration::from_millis(20),
        loss: Loss::Independent(0.02),
        ..Conditions::PERFECT
    };

    fn sent_at(number: u64) -> Duration {
        Duration::from_millis(10 * number)
    }

    /// Sends a packet every 10 ms and returns the numbers of those that arrive, with their delays in ms,
    /// in the order of their arrival.
    fn arrivals(conditions: Conditions, seed: u64) -> Vec<(u64, f64)> {
        let mut link = Link::new(conditions, seed);
        for number in 0..PACKETS {
            link.take(sent_at(number), FLOW, &number.to_le_bytes());
        }
        let mut arrivals = Vec::new();
        while let Some(at) = link.next_arrival() {
            let packet = link.next_arrived(at).unwrap();
            let number = u64::from_le_bytes(packet.try_into().unwrap());
            arrivals.push((number, (at - sent_at(number)).as_secs_f64() * 1e3));
        }
        arrivals
    }

    #[test]
    fn a_seed_decides_the_fate_of_every_packet() {
        assert_eq!(arrivals(LOSSY, 1), arrivals(LOSSY, 1));
        assert_ne!(arrivals(LOSSY, 1), arrivals(LOSSY, 2));
    }

    #[test]
    fn packets_are_lost_as_often_as_asked() {
        let lost = PACKETS - arrivals(LOSSY, 1).len() as u64;
        assert!((360..440).contains(&lost), "{lost}");
        let bursts = Conditions {
            loss: Loss::Bursts {
                good: Duration::from_millis(900),
                bad: Duration::from_millis(100),
                probability: 0.8,
            },
            ..LOSSY
        };
        let lost = PACKETS - arrivals(bursts, 1).len() as u64;
        assert!((1_200..2_000).contains(&lost), "{lost}");
    }

    #[test]
    fn delays_lie_around_the_latency_and_packets_keep_their_order() {
        let arrivals = arrivals(LOSSY, 1);
        assert!(arrivals.is_sorted_by_key(|(number, _)| *number));
        let delays = arrivals.iter().map(|(_, ms)| *ms);
        let mean = delays.clone().sum::<f64>() / arrivals.len() as f64;
        // Those that wait for an earlier one raise the mean.
        assert!((60.0..65.0).contains(&mean), "{mean}");
        assert!(delays.clone().fold(f64::MAX, f64::min) < 41.0);
        assert!(delays.fold(0.0, f64::max) <= 80.001);
    }

    #[test]
    fn packets_overtake_only_where_they_may() {
        let reorders = Conditions {
            reorders: true,
            ..LOSSY
        };
        let arrivals = arrivals(reorders, 1);
        assert!(!arrivals.is_sorted_by_key(|(number, _)| *number));
    }

    #[test]
    fn other_flows_may_overtake() {
        let mut link = Link::new(LOSSY, 1);
        for number in 0..1_000_u16 {
            let ports = [number, 14_900];
            let flow = Flow { ports, ..FLOW };
            link.take(
                Duration::from_millis(number.into()),
                flow,
                &number.to_le_bytes(),
            );
        }
        let arrived: Vec<_> =
            std::iter::from_fn(|| link.next_arrived(Duration::from_secs(9))).collect();
        let numbers = arrived
            .iter()
            .map(|packet| u16::from_le_bytes([packet[0], packet[1]]));
        assert!(!numbers.is_sorted());
    }

    #[test]
    fn a_bottleneck_queues_packets_and_drops_those_that_do_not_fit() {
        let conditions = Conditions {
            bottleneck: Some(Bottleneck {
                bytes_per_s: 100_000,
                buffer_bytes: 5_000,
            }),
            ..Conditions::PERFECT
        };
        let mut link = Link::new(conditions, 1);
        for number in 0..10_u8 {
            link.take(Duration::ZERO, FLOW, &[number; 1_000]);
        }
        for number in 0..5_u8 {
            let at = Duration::from_millis(10 * (u64::from(number) + 1));
            assert_eq!(link.next_arrival(), Some(at));
            assert_eq!(link.next_arrived(at).unwrap()[0], number);
        }
        assert_eq!(link.next_arrival(), None);
        // Later the buffer is empty again.
        link.take(Duration::from_secs(1), FLOW, &[0; 1_000]);
        assert_eq!(link.next_arrival(), Some(Duration::from_millis(1_010)));
    }

    #[test]
    fn flows_are_told_apart_and_blocked_by_their_protocol() {
        let mut packet = [0; 28];
        packet[0] = 0x45;
        packet[9] = UDP;
        packet[20..24].copy_from_slice(&[0x12, 0x34, 0x3a, 0x34]);
        let flow = Flow::of(&packet).unwrap();
        assert_eq!((flow.protocol, flow.ports), (UDP, [0x1234, 14_900]));
        let blocks_udp = Conditions {
            blocks_udp: true,
            ..Conditions::PERFECT
        };
        let mut link = Link::new(blocks_udp, 1);
        link.take(Duration::ZERO, flow, &packet);
        assert_eq!(link.next_arrival(), None);
        link.take(Duration::ZERO, FLOW, &packet);
        assert_eq!(link.next_arrival(), Some(Duration::ZERO));
        packet[0] = 0x60;
        assert_eq!(Flow::of(&packet), None);
        assert_eq!(Flow::of(&packet[..19]), None);
    }
}
