#![no_main]
//! See `pinch_sim::targets::address`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| pinch_sim::targets::address::run(data));
