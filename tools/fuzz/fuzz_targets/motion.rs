//! libFuzzer's entry to [`cubesync_fuzz::motion`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cubesync_fuzz::motion::check(bytes));
