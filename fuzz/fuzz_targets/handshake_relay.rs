#![no_main]
//! See `pinch_sim::targets::handshake_relay`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| pinch_sim::targets::handshake_relay::run(data));
