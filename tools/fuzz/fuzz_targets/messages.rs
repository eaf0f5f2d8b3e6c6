//! libFuzzer's entry to [`cubesync_fuzz::messages`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cubesync_fuzz::messages::check(bytes));
