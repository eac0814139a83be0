//! The relay under siege: a process with its default settings, in a directory of its own.

use core::time::Duration;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::{env, thread};

use tempfile::TempDir;

use super::SiegeError;
use crate::compare::relay_program;

/// What is besieged if nothing else is named.
const RELAY: &str = "relay-tokio";

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    pub(super) url: String,
    _directory: TempDir,
}

impl Server {
    /// Starts `program`, or builds and starts ours.
    pub(super) fn start(program: Option<&Path>) -> Result<Self, SiegeError> {
        let program = match program {
            // It runs in another directory.
            Some(program) => std::path::absolute(program)?,
            None => relay_program(RELAY)?,
        };
        Self::spawn(&program).map_err(|error| SiegeError::Start { program, error })
    }

    fn spawn(program: &PathBuf) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut command = Command::new(program);
        command.args(["--listen", "127.0.0.1:0"]);
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("PINCH_") {
                command.env_remove(name);
            }
        }
        command
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command.stderr(File::create(directory.path().join("log"))?);
        let mut child = command.spawn()?;
        let stdout = child.stdout.take();
        let mut server = Self {
            child,
            url: String::new(),
            _directory: directory,
        };
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let Some(stdout) = stdout else { return };
            let mut stdout = BufReader::new(stdout);
            let mut line = String::new();
            if stdout.read_line(&mut line).is_ok() {
                let _ = sender.send(line);
            }
            let _ = io::copy(&mut stdout, &mut io::sink());
        });
        let line = receiver.recv_timeout(PATIENCE).unwrap_or_default();
        let url = line.trim_end().strip_prefix("listening on ");
        let silent = || io::Error::new(ErrorKind::TimedOut, "it does not say where it listens");
        server.url = url.ok_or_else(silent)?.to_owned();
        Ok(server)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
