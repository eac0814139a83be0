//! The TypeScript client in `examples/typescript`: it is compiled, and its own tests run against
//! each of the relays, in a browser, and in the versions of Node and the Bun that `runtimes` names.
//!
//! Nothing is written beside the sources: packages, runtimes and what the compiler makes go into the
//! target folder. Where Node, one of the runtimes or Chromium can't be had, the tests say that they
//! are skipped, or fail if the environment variable `CI` is set.
#![cfg(unix)]

use core::time::Duration;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use pinch_conformance::packages::{self, Unavailable};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

/// The tests have limits of their own; this one is for what hangs beyond them.
const LIMIT: Duration = Duration::from_secs(300);

const TOKIO: &str = env!("CARGO_BIN_EXE_relay-tokio");
const SMOL: &str = env!("CARGO_BIN_EXE_relay-smol");
const ASYNC_STD: &str = env!("CARGO_BIN_EXE_relay-async-std");
const MIO: &str = env!("CARGO_BIN_EXE_relay-mio");

/// What is left of a process group is killed when this is dropped.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        // Fails if nobody is left, which is as it should be.
        let _ = kill_process_group(self.0, Signal::KILL);
    }
}

/// Runs `command` to its end and returns what it wrote.
///
/// # Panics
/// It fails, or takes too long. The message holds what it wrote.
async fn output(command: &mut Command) -> String {
    command.process_group(0).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("it is installed");
    let pid = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
    let _group = Group(pid.expect("it has just begun"));
    let ended = tokio::time::timeout(LIMIT, child.wait_with_output()).await;
    let output = ended
        .unwrap_or_else(|_| panic!("{command:?} does not end"))
        .expect("its output can be read");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success(), "{command:?} failed:\n{text}");
    text.into()
}

/// The folder with the compiled package, for `test`.
fn package(test: &str) -> Option<PathBuf> {
    static PACKAGE: OnceLock<Result<PathBuf, Unavailable>> = OnceLock::new();
    packages::or_skip(test, PACKAGE.get_or_init(compile).clone())
}

fn compile() -> Result<PathBuf, Unavailable> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("typescript");
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("typescript");
    let packages = packages::npm(&target, "packages", &project)?;
    let sources = sources(&project);
    let wanted = format!("{sources:?}");
    packages::once(&target, "package", &wanted, |folder| {
        for (name, text) in &sources {
            let file = folder.join(name);
            let parent = file.parent().expect("it lies in the folder");
            fs::create_dir_all(parent).expect("the folder is ours");
            fs::write(file, text).expect("the folder is ours");
        }
        let modules = packages.join("node_modules");
        let tsc = modules.join(".bin/tsc");
        symlink(modules, folder.join("node_modules")).expect("the folder is ours");
        // What does not compile is no reason to skip a test.
        let tsc = std::process::Command::new(tsc).current_dir(folder).output();
        let tsc = tsc.expect("it is installed");
        let errors = String::from_utf8_lossy(&tsc.stdout);
        assert!(tsc.status.success(), "tsc says:\n{errors}");
        Ok(())
    })
}

/// The files that the compiler reads, by their names within the project.
fn sources(project: &Path) -> BTreeMap<PathBuf, String> {
    let mut sources = BTreeMap::new();
    let mut waiting: Vec<PathBuf> = ["package.json", "tsconfig.json", "src", "test", "example"]
        .map(|name| project.join(name))
        .into();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("a folder");
            waiting.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else {
            let name = path.strip_prefix(project).expect("it lies in the project");
            let text = fs::read_to_string(&path).expect("text");
            sources.insert(name.to_owned(), text);
        }
    }
    sources
}

/// The program of `runtime`, for `test`.
fn runtime(test: &str, runtime: &str) -> Option<PathBuf> {
    static MODULES: OnceLock<Result<PathBuf, Unavailable>> = OnceLock::new();
    let modules = MODULES.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("typescript");
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("typescript/runtimes");
        let folder = packages::npm(&target, "runtimes", &project)?;
        Ok(folder.join("node_modules"))
    });
    let program = modules.clone().and_then(|modules| {
        let (node, bun) = match std::env::consts::ARCH {
            "aarch64" => ("arm64", "aarch64"),
            _ => ("x64", "x64"),
        };
        let program = if runtime == "bun" {
            modules.join(format!("@oven/bun-linux-{bun}/bin/bun"))
        } else {
            modules.join(format!("{runtime}-linux-{node}/bin/node"))
        };
        // npm leaves out what is not for this machine.
        if program.exists() {
            Ok(program)
        } else {
            Err(Unavailable::new(runtime, "there is none for this machine"))
        }
    });
    packages::or_skip(test, program)
}

