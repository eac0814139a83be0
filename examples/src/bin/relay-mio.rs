//! A Pinch relay as plain event loops: the same settings and the same output as `relay-tokio`.
//!
//! There are half as many loops as threads can run at the same time, or as many as the environment
//! variable `PINCH_MIO_THREADS` says.

use std::process::ExitCode;
use std::sync::Arc;

use pinch_examples::relay;
use pinch_mio::{Bind as _, Relay};

/// Gives memory back that one thread allocated and another freed, which glibc keeps.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    relay::main(env!("CARGO_BIN_NAME"), |program| {
        let shards = relay::threads("PINCH_MIO_THREADS")?;
        smol::block_on(
            program.run(Relay::builder().shards(shards), |builder, listener| {
                builder.listen_on(listener).map(Arc::new)
            }),
        )
    })
}
