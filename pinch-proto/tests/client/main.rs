//! A client in virtual time: tables of what goes in and what comes out, and random histories.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and so do its helpers"
)]

mod closing;
mod contract;
mod delivery;
mod duplicates;
mod histories;
mod joining;
mod liveness;
mod pauses;
mod returning;
mod rig;
