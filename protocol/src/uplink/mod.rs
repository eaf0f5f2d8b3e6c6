//! The way up: the samples of the cubes that a client controls.
//!
//! The [`sender`] is the client's end and the [`receiver`] the server's. Both hold the same
//! [`MotionSet`](crate::motion::MotionSet) and advance it alike, as on the way down.

pub mod receiver;
pub mod sender;

#[cfg(test)]
mod testing;
