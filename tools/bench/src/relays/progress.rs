//! What a run's threads and its measurement tell each other.

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use hdrhistogram::Histogram;

use crate::tally::Tally;

/// What the threads of a run and its measurement share.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Clients that are in.
    pub(crate) joined: AtomicUsize,
    /// Set when all are in.
    pub(crate) timeline: OnceLock<Timeline>,
    /// Set to end the run early.
    pub(crate) stop: AtomicBool,
}

/// When what happens, in the workload's microseconds.
#[derive(Debug, Clone)]
pub(crate) struct Timeline {
    /// No sample before this.
    pub(crate) start_us: u64,
    /// What is measured.
    pub(crate) window_us: Range<u64>,
    /// The threads end.
    pub(crate) end_us: u64,
}

/// What came of one thread's clients.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What they received.
    pub(crate) tally: Tally,
    /// From when a sample was due until it was taken, in microseconds, in the window.
    pub(crate) lateness_us: Histogram<u64>,
    /// The part of the window in which the thread used a core, 0 ..= 1.
    pub(crate) cpu_share: f64,
    /// Samples that were not sent, because the socket was full or the generator too late.
    pub(crate) unsent: u64,
    /// Connections that ended early, and why the first did.
    pub(crate) lost: usize,
    /// The reason of the first loss.
    pub(crate) loss: Option<String>,
}
