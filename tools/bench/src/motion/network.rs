//! A simulated network: the times at which what is sent arrives, in order and complete over a [`Stream`]
//! as with TCP, each by itself and perhaps not at all as [`Datagrams`].

use std::collections::VecDeque;

/// The length of a moment, the unit of delays and losses: the time between ticks.
const SLOTS_PER_S: f64 = 30.0;
/// Linux's shortest timeout, in excess of the round trip.
const LEAST_TIMEOUT_S: f64 = 0.2;

/// The properties of a network, in milliseconds and fractions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Network {
    /// The name in the table.
    pub(crate) name: &'static str,
    /// The name of its chart.
    pub(crate) file: &'static str,
    /// The mean delay of one direction, and the width of its range.
    latency_ms: f64,
    jitter_ms: f64,
    /// The share of packets that are lost.
    loss: f64,
    /// The share of moments that begin a burst, and the longest time for which nothing passes.
    bursts: f64,
    burst_ms: f64,
    /// The seconds between outages, and the time for which nothing passes.
    outage_every_s: f64,
    outage_ms: f64,
}

const CALM: Network = Network {
    name: "LAN",
    file: "lan",
    latency_ms: 0.6,
    jitter_ms: 0.3,
    loss: 0.0,
    bursts: 0.0,
    burst_ms: 0.0,
    outage_every_s: 0.0,
    outage_ms: 0.0,
};

impl Network {
    /// A network without trouble.
    pub(crate) const LAN: Self = CALM;

    /// All networks in the order of the table.
    pub(crate) const ALL: [Self; 6] = [
        CALM,
        Self {
            name: "60±20 ms",
            file: "60",
            latency_ms: 60.0,
            jitter_ms: 20.0,
            ..CALM
        },
        Self {
            name: "60±20 ms, 2 %",
            file: "60-loss",
            latency_ms: 60.0,
            jitter_ms: 20.0,
            loss: 0.02,
            ..CALM
        },
        Self {
            name: "150±50 ms, 5 %",
            file: "150-loss",
            latency_ms: 150.0,
            jitter_ms: 50.0,
            loss: 0.05,
            ..CALM
        },
        Self {
            name: "Wi-Fi bursts",
            file: "wifi",
            latency_ms: 5.0,
            jitter_ms: 3.0,
            bursts: 0.03,
            burst_ms: 150.0,
            ..CALM
        },
        Self {
            name: "1 s outages",
            file: "outage",
            latency_ms: 30.0,
            jitter_ms: 5.0,
            outage_every_s: 10.0,
            outage_ms: 1_000.0,
            ..CALM
        },
    ];

    /// Returns the earliest times at which the outages of a run end at the receiver.
    pub(crate) fn outage_ends_s(&self, seconds: f64) -> Vec<f64> {
        if self.outage_ms == 0.0 {
            return Vec::new();
        }
        let count = (seconds / self.outage_every_s) as usize;
        let end_s = |index: usize| {
            (index as f64 + 0.5) * self.outage_every_s
                + (self.outage_ms + self.latency_ms - self.jitter_ms) / 1e3
        };
        (0..count).map(end_s).collect()
    }

    fn is_out_until_s(&self, time_s: f64) -> Option<f64> {
        if self.outage_ms == 0.0 {
            return None;
        }
        let since_s = (time_s - self.outage_every_s / 2.0).rem_euclid(self.outage_every_s);
        let is_out = time_s >= self.outage_every_s / 2.0 && since_s < self.outage_ms / 1e3;
        is_out.then_some(time_s - since_s + self.outage_ms / 1e3)
    }
}

/// The moments of one direction of a network. Two with the same seed are alike, so that all systems meet
/// the same losses, however much they send.
#[derive(Debug, Clone)]
struct Slots {
    slots: Vec<Slot>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    latency_s: f64,
    /// The earliest arrival of what is sent from now on.
    released_s: f64,
    is_out: bool,
    is_lost: bool,
    /// Whether a segment that is sent again is lost.
    is_lost_again: bool,
    /// Whether a datagram is lost.
    is_datagram_lost: bool,
}

