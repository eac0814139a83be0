//! The Autobahn test suite: what others think WebSocket is.
//!
//! The suite's own program is written in Python 2 and starts nowhere any more. The cases live on in a
//! driver for Python 3, in the folder `autobahn` of this crate.

use core::time::Duration;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use async_io::Timer;
use async_process::{Command, Output, Stdio};
use futures_lite::FutureExt as _;
use pinch_driver::{Runtime, bind, echo};
use serde_json::Value;

use crate::packages::{Unavailable, or_skip, pip, run};
use crate::{Harness, harness};

/// How many cases there are for a server without extensions.
const CASES: u64 = 301;

/// The longest message in them, in bytes.
const MESSAGE_BYTES: usize = 16 << 20;

/// How many times longer than on an idle machine a server may take. None that passes takes it.
const PATIENCE: &str = "10";

/// How long the cases may take.
const LIMIT: Duration = Duration::from_secs(180);

/// Runs the cases against an echo on the runtime of `H`; says so if there is no Python for them.
/// They are installed into `target`.
///
/// # Panics
/// If the echo does not pass.
pub fn passes<H: Harness>(target: &Path) {
    let Some(python) = or_skip("autobahn", python(target)) else {
        return;
    };
    harness::run::<H>(async |runtime| {
        let localhost = ([127, 0, 0, 1], 0).into();
        let listener = bind(localhost).expect("a listener");
        let addr = listener.local_addr().expect("its address");
        let listener = runtime.listen(listener).expect("a listener");
        let port = addr.port().to_string();
        let serving = async {
            loop {
                let (stream, _) = runtime.accept(&listener).await.expect("a connection");
                runtime.spawn(async {
                    // It fails where a case drops its connection.
                    let _ = echo::serve(stream, MESSAGE_BYTES).await;
                });
            }
        };
        let arguments = ["run.py", "--patience", PATIENCE, "--port", &port];
        let output = start(&python, arguments).or(serving).await;
        judge(&output);
    });
}

/// Runs the cases against an echo that is known to be wrong; says so if there is no Python for them.
/// They are installed into `target`.
///
/// # Panics
/// If the cases take no offence.
pub fn tells_good_from_bad(target: &Path) {
    let Some(python) = or_skip("autobahn", python(target)) else {
        return;
    };
    let output = async_io::block_on(start(&python, ["test_run.py"]));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// The Python that has the cases.
fn python(target: &Path) -> Result<PathBuf, Unavailable> {
    // The driver needs what Python 3.11 has.
    run(Command::new("python3").args(["-c", "import asyncio; asyncio.TaskGroup"]))?;
    // What the suite depends on is for its program, and as old.
    let requirements = folder().join("requirements.txt");
    pip(target, "autobahn", &requirements, &["--no-deps"])
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/autobahn"))
}

/// Runs a script of the driver to its end, in time.
async fn start(python: &Path, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
    let mut command = Command::new(python);
    command.arg("-B").args(arguments).current_dir(folder());
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = async { command.output().await.expect("Python") };
    let late = async {
        Timer::after(LIMIT).await;
        panic!("the cases do not end")
    };
    output.or(late).await
}

/// Panics unless all cases have ended as they should.
fn judge(output: &Output) {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<Value> = stdout
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let refused: Vec<String> = lines
        .iter()
        .filter(|line| line["accepted"] == false)
        .map(Value::to_string)
        .collect();
    let summary = lines.last().unwrap_or(&Value::Null);
    assert!(
        output.status.success() && summary["cases"] == CASES,
        "{}\n{summary}\n{}",
        refused.join("\n"),
        String::from_utf8_lossy(&output.stderr)
    );
}
