//! libFuzzer's entry to [`cubesync_fuzz::http`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cubesync_fuzz::http::check(bytes));