impl Slots {
    fn new(network: &Network, seed: u64, seconds: f64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut slots: Vec<Slot> = Vec::new();
        let mut released_s = 0.0_f64;
        for index in 0..(seconds * SLOTS_PER_S) as usize + 1 {
            let time_s = index as f64 / SLOTS_PER_S;
            let spread = 2.0 * random.f64() - 1.0;
            let latency_s = (network.latency_ms + network.jitter_ms * spread) / 1e3;
            // Always drawn, so that networks of the same seed differ in nothing else.
            let losses = [random.f64(), random.f64(), random.f64()];
            let (burst, length) = (random.f64(), random.f64());
            let mut held_s = 0.0_f64;
            if burst < network.bursts {
                held_s = network.burst_ms / 1e3 * (0.3 + 0.7 * length);
            }
            let out_until_s = network.is_out_until_s(time_s);
            if let Some(until_s) = out_until_s {
                held_s = held_s.max(until_s - time_s);
            }
            if held_s > 0.0 {
                released_s = released_s.max(time_s + held_s + latency_s);
            }
            let [is_lost, is_lost_again, is_datagram_lost] = losses.map(|loss| loss < network.loss);
            slots.push(Slot {
                latency_s,
                released_s,
                is_out: out_until_s.is_some(),
                is_lost,
                is_lost_again,
                is_datagram_lost,
            });
        }
        Self { slots }
    }

    fn at(&self, time_s: f64) -> Slot {
        let index = (time_s * SLOTS_PER_S + 1e-6) as usize;
        self.slots[index.min(self.slots.len() - 1)]
    }
}

impl Slot {
    /// Returns when something arrives that is sent now.
    fn arrival_s(self, sent_s: f64) -> f64 {
        (sent_s + self.latency_s).max(self.released_s)
    }
}

/// One direction of a connection that delivers everything in order, like Linux's TCP.
///
/// A lost segment is sent again when a later one has been acknowledged and a quarter of a round trip has
/// passed in which it might only have been late (RFC 8985), or else by a timeout. Until then everything
/// behind it waits.
#[derive(Debug)]
pub(crate) struct Stream<T> {
    slots: Slots,
    round_trip_s: f64,
    /// The time for which a segment that is late is not yet lost.
    patience_s: f64,
    segments: VecDeque<Segment<T>>,
    /// When the newest segment was sent.
    newest_s: f64,
    arrived_s: f64,
}

#[derive(Debug)]
struct Segment<T> {
    content: T,
    /// When it was sent last.
    sent_s: f64,
    timeout_s: f64,
    fate: Fate,
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Arrives { at_s: f64 },
    Lost { sent_again_s: f64 },
}

impl<T> Stream<T> {
    /// Creates a stream through a network for some seconds.
    pub(crate) fn new(network: &Network, seed: u64, seconds: f64) -> Self {
        Self {
            slots: Slots::new(network, seed, seconds),
            round_trip_s: 2.0 * network.latency_ms / 1e3,
            patience_s: (network.latency_ms - network.jitter_ms) / 2.0 / 1e3,
            segments: VecDeque::new(),
            newest_s: f64::NEG_INFINITY,
            arrived_s: 0.0,
        }
    }

    /// Sends a segment. Times must not decrease.
    pub(crate) fn send(&mut self, now_s: f64, content: T) {
        self.send_again(now_s);
        let slot = self.slots.at(now_s);
        // A segment behind others is probed for after two round trips.
        let is_alone = now_s - self.newest_s > self.round_trip_s;
        let timeout_s = self.round_trip_s + LEAST_TIMEOUT_S;
        let timeout_s = match is_alone {
            true => timeout_s,
            false => timeout_s.min(2.0 * self.round_trip_s),
        };
        self.newest_s = now_s;
        let fate = if slot.is_lost {
            let sent_again_s = now_s + timeout_s;
            Fate::Lost { sent_again_s }
        } else {
            self.reveal_losses(now_s, slot);
            let at_s = slot.arrival_s(now_s);
            Fate::Arrives { at_s }
        };
        self.segments.push_back(Segment {
            content,
            sent_s: now_s,
            timeout_s,
            fate,
        });
    }

    /// Returns the next segment that has arrived by now.
    pub(crate) fn next_arrived(&mut self, now_s: f64) -> Option<T> {
        self.send_again(now_s);
        match self.segments.front()?.fate {
            Fate::Arrives { at_s } if at_s <= now_s => self.arrived_s = self.arrived_s.max(at_s),
            _ => return None,
        }
        self.segments.pop_front().map(|segment| segment.content)
    }

