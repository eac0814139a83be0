//! Relays side by side: every relay in a process of its own, under the same loads, taking turns.
//!
//! What the machine does besides falls on all of them; of each figure the median of the rounds
//! counts, and what can be trusted best are ratios to the [floor](crate::floor).

mod build;
mod contender;
mod javascript;
mod load;
mod machine;
mod results;
#[cfg(test)]
pub(crate) mod sample;
mod server;
mod table;

use core::time::Duration;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::{env, fs};

use clap::Parser;
use thiserror::Error;

use self::contender::Contender;
pub use self::contender::Kind;
pub(crate) use self::load::BURST;
use self::load::Load;
pub use self::results::{Comparison, Measured, Skipped};
use crate::chart::{self, Theme};
use crate::descriptors;
use crate::load::duration;

/// Where what is written goes, unless it is said otherwise.
const CHARTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts");

/// Runs relays side by side, and says what each costs
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Options {
    /// How often each relay is measured under each load; medians count
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    pub rounds: u8,
    /// Seconds of each measurement
    #[arg(long, default_value = "4", value_parser = duration)]
    pub seconds: Duration,
    /// How many connections are idle; fewer where the system does not allow as many
    #[arg(long, default_value_t = 10_000)]
    pub connections: usize,
    /// One round of one second with 2,000 idle connections: shows that all works, and little else
    #[arg(long, conflicts_with_all = ["rounds", "seconds", "connections"])]
    pub quick: bool,
    /// Measure only relays whose names contain one of these (the floor is always measured)
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// The directory for comparison.json and the charts
    #[arg(long, default_value = CHARTS)]
    pub out: PathBuf,
}

/// Why relays could not be compared.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CompareError {
    /// Cargo could not be run.
    #[error("cannot run `{command}`: {error}")]
    NoCargo {
        /// What was to be run.
        command: String,
        /// What the system says.
        error: io::Error,
    },
    /// Cargo has failed, and has said why.
    #[error("`{0}` has failed, see above: without the relays there is nothing to measure")]
    Build(String),
    /// Cargo's answer is not understood.
    #[error("`{command}` has not answered as expected: {error}")]
    Answer {
        /// What was run.
        command: String,
        /// What is wrong with the answer.
        error: String,
    },
    /// The results cannot be written.
    #[error("cannot write {path}: {error}")]
    Output {
        /// Where to.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// No relay is called as it was asked for.
    #[error("--only {only}: no relay is called so, expected a part of one of: {names}")]
    NoneNamed {
        /// What was asked for.
        only: String,
        /// The names of those that are here.
        names: String,
    },
    /// A call of the system failed.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Extent {
    rounds: u8,
    seconds: Duration,
    connections: usize,
}

impl Options {
    fn extent(&self, progress: &mut impl Write) -> io::Result<Extent> {
        let (rounds, seconds, wanted) = if self.quick {
            (1, Duration::from_secs(1), 2_000)
        } else {
            (self.rounds, self.seconds, self.connections)
        };
        let mut connections = wanted;
        if let Some(allowed) = descriptors::raise()? {
            // One more of them sends.
            let allowed = usize::try_from(allowed.saturating_sub(1)).unwrap_or(usize::MAX);
            connections = wanted.min(allowed);
        }
        if connections < wanted {
            writeln!(
                progress,
                "only {connections} idle connections: `ulimit -Hn` does not allow {wanted}"
            )?;
        }
        Ok(Extent {
            rounds,
            seconds,
            connections: connections.max(1),
        })
    }

    /// Those of `all` that are to be measured.
    fn choose(&self, all: Vec<Contender>) -> Result<Vec<Contender>, CompareError> {
        let is_named = |contender: &Contender| {
            let mut parts = self.only.iter();
            parts.any(|part| contender.name.contains(part.as_str()))
        };
        if self.only.is_empty() {
            return Ok(all);
        }
        if !all.iter().any(is_named) {
            let names: Vec<_> = all.into_iter().map(|contender| contender.name).collect();
            return Err(CompareError::NoneNamed {
                only: self.only.join(","),
                names: names.join("; "),
            });
        }
        let mut chosen = all;
        chosen.retain(|contender| contender.kind == Kind::Floor || is_named(contender));
        Ok(chosen)
    }
}

/// Builds the relays, measures them, and writes what came of it. `progress` is told what happens,
/// `report` is given the tables.
///
/// # Errors
/// [`CompareError`] says why there are no results. A relay that fails is no such reason.
pub fn run(
    options: &Options,
    progress: &mut impl Write,
    report: &mut impl Write,
) -> Result<(), CompareError> {
    let extent = options.extent(progress)?;
    let built = build::build(progress)?;
    let (contenders, skipped) = contender::all(&built);
    let contenders = options.choose(contenders)?;
    for Skipped { name, why } in &skipped {
        writeln!(progress, "skipped: {name}: {why}")?;
    }
    let mut relays: Vec<Measured> = contenders.iter().map(Measured::new).collect();
    for round in 1..=extent.rounds {
        for load in Load::all(extent) {
            for (contender, relay) in contenders.iter().zip(&mut relays) {
                let name = &contender.name;
                writeln!(progress, "round {round}, {}: {name}", load.name())?;
                if let Err(failure) = load.put_on(contender, relay) {
                    writeln!(progress, "failed: {name}: {failure}")?;
                    relay.failures.push(format!("{}: {failure}", load.name()));
                }
            }
        }
    }
    let comparison = Comparison {
        date: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
        machine: machine::describe(),
        command: command(env::args_os().skip(1)),
        rounds: extent.rounds,
        seconds: extent.seconds.as_secs_f64(),
        connections: extent.connections,
        relays,
        skipped,
    };
    table::write(&comparison, report)?;
    save(options, &comparison, progress)
}

fn command(arguments: impl Iterator<Item = OsString>) -> String {
    let mut command = "cargo run --release -p pinch-bench".to_owned();
    for (number, argument) in arguments.enumerate() {
        command += if number == 0 { " -- " } else { " " };
        command += &argument.to_string_lossy();
    }
    command
}

fn save(
    options: &Options,
    comparison: &Comparison,
    progress: &mut impl Write,
) -> Result<(), CompareError> {
    let json = serde_json::to_string_pretty(comparison).expect("all its keys are strings");
    let files = [
        ("comparison.json", json + "\n"),
        (
            "comparison-light.svg",
            chart::draw(comparison, Theme::Light),
        ),
        ("comparison-dark.svg", chart::draw(comparison, Theme::Dark)),
    ];
    for (name, text) in files {
        let path = options.out.join(name);
        let written = fs::create_dir_all(&options.out).and_then(|()| fs::write(&path, text));
        if let Err(error) = written {
            return Err(CompareError::Output { path, error });
        }
        writeln!(progress, "written: {}", path.display())?;
    }
    Ok(())
}
