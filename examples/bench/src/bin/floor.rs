//! The least that a relay can do, as a program: see `pinch_bench::floor`.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use pinch_bench::floor::Floor;
use pinch_bench::hub::Listen;
use pinch_bench::{descriptors, upgrade};

fn main() -> ExitCode {
    let flags = Listen::parse();
    match run(&flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Listen) -> std::io::Result<()> {
    descriptors::raise()?;
    let mut floor = Floor::bind(flags.listen)?;
    let listen = upgrade::announcement(floor.local_addr()?);
    writeln!(std::io::stdout(), "{listen}")?;
    floor.run()
}
