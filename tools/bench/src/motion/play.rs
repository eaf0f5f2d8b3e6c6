//! Plays a trace through a network to a display, frame by frame, in simulated time.

use cubesync_protocol::Colour;

use crate::network::{Network, Stream};
use crate::rivals::{self, Rival};
use crate::trace::{Placed, Trace};

/// Ticks per second.
pub(crate) const TICK_HZ: u8 = 30;
/// The time between two frames: 59.94 per second, so that they meet the ticks at every phase.
pub(crate) const FRAME_S: f64 = 1.001 / 60.0;
/// The colour of all players.
pub(crate) const COLOUR: Colour = Colour {
    red: 224,
    green: 128,
    blue: 32,
};

/// A cube as it was drawn in a frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown {
    /// The time of the frame.
    pub(crate) time_s: f64,
    /// The time of the truth that the frame shows.
    pub(crate) truth_s: f64,
    pub(crate) placed: Placed,
}

/// Plays a trace to a rival and returns the frames.
pub(crate) fn rival(
    rival: &mut dyn Rival,
    trace: &Trace,
    network: &Network,
    seed: u64,
    seconds: f64,
) -> Vec<Shown> {
    let mut stream = Stream::new(network, seed, seconds);
    let mut tick = 0;
    let mut shown = Vec::new();
    for now_s in frames(seconds) {
        while tick_s(tick) <= now_s {
            let time_s = tick_s(tick);
            let placed = trace.at(time_s);
            let snapshot = rivals::Snapshot { time_s, placed };
            stream.send(time_s, snapshot);
            tick += 1;
        }
        while let Some(snapshot) = stream.next_arrived(now_s) {
            rival.hear(now_s, snapshot);
        }
        shown.extend(rival.show(now_s).map(|drawn| Shown {
            time_s: now_s,
            truth_s: drawn.time_s,
            placed: drawn.placed,
        }));
    }
    shown
}

fn frames(seconds: f64) -> impl Iterator<Item = f64> {
    let count = (seconds / FRAME_S) as u32;
    (1..count).map(|frame| f64::from(frame) * FRAME_S)
}

/// Returns the time of a tick.
pub(crate) fn tick_s(tick: u64) -> f64 {
    tick as f64 / f64::from(TICK_HZ)
}
