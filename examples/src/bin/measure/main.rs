//! Measures a relay in open mode: what its connections cost while idle, how many messages it relays,
//! and what is left after a long time of everything. The figures of the README come from here.
//!
//! Time is not measured for its own sake, since machines differ; what counts is memory per
//! connection, and system calls per message, which `strace -c -f -p PID` tells during a `flood`.

mod adapters;
mod agent;
mod flood;
mod idle;
mod million;
mod process;
mod processes;
mod relay;
mod soak;

use core::net::Ipv4Addr;
use core::time::Duration;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Measures relays that run with `--auth open --rate-limit off --join-rate off`
#[derive(Parser)]
#[command(name = env!("CARGO_BIN_NAME"), version)]
struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Memory of the relay per idle connection, and again after each has received 64 KiB
    Idle(IdleFlags),
    /// Messages relayed among pairs of agents that keep a number of them in flight
    Flood(FloodFlags),
    /// Both for a relay on each adapter, and what the adapters are made of, as a table
    Adapters(AdaptersFlags),
    /// Everything at once, for long: what is left of it when everybody has gone
    Soak(SoakFlags),
    /// Memory of several relays behind one port, for more idle connections than one process may have
    Processes(ProcessesFlags),
    /// Holds connections until the input ends: a part of `processes`
    #[command(hide = true)]
    Hold(HoldFlags),
    /// Connections in the memory of this process, for which no descriptors are needed: their joins,
    /// heartbeats and end
    Million(MillionFlags),
}

#[derive(Args)]
struct IdleFlags {
    /// The URL of the relay, `ws://HOST:PORT/ws`
    #[arg(long)]
    url: String,
    /// The relay's process
    #[arg(long)]
    pid: u32,
    /// How many connections
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
}

#[derive(Args)]
struct FloodFlags {
    /// The URL of the relay, `ws://HOST:PORT/ws`
    #[arg(long)]
    url: String,
    /// How many pairs of agents
    #[arg(long, default_value_t = 16)]
    pairs: usize,
    /// Bytes of a whole envelope
    #[arg(long, default_value_t = 256)]
    size: usize,
    /// Messages that each pair has in flight at most, and half of them at least
    #[arg(long, default_value_t = 64)]
    window: usize,
    /// For how long
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

#[derive(Args)]
struct AdaptersFlags {
    /// How many idle connections
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// How often each relay is flooded; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

#[derive(Args)]
struct SoakFlags {
    /// The relay's adapter: tokio, smol, async-std or mio
    #[arg(long, default_value = "tokio")]
    adapter: String,
    /// For how long
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// How many agents come and go
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..))]
    agents: u16,
}

#[derive(Args)]
struct ProcessesFlags {
    /// The relays' adapter: tokio, smol, async-std or mio
    #[arg(long, default_value = "tokio")]
    adapter: String,
    /// How many relays, each a process, and how many processes that hold connections
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=100))]
    relays: u8,
    /// How many connections in all; without this flag, nearly as many as descriptors allow
    #[arg(long)]
    connections: Option<usize>,
}

#[derive(Args)]
struct HoldFlags {
    #[arg(long)]
    url: String,
    #[arg(long)]
    from: Ipv4Addr,
    #[arg(long)]
    first: usize,
    #[arg(long)]
    connections: usize,
}

#[derive(Args)]
struct MillionFlags {
    /// The runtime that the relay runs on
    #[arg(long, value_enum, default_value_t = RuntimeName::Smol)]
    runtime: RuntimeName,
    /// How many connections
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// The time between two pings of a connection
    #[arg(long, default_value = "25s", value_parser = humantime::parse_duration)]
    heartbeat_interval: Duration,
    /// How often each connection is pinged while the heartbeats are measured
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

#[derive(Clone, Copy, ValueEnum)]
enum RuntimeName {
    Tokio,
    Smol,
}

#[tokio::main]
async fn main() -> ExitCode {
    let measured = match Flags::parse().command {
        Command::Idle(flags) => idle::measure(&flags).await.map(drop),
        Command::Flood(flags) => flood::measure(&flags).await.map(drop),
        Command::Adapters(flags) => adapters::measure(&flags).await,
        Command::Soak(flags) => soak::measure(&flags).await,
        Command::Processes(flags) => processes::measure(&flags).await,
        Command::Hold(flags) => processes::hold(&flags).await,
        Command::Million(flags) => million::measure(&flags).await,
    };
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a line of the report.
fn report(line: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{line}")
}
