#![no_main]
//! See `pinch_sim::targets::client`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| pinch_sim::targets::client::run(data));
