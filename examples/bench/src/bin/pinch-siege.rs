//! Plays all attacks on a relay's resources at once, beside honest agents, and reports what they
//! noticed.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use pinch_bench::siege::{self, Siege};

/// Plays all attacks on a relay's resources at once, beside honest agents
#[derive(Parser)]
#[command(name = env!("CARGO_BIN_NAME"), version)]
struct Flags {
    #[command(flatten)]
    siege: Siege,
    /// Report as JSON, on one line
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    const INFALLIBLE: &str = "a string takes everything, and a report has no odd keys";

    let flags = Flags::parse();
    let report = match siege::run(&flags.siege) {
        Ok(report) => report,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut out = String::new();
    if flags.json {
        out = serde_json::to_string(&report).expect(INFALLIBLE);
    } else {
        siege::describe(&report, &mut out).expect(INFALLIBLE);
    }
    match writeln!(std::io::stdout(), "{}", out.trim_end()) {
        Ok(()) if report.is_sound() => ExitCode::SUCCESS,
        Ok(()) | Err(_) => ExitCode::FAILURE,
    }
}
