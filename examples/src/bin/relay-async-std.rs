//! A Pinch relay on async-std: the same settings and the same output as `relay-tokio`.

use std::process::ExitCode;

use pinch_async_std::{Builder, Relay};
use pinch_examples::relay;

/// Gives memory back that one thread allocated and another freed, which glibc keeps.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    relay::main(env!("CARGO_BIN_NAME"), |program| {
        async_std::task::block_on(program.run(Relay::builder(), Builder::listen_on))
    })
}
