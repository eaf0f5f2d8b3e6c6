//! libFuzzer's entry to [`cubesync_fuzz::session`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cubesync_fuzz::session::check(bytes));
