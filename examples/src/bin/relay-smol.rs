//! A Pinch relay on smol: the same settings and the same output as `relay-tokio`.

use std::process::ExitCode;

use pinch_examples::relay;
use pinch_smol::{Builder, Relay};

/// Gives memory back that one thread allocated and another freed, which glibc keeps.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    relay::main(env!("CARGO_BIN_NAME"), |program| {
        smol::block_on(program.run(Relay::builder(), Builder::listen_on))
    })
}
