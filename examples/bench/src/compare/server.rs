//! A relay that runs in a process of its own, and ends with this one's interest in it.

use core::num::NonZeroUsize;
use core::time::Duration;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::{env, thread};

use tempfile::TempDir;
use thiserror::Error;

use super::contender::{Contender, Kind};

/// How long a relay may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Environment variables that set the number of threads, of our relays and of hubs.
const THREADS: [&str; 4] = [
    "TOKIO_WORKER_THREADS",
    "SMOL_THREADS",
    "ASYNC_STD_THREAD_COUNT",
    "PINCH_MIO_THREADS",
];

/// Why a relay does not run.
#[derive(Debug, Error)]
pub(super) enum StartError {
    #[error("cannot be started: {0}")]
    System(#[from] io::Error),
    #[error("{command:?} has not said where it listens, but {said:?}")]
    Silent { command: Box<Command>, said: String },
}

/// A relay that listens.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    pub(super) url: String,
    /// Where it may keep what it likes.
    _directory: TempDir,
}

impl Server {
    /// Starts `contender`, with as many threads as `threads` says if it lets that be set.
    pub(super) fn start(
        contender: &Contender,
        threads: Option<NonZeroUsize>,
    ) -> Result<Self, StartError> {
        let directory = tempfile::tempdir()?;
        let mut command = Command::new(&contender.program);
        command.args(&contender.arguments);
        if contender.kind == Kind::Ours {
            command.arg("--db").arg(directory.path().join("queue"));
        }
        // The settings of whoever runs this are not to be measured.
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("PINCH_") {
                command.env_remove(name);
            }
        }
        for name in THREADS {
            command.env_remove(name);
            if let Some(threads) = threads {
                command.env(name, threads.to_string());
            }
        }
        let stderr = directory.path().join("stderr");
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let child = command.stderr(File::create(&stderr)?).spawn()?;
        let mut server = Self {
            child,
            url: String::new(),
            _directory: directory,
        };
        match server.announcement() {
            Some(url) => server.url = url,
            None => {
                let said = fs::read(&stderr)?;
                let said = String::from_utf8_lossy(&said).trim_end().to_owned();
                let command = Box::new(command);
                return Err(StartError::Silent { command, said });
            }
        }
        Ok(server)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The URL in the first line that the relay prints.
    fn announcement(&mut self) -> Option<String> {
        let stdout = self.child.stdout.take()?;
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            let mut line = String::new();
            if stdout.read_line(&mut line).is_ok() {
                // Nobody may wait for it any more.
                let _ = sender.send(line);
            }
            // What it prints later has to go somewhere.
            let _ = io::copy(&mut stdout, &mut io::sink());
        });
        let line = receiver.recv_timeout(PATIENCE).ok()?;
        let begin = line.find("ws://")?;
        Some(line[begin..].trim_end().to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
