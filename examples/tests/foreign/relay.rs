//! The relay's program, in a process of its own that ends with the test.

use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::row::Mode;
use crate::{HOST, send_signal, soon};

/// A relay that listens.
#[derive(Debug)]
pub(crate) struct Relay {
    child: Child,
    /// Where agents connect: `ws://…/ws`.
    pub(crate) url: String,
    /// What it has logged.
    log: Arc<Mutex<String>>,
}

impl Relay {
    /// Starts a relay on a port that the system picks. Without a flag that says otherwise, there is
    /// no rate limit, and no queue.
    pub(crate) async fn start(mode: Mode, flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_relay-tokio"));
        command.args(["--listen", "127.0.0.1:0", "--public-host", HOST]);
        command.args(["--auth", mode.flag()]).args(flags);
        if !flags.contains(&"--db") {
            command.args(["--db", "none"]);
        }
        if !flags.contains(&"--rate-limit") {
            command.args(["--rate-limit", "off"]);
        }
        command.env_clear().kill_on_drop(true).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the relay's program can be run");
        let log = Arc::new(Mutex::new(String::new()));
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let kept = Arc::clone(&log);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let mut log = kept.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_str(&line);
                log.push('\n');
            }
        });
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        // From here on, the log is shown if something fails.
        let mut relay = Self {
            child,
            url: String::new(),
            log,
        };
        let mut line = String::new();
        let read = soon("the relay's first line", stdout.read_line(&mut line)).await;
        read.expect("text");
        let url = line.trim_end().strip_prefix("listening on ");
        url.expect("the first line says where it listens")
            .clone_into(&mut relay.url);
        relay
    }

    /// The URL of another path of the same port.
    pub(crate) fn http(&self, path: &str) -> String {
        let origin = self
            .url
            .strip_prefix("ws")
            .and_then(|url| url.strip_suffix("/ws"));
        format!("http{}{path}", origin.expect("a URL of a relay"))
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        send_signal(&self.child, Signal::TERM);
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        soon("the relay's end", self.child.wait())
            .await
            .expect("its status")
    }
}

impl Drop for Relay {
    #[expect(
        clippy::print_stderr,
        reason = "the test harness shows it with the test that failed"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            eprintln!("the relay's log:\n{log}");
        }
    }
}
