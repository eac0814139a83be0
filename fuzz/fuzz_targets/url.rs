#![no_main]
//! See `pinch_sim::targets::url`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| pinch_sim::targets::url::run(data));
