//! A relay of our own that is measured.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;

use serde::Deserialize;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// A relay's program, which ends with this one.
pub(crate) struct Relay {
    pub(crate) child: Child,
    /// Where it keeps its queue.
    _directory: TempDir,
    pub(crate) url: String,
}

impl Relay {
    /// Starts the relay on the adapter `name`, in open mode and without a rate limit.
    pub(crate) async fn start(name: &str) -> io::Result<Self> {
        Self::start_with(name, &["--listen", "127.0.0.1:0"]).await
    }

    /// As [`start`](Self::start), with `flags` that say where it listens.
    pub(crate) async fn start_with(name: &str, flags: &[&str]) -> io::Result<Self> {
        let program = program(name)?;
        let mut command = Command::new(&program);
        command.args(flags).args(["--auth", "open"]);
        let directory = tempfile::tempdir()?;
        command.arg("--db").arg(directory.path().join("queue"));
        command
            .args(["--rate-limit", "off", "--join-rate", "off"])
            .env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(Stdio::null());
        let failed = |error| io::Error::other(format!("{}: {error}", program.display()));
        let mut child = command.kill_on_drop(true).spawn().map_err(failed)?;
        let stdout = child.stdout.take();
        let stdout = stdout.ok_or_else(|| io::Error::other("the relay has no output"))?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).await?;
        let url = line.trim_end().strip_prefix("listening on ");
        let url = url.ok_or_else(|| io::Error::other(format!("the relay says {line:?}")))?;
        Ok(Self {
            url: url.into(),
            child,
            _directory: directory,
        })
    }

    pub(crate) fn pid(&self) -> io::Result<u32> {
        let pid = self.child.id();
        pid.ok_or_else(|| io::Error::other("the relay has ended"))
    }

    /// Its host and its port.
    pub(crate) fn authority(&self) -> io::Result<&str> {
        authority(&self.url)
    }

    /// What it says of itself.
    pub(crate) async fn health(&self) -> io::Result<Health> {
        let mut stream = TcpStream::connect(self.authority()?).await?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").await?;
        let mut response = String::new();
        stream.read_to_string(&mut response).await?;
        let body = response.split_once("\r\n\r\n").map(|(_, body)| body);
        let failed = || io::Error::other(format!("/health is answered with {response:?}"));
        serde_json::from_str(body.ok_or_else(failed)?).map_err(|_| failed())
    }
}

/// What concerns us of it.
#[derive(Debug, Deserialize)]
pub(crate) struct Health {
    pub(crate) connections: u64,
    pub(crate) tasks: u64,
    pub(crate) stored: u64,
}

/// The host and the port of a URL.
pub(crate) fn authority(url: &str) -> io::Result<&str> {
    url.strip_prefix("ws://")
        .and_then(|rest| rest.split('/').next())
        .ok_or_else(|| io::Error::other(format!("`{url}` is no ws:// URL")))
}

/// It lies beside this program, if all have been built.
fn program(name: &str) -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let file = format!("relay-{name}{}", std::env::consts::EXE_SUFFIX);
    Ok(own.with_file_name(file))
}
