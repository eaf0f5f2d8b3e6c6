//! Joining a cubesync server: everything a client needs except drawing.
//!
//! [`Client`] is the whole of it for a game or a bot: poll it once a frame, move your cube, ask
//! where the others are. It never blocks and connects again by itself. `examples/join.rs` is the
//! shortest program that uses it.

pub mod client;
pub mod controller;

pub use client::{Client, ClientEvent, ClientOptions, CubeView, Statistics, Status};
pub use controller::{Controller, Input};
pub use cubesync_protocol as protocol;
