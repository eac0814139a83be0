//! A relay without sockets: what it costs when no system has a part in it, and how much more it
//! relays with more threads.
//!
//! Agents are streams in memory that a relay on tokio adopts, or that a thread for each shard serves
//! with [`Session`](pinch_tokio::session::Session) and [`Hub`](pinch_proto::hub::Hub), as an event
//! loop does. Each sends an envelope to a random
//! one of its recipients for each that it receives, so that the number of envelopes under way stays
//! the same, and agents share nothing with each other. What threads of the relay wait for is then
//! what threads of the relay share.

mod agent;
mod event_loop;
mod socket;

use core::num::{NonZeroU16, NonZeroUsize};
use core::sync::atomic::Ordering;
use core::time::Duration;
use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use pinch_proto::Host;
use pinch_proto::hub::Config;
use pinch_tokio::{Auth, BindError, Relay};
use thiserror::Error;
use tokio::runtime::{Builder, Runtime};

use self::agent::Counts;
use self::event_loop::Threads;
use self::socket::{Run, Socket};
use crate::figures::{decimal, grouped};
use crate::load::{LoadError, duration};
use crate::process::Sample;

/// How long agents may take to join, and envelopes to arrive in the end.
const PATIENCE: Duration = Duration::from_secs(20);

const TICK: Duration = Duration::from_millis(1);

/// Before anything is measured, the relay has this fraction of the time to warm up.
const WARMUP_DIVISOR: u32 = 4;

/// Measures a relay without sockets, with one thread and with more
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Options {
    /// The relays
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "tokio,event-loop"
    )]
    pub on: Vec<On>,
    /// Numbers of threads of the relay; each is measured in each round
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    pub threads: Vec<NonZeroU16>,
    /// How many agents
    #[arg(long, default_value = "256")]
    pub agents: NonZeroUsize,
    /// Bytes of ciphertext in an envelope
    #[arg(long, default_value_t = 256)]
    pub size: usize,
    /// Envelopes under way for each agent
    #[arg(long, default_value = "16")]
    pub window: NonZeroUsize,
    /// How often each number of threads is measured; medians count
    #[arg(long, default_value = "3")]
    pub rounds: NonZeroUsize,
    /// Seconds of each measurement
    #[arg(long, default_value = "2", value_parser = duration)]
    pub seconds: Duration,
}

/// What drives the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum On {
    /// A relay on tokio
    Tokio,
    /// A thread for each shard, without tasks and locks
    EventLoop,
}

/// Why there is nothing to report.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The agents cannot be made.
    #[error(transparent)]
    Agents(#[from] LoadError),
    /// The relay does not start.
    #[error("the relay does not start: {0}")]
    Relay(#[from] BindError),
    /// The runtime does not start.
    #[error(transparent)]
    System(#[from] io::Error),
    /// Some agents could not join.
    #[error("only {0} agents have joined")]
    NotAllJoined(usize),
    /// The relay did not relay everything as it should.
    #[error(
        "of {sent} envelopes, {received} arrived, with {unexpected} frames that nobody expected"
    )]
    Faulty {
        /// Envelopes that were sent.
        sent: u64,
        /// Envelopes that arrived.
        received: u64,
        /// Other frames, but for pings.
        unexpected: u64,
    },
}

/// What one number of threads came to: medians of the rounds.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// What drove the relay.
    pub on: On,
    /// The number of threads.
    pub threads: NonZeroU16,
    /// Envelopes per second.
    pub messages_per_second: f64,
    /// Microseconds of CPU time of each, the agents' share included, if known.
    pub cpu_micros: Option<f64>,
    /// Pings for each of them.
    pub pings: f64,
}

/// Measures each relay with each number of threads, in turns.
///
/// # Errors
/// [`MemoryError`] says why there are no results.
pub fn run(options: &Options) -> Result<Vec<Figures>, MemoryError> {
    let threads = |on: On| options.threads.iter().map(move |threads| (on, *threads));
    let candidates: Vec<_> = options.on.iter().copied().flat_map(threads).collect();
    let mut rounds = vec![Vec::new(); candidates.len()];
    for _ in 0..options.rounds.get() {
        for ((on, threads), figures) in candidates.iter().zip(&mut rounds) {
            figures.push(measure(options, *on, *threads)?);
        }
    }
    Ok(rounds.into_iter().filter_map(median).collect())
}

fn median(mut rounds: Vec<Figures>) -> Option<Figures> {
    rounds
        .sort_by(|one, other| f64::total_cmp(&one.messages_per_second, &other.messages_per_second));
    rounds.get(rounds.len() / 2).copied()
}

