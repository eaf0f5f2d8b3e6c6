//! What a network does to packets.

use std::time::Duration;

/// What a network does to packets in each direction.
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
    /// Whether UDP is blocked, as some firewalls do.
    pub(super) blocks_udp: bool,
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
        blocks_udp: false,
    };
}
