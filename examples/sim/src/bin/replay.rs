//! Tells what an input of the fuzzer means, and lets it happen again.
//!
//! `cargo run -p pinch-sim --bin replay -- fuzz/artifacts/client/crash-…`

use core::error::Error;
use std::fs;
use std::io::{self, Write as _};
use std::panic;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use pinch_sim::targets::{self, TARGETS, Target};
use thiserror::Error;

/// Replays an input of the fuzzer.
#[derive(Debug, Parser)]
#[command(name = env!("CARGO_BIN_NAME"), version)]
struct Flags {
    /// The input: a file of a corpus, of the regressions, or one that the fuzzer left behind.
    file: PathBuf,

    /// The target. Default: that of the folder which the file is in.
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
}

/// Why a target is not known.
#[derive(Debug, Error)]
enum Unknown {
    #[error("there is no target {name:?}, expected one of {}", names())]
    Name { name: String },
    #[error("{} is in no folder of a target; say --target with one of {}", path.display(), names())]
    Folder { path: PathBuf },
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    match replay(&flags) {
        Ok(code) => code,
        Err(error) => {
            // Nobody is left to tell if this fails, too.
            let _ = writeln!(io::stderr(), "replay: {error}");
            ExitCode::from(2)
        }
    }
}

fn replay(flags: &Flags) -> Result<ExitCode, Box<dyn Error>> {
    let target = match &flags.target {
        Some(name) => targets::named(name).ok_or_else(|| Unknown::Name { name: name.clone() })?,
        None => target_of(&flags.file)?,
    };
    let input = fs::read(&flags.file)
        .map_err(|error| format!("cannot read {}: {error}", flags.file.display()))?;
    let mut out = io::stdout().lock();
    writeln!(out, "{}, {} bytes:", target.name, input.len())?;
    out.write_all((target.story)(&input).as_bytes())?;
    out.flush()?;
    // The panic itself is told on stderr before this returns.
    if panic::catch_unwind(|| (target.run)(&input)).is_err() {
        writeln!(out, "=> a promise is broken")?;
        return Ok(ExitCode::FAILURE);
    }
    writeln!(out, "=> all promises are kept")?;
    Ok(ExitCode::SUCCESS)
}

/// The target of the nearest folder that is named after one.
fn target_of(file: &Path) -> Result<&'static Target, Unknown> {
    let folders = file.ancestors().skip(1).filter_map(Path::file_name);
    let mut named = folders.filter_map(|folder| targets::named(folder.to_str()?));
    named.next().ok_or_else(|| Unknown::Folder {
        path: file.to_owned(),
    })
}

fn names() -> String {
    let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    names.join(", ")
}
