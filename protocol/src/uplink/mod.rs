//! The way up: what a client sends of the cubes that it controls.
//!
//! The [`sender`] is the client's end, the [`receiver`] the server's end of one player. Both hold the
//! same [`MotionSet`](crate::motion::MotionSet) and advance it alike, as on the way down: a tick
//! without a sample means that every cube moves as predicted.

pub mod receiver;
pub mod sender;

#[cfg(test)]
mod testing;

pub use receiver::{Arrival, SampleError, TimedStates, UplinkReceiver};
pub use sender::{Sample, UplinkSender};

use crate::limits::MOVING_HEARTBEAT_INTERVAL;

/// A moving cube whose client sends nothing for this part of a second stands. Two heartbeats and
/// most hiccups of a network are shorter.
const GRACE_PER_SECOND: u64 = 2;

/// Returns the longest silence, in ticks, after which a moving cube still moves as predicted.
pub fn grace_ticks(tick_hz: u64) -> u64 {
    (tick_hz / GRACE_PER_SECOND).max(2)
}

/// Returns the longest silence, in ticks, that is expected while a cube moves.
pub fn heartbeat_ticks(tick_hz: u64) -> u64 {
    (MOVING_HEARTBEAT_INTERVAL.as_millis() as u64 * tick_hz / 1_000).max(1)
}
