//! A Pinch relay on tokio.
//!
//! The first line on stdout says where it listens, once it does; logs are on stderr. SIGINT, SIGTERM
//! and SIGUSR1 end it in order, with code 0; a second SIGINT or SIGTERM ends it at once. SIGHUP does
//! nothing. `--help` lists the settings.
//!
//! It has as many worker threads as half of the cores, or as `TOKIO_WORKER_THREADS` says: where every
//! byte comes from a socket and goes to one, the system needs the other half.

use std::process::ExitCode;

use pinch_examples::relay::{self, Failure};
use pinch_tokio::{Builder, Relay};

/// Number of tasks that a worker runs before it looks at sockets again. A task of the relay runs for
/// 200 microseconds at most, but for its last read: tokio's default, 61, would leave the others unseen
/// for 12 milliseconds.
const EVENT_INTERVAL: u32 = 8;

/// Gives memory back that one thread allocated and another freed, which glibc keeps.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    relay::main(env!("CARGO_BIN_NAME"), |program| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(relay::threads("TOKIO_WORKER_THREADS")?.get().into());
        builder.event_interval(EVENT_INTERVAL);
        let runtime = builder.enable_all().build().map_err(Failure::Runtime)?;
        runtime.block_on(program.run(Relay::builder(), Builder::listen_on))
    })
}
