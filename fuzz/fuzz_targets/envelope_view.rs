#![no_main]
//! See `pinch_sim::targets::envelope_view`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| pinch_sim::targets::envelope_view::run(data));
