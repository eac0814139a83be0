//! What each adapter costs: its lines, its crates, and what a relay on it takes for connections and
//! messages. Relays take turns, so that what else the machine does falls on all of them.

use std::io;
use std::path::Path;

use tokio::process::Command;

use crate::process::Memory;
use crate::relay::Relay;
use crate::{AdaptersFlags, FloodFlags, IdleFlags, flood, idle, report};

/// The names of the adapters, behind `pinch-` and `relay-`.
const ADAPTERS: [&str; 4] = ["tokio", "smol", "async-std", "mio"];

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
    idle::allow_descriptors(flags.connections)?;
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
    let flags = IdleFlags {
        url: relay.url.clone(),
        pid: relay.pid()?,
        connections,
    };
    let memories = idle::measure(&flags).await?;
    relay.child.kill().await?;
    let each = |memory: Memory| memory.per_connection(memories.before, connections);
    Ok((each(memories.idle), each(memories.loaded)))
}

fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The lines of an adapter's source.
fn lines(name: &str) -> io::Result<usize> {
    let folder = workspace().join("adapters").join(name).join("src");
    let mut lines = 0;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file() {
            lines += std::fs::read_to_string(path)?.lines().count();
        }
    }
    Ok(lines)
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
