//! The view agrees with prost, except inside payloads, where it does not look.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and so do its helpers"
)]

mod against_prost;
mod encoding;
mod faults;
