//! libFuzzer's entry to [`cubesync_fuzz::uplinks`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cubesync_fuzz::uplinks::check(bytes));
