//! Builds the relays that are compared, and finds the programs.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::CompareError;

/// The package that our relays are in.
const RELAYS: &str = "pinch-examples";

/// What a program of it is called if it is a relay.
const RELAY_PREFIX: &str = "relay-";

/// What has been built.
#[derive(Debug)]
pub(super) struct Built {
    /// Our relays, by name.
    pub(super) relays: Vec<Program>,
    /// The programs of this package.
    pub(super) peers: Vec<Program>,
    /// Where what is not part of the sources goes.
    pub(super) target: PathBuf,
}

/// A program that can be run.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) name: String,
    pub(super) path: PathBuf,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// One line of what `cargo build` says to programs.
#[derive(Deserialize)]
struct Message {
    target: Option<Target>,
    executable: Option<PathBuf>,
}

pub(super) fn build(progress: &mut impl Write) -> Result<Built, CompareError> {
    let metadata = metadata()?;
    let examples = metadata
        .packages
        .iter()
        .find(|package| package.name == RELAYS);
    let targets = examples.into_iter().flat_map(|package| &package.targets);
    let relays = targets.filter(|target| {
        target.name.starts_with(RELAY_PREFIX) && target.kind.iter().any(|kind| kind == "bin")
    });
    let names: Vec<&str> = relays.map(|target| target.name.as_str()).collect();
    writeln!(
        progress,
        "building {} and what they are compared with",
        names.join(", ")
    )?;
    let mut arguments = vec!["--package", RELAYS];
    for name in names {
        arguments.extend(["--bin", name]);
    }
    Ok(Built {
        relays: programs(&arguments)?,
        peers: programs(&["--package", env!("CARGO_PKG_NAME"), "--bins"])?,
        target: metadata.target_directory,
    })
}

/// Builds one of our relays, and returns its program.
pub(crate) fn relay_program(name: &str) -> Result<PathBuf, CompareError> {
    let built = programs(&["--package", RELAYS, "--bin", name])?;
    let program = built.into_iter().find(|program| program.name == name);
    program
        .map(|program| program.path)
        .ok_or_else(|| CompareError::Build(name.to_owned()))
}

fn metadata() -> Result<Metadata, CompareError> {
    let (command, answer) = cargo(&["metadata", "--no-deps", "--format-version", "1"])?;
    serde_json::from_slice(&answer).map_err(|error| CompareError::Answer {
        command,
        error: error.to_string(),
    })
}

/// Builds, and returns the programs that came of it.
fn programs(arguments: &[&str]) -> Result<Vec<Program>, CompareError> {
    let fixed = [
        "build",
        "--release",
        "--message-format",
        "json-render-diagnostics",
    ];
    let (command, answer) = cargo(&[&fixed[..], arguments].concat())?;
    let mut programs = Vec::new();
    for line in answer
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let message: Message =
            serde_json::from_slice(line).map_err(|error| CompareError::Answer {
                command: command.clone(),
                error: error.to_string(),
            })?;
        if let (Some(target), Some(path)) = (message.target, message.executable) {
            let name = target.name;
            programs.push(Program { name, path });
        }
    }
    programs.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(programs)
}

/// Runs cargo on the workspace; what it says to people is seen by them.
fn cargo(arguments: &[&str]) -> Result<(String, Vec<u8>), CompareError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(workspace());
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    let line = format!("cargo {}", arguments.join(" "));
    match command.output() {
        Ok(output) if output.status.success() => Ok((line, output.stdout)),
        Ok(_) => Err(CompareError::Build(line)),
        Err(error) => Err(CompareError::NoCargo {
            command: line,
            error,
        }),
    }
}

fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
