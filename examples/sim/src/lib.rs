//! Proof for the machines of the relay: worlds full of them in virtual time, and everything that a
//! fuzzer can be let loose on.
//!
//! - [`network`] simulates agents, relays and what lies between them.
//! - [`targets`] are functions of bytes that fail if a promise is broken: the fuzzer calls them with
//!   bytes of its own, and the tests with those that it has found.

pub mod network;
pub mod targets;
