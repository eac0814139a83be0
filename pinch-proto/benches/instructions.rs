//! How many instructions each operation takes, counted by callgrind.
//!
//! Unlike times, these counts are the same on every run, however busy the machine is: so they are
//! kept beside this file, in `instructions.txt`, and a change of the code shows in them. They depend
//! on the compiler, though, and a little on the allocator of the C library. Needs valgrind.
//!
//! ```text
//! cargo bench -p pinch-proto --bench instructions               # shows what differs by over 5 %
//! cargo bench -p pinch-proto --bench instructions -- --write    # keeps what is true now
//! callgrind_annotate target/tmp/forward.callgrind               # where they go, after either
//! ```
//! A difference is something to look at, not a failure: it may be worth its price. Keep the new
//! counts together with the change that leads to them.
//!
//! The program runs itself under valgrind, once for each operation, with its name; callgrind counts
//! only what happens inside [`counted`].
#![allow(clippy::print_stdout, reason = "this is what it is for")]

mod operations;

use core::fmt::Write as _;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use self::operations::{Measure, Operation, each, repeat};

/// The kept counts.
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt");

/// What a difference has to be to be shown, in percent.
const SHOWN: f64 = 5.0;

type Failure = Box<dyn core::error::Error>;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    // Cargo says `--bench` itself.
    let done = match arguments[..] {
        ["--run", name] => {
            each(&mut Run { name });
            Ok(())
        }
        [] | ["--bench"] => compare(),
        ["--write"] | ["--write", "--bench"] => write(),
        _ => Err("expected no argument, or --write".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one operation, for callgrind to count.
struct Run<'a> {
    name: &'a str,
}

impl Measure for Run<'_> {
    fn operation<O: Operation>(&mut self, name: &'static str, set_up: impl FnOnce() -> O) {
        if name == self.name {
            repeat(&mut set_up(), counted);
        }
    }
}

/// Callgrind knows it by its name.
#[inline(never)]
fn counted(run: &mut dyn FnMut()) {
    run();
}

/// Counts every operation.
struct Count {
    counts: BTreeMap<String, u64>,
    failure: Option<Failure>,
}

impl Measure for Count {
    fn operation<O: Operation>(&mut self, name: &'static str, _: impl FnOnce() -> O) {
        if self.failure.is_some() {
            return;
        }
        match count(name) {
            Ok(count) => drop(self.counts.insert(name.into(), count)),
            Err(failure) => self.failure = Some(failure),
        }
    }
}

fn count_all() -> Result<BTreeMap<String, u64>, Failure> {
    let mut all = Count {
        counts: BTreeMap::new(),
        failure: None,
    };
    each(&mut all);
    all.failure.map_or(Ok(all.counts), Err)
}

/// The instructions of one operation, under valgrind.
fn count(name: &str) -> Result<u64, Failure> {
    let mut profile = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    profile.push(format!("{name}.callgrind"));
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg("--toggle-collect=instructions::counted")
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(env::current_exe()?)
        .args(["--run", name])
        .output()
        .map_err(|error| format!("valgrind did not start, is it installed? {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{name} failed under valgrind:\n{said}").into());
    }
    let sum = read_sum(&profile)?;
    if sum == 0 {
        return Err(format!("callgrind has counted nothing of {name}").into());
    }
    Ok(sum.div_ceil(operations::COUNTED))
}

/// What a profile says in its line `summary: 1234`.
fn read_sum(profile: &Path) -> Result<u64, Failure> {
    let text = fs::read_to_string(profile)?;
    let sum = text.lines().find_map(|line| line.strip_prefix("summary: "));
    let sum = sum.ok_or_else(|| format!("{} has no summary", profile.display()))?;
    Ok(sum.trim().parse()?)
}

/// The two programs that counts depend on besides the code.
fn tools() -> Result<String, Failure> {
    let version = |tool: &str| -> Result<String, Failure> {
        let output = Command::new(tool)
            .arg("--version")
            .output()
            .map_err(|error| format!("{tool} did not start, is it installed? {error}"))?;
        Ok(String::from_utf8(output.stdout)?.trim().into())
    };
    let arch = env::consts::ARCH;
    Ok(format!(
        "{}, {}, {arch}",
        version("rustc")?,
        version("valgrind")?
    ))
}

fn write() -> Result<(), Failure> {
    let mut text = format!(
        "# Instructions of one operation: its name and their number, see instructions.rs.\n\
         # To rewrite: cargo bench -p pinch-proto --bench instructions -- --write\n\
         # Counted with: {}\n",
        tools()?
    );
    for (name, count) in count_all()? {
        writeln!(text, "{name} {count}")?;
    }
    fs::write(KEPT, &text)?;
    println!("{text}\nwritten to {KEPT}");
    Ok(())
}

fn compare() -> Result<(), Failure> {
    let kept = fs::read_to_string(KEPT)
        .map_err(|error| format!("{KEPT} cannot be read, write it with --write: {error}"))?;
    let (now, before) = (tools()?, tools_of(&kept));
    if now != before {
        println!("counted with other tools, which alone changes counts:");
        println!("  kept: {before}\n  here: {now}");
    }
    print!("{}", difference(&parse(&kept)?, &count_all()?));
    Ok(())
}

fn tools_of(kept: &str) -> &str {
    let mut lines = kept.lines();
    lines
        .find_map(|line| line.strip_prefix("# Counted with: "))
        .unwrap_or("not known")
}

fn parse(kept: &str) -> Result<BTreeMap<String, u64>, Failure> {
    let lines = kept.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, count) = line
                .split_once(' ')
                .ok_or_else(|| format!("`{line}`: expected a name and a number"))?;
            Ok((name.into(), count.parse()?))
        })
        .collect()
}

/// What is worth looking at, a line each.
fn difference(kept: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>) -> String {
    let mut lines = String::new();
    for (name, new) in now {
        let line = match kept.get(name) {
            None => format!("{new:>28}   new"),
            Some(old) => {
                let percent = percent(*old, *new);
                if percent.abs() <= SHOWN {
                    continue;
                }
                format!("{old:>12} -> {new:>12}   {percent:+.1} %")
            }
        };
        lines += &format!("  {name:<28}{line}\n");
    }
    for (name, old) in kept.iter().filter(|(name, _)| !now.contains_key(*name)) {
        lines += &format!("  {name:<28}{old:>12} -> {:>12}   gone\n", "");
    }
    if lines.is_empty() {
        return format!(
            "instructions: {} operations, all within {SHOWN} %\n",
            now.len()
        );
    }
    format!(
        "INSTRUCTIONS: these operations differ by over {SHOWN} % from benches/instructions.txt\n\
         {lines}If that is as it should be, keep it: \
         cargo bench -p pinch-proto --bench instructions -- --write\n"
    )
}

#[allow(clippy::cast_precision_loss, reason = "for people to read")]
fn percent(old: u64, new: u64) -> f64 {
    (new as f64 / old as f64 - 1.0) * 100.0
}
