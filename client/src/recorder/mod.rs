//! The flight recorder of a client: all bytes received and sent, with their times, in a file. A
//! browser tab has no files, so its `Tap` cannot exist.

#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod web;

#[cfg(not(target_arch = "wasm32"))]
pub use native::{Recorder, Tap};
#[cfg(target_arch = "wasm32")]
pub use web::Tap;
