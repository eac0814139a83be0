//! Proof for the machines of the relay: worlds full of them, in virtual time.
//!
//! [`network`] simulates agents, relays and what lies between them.

pub mod network;
