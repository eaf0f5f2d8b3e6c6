//! The figures of one measurement.

use serde::Serialize;

use crate::audit::Findings;
use crate::bus::Counters;
use crate::score::Score;

/// One line of the table, and of the JSON file under these names.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    /// The name of the system.
    pub(crate) system: &'static str,
    /// Number of clients.
    pub(crate) n: usize,
    /// Samples per second of each client.
    pub(crate) hz: u32,
    /// The name of their motion.
    pub(crate) motion: &'static str,
    /// Updates that reached a receiver, per second.
    pub(crate) delivered_per_s: f64,
    /// The share of the expected ones, 0 ..= 1.
    pub(crate) fraction: f64,
    /// The share of the expected states that were right at their own tick, 0 ..= 1; of a relay, which has
    /// no ticks, those that arrived before the next one was sampled.
    pub(crate) right: Option<f64>,
    /// The share of the samples that came after their tick had begun, 0 ..= 1; only cubesync has ticks.
    pub(crate) late_samples: Option<f64>,
    /// Server CPU seconds per million deliveries.
    pub(crate) cpu_s_per_million: Option<f64>,
    /// TCP payload received per delivery.
    pub(crate) bytes_per_delivery: Option<f64>,
    /// Median of the time from taking a sample to its arrival.
    pub(crate) p50_ms: Option<f64>,
    /// The 99th percentile of that time.
    pub(crate) p99_ms: Option<f64>,
    /// The maximum of that time.
    pub(crate) max_ms: Option<f64>,
    /// The server's largest resident memory, in megabytes.
    pub(crate) rss_mb: f64,
    /// Whether the load generator was itself a bottleneck: a better one could find better figures.
    pub(crate) generator_saturated: bool,
    /// Figures that explain the others.
    #[serde(skip)]
    pub(crate) details: Details,
}

/// The figures outside the table.
#[derive(Debug, Clone)]
pub(crate) struct Details {
    /// Length of the measurement.
    pub(crate) seconds: f64,
    /// TCP payload per client and tick.
    pub(crate) bytes_per_tick: f64,
    /// Updates that a client should have received per tick.
    pub(crate) updates_per_tick: f64,
    /// Cores the server used.
    pub(crate) server_cores: f64,
    /// Cores the generator used.
    pub(crate) generator_cores: f64,
    /// Cores that other programs used meanwhile.
    pub(crate) other_cores: f64,
    /// 99th percentile of how late samples were taken.
    pub(crate) late_ms: f64,
    /// Samples that were not sent, because the socket was full or the generator too late.
    pub(crate) unsent: u64,
    /// Connections that ended early.
    pub(crate) lost: usize,
    /// The reason of the first one.
    pub(crate) loss: Option<String>,
    /// The server's resident bytes before the first client joined.
    pub(crate) memory_before: u64,
    /// The server's resident bytes at every second of the measurement.
    pub(crate) memory: Vec<u64>,
    /// For cubesync, how many states were right.
    pub(crate) score: Score,
    /// For cubesync with a view distance, whether clients received the right cubes.
    pub(crate) findings: Findings,
    /// For several servers of cubesync, median and 99th percentile of the time between a client of the
    /// owner and one of an edge, and between clients of edges; the row's own figures are for clients of the
    /// owner.
    pub(crate) across_ms: [Option<(f64, f64)>; 2],
    /// The number of the server that owns the clients' room.
    pub(crate) owner: usize,
    /// For servers with a bus, its counters for the measurement.
    pub(crate) bus: Option<Counters>,
}