/// Writes `figures` as a table; ratios are to the first of the same relay.
///
/// # Errors
/// Those of `out`.
pub fn describe(figures: &[Figures], out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "| without sockets | threads | messages/s | × | CPU µs per message | pings per message |"
    )?;
    writeln!(out, "|---|--:|--:|--:|--:|--:|")?;
    for figure in figures {
        let first = figures.iter().find(|first| first.on == figure.on);
        let first = first.unwrap_or(figure);
        let on = match figure.on {
            On::Tokio => "tokio",
            On::EventLoop => "event loop",
        };
        writeln!(
            out,
            "| {on} | {} | {} | {:.2} | {} | {:.3} |",
            figure.threads,
            grouped(figure.messages_per_second),
            figure.messages_per_second / first.messages_per_second,
            figure.cpu_micros.map_or_else(|| "–".to_owned(), decimal),
            figure.pings,
        )?;
    }
    Ok(())
}

/// The defaults, without limits that agents would meet.
fn hub_config() -> Config {
    let host = Host::parse("localhost").expect("a host");
    Config::new(host).rate_limit(None).join_limit(None)
}

/// A relay that all agents have joined.
enum Running {
    Tokio(Runtime, Relay),
    EventLoop(Threads),
}

impl Running {
    /// Starts a relay with as many threads, and waits until all agents have joined it.
    fn start(
        options: &Options,
        on: On,
        threads: NonZeroU16,
        run: &Arc<Run>,
    ) -> Result<Self, MemoryError> {
        let agents = agent::agents(options.agents.get(), options.size)?;
        let window = options.window.get();
        let running = match on {
            On::Tokio => {
                let runtime = Builder::new_multi_thread()
                    .worker_threads(threads.get().into())
                    .enable_all()
                    .build()?;
                let entered = runtime.enter();
                let relay = Relay::builder().hub(hub_config()).auth(Auth::Open);
                let relay = relay.shards(threads).detached()?;
                for (number, agent) in agents.into_iter().enumerate() {
                    relay.adopt(Socket::new(agent, window, number, Arc::clone(run)));
                }
                drop(entered);
                Self::Tokio(runtime, relay)
            }
            On::EventLoop => Self::EventLoop(event_loop::start(threads, agents, window, run)?),
        };
        let joined = || run.joined.load(Ordering::Relaxed);
        wait_until(|| joined() == options.agents.get());
        if joined() < options.agents.get() {
            return Err(MemoryError::NotAllJoined(joined()));
        }
        Ok(running)
    }

    fn stop(self, run: &Run) {
        match self {
            Self::Tokio(runtime, relay) => runtime.block_on(relay.shutdown()),
            Self::EventLoop(threads) => {
                run.stop();
                threads.join();
            }
        }
    }
}

/// Measures a relay with as many threads.
fn measure(options: &Options, on: On, threads: NonZeroU16) -> Result<Figures, MemoryError> {
    let run = Arc::new(Run::new(match on {
        On::Tokio => options.agents.get(),
        On::EventLoop => threads.get().into(),
    }));
    let relay = Running::start(options, on, threads, &run)?;
    run.begin();
    thread::sleep(options.seconds / WARMUP_DIVISOR);
    let (begin, before, cpu_before) = (Instant::now(), run.counts(), Sample::of_self());
    thread::sleep(options.seconds);
    let (after, seconds) = (run.counts(), begin.elapsed().as_secs_f64());
    let cpu = Sample::of_self().cpu_seconds_since(&cpu_before);
    run.end();
    let counts = settle(&run);
    relay.stop(&run);
    if counts.received != counts.sent || counts.unexpected > 0 {
        return Err(MemoryError::Faulty {
            sent: counts.sent,
            received: counts.received,
            unexpected: counts.unexpected,
        });
    }
    let messages = (after.received - before.received) as f64;
    Ok(Figures {
        on,
        threads,
        messages_per_second: messages / seconds,
        cpu_micros: cpu.map(|cpu| cpu * 1e6 / messages),
        pings: (after.pings - before.pings) as f64 / messages,
    })
}

/// Waits until what is under way has arrived.
fn settle(run: &Run) -> Counts {
    wait_until(|| {
        let counts = run.counts();
        counts.received == counts.sent
    });
    run.counts()
}

fn wait_until(done: impl Fn() -> bool) {
    let begin = Instant::now();
    while !done() && begin.elapsed() < PATIENCE {
        thread::sleep(TICK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_sent_arrives_with_one_thread_and_with_two() {
        let options = Options::parse_from([
            "pinch-memory",
            "--agents=20",
            "--window=3",
            "--rounds=1",
            "--seconds=0.1",
        ]);
        let figures = run(&options).unwrap();
        assert_eq!(figures.len(), 4);
        for figure in &figures {
            assert!(figure.messages_per_second > 0.0, "{figure:?}");
        }
        let mut table = Vec::new();
        describe(&figures, &mut table).unwrap();
        let table = String::from_utf8(table).unwrap();
        assert!(table.contains("| 1.00 |"), "{table}");
    }
}
