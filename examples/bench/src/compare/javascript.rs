//! The hubs that are written in JavaScript, where there is something to run them.
//!
//! What they need of npm goes to the target directory, and never into the sources.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::contender::Contender;
use super::results::Skipped;

const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");

/// All that a hub on Node is made of.
const FILES: [&str; 4] = [
    "package.json",
    "package-lock.json",
    "recipient.mjs",
    "ws.mjs",
];

/// The hub on Node and `ws`.
pub(super) fn node(target: &Path) -> Result<Contender, Skipped> {
    const NAME: &str = "Node ws";
    let installed = version("node").and_then(|_| install(target));
    match installed {
        Ok(directory) => Ok(Contender::peer(NAME, "node", &directory.join("ws.mjs"))),
        Err(why) => Err(Skipped::new(NAME, why)),
    }
}

/// The hub on Bun.
pub(super) fn bun() -> Result<Contender, Skipped> {
    const NAME: &str = "Bun";
    match version("bun") {
        Ok(_) => Ok(Contender::peer(
            NAME,
            "bun",
            &Path::new(PEERS).join("bun.mjs"),
        )),
        Err(why) => Err(Skipped::new(NAME, why)),
    }
}

/// What `program` says about itself.
fn version(program: &str) -> Result<String, String> {
    run(Command::new(program).arg("--version"))
}

/// Puts the hub and its packages into a directory under `target`.
fn install(target: &Path) -> Result<PathBuf, String> {
    let directory = target.join("pinch-bench").join("node");
    let copy = || -> io::Result<()> {
        fs::create_dir_all(&directory)?;
        for name in FILES {
            fs::copy(Path::new(PEERS).join(name), directory.join(name))?;
        }
        Ok(())
    };
    copy().map_err(|error| format!("{}: {error}", directory.display()))?;
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    run(npm.args(["--loglevel", "error"]).current_dir(&directory))?;
    Ok(directory)
}

/// Runs a command to its end; returns what it says, or why it failed.
fn run(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("cannot run `{program}`: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().next().unwrap_or_default();
    Err(format!("`{program}` has failed: {line}"))
}