    /// Returns when something may arrive next.
    pub(crate) fn next_s(&self) -> f64 {
        match self.segments.front().map(|segment| segment.fate) {
            Some(Fate::Arrives { at_s }) => at_s.max(self.arrived_s),
            Some(Fate::Lost { sent_again_s }) => sent_again_s,
            None => f64::INFINITY,
        }
    }

    /// A segment that is sent now and arrives tells the sender which earlier ones are lost.
    fn reveal_losses(&mut self, now_s: f64, slot: Slot) {
        let back_s = self.round_trip_s / 2.0;
        let acknowledged_s = slot.arrival_s(now_s) + back_s;
        let overdue_s = slot.latency_s + back_s + self.patience_s;
        for segment in &mut self.segments {
            if let Fate::Lost { sent_again_s } = &mut segment.fate {
                let revealed_s = acknowledged_s.max(segment.sent_s + overdue_s);
                *sent_again_s = sent_again_s.min(revealed_s);
            }
        }
    }

    /// Sends lost segments again for which the time has come.
    fn send_again(&mut self, now_s: f64) {
        for segment in &mut self.segments {
            while let Fate::Lost { sent_again_s } = segment.fate
                && sent_again_s <= now_s
            {
                let slot = self.slots.at(sent_again_s);
                segment.sent_s = sent_again_s;
                segment.timeout_s *= 2.0;
                segment.fate = if slot.is_lost_again {
                    let sent_again_s = sent_again_s + segment.timeout_s;
                    Fate::Lost { sent_again_s }
                } else {
                    let at_s = slot.arrival_s(sent_again_s);
                    Fate::Arrives { at_s }
                };
            }
        }
    }
}

/// One direction of datagrams.
#[derive(Debug)]
pub(crate) struct Datagrams<T> {
    slots: Slots,
    /// What is on the way, with the times of arrival.
    datagrams: Vec<(f64, T)>,
}

impl<T> Datagrams<T> {
    /// Creates a way for datagrams through a network for some seconds.
    pub(crate) fn new(network: &Network, seed: u64, seconds: f64) -> Self {
        Self {
            slots: Slots::new(network, seed, seconds),
            datagrams: Vec::new(),
        }
    }

    /// Sends a datagram.
    pub(crate) fn send(&mut self, now_s: f64, content: T) {
        let slot = self.slots.at(now_s);
        if !slot.is_datagram_lost && !slot.is_out {
            self.datagrams.push((slot.arrival_s(now_s), content));
        }
    }

    /// Returns the next datagram that has arrived by now.
    pub(crate) fn next_arrived(&mut self, now_s: f64) -> Option<T> {
        let index = self
            .first()
            .filter(|&index| self.datagrams[index].0 <= now_s)?;
        Some(self.datagrams.remove(index).1)
    }

    /// Returns when the next datagram arrives.
    pub(crate) fn next_s(&self) -> f64 {
        self.first()
            .map_or(f64::INFINITY, |index| self.datagrams[index].0)
    }

