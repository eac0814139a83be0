//! What idle connections cost when there are more of them than one process may have descriptors:
//! several relays share a port, and as many other processes hold the connections. A relay that holds
//! them all is measured by `idle`, and without descriptors by `million`.

use core::net::{Ipv4Addr, SocketAddr};
use core::sync::atomic::AtomicUsize;
use std::io;
use std::process::Stdio;
use std::sync::Arc;

use futures_util::future::try_join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpSocket;
use tokio::process::{Child, Command};
use tokio::task::{JoinSet, spawn_blocking};

use crate::agent::Agent;
use crate::idle::{self, CONCURRENCY, read_on, settle};
use crate::process::{Memory, descriptors};
use crate::relay::Relay;
use crate::{HoldFlags, ProcessesFlags, report};

/// What a process says when all of its agents have joined.
const JOINED: &str = "joined";

/// Connections come from ports from this one on, each process having an address of its own.
const FIRST_PORT: u16 = 1024;

/// How many ports that are: no process holds more connections.
const PORTS: usize = (u16::MAX - FIRST_PORT) as usize + 1;

/// Measures, and reports each step.
pub(crate) async fn measure(flags: &ProcessesFlags) -> io::Result<()> {
    let relays = usize::from(flags.relays);
    let most = pinch_examples::descriptors::raise()?
        .unwrap_or(PORTS)
        .min(PORTS);
    // A relay keeps a sixteenth for those that join, and the system deals connections out by chance, so
    // that a relay may get more than its share.
    let count = flags.connections.unwrap_or(relays * (most - most / 10));
    let relays = start(&flags.adapter, relays).await?;
    let url = relays.first().map(|relay| relay.url.as_str());
    let url = url.ok_or_else(|| io::Error::other("no relay"))?;
    let before = all(&relays)?;
    let total = |memories: &[Held]| memories.iter().map(|held| held.memory).sum::<Memory>();
    report(&total(&before).line("before", total(&before), count))?;

    let share = count.div_ceil(relays.len());
    let holders = (0..relays.len()).map(|index| {
        let first = (share * index).min(count);
        Holder::start(url, index, first, share.min(count - first))
    });
    let holders = try_join_all(holders).await?;
    settle().await;
    let idle = all(&relays)?;
    let mut connections = 0;
    for (index, (idle, before)) in idle.iter().zip(&before).enumerate() {
        let own = idle.descriptors.saturating_sub(before.descriptors);
        connections += own;
        let what = format!("{own} idle at relay {}", index + 1);
        report(&idle.memory.line(&what, before.memory, own))?;
    }
    report(&total(&idle).line(&format!("{connections} idle"), total(&before), connections))?;
    if connections != count {
        return Err(io::Error::other(format!(
            "the relays hold {connections} connections, expected {count}"
        )));
    }

    try_join_all(holders.into_iter().map(Holder::end)).await?;
    settle().await;
    report(&total(&all(&relays)?).line("all closed", total(&before), count))
}

/// Starts `count` relays on one port.
async fn start(adapter: &str, count: usize) -> io::Result<Vec<Relay>> {
    let mut relays: Vec<Relay> = Vec::new();
    for _ in 0..count {
        let listen = match relays.first() {
            Some(relay) => relay.authority()?.to_owned(),
            None => "127.0.0.1:0".to_owned(),
        };
        relays.push(Relay::start_with(adapter, &["--listen", &listen, "--reuse-port"]).await?);
    }
    Ok(relays)
}

/// What a relay holds.
struct Held {
    descriptors: usize,
    memory: Memory,
}

fn all(relays: &[Relay]) -> io::Result<Vec<Held>> {
    let held = relays.iter().map(|relay| {
        let pid = relay.pid()?;
        Ok(Held {
            descriptors: descriptors(pid)?,
            memory: Memory::of(pid)?,
        })
    });
    held.collect()
}

/// A process of this program in which agents have joined.
struct Holder(Child);

impl Holder {
    /// Starts one, and waits until its agents have joined: those from the number `first` on.
    async fn start(url: &str, index: usize, first: usize, count: usize) -> io::Result<Self> {
        // There are only so many ports for the connections from one address to another.
        let host = u8::try_from(index + 2).map_err(io::Error::other)?;
        let from = Ipv4Addr::new(127, 0, 0, host).to_string();
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["hold", "--url", url, "--from", &from]);
        command.args(["--first", &first.to_string()]);
        command.args(["--connections", &count.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn()?;
        let stdout = child.stdout.take();
        let stdout = stdout.ok_or_else(|| io::Error::other("a process has no output"))?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).await?;
        if line.trim_end() == JOINED {
            Ok(Self(child))
        } else {
            Err(io::Error::other("not all agents of a process have joined"))
        }
    }

    /// Lets all agents go.
    async fn end(mut self) -> io::Result<()> {
        drop(self.0.stdin.take());
        if self.0.wait().await?.success() {
            Ok(())
        } else {
            Err(io::Error::other("agents of a process were closed"))
        }
    }
}

/// Holds connections until the input ends: the part of the other process.
pub(crate) async fn hold(flags: &HoldFlags) -> io::Result<()> {
    idle::allow_descriptors(flags.connections)?;
    let sockets = sockets(flags.from).take(flags.connections);
    let received = Arc::new(AtomicUsize::new(0));
    let mut readers = JoinSet::new();
    let mut joining = stream::iter(sockets.zip(flags.first..))
        .map(async |(socket, number)| Agent::join_over(socket?, &flags.url, number).await)
        .buffered(CONCURRENCY);
    // Whoever has joined answers pings while others join.
    while let Some(agent) = joining.try_next().await? {
        readers.spawn(read_on(agent, Arc::clone(&received)));
    }
    if readers.len() < flags.connections {
        return Err(io::Error::other(format!(
            "{} have ports for only {} connections",
            flags.from,
            readers.len()
        )));
    }
    report(JOINED)?;
    let input = spawn_blocking(|| io::copy(&mut io::stdin(), &mut io::sink()));
    input.await.map_err(io::Error::other)??;
    match readers.try_join_next() {
        Some(ended) => ended.map_err(io::Error::other)?.map(drop),
        None => Ok(()),
    }
}

/// Sockets that connect from `source`, each from a port of its own. Left to itself, the system would
/// look for one that no other connection has at all, which takes long when thousands do.
fn sockets(source: Ipv4Addr) -> impl Iterator<Item = io::Result<TcpSocket>> {
    (FIRST_PORT..=u16::MAX)
        .map(move |port| {
            let socket = TcpSocket::new_v4()?;
            // A connection of an earlier measurement may not be forgotten yet.
            socket.set_reuseaddr(true)?;
            socket.bind(SocketAddr::from((source, port)))?;
            Ok(socket)
        })
        .filter(|bound: &io::Result<TcpSocket>| {
            // Somebody may listen there.
            let error = bound.as_ref().map_err(io::Error::kind);
            !matches!(error, Err(io::ErrorKind::AddrInUse))
        })
}
