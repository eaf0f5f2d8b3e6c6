//! libFuzzer's entry to [`cubesync_fuzz::text`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cubesync_fuzz::text::check(bytes));
