//! A Pinch relay on tokio.
//!
//! The first line on stdout says where it listens, once it does; logs are on stderr. SIGINT, SIGTERM
//! and SIGUSR1 end it in order, with code 0; a second SIGINT or SIGTERM ends it at once. SIGHUP does
//! nothing. `--help` lists the settings.
//!
//! It has as many worker threads as half of the cores, or as `TOKIO_WORKER_THREADS` says: where every
//! byte comes from a socket and goes to one, the system needs the other half.

use std::process::ExitCode;
use std::{env, io, thread};

use pinch_examples::relay::{self, Failure};
use pinch_tokio::Tokio;

/// The variable that tokio reads, too.
const THREADS: &str = "TOKIO_WORKER_THREADS";

/// Number of tasks that a worker runs before it looks at sockets again. A task of the relay runs for
/// 200 microseconds at most, but for its last read: tokio's default, 61, would leave the others unseen
/// for 12 milliseconds.
const EVENT_INTERVAL: u32 = 8;

/// More than any machine has use for.
const MAX_THREADS: usize = 1024;

/// Gives memory back that one thread allocated and another freed, which glibc keeps.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    relay::main::<Tokio>(env!("CARGO_BIN_NAME"), |running| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(worker_threads().map_err(Failure::Runtime)?);
        builder.event_interval(EVENT_INTERVAL);
        let runtime = builder.enable_all().build().map_err(Failure::Runtime)?;
        runtime.block_on(running)
    })
}

/// tokio itself would panic where the variable makes no sense, or is set and empty.
fn worker_threads() -> io::Result<usize> {
    let value = env::var_os(THREADS).unwrap_or_default();
    if value.is_empty() {
        return Ok(thread::available_parallelism()?.get().div_ceil(2));
    }
    let threads = value.to_str().and_then(|value| value.parse().ok());
    threads
        .filter(|threads| (1..=MAX_THREADS).contains(threads))
        .ok_or_else(|| {
            io::Error::other(format!(
                "{THREADS} is {value:?}, expected a number of threads from 1 to {MAX_THREADS}"
            ))
        })
}
