//! libFuzzer's entry to [`cubesync_fuzz::bus`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cubesync_fuzz::bus::check(bytes));
