//! A stream through a simulated network: the times at which bytes arrive, in order and complete as with
//! TCP.

/// The length of a moment, the unit of delays and losses: the time between ticks.
const SLOTS_PER_S: f64 = 30.0;
/// The share of retransmissions that are lost as well.
const MOST_RETRIES: i32 = 4;

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
    /// The share of packets that are lost, and how long a loss stops the stream.
    loss: f64,
    stall_ms: f64,
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
    stall_ms: 0.0,
    bursts: 0.0,
    burst_ms: 0.0,
    outage_every_s: 0.0,
    outage_ms: 0.0,
};

impl Network {
    /// All networks in the order of the table.
    ///
    /// A loss stops a stream until the sender knows of it and has sent again: by the
    /// acknowledgements of the next packet after a round trip, a tick and a quarter of a round
    /// trip (RFC 8985), or by Linux's shortest timeout, 200 ms, where that is longer.
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
            stall_ms: 200.0,
            ..CALM
        },
        Self {
            name: "150±50 ms, 5 %",
            file: "150-loss",
            latency_ms: 150.0,
            jitter_ms: 50.0,
            loss: 0.05,
            stall_ms: 408.0,
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

/// One direction of a connection. Two paths with the same seed delay everything alike, so that all systems
/// meet the same losses, however much they send.
#[derive(Debug, Clone)]
pub(crate) struct Path {
    slots: Vec<Slot>,
    arrived_s: f64,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    latency_s: f64,
    /// The earliest arrival of bytes that are sent from now on.
    released_s: f64,
}

impl Path {
    /// Returns a path through a network for some seconds.
    pub(crate) fn new(network: &Network, seed: u64, seconds: f64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut slots: Vec<Slot> = Vec::new();
        let mut released_s = 0.0_f64;
        for index in 0..(seconds * SLOTS_PER_S) as usize + 1 {
            let time_s = index as f64 / SLOTS_PER_S;
            let spread = 2.0 * random.f64() - 1.0;
            let latency_s = (network.latency_ms + network.jitter_ms * spread) / 1e3;
            // Always drawn, so that networks of the same seed differ in nothing else.
            let (loss, burst, length) = (random.f64(), random.f64(), random.f64());
            let mut held_s = 0.0_f64;
            if loss < network.loss {
                let retries = (loss.ln() / network.loss.ln()).floor() as i32;
                let doubled = (1 << retries.min(MOST_RETRIES)) - 1;
                held_s = network.stall_ms / 1e3 * f64::from(doubled);
            }
            if burst < network.bursts {
                held_s = held_s.max(network.burst_ms / 1e3 * (0.3 + 0.7 * length));
            }
            if let Some(until_s) = network.is_out_until_s(time_s) {
                held_s = held_s.max(until_s - time_s);
            }
            if held_s > 0.0 {
                released_s = released_s.max(time_s + held_s + latency_s);
            }
            slots.push(Slot {
                latency_s,
                released_s,
            });
        }
        Self {
            slots,
            arrived_s: 0.0,
        }
    }

    /// Returns the arrival time of bytes that are sent at this time. Times must not decrease.
    pub(crate) fn arrival_s(&mut self, sent_s: f64) -> f64 {
        let index = (sent_s * SLOTS_PER_S + 1e-6) as usize;
        let slot = self.slots[index.min(self.slots.len() - 1)];
        self.arrived_s = self
            .arrived_s
            .max(sent_s + slot.latency_s)
            .max(slot.released_s);
        self.arrived_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the delay of each tick of a minute, in milliseconds.
    fn ways_ms(network: &Network) -> Vec<f64> {
        let mut path = Path::new(network, 1, 60.0);
        let mut arrived_s = 0.0;
        let way_ms = |tick: u32| {
            let sent_s = f64::from(tick) / SLOTS_PER_S;
            let before_s = std::mem::replace(&mut arrived_s, path.arrival_s(sent_s));
            assert!(arrived_s >= before_s, "out of order");
            (arrived_s - sent_s) * 1e3
        };
        (0..1_800).map(way_ms).collect()
    }

    #[test]
    fn calm_networks_stay_within_their_jitter() {
        for network in &Network::ALL[..2] {
            let ways = ways_ms(network);
            let least = network.latency_ms - network.jitter_ms;
            let most = network.latency_ms + network.jitter_ms;
            let within = |way: &f64| (least - 1e-6..=most + 1e-6).contains(way);
            assert!(ways.iter().all(within), "{}", network.name);
        }
    }

    #[test]
    fn a_loss_stops_the_stream_and_then_everything_comes_at_once() {
        let network = &Network::ALL[2];
        let ways = ways_ms(network);
        let stalls = ways.windows(2).filter(|way| way[1] > way[0] + 100.0);
        assert!((20..50).contains(&stalls.count()));
        let longest = ways.iter().copied().fold(0.0, f64::max);
        assert!(longest >= 240.0);
        let first = ways.iter().position(|&way| way > 240.0).unwrap();
        // Of those that waited, each waited a tick less than the one before.
        let waited = ways[first] - ways[first + 1];
        assert!((waited - 1_000.0 / SLOTS_PER_S).abs() < 1e-6);
    }

    #[test]
    fn nothing_passes_in_an_outage() {
        let network = &Network::ALL[5];
        let mut path = Path::new(network, 1, 60.0);
        let end_s = network.outage_ends_s(60.0)[0];
        assert_eq!(end_s, 6.025);
        assert!(path.arrival_s(4.99) < 5.1);
        assert!(path.arrival_s(5.01) >= end_s);
        assert!(path.arrival_s(5.99) <= end_s + 0.01);
        assert!(path.arrival_s(6.1) < 6.14);
    }
}
