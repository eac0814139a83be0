//! Lets a world of agents live for a while, and says what that took and what came of it.
//!
//! `cargo run --release -p pinch-sim --bin simulate -- --agents 10000 --hours 24 --habits person`

use core::error::Error;
use core::time::Duration;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use pinch_sim::network::{Fate, Habits, World};

/// Simulates a relay and its agents, in virtual time.
#[derive(Debug, Parser)]
#[command(name = env!("CARGO_BIN_NAME"), version)]
struct Flags {
    /// How many agents there are.
    #[arg(long, default_value_t = 10_000)]
    agents: u32,

    /// How many hours they live.
    #[arg(long, default_value_t = 24.0)]
    hours: f64,

    /// What they are used to.
    #[arg(long, default_value = "person")]
    habits: HabitsFlag,

    /// The same seed makes the same world.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// In the middle of its time, the relay is restarted, and is away for so many seconds.
    #[arg(long, value_name = "SECONDS")]
    restart: Option<u64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum HabitsFlag {
    /// There for ten minutes, away for twenty, a message every minute.
    Person,
    /// There for a minute, away for twenty seconds, a message every half second.
    Busy,
    /// There for a moment, every few seconds, without a memory of earlier runs.
    ShortSessions,
    /// Always there, and silent.
    Idle,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let flags = Flags::parse();
    let habits = match flags.habits {
        HabitsFlag::Person => Habits::person(),
        HabitsFlag::Busy => Habits::busy(),
        HabitsFlag::ShortSessions => Habits::short_sessions(),
        HabitsFlag::Idle => Habits::idle(),
    };
    let lifetime = Duration::try_from_secs_f64(flags.hours * 3600.0)?;
    let mut out = io::stdout().lock();

    let began = Instant::now();
    let mut world = World::new(flags.seed);
    let agents = world.add_agents(flags.agents);
    world.start(agents.clone());
    world.live(agents, habits);
    world.run_for(Duration::from_secs(60).min(lifetime));
    report(&world, "everybody has joined", began, &mut out)?;
    world.run_for(lifetime / 2);
    if let Some(downtime) = flags.restart {
        world.restart_relay(0, Duration::from_secs(downtime));
    }
    world.run_for(lifetime.saturating_sub(world.age()));
    report(&world, "the time is over", began, &mut out)?;
    world.calm_down();
    report(&world, "everything has arrived", began, &mut out)?;
    let left = world.empty();
    report(&world, "everybody has left", began, &mut out)?;

    let ledger = world.ledger();
    let fate = |fate| ledger.count(fate);
    writeln!(
        out,
        "envelopes: {} delivered, {} refused, {} unsent, {} told in vain, {} lost",
        fate(Fate::Delivered),
        fate(Fate::Refused),
        fate(Fate::Unsent),
        fate(Fate::Told),
        ledger.lost(),
    )?;
    let is_good = ledger.lost() == 0 && left.is_empty();
    for what in left {
        writeln!(out, "left behind: {what}")?;
    }
    Ok(if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn report(world: &World, when: &str, began: Instant, out: &mut impl io::Write) -> io::Result<()> {
    let (counts, elapsed) = (world.counts(), began.elapsed());
    let ratio = world.age().as_secs_f64() / elapsed.as_secs_f64();
    let nanos = elapsed.as_nanos() / u128::from(counts.events.max(1));
    writeln!(
        out,
        "{when}: {:.0?} in {elapsed:.1?} ({ratio:.0} times as fast), {} events of {nanos} ns, {} \
         joins, {} broken connections, {} envelopes written, {} MiB of memory",
        world.age(),
        counts.events,
        counts.joins,
        counts.breaks,
        counts.written,
        memory() / 1024,
    )
}

/// The memory of this process that is its own and resident, in KiB; 0 where that is not known.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse().ok()).unwrap_or(0)
}
