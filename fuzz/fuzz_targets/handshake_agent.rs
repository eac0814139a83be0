#![no_main]
//! See `pinch_sim::targets::handshake_agent`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| pinch_sim::targets::handshake_agent::run(data));
