//! Packages of other languages that tests need: they are installed into a folder under the target
//! folder, once, however many tests and test processes want them at the same time.
//!
//! Where they cannot be had, a test says that it is skipped; where the environment variable `CI`
//! is set, it fails.

use core::time::Duration;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use async_io::Timer;
use async_process::{Command, Stdio};
use futures_lite::FutureExt as _;
use rustix::fs::{FlockOperation, flock};

/// How long one step may take. A package registry may be slow, and comes with timeouts of its own.
const STEP_LIMIT: Duration = Duration::from_secs(300);

/// What says which packages a project wants of npm.
const NPM_FILES: [&str; 2] = ["package.json", "package-lock.json"];

/// Why something cannot be run here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}")]
pub struct Unavailable {
    what: String,
    why: String,
}

impl Unavailable {
    /// `what` cannot be had, because of `why`.
    pub fn new(what: impl Into<String>, why: &str) -> Self {
        Self {
            what: what.into(),
            why: why.trim().into(),
        }
    }

    /// For a `map_err` on what is done with `path`.
    fn at(path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let what = path.display().to_string();
        move |error| Self::new(what.as_str(), &error.to_string())
    }
}

/// What `outcome` holds. If it could not be had, this says so and returns `None`; where `CI` is
/// set, it panics instead.
///
/// # Panics
/// Where the environment variable `CI` is set and not empty.
pub fn or_skip<T>(test: &str, outcome: Result<T, Unavailable>) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err(reason) if std::env::var_os("CI").is_some_and(|ci| !ci.is_empty()) => {
            panic!("CI has to run {test}: {reason}")
        }
        Err(reason) => {
            // Of all that npm and pip say, what went wrong comes first.
            let reason = reason.to_string();
            let brief = reason.lines().next().unwrap_or_default();
            let line = format!("test {test} is skipped: {brief}\n");
            // The output of tests that pass is captured, but not what is written this way.
            let _ = io::stderr().write_all(line.as_bytes());
            None
        }
    }
}

/// Installs the packages that `package.json` and `package-lock.json` in `project` name. Returns the
/// folder that holds `node_modules`, which is called `name` and lies under `parent`.
///
/// # Errors
/// Node is not here, or the packages cannot be fetched.
pub fn npm(parent: &Path, name: &str, project: &Path) -> Result<PathBuf, Unavailable> {
    let versions = [
        run(Command::new("node").arg("--version"))?,
        run(Command::new("npm").arg("--version"))?,
    ];
    let mut wanted = versions.concat();
    for file in NPM_FILES {
        let file = project.join(file);
        wanted += &fs::read_to_string(&file).map_err(Unavailable::at(&file))?;
    }
    once(parent, name, &wanted, |folder| {
        for name in NPM_FILES {
            let file = project.join(name);
            fs::copy(&file, folder.join(name)).map_err(Unavailable::at(&file))?;
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--loglevel=error", "--no-audit", "--no-fund"]);
        npm.args(["--ignore-scripts", "--fetch-retry-mintimeout=1000"]);
        run(npm.current_dir(folder)).map(drop)
    })
}

/// Installs the packages that the file `requirements` names into a virtual environment called
/// `name` under `parent`, with `options` of pip. Returns its Python.
///
/// # Errors
/// Python is not here, or the packages cannot be fetched.
pub fn pip(
    parent: &Path,
    name: &str,
    requirements: &Path,
    options: &[&str],
) -> Result<PathBuf, Unavailable> {
    let version = run(Command::new("python3").arg("--version"))?;
    let listed = fs::read_to_string(requirements).map_err(Unavailable::at(requirements))?;
    let python = |folder: &Path| folder.join("bin").join("python");
    let folder = once(parent, name, &(version + &listed), |folder| {
        run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
        let mut pip = Command::new(python(folder));
        pip.args(["-m", "pip", "install", "--quiet", "--no-input"]);
        pip.args(["--retries", "2"]).args(options);
        run(pip.arg("--requirement").arg(requirements)).map(drop)
    })?;
    Ok(python(&folder))
}

/// Lets `install` fill the folder called `name` under `parent`, unless it has been filled with what
/// is `wanted`. Returns the folder.
///
/// # Errors
/// `install` fails, or the folder cannot be written.
pub fn once(
    parent: &Path,
    name: &str,
    wanted: &str,
    install: impl FnOnce(&Path) -> Result<(), Unavailable>,
) -> Result<PathBuf, Unavailable> {
    let folder = parent.join(name);
    let stamp = folder.join("installed");
    let failed = Unavailable::at(&folder);

    fs::create_dir_all(parent).map_err(&failed)?;
    let lock = File::create(parent.join(format!("{name}.lock"))).map_err(&failed)?;
    // Waits while another process installs, whose steps have limits, too. The lock goes with the
    // file, at the latest with this process.
    flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(folder);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(&failed)?;
    }
    fs::create_dir(&folder).map_err(&failed)?;
    install(&folder)?;
    fs::write(&stamp, wanted).map_err(&failed)?;
    Ok(folder)
}

/// Runs `step` to its end, and returns what it wrote.
///
/// # Errors
/// It cannot be started, fails, or does not end within five minutes.
pub fn run(step: &mut Command) -> Result<String, Unavailable> {
    let what = format!("{step:?}");
    let failed = |why: &str| Unavailable::new(what.as_str(), why);
    step.stdin(Stdio::null()).kill_on_drop(true);
    let output = async { Some(step.output().await) };
    let late = async {
        Timer::after(STEP_LIMIT).await;
        None
    };
    match async_io::block_on(output.or(late)) {
        None => Err(failed("does not end")),
        Some(Err(error)) => Err(failed(&error.to_string())),
        Some(Ok(output)) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).into())
        }
        Some(Ok(output)) => Err(failed(&String::from_utf8_lossy(&output.stderr))),
    }
}
