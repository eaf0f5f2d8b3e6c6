//! The figures of a run, and the medians of several runs.

use serde::Serialize;

use crate::row::Row;

/// The figures of a number of servers and players.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figures {
    /// Number of players at all servers.
    pub(crate) players: usize,
    /// Number of servers with a bus; 0 is one server without a bus.
    pub(crate) servers: u32,
    /// Ticks per second.
    pub(crate) hz: u32,
    /// The share of the expected states that were delivered, 0 ..= 1.
    pub(crate) fraction: f64,
    /// The share of the expected states that were right at their own tick.
    pub(crate) right: Option<f64>,
    /// The share of the samples that came after their tick had begun.
    pub(crate) late_samples: Option<f64>,
    /// Median of the time from a sample to its arrival at players of the same server.
    pub(crate) same_p50_ms: Option<f64>,
    /// The 99th percentile of that time.
    pub(crate) same_p99_ms: Option<f64>,
    /// Median of the time to players of other servers.
    pub(crate) across_p50_ms: Option<f64>,
    /// The 99th percentile of that time.
    pub(crate) across_p99_ms: Option<f64>,
    /// CPU seconds of all servers per million deliveries.
    pub(crate) servers_cpu_s_per_million: Option<f64>,
    /// TCP payload that a player received per cube and tick.
    pub(crate) player_bytes: f64,
    /// The figures of the bus.
    pub(crate) bus: Option<BusFigures>,
    /// Cores that other programs used meanwhile.
    pub(crate) other_cores: f64,
    /// Whether the load generator was itself a bottleneck.
    pub(crate) generator_saturated: bool,
}

/// The figures of the bus.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct BusFigures {
    /// CPU seconds of nats-server per million deliveries to players.
    pub(crate) cpu_s_per_million: f64,
    /// Messages that all servers published per tick.
    pub(crate) messages_per_tick: f64,
    /// Payload that all servers published per cube and tick, in bytes.
    pub(crate) payload_bytes: f64,
    /// The published payload and the lines of the NATS protocol, per cube and tick, in bytes.
    pub(crate) wire_bytes: f64,
    /// Bytes that the bus delivered to all servers together, per cube and tick.
    pub(crate) wire_out_bytes: f64,
}

impl Figures {
    /// Returns the name of a number of servers in reports.
    pub(crate) fn name(servers: u32) -> String {
        match servers {
            0 => "no bus".to_owned(),
            1 => "1 server".to_owned(),
            servers => format!("{servers} servers"),
        }
    }

    /// Returns the figures of a measurement of servers with a bus, or of one without (0).
    pub(crate) fn new(servers: u32, row: &Row) -> Self {
        let details = &row.details;
        let players = row.n as f64;
        let bus = details.bus.map(|bus| {
            let ticks = details.seconds * f64::from(row.hz);
            let cube_ticks = ticks * players;
            let deliveries = row.delivered_per_s * details.seconds;
            BusFigures {
                cpu_s_per_million: bus.cpu.as_secs_f64() * 1e6 / deliveries,
                messages_per_tick: bus.messages.into as f64 / ticks,
                payload_bytes: bus.payload.into as f64 / cube_ticks,
                wire_bytes: bus.wire.into as f64 / cube_ticks,
                wire_out_bytes: bus.wire.out as f64 / cube_ticks,
            }
        });
        Self {
            players: row.n,
            servers,
            hz: row.hz,
            fraction: row.fraction,
            right: row.right,
            late_samples: row.late_samples,
            same_p50_ms: row.p50_ms,
            same_p99_ms: row.p99_ms,
            across_p50_ms: details.across_p50_ms,
            across_p99_ms: details.across_p99_ms,
            servers_cpu_s_per_million: row.cpu_s_per_million,
            player_bytes: details.bytes_per_tick / players,
            bus,
            other_cores: details.other_cores,
            generator_saturated: row.generator_saturated,
        }
    }

    /// Returns the median of each figure over the rounds of one setting; there is at least one.
    pub(crate) fn median(rounds: &[Self]) -> Self {
        let of = |number: &dyn Fn(&Self) -> f64| median(rounds.iter().map(number));
        let maybe = |number: fn(&Self) -> Option<f64>| {
            let known: Vec<_> = rounds.iter().filter_map(number).collect();
            (!known.is_empty()).then(|| median(known))
        };
        let first = &rounds[0];
        let of_bus =
            |number: fn(&BusFigures) -> f64| of(&|round| round.bus.as_ref().map_or(0.0, number));
        Self {
            players: first.players,
            servers: first.servers,
            hz: first.hz,
            fraction: of(&|round| round.fraction),
            right: maybe(|round| round.right),
            late_samples: maybe(|round| round.late_samples),
            same_p50_ms: maybe(|round| round.same_p50_ms),
            same_p99_ms: maybe(|round| round.same_p99_ms),
            across_p50_ms: maybe(|round| round.across_p50_ms),
            across_p99_ms: maybe(|round| round.across_p99_ms),
            servers_cpu_s_per_million: maybe(|round| round.servers_cpu_s_per_million),
            player_bytes: of(&|round| round.player_bytes),
            bus: first.bus.map(|_| BusFigures {
                cpu_s_per_million: of_bus(|bus| bus.cpu_s_per_million),
                messages_per_tick: of_bus(|bus| bus.messages_per_tick),
                payload_bytes: of_bus(|bus| bus.payload_bytes),
                wire_bytes: of_bus(|bus| bus.wire_bytes),
                wire_out_bytes: of_bus(|bus| bus.wire_out_bytes),
            }),
            other_cores: of(&|round| round.other_cores),
            generator_saturated: rounds.iter().any(|round| round.generator_saturated),
        }
    }
}

/// Returns the median; of an even number of values the larger of the middle two.
pub(crate) fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut numbers: Vec<_> = numbers.into_iter().collect();
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_of_the_sorted() {
        assert_eq!(median([9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([1.0]), 1.0);
        assert!(median([]).is_nan());
    }
}