    fn first(&self) -> Option<usize> {
        let times = self.datagrams.iter().map(|(at_s, _)| *at_s).enumerate();
        let first = times.min_by(|a, b| a.1.total_cmp(&b.1));
        first.map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::percentile;

    /// Sends in a minute at these times and returns the ways, in milliseconds, in the order of sending.
    fn ways_ms(network: &Network, sent_s: impl Iterator<Item = f64>) -> Vec<f64> {
        let mut stream = Stream::new(network, 1, 60.0);
        let mut ways = Vec::new();
        let mut sent_s = sent_s.peekable();
        let mut arrive = |stream: &mut Stream<f64>, until_s: f64| {
            while stream.next_s() <= until_s {
                let now_s = stream.next_s();
                while let Some(sent_s) = stream.next_arrived(now_s) {
                    ways.push((now_s - sent_s) * 1e3);
                }
            }
        };
        while let Some(now_s) = sent_s.next() {
            stream.send(now_s, now_s);
            arrive(&mut stream, sent_s.peek().copied().unwrap_or(f64::MAX));
        }
        ways
    }

    fn every_tick() -> impl Iterator<Item = f64> {
        (0..1_800).map(|tick| f64::from(tick) / SLOTS_PER_S)
    }

    #[test]
    fn calm_networks_stay_within_their_jitter() {
        for network in &Network::ALL[..2] {
            let ways = ways_ms(network, every_tick());
            assert_eq!(ways.len(), 1_800);
            let least = network.latency_ms - network.jitter_ms;
            let most = network.latency_ms + network.jitter_ms;
            let within = |way: &f64| (least - 1e-6..=most + 1e-6).contains(way);
            assert!(ways.iter().all(within), "{}", network.name);
        }
    }

    #[test]
    fn stalls_are_like_those_of_linux() {
        // As a walker sends, at 23 of 30 ticks. Measured over the kernel's TCP: 26 stalls a minute, median
        // 162 ms, 90th percentile 209 ms.
        let mut random = fastrand::Rng::with_seed(1);
        let sent_s = every_tick().filter(|_| random.f64() < 23.0 / 30.0);
        let ways = ways_ms(&Network::ALL[2], sent_s);
        let (mut stalls, mut longest_ms) = (Vec::new(), 0.0_f64);
        for way_ms in ways {
            let late_ms = way_ms - 60.0;
            if late_ms > 80.0 {
                longest_ms = longest_ms.max(late_ms);
            } else if longest_ms > 0.0 {
                stalls.push(std::mem::take(&mut longest_ms));
            }
        }
        assert!((20..35).contains(&stalls.len()), "{stalls:?}");
        let median_ms = percentile(&stalls, 0.5);
        assert!((145.0..175.0).contains(&median_ms), "{stalls:?}");
        let tenth_ms = percentile(&stalls, 0.9);
        assert!((190.0..235.0).contains(&tenth_ms), "{stalls:?}");
    }

    #[test]
    fn a_loss_is_revealed_by_the_next_segment_and_else_by_a_timeout() {
        let lost = Slots::new(&Network::ALL[2], 1, 60.0);
        let lost = lost
            .slots
            .windows(3)
            .position(|slots| slots[0].is_lost && !slots[1].is_lost && !slots[2].is_lost);
        let sent_s = lost.unwrap() as f64 / SLOTS_PER_S;
        let next_s = sent_s + 1.0 / SLOTS_PER_S;
        let alone = ways_ms(&Network::ALL[2], [sent_s].into_iter());
        let followed = ways_ms(&Network::ALL[2], [sent_s, next_s].into_iter());
        // A timeout of 320 ms, or a tick and a round trip; then the way.
        assert!((360.0..400.0).contains(&alone[0]), "{alone:?}");
        assert!((170.0..260.0).contains(&followed[0]), "{followed:?}");
        // The next one waited for it.
        assert!((followed[0] - followed[1] - 1e3 / SLOTS_PER_S).abs() < 1e-6);
    }

    #[test]
    fn nothing_passes_in_an_outage() {
        let network = &Network::ALL[5];
        let end_s = network.outage_ends_s(60.0)[0];
        assert_eq!(end_s, 6.025);
        let sent_s = [4.99, 5.01, 5.99, 6.1];
        let ways = ways_ms(network, sent_s.into_iter());
        let arrived_s: Vec<_> = ways
            .iter()
            .zip(sent_s)
            .map(|(way, sent_s)| sent_s + way / 1e3)
            .collect();
        assert!(arrived_s[0] < 5.1);
        assert!(
            (end_s..end_s + 0.02).contains(&arrived_s[1]),
            "{arrived_s:?}"
        );
        assert!(arrived_s[2] <= end_s + 0.02);
        assert!(arrived_s[3] < 6.14);
        let mut datagrams = Datagrams::new(network, 1, 60.0);
        for sent_s in sent_s {
            datagrams.send(sent_s, sent_s);
        }
        let arrived: Vec<_> = std::iter::from_fn(|| datagrams.next_arrived(60.0)).collect();
        assert_eq!(arrived, [4.99, 6.1]);
    }

    #[test]
    fn datagrams_are_lost_and_never_wait_for_each_other() {
        let network = &Network::ALL[3];
        let mut datagrams = Datagrams::new(network, 1, 60.0);
        every_tick().for_each(|sent_s| datagrams.send(sent_s, sent_s));
        let mut ways_s = Vec::new();
        while datagrams.next_s() < f64::INFINITY {
            let now_s = datagrams.next_s();
            ways_s.extend(datagrams.next_arrived(now_s).map(|sent_s| now_s - sent_s));
        }
        assert!((1_680..1_740).contains(&ways_s.len()), "{}", ways_s.len());
        assert!(ways_s.iter().all(|way_s| (0.1..=0.2).contains(way_s)));
    }
}
