#![no_main]
//! See `pinch_sim::targets::http`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| pinch_sim::targets::http::run(data));
