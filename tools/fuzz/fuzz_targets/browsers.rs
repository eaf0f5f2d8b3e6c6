//! libFuzzer's entry to [`cubesync_fuzz::browsers`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cubesync_fuzz::browsers::check(bytes));
