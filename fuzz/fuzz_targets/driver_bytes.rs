#![no_main]
//! See `pinch_sim::targets::driver_bytes`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| pinch_sim::targets::driver_bytes::run(data));
