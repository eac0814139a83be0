//! Gets the foreign clients ready to run: their packages go into folders under the target folder,
//! once, however many tests and test processes want them at the same time.

use core::time::Duration;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::fs::{FlockOperation, flock};
use tokio::process::Command;
use tokio::sync::OnceCell;

/// How long one step may take. A package registry may be slow, and comes with timeouts of its own.
const STEP_LIMIT: Duration = Duration::from_secs(120);

/// What a foreign client is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Node,
    Python,
}

/// How a foreign client is started.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    interpreter: PathBuf,
    script: PathBuf,
    folder: PathBuf,
}

impl Program {
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.interpreter);
        command
            .arg(&self.script)
            .current_dir(&self.folder)
            // Python's: nothing is written beside the sources.
            .env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}

impl Language {
    /// The client in this language, ready to run for `test`. If that can't be had, this says so
    /// and returns `None`; where CI is set, it panics instead.
    pub(crate) async fn program(self, test: &str) -> Option<Program> {
        static NODE: OnceCell<Result<Program, String>> = OnceCell::const_new();
        static PYTHON: OnceCell<Result<Program, String>> = OnceCell::const_new();
        let program = match self {
            Self::Node => NODE.get_or_init(install_node).await,
            Self::Python => PYTHON.get_or_init(install_python).await,
        };
        match program {
            Ok(program) => Some(program.clone()),
            Err(reason) if std::env::var_os("CI").is_some_and(|ci| !ci.is_empty()) => {
                panic!("CI has to run {self:?}'s client: {reason}")
            }
            Err(reason) => {
                // Of all that npm and pip say, what went wrong comes first.
                let brief = reason.lines().next().unwrap_or_default();
                let line =
                    format!("test {test} is skipped, {self:?}'s client cannot run: {brief}\n");
                // The output of tests that pass is captured, but not what is written this way.
                let _ = io::stderr().write_all(line.as_bytes());
                None
            }
        }
    }
}

async fn install_node() -> Result<Program, String> {
    let node = run(Command::new("node").arg("--version")).await?;
    let npm = run(Command::new("npm").arg("--version")).await?;
    let (manifest, lock) = (source("package.json"), source("package-lock.json"));
    let wanted = [node, npm, read(&manifest)?, read(&lock)?].concat();
    let folder = once("node", &wanted, async |folder| {
        for file in [&manifest, &lock] {
            let name = file.file_name().expect("it has one");
            fs::copy(file, folder.join(name)).map_err(|error| format!("{name:?}: {error}"))?;
        }
        let mut npm = Command::new("npm");
        npm.args([
            "ci",
            "--loglevel=error",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
        ]);
        npm.arg("--fetch-retry-mintimeout=1000").current_dir(folder);
        run(&mut npm).await.map(drop)
    });
    Ok(Program {
        folder: folder.await?,
        interpreter: "node".into(),
        script: source("client.mjs"),
    })
}

async fn install_python() -> Result<Program, String> {
    let python = run(Command::new("python3").arg("--version")).await?;
    let requirements = source("requirements.txt");
    let wanted = [python, read(&requirements)?].concat();
    let interpreter = |folder: &Path| folder.join("bin").join("python");
    let folder = once("python", &wanted, async |folder| {
        run(Command::new("python3").args(["-m", "venv"]).arg(folder)).await?;
        let mut pip = Command::new(interpreter(folder));
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-input",
            "--retries",
            "2",
        ]);
        pip.arg("--requirement").arg(&requirements);
        run(&mut pip).await.map(drop)
    });
    let folder = folder.await?;
    Ok(Program {
        interpreter: interpreter(&folder),
        script: source("client.py"),
        folder,
    })
}

/// Lets `install` fill the folder called `name`, unless it has been filled with what is `wanted`.
async fn once(
    name: &str,
    wanted: &str,
    install: impl AsyncFnOnce(&Path) -> Result<(), String>,
) -> Result<PathBuf, String> {
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR")).join("foreign");
    let folder = parent.join(name);
    let stamp = folder.join("installed");
    let failed = |error: io::Error| format!("{}: {error}", folder.display());

    fs::create_dir_all(&parent).map_err(failed)?;
    let lock = File::create(parent.join(format!("{name}.lock"))).map_err(failed)?;
    // Waits while another process installs, whose steps have limits, too. The lock goes with the
    // file, at the latest with this process.
    flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(folder);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(failed)?;
    }
    fs::create_dir(&folder).map_err(failed)?;
    install(&folder).await?;
    fs::write(&stamp, wanted).map_err(failed)?;
    Ok(folder)
}

/// Runs a step to its end, and returns what it wrote.
async fn run(step: &mut Command) -> Result<String, String> {
    let failed =
        |step: &Command, why: &str| format!("{:?}: {}", step.as_std().get_program(), why.trim());
    step.stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(STEP_LIMIT, step.output()).await {
        Err(_) => Err(failed(step, "does not end")),
        Ok(Err(error)) => Err(failed(step, &error.to_string())),
        Ok(Ok(output)) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).into())
        }
        Ok(Ok(output)) => Err(failed(step, &String::from_utf8_lossy(&output.stderr))),
    }
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/foreign")
        .join(name)
}

fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}
