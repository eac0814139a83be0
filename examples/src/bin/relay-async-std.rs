//! A Pinch relay on async-std: the same settings and the same output as `relay-tokio`.

use std::process::ExitCode;

use pinch_async_std::AsyncStd;
use pinch_examples::relay;

/// Gives memory back that one thread allocated and another freed, which glibc keeps.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    relay::main::<AsyncStd>(env!("CARGO_BIN_NAME"), async_std::task::block_on)
}
