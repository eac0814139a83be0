//! The relay under schedules that shuttle makes up: whatever order its tasks meet in, nobody sleeps
//! through what was meant for them, and all of them end.
//!
//! The relay is the real one, behind its public front door. Its lock, flags and events are
//! shuttle's, its runtime is made of shuttle's threads, its sockets are pipes, and time stands still
//! unless a test has it pass. So a wake-up that is forgotten is not made up for by the next
//! heartbeat: somebody waits for ever, which fails the test.
//!
//! ```sh
//! RUSTFLAGS='--cfg shuttle' cargo test -p pinch-driver --target-dir target/shuttle --test interleavings
//! ```
//!
//! `PINCH_SCHEDULES` is how many schedules each test tries with each of two schedulers,
//! `PINCH_REPLAY` the one to try again, with the code that it was found with, and
//! `SHUTTLE_RANDOM_SEED` a number that leads to others.
//!
//! Memory is sequentially consistent here: what a weaker order of atomics could do is not shown.

#![cfg(shuttle)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

mod agent;
mod clock;
mod disk;
mod endings;
mod explore;
mod locks;
mod pipe;
mod runtime;
mod scene;
mod storing;
mod task;
mod time;
mod traffic;
