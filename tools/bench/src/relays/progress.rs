//! The state that a run's threads and its measurement share, and the results of the threads.

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use hdrhistogram::Histogram;

use crate::tally::Tally;

/// The state that the threads of a run and its measurement share.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Number of clients that have joined.
    pub(crate) joined: AtomicUsize,
    /// The timeline, set when all clients have joined.
    pub(crate) timeline: OnceLock<Timeline>,
    /// Whether the run must end early.
    pub(crate) stop: AtomicBool,
}

/// The times of a run, in the workload's microseconds.
#[derive(Debug, Clone)]
pub(crate) struct Timeline {
    /// The number of the server that owns the clients' room.
    pub(crate) owner: usize,
    /// The time before which no sample is sent.
    pub(crate) start_us: u64,
    /// The time of the measurement.
    pub(crate) window_us: Range<u64>,
    /// The time at which the threads end.
    pub(crate) end_us: u64,
}

/// The results of one thread.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The counts of its clients.
    pub(crate) tally: Tally,
    /// How late samples were taken during the measurement, in microseconds.
    pub(crate) lateness_us: Histogram<u64>,
    /// The share of a core that the thread used during the measurement, 0 ..= 1.
    pub(crate) cpu_share: f64,
    /// Samples that were not sent, because the socket was full or the generator too late.
    pub(crate) unsent: u64,
    /// Number of connections that ended early.
    pub(crate) lost: usize,
    /// The reason of the first loss.
    pub(crate) loss: Option<String>,
}
