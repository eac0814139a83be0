//! Measures a relay without sockets: see `pinch_bench::memory`.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use pinch_bench::memory::{self, Options};

/// The allocator of our relays.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let figures = match memory::run(&Options::parse()) {
        Ok(figures) => figures,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            return ExitCode::FAILURE;
        }
    };
    match memory::describe(&figures, &mut std::io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
