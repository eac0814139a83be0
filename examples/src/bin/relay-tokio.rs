//! A Pinch relay on tokio.
//!
//! The first line on stdout says where it listens, once it does; logs are on stderr. SIGINT and
//! SIGTERM end it in order, with code 0; a second one ends it at once. `--help` lists the settings.

use std::process::ExitCode;

use pinch_examples::relay::{self, Failure};
use pinch_tokio::Tokio;

fn main() -> ExitCode {
    relay::main::<Tokio>(|running| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build();
        runtime.map_err(Failure::Runtime)?.block_on(running)
    })
}
