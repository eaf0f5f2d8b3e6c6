//! libFuzzer's entry to [`cubesync_fuzz::sealed`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cubesync_fuzz::sealed::check(bytes));
