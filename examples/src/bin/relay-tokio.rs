//! A Pinch relay on tokio.
//!
//! The first line on stdout says where it listens, once it does; logs are on stderr. SIGINT and
//! SIGTERM end it in order, with code 0; a second one ends it at once. `--help` lists the settings.
//!
//! It has as many worker threads as half of the cores, or as `TOKIO_WORKER_THREADS` says: where every
//! byte comes from a socket and goes to one, the system needs the other half.

use std::process::ExitCode;
use std::{env, thread};

use pinch_examples::relay::{self, Failure};
use pinch_tokio::Tokio;

fn main() -> ExitCode {
    relay::main::<Tokio>(|running| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        if env::var_os("TOKIO_WORKER_THREADS").is_none() {
            let cores = thread::available_parallelism().map_err(Failure::Runtime)?;
            builder.worker_threads(cores.get().div_ceil(2));
        }
        let runtime = builder.enable_all().build().map_err(Failure::Runtime)?;
        runtime.block_on(running)
    })
}
