#![no_main]
//! See `pinch_sim::targets::hub_shards`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| pinch_sim::targets::hub_shards::run(data));
