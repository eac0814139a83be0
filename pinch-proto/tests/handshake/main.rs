//! The two ends of a handshake, against each other and against everything that may go wrong.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and so do its helpers"
)]

mod agent;
mod relay;
mod sides;
mod together;
