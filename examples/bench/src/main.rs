//! Measures relays side by side: our own, what one would write or take otherwise, and the floor.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use pinch_bench::compare::{self, Options};

fn main() -> ExitCode {
    let options = Options::parse();
    match compare::run(&options, &mut io::stderr(), &mut io::stdout()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}
