//! libFuzzer's entry to [`cubesync_fuzz::samples`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cubesync_fuzz::samples::check(bytes));
