#![no_main]
//! See `pinch_sim::targets::store`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| pinch_sim::targets::store::run(data));
