//! Proof for the machines of the relay and for its store: a model to compare the hub with, worlds full of
//! them in virtual time, and everything that a fuzzer can be let loose on.
//!
//! - [`model`] is a second hub, written to be read and not to be fast; [`story`] is what both of them
//!   go through.
//! - [`network`] simulates agents, relays and what lies between them.
//! - [`targets`] are functions of bytes that fail if a promise is broken: the fuzzer calls them with
//!   bytes of its own, and the tests with those that it has found.

pub mod model;
pub mod network;
pub mod story;
pub mod targets;
