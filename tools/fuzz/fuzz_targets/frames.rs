//! libFuzzer's entry to [`cubesync_fuzz::frames`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cubesync_fuzz::frames::check(bytes));
