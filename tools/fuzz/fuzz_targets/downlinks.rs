//! libFuzzer's entry to [`cubesync_fuzz::downlinks`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cubesync_fuzz::downlinks::check(bytes));
