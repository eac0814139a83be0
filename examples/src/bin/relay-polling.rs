//! A Pinch relay on plain threads: the same settings and the same output as `relay-tokio`.
//!
//! There are half as many threads as can run at the same time, or as many as the environment variable
//! `PINCH_POLLING_THREADS` says.

use std::process::ExitCode;

use pinch_examples::relay::{self, Failure};
use pinch_polling::{Polling, block_on};

/// Gives memory back that one thread allocated and another freed, which glibc keeps.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    relay::main::<Polling>(env!("CARGO_BIN_NAME"), |running| {
        Polling::start().map_err(|error| Failure::Runtime(error.into()))?;
        block_on(running)
    })
}
