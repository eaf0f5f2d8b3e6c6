//! Decides where and when a client connects again.

mod backoff;
mod servers;

pub use backoff::{Backoff, LASTING};
pub use servers::Servers;
