//! A relay with a queue in a file, in a process of its own that ends with the test.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::Value;
use tempfile::TempDir;

use crate::PATIENCE;

/// The relays, which share one format of files.
const PROGRAMS: [&str; 4] = [
    env!("CARGO_BIN_EXE_relay-tokio"),
    env!("CARGO_BIN_EXE_relay-smol"),
    env!("CARGO_BIN_EXE_relay-async-std"),
    env!("CARGO_BIN_EXE_relay-mio"),
];

/// Where a relay keeps its queue, over all its lives.
pub(crate) struct Place {
    directory: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("queue.db")
    }

    /// Starts a relay.
    pub(crate) fn relay(&self) -> Relay {
        self.nth_relay(0, &[])
    }

    pub(crate) fn relay_with(&self, flags: &[&str]) -> Relay {
        self.nth_relay(0, flags)
    }

    /// Starts the relay of one runtime or another.
    pub(crate) fn nth_relay(&self, n: usize, flags: &[&str]) -> Relay {
        let mut command = relay(n, &self.path());
        command.args([
            "--auth",
            "open",
            "--rate-limit",
            "off",
            "--join-rate",
            "off",
        ]);
        Relay::start(command.args(flags))
    }

    /// Runs a relay that is expected not to start.
    pub(crate) fn refused(&self) -> Output {
        let mut command = relay(0, &self.path());
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// What `queue inspect` says.
    pub(crate) fn inspect(&self, flags: &[&str]) -> Output {
        let mut command = Command::new(PROGRAMS[0]);
        command.env_clear().args(["queue", "inspect", "--db"]);
        command.arg(self.path()).args(flags).output().unwrap()
    }
}

fn relay(n: usize, path: &Path) -> Command {
    let mut command = Command::new(PROGRAMS[n % PROGRAMS.len()]);
    command.env_clear().args(["--listen", "127.0.0.1:0"]);
    command.args([OsStr::new("--db"), path.as_os_str()]);
    command
}

/// A relay that listens.
pub(crate) struct Relay {
    child: Child,
    /// `127.0.0.1:…`.
    pub(crate) address: String,
}

impl Relay {
    fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.env("RUST_LOG", "off").spawn().unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let relay = |address| Self { child, address };
        output.read_line(&mut line).unwrap();
        let url = line.strip_prefix("listening on ws://");
        let address = url.and_then(|url| url.strip_suffix("/ws\n"));
        relay(address.expect("a relay that listens").to_owned())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap()).unwrap()
    }

    /// What `/health` says.
    pub(crate) fn health(&self) -> Value {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let address = &self.address;
        write!(stream, "GET /health HTTP/1.1\r\nhost: {address}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap()
    }

    /// How many envelopes the store has confirmed.
    pub(crate) fn stored(&self) -> u64 {
        self.health()["stored"].as_u64().unwrap()
    }

    /// How large its files may become.
    pub(crate) fn limit_files(&self, bytes: Option<u64>) {
        let limit = Rlimit {
            current: bytes,
            maximum: None,
        };
        prlimit(Some(self.pid()), Resource::Fsize, limit).unwrap();
    }

    /// How much memory it has, in bytes, that is its own.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.unwrap().trim().strip_suffix(" kB").unwrap();
        kib.parse::<u64>().unwrap() * 1024
    }

    /// Ends it without a warning, as a machine does that has no memory left.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it in order.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        kill_process(self.pid(), Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
