#![no_main]
//! See `pinch_sim::targets::hub_lifecycle`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| pinch_sim::targets::hub_lifecycle::run(data));
