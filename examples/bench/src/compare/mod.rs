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

use core::num::NonZeroUsize;
use core::time::Duration;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use clap::Parser;
use thiserror::Error;

use self::build::Program;
pub(crate) use self::build::relay_program;
use self::contender::Contender;
pub use self::contender::Kind;
pub(crate) use self::load::BURST;
use self::load::Load;
pub use self::results::{Comparison, Measured, Skipped};
use crate::chart::{self, Theme};
use crate::descriptors;
use crate::load::duration;

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
    /// Number of threads of each relay that lets it be set; without this flag, its default
    #[arg(long)]
    pub threads: Option<NonZeroUsize>,
    /// The directory for comparison.json and the charts; without this flag, target/pinch-bench
    #[arg(long)]
    pub out: Option<PathBuf>,
}

/// The program that measures our relay without sockets.
const MEMORY: &str = "pinch-memory";

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
    #[error("--only {only}: no relay is called so, expected parts of these names: {names}")]
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
        if self.only.is_empty() {
            return Ok(all);
        }
        let names = |contender: &Contender, part: &String| {
            !part.is_empty() && contender.name.contains(part.as_str())
        };
        for part in &self.only {
            if !all.iter().any(|contender| names(contender, part)) {
                let names: Vec<_> = all.into_iter().map(|contender| contender.name).collect();
                return Err(CompareError::NoneNamed {
                    only: part.clone(),
                    names: names.join(", "),
                });
            }
        }
        let mut chosen = all;
        chosen.retain(|contender| {
            let is_named = self.only.iter().any(|part| names(contender, part));
            contender.kind == Kind::Floor || is_named
        });
        Ok(chosen)
    }
}

/// Builds the relays, measures them, and writes what came of it. `progress` is told what happens,
/// `report` is given the tables. Returns whether all relays have relayed everything as they should.
///
/// # Errors
/// [`CompareError`] says why there are no results. A relay that fails is no such reason.
pub fn run(
    options: &Options,
    progress: &mut impl Write,
    report: &mut impl Write,
) -> Result<bool, CompareError> {
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
                if let Err(failure) = load.put_on(contender, options.threads, relay) {
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
    if let Some(program) = built.peers.iter().find(|peer| peer.name == MEMORY) {
        writeln!(progress, "in memory")?;
        write_memory(program, extent, report)?;
    }
    let out = options.out.clone();
    let out = out.unwrap_or_else(|| built.target.join("pinch-bench"));
    save(&out, &comparison, progress)?;
    Ok(comparison.is_clean())
}

/// Writes what our relay on tokio relays without sockets, with one thread and with two.
fn write_memory(program: &Program, extent: Extent, out: &mut impl Write) -> io::Result<()> {
    let mut command = Command::new(&program.path);
    command.arg(format!("--rounds={}", extent.rounds));
    command.arg(format!("--seconds={}", extent.seconds.as_secs_f64()));
    let output = command.stderr(Stdio::inherit()).output()?;
    writeln!(out, "\nWithout sockets (`{}`):\n", program.name)?;
    out.write_all(&output.stdout)
}

/// The command with `arguments`, but for where its results go.
fn command(arguments: impl Iterator<Item = OsString>) -> String {
    let mut command = "cargo run --release -p pinch-bench".to_owned();
    let mut separator = " -- ";
    let mut arguments = arguments.map(|argument| argument.to_string_lossy().into_owned());
    while let Some(argument) = arguments.next() {
        if argument == "--out" {
            arguments.next();
        } else if !argument.starts_with("--out=") {
            command += separator;
            command += &argument;
            separator = " ";
        }
    }
    command
}

fn save(
    out: &Path,
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
        let path = out.join(name);
        let written = fs::create_dir_all(out).and_then(|()| fs::write(&path, text));
        if let Err(error) = written {
            return Err(CompareError::Output { path, error });
        }
        writeln!(progress, "written: {}", path.display())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Options {
        Options::parse_from([&["pinch-bench"], arguments].concat())
    }

    /// The names of those that are chosen of a few, or what is wrong.
    fn chosen(only: &str) -> Result<Vec<String>, String> {
        let named = |name: &str, kind| Contender {
            name: name.to_owned(),
            kind,
            program: OsString::new(),
            arguments: Vec::new(),
        };
        let all = vec![
            named("floor", Kind::Floor),
            named("relay-tokio", Kind::Ours),
            named("fastwebsockets", Kind::Peer),
            named("fastwebsockets-batching", Kind::Peer),
        ];
        let chosen = options(&["--only", only]).choose(all);
        let names = |chosen: Vec<Contender>| chosen.into_iter().map(|one| one.name).collect();
        chosen.map(names).map_err(|error| error.to_string())
    }

    #[test]
    fn those_that_are_named_are_chosen_and_the_floor() {
        let names = ["floor", "fastwebsockets-batching"].map(str::to_owned);
        assert_eq!(chosen("fastwebsockets-batching"), Ok(names.into()));
        let names = ["floor", "relay-tokio", "fastwebsockets-batching"].map(str::to_owned);
        assert_eq!(chosen("tokio,batching"), Ok(names.into()));
    }

    #[test]
    fn a_part_of_no_name_is_refused_whatever_stands_beside_it() {
        for only in ["tokyo", "tokio,smoll", "tokio,"] {
            let refusal = chosen(only).unwrap_err();
            assert!(refusal.contains("no relay is called so"), "{refusal}");
        }
    }

    #[test]
    fn the_command_says_what_was_measured_and_not_where_it_was_written() {
        let of = |arguments: &[&str]| command(arguments.iter().map(OsString::from));
        assert_eq!(of(&[]), "cargo run --release -p pinch-bench");
        assert_eq!(of(&["--out", "charts"]), of(&[]));
        let bounded = "cargo run --release -p pinch-bench -- --rounds 5 --only smol";
        assert_eq!(of(&["--rounds", "5", "--out=x", "--only", "smol"]), bounded);
    }
}
