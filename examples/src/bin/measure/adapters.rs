//! What each adapter costs: its lines, its crates, and what a relay on it takes for connections and
//! messages. Relays take turns, so that what else the machine does falls on all of them.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::process::Memory;
use crate::{AdaptersFlags, FloodFlags, IdleFlags, flood, idle, report};

/// The names of the adapters, behind `pinch-` and `relay-`.
const ADAPTERS: [&str; 3] = ["tokio", "smol", "async-std"];

/// What is known of one adapter.
struct Row {
    name: &'static str,
    lines: usize,
    crates: usize,
    idle: u64,
    loaded: u64,
    /// Messages per second, of each round.
    rates: Vec<f64>,
}

pub(crate) async fn measure(flags: &AdaptersFlags) -> io::Result<()> {
    idle::raise_descriptor_limit(flags.connections)?;
    let mut rows = Vec::new();
    for name in ADAPTERS {
        let (idle, loaded) = memory(name, flags.connections).await?;
        rows.push(Row {
            name,
            lines: lines(name)?,
            crates: crates(name).await?,
            idle,
            loaded,
            rates: Vec::new(),
        });
    }
    for _ in 0..flags.rounds.max(1) {
        for row in &mut rows {
            let mut relay = Relay::start(row.name).await?;
            report(row.name)?;
            let flood = FloodFlags {
                url: relay.url.clone(),
                pairs: 64,
                size: 256,
                window: 64,
                seconds: 4,
            };
            row.rates.push(flood::measure(&flood).await?);
            relay.child.kill().await?;
        }
    }
    report("| adapter | lines | crates | idle connection | after 64 KiB | messages per second |")?;
    report("|---|---|---|---|---|---|")?;
    for mut row in rows {
        row.rates.sort_by(f64::total_cmp);
        let median = row.rates.get(row.rates.len() / 2).copied();
        report(&format!(
            "| `pinch-{}` | {} | {} | {} B | {} B | {:.2} million |",
            row.name,
            row.lines,
            row.crates,
            row.idle,
            row.loaded,
            median.unwrap_or_default() / 1e6,
        ))?;
    }
    Ok(())
}

/// Bytes per connection: idle, and after a large envelope.
async fn memory(name: &str, connections: usize) -> io::Result<(u64, u64)> {
    let mut relay = Relay::start(name).await?;
    report(name)?;
    let pid = relay.child.id();
    let flags = IdleFlags {
        url: relay.url.clone(),
        pid: pid.ok_or_else(|| io::Error::other("the relay has ended"))?,
        connections,
    };
    let memories = idle::measure(&flags).await?;
    relay.child.kill().await?;
    let each = |memory: Memory| memory.per_connection(memories.before, connections);
    Ok((each(memories.idle), each(memories.loaded)))
}

/// A relay's program, which ends with this one.
struct Relay {
    child: Child,
    /// Where it keeps its queue.
    _directory: TempDir,
    url: String,
}

impl Relay {
    async fn start(name: &str) -> io::Result<Self> {
        let program = program(name)?;
        let mut command = Command::new(&program);
        command.args(["--listen", "127.0.0.1:0", "--auth", "open"]);
        let directory = tempfile::tempdir()?;
        command.arg("--db").arg(directory.path().join("queue"));
        command.args(["--rate-limit", "off"]).env_clear();
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
}

/// It lies beside this program, if all have been built.
fn program(name: &str) -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let file = format!("relay-{name}{}", std::env::consts::EXE_SUFFIX);
    Ok(own.with_file_name(file))
}

fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The lines of an adapter's source.
fn lines(name: &str) -> io::Result<usize> {
    let path = workspace().join("adapters").join(name).join("src/lib.rs");
    Ok(std::fs::read_to_string(path)?.lines().count())
}

/// The crates that an adapter brings, itself among them.
async fn crates(name: &str) -> io::Result<usize> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["tree", "--locked", "--edges", "normal", "--prefix", "none"]);
    cargo.args(["--package", &format!("pinch-{name}")]);
    let output = cargo.current_dir(workspace()).output().await?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("cargo tree: {said}")));
    }
    let listed = String::from_utf8_lossy(&output.stdout);
    // What comes again is marked.
    let mut crates: Vec<&str> = listed
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .filter(|line| !line.is_empty())
        .collect();
    crates.sort_unstable();
    crates.dedup();
    Ok(crates.len())
}
