//! libFuzzer's entry to [`cubesync_fuzz::recordings`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cubesync_fuzz::recordings::check(bytes));