/// Lets Node run the tests in `folder`, with these variables.
async fn run(package: &Path, folder: &str, variables: &[(&str, &str)]) {
    run_by(Path::new("node"), package, folder, variables).await;
}

/// Lets the Node at `node` run the tests in `folder`, with these variables.
async fn run_by(node: &Path, package: &Path, folder: &str, variables: &[(&str, &str)]) {
    let compiled = fs::read_dir(package.join("dist/test").join(folder));
    let files = compiled
        .expect("it was compiled")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().ends_with(".test.js"));
    let mut node = Command::new(node);
    node.args(["--enable-source-maps", "--test", "--test-reporter=tap"]);
    node.args(files).current_dir(package);
    let output = output(node.envs(variables.iter().copied())).await;
    let count = |what: &str| {
        let line = output.lines().find_map(|line| line.strip_prefix(what));
        line.and_then(|number| number.parse::<usize>().ok())
    };
    assert!(
        count("# pass ").is_some_and(|passed| passed > 0),
        "{output}"
    );
    assert_eq!(count("# skipped "), Some(0), "{output}");
}

#[tokio::test]
async fn unit_tests() {
    if let Some(package) = package("unit_tests") {
        run(&package, "unit", &[]).await;
    }
}

async fn suite_at(relay: &str, test: &str) {
    if let Some(package) = package(test) {
        run(&package, "relay", &[("PINCH_RELAY", relay)]).await;
    }
}

#[tokio::test]
async fn suite_at_relay_tokio() {
    suite_at(TOKIO, "suite_at_relay_tokio").await;
}

#[tokio::test]
async fn suite_at_relay_smol() {
    suite_at(SMOL, "suite_at_relay_smol").await;
}

#[tokio::test]
async fn suite_at_relay_async_std() {
    suite_at(ASYNC_STD, "suite_at_relay_async_std").await;
}

#[tokio::test]
async fn suite_at_relay_mio() {
    suite_at(MIO, "suite_at_relay_mio").await;
}

/// What the client leaves behind in `name`, which is a Node or Bun.
async fn leaves_nothing_in(name: &str, test: &str) {
    if let Some(runtime) = runtime(test, name)
        && let Some(package) = package(test)
    {
        let program = runtime.to_str().expect("a path of ours is text");
        let variables = [("PINCH_RUNTIME", program), ("PINCH_RELAY", TOKIO)];
        run(&package, "runtime", &variables).await;
    }
}

#[tokio::test]
async fn leaves_nothing_in_node_20() {
    leaves_nothing_in("node20", "leaves_nothing_in_node_20").await;
}

#[tokio::test]
async fn leaves_nothing_in_node_22() {
    leaves_nothing_in("node22", "leaves_nothing_in_node_22").await;
}

#[tokio::test]
async fn leaves_nothing_in_node_24() {
    leaves_nothing_in("node24", "leaves_nothing_in_node_24").await;
}

#[tokio::test]
async fn leaves_nothing_in_bun() {
    leaves_nothing_in("bun", "leaves_nothing_in_bun").await;
}

/// The suite itself on a Node that has a WebSocket of its own.
async fn suite_on(name: &str, test: &str) {
    if let Some(node) = runtime(test, name)
        && let Some(package) = package(test)
    {
        run_by(&node, &package, "relay", &[("PINCH_RELAY", TOKIO)]).await;
    }
}

#[tokio::test]
async fn suite_on_node_22() {
    suite_on("node22", "suite_on_node_22").await;
}

#[tokio::test]
async fn suite_on_node_24() {
    suite_on("node24", "suite_on_node_24").await;
}

/// A page in a headless Chromium, with its origin on the relay's list and not.
async fn chromium_at(relay: &str, test: &str) {
    let mut version = std::process::Command::new("chromium");
    version.arg("--version");
    let chromium = packages::run(&mut version.into());
    if packages::or_skip(test, chromium).is_some()
        && let Some(package) = package(test)
    {
        let variables = [("PINCH_RELAY", relay), ("PINCH_CHROMIUM", "chromium")];
        run(&package, "chromium", &variables).await;
    }
}

#[tokio::test]
async fn chromium_at_relay_tokio() {
    chromium_at(TOKIO, "chromium_at_relay_tokio").await;
}

#[tokio::test]
async fn chromium_at_relay_smol() {
    chromium_at(SMOL, "chromium_at_relay_smol").await;
}

#[tokio::test]
async fn chromium_at_relay_async_std() {
    chromium_at(ASYNC_STD, "chromium_at_relay_async_std").await;
}

#[tokio::test]
async fn chromium_at_relay_mio() {
    chromium_at(MIO, "chromium_at_relay_mio").await;
}
