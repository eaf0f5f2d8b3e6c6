//! Checks that hold for any bytes from a stranger.
//!
//! There is one module for each decoder, with a `check` that panics if something does not hold. libFuzzer
//! searches for such bytes (`tools/fuzz/run`, `fuzz_targets/`), and `cargo test` runs the checks on the
//! inputs in `corpus/`: small ones that reach everything the fuzzer has reached so far, and those that once
//! broke something.

pub mod browsers;
pub mod bus;
pub mod downlinks;
pub mod frames;
pub mod http;
mod input;
pub mod messages;
pub mod motion;
pub mod recordings;
pub mod samples;
pub mod sealed;
pub mod session;
pub mod text;
pub mod uplinks;

/// A check that holds for any bytes.
pub type Check = fn(&[u8]);

/// Every check by the name of its target and of its folder in `corpus/`.
pub const CHECKS: [(&str, Check); 13] = [
    ("browsers", browsers::check),
    ("bus", bus::check),
    ("frames", frames::check),
    ("messages", messages::check),
    ("motion", motion::check),
    ("session", session::check),
    ("samples", samples::check),
    ("text", text::check),
    ("http", http::check),
    ("recordings", recordings::check),
    ("downlinks", downlinks::check),
    ("uplinks", uplinks::check),
    ("sealed", sealed::check),
];
