//! Puts a load on a relay that speaks the Pinch wire protocol, and reports what came of it.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pinch_bench::load::idle::{self, Idle};
use pinch_bench::load::throughput::{self, Throughput};
use pinch_bench::load::{LoadError, describe_idle, describe_throughput};

/// Puts a load on a relay that speaks the Pinch wire protocol
#[derive(Parser)]
#[command(name = env!("CARGO_BIN_NAME"), version)]
struct Flags {
    /// Report as JSON, on one line
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    /// Pairs of agents that keep a number of envelopes in flight
    Throughput(Throughput),
    /// Agents that only answer pings
    Idle(Idle),
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    match run(&flags) {
        Ok(report) => match writeln!(std::io::stdout(), "{}", report.trim_end()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The report.
fn run(flags: &Flags) -> Result<String, LoadError> {
    const INFALLIBLE: &str = "a string takes everything, and a report has no odd keys";

    let mut out = String::new();
    match &flags.scenario {
        Scenario::Throughput(options) => {
            let report = throughput::run(options)?;
            if flags.json {
                out = serde_json::to_string(&report).expect(INFALLIBLE);
            } else {
                describe_throughput(&report, &mut out).expect(INFALLIBLE);
            }
        }
        Scenario::Idle(options) => {
            let report = idle::run(options)?;
            if flags.json {
                out = serde_json::to_string(&report).expect(INFALLIBLE);
            } else {
                describe_idle(&report, &mut out).expect(INFALLIBLE);
            }
        }
    }
    Ok(out)
}
