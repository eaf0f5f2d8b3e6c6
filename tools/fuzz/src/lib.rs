//! Whatever bytes come from strangers: what must hold for all of them.
//!
//! One module a decoder, each with a `check` that panics when something does not hold. libFuzzer
//! looks for such bytes (`tools/fuzz/run`, `fuzz_targets/`), and `cargo test` gives the checks the ones
//! that are kept in `corpus/`: small inputs that reach everything the fuzzer has reached so far, and
//! those that once broke something.

pub mod bus;
pub mod frames;
pub mod http;
mod input;
pub mod messages;
pub mod motion;
pub mod recordings;
pub mod samples;
pub mod session;
pub mod text;

/// What must hold for any bytes.
pub type Check = fn(&[u8]);

/// Every check by the name of its target and of its folder in `corpus/`.
pub const CHECKS: [(&str, Check); 9] = [
    ("bus", bus::check),
    ("frames", frames::check),
    ("messages", messages::check),
    ("motion", motion::check),
    ("session", session::check),
    ("samples", samples::check),
    ("text", text::check),
    ("http", http::check),
    ("recordings", recordings::check),
];
