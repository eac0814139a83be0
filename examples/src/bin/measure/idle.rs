//! What an idle connection costs a relay, before and after it has received a large envelope.

use core::convert::Infallible;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::io;
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use pinch_examples::descriptors;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::agent::{Agent, envelope};
use crate::process::Memory;
use crate::{IdleFlags, report};

/// How many joins, or large envelopes, are under way at once.
pub(crate) const CONCURRENCY: usize = 64;

/// The largest envelope that a relay takes.
const LARGE: usize = 65_536;

/// How long the relay may take until all has arrived.
const PATIENCE: Duration = Duration::from_secs(120);

/// The memory of a relay.
pub(crate) struct Memories {
    pub(crate) before: Memory,
    /// With all connections joined and pinged.
    pub(crate) idle: Memory,
    /// After each of them has received a large envelope.
    pub(crate) loaded: Memory,
}

/// Measures, and reports each step.
pub(crate) async fn measure(flags: &IdleFlags) -> io::Result<Memories> {
    allow_descriptors(flags.connections)?;
    let count = flags.connections;
    let before = Memory::of(flags.pid)?;
    report(&before.line("before", before, count))?;

    let mut sender = Agent::join(&flags.url, count).await?;
    let agents: Vec<Agent> = stream::iter(0..count)
        .map(|number| Agent::join(&flags.url, number))
        .buffered(CONCURRENCY)
        .try_collect()
        .await?;
    let received = Arc::new(AtomicUsize::new(0));
    let mut readers = JoinSet::new();
    for agent in agents {
        readers.spawn(read_on(agent, Arc::clone(&received)));
    }
    settle().await;
    let idle = Memory::of(flags.pid)?;
    report(&idle.line(&format!("{count} idle"), before, count))?;

    let deadline = Instant::now() + PATIENCE;
    for number in 0..count {
        sender.send(&envelope(count, number, LARGE), 1).await?;
        wait_for(
            &received,
            (number + 1).saturating_sub(CONCURRENCY),
            deadline,
        )
        .await?;
    }
    wait_for(&received, count, deadline).await?;
    settle().await;
    let loaded = Memory::of(flags.pid)?;
    report(&loaded.line("after 64 KiB to each", before, count))?;
    if let Some(ended) = readers.try_join_next() {
        ended.map_err(io::Error::other)??;
    }
    drop(readers);
    drop(sender);
    settle().await;
    report(&Memory::of(flags.pid)?.line("all closed", before, count))?;
    Ok(Memories {
        before,
        idle,
        loaded,
    })
}

/// Counts what an agent receives.
pub(crate) async fn read_on(
    mut agent: Agent,
    received: Arc<AtomicUsize>,
) -> io::Result<Infallible> {
    loop {
        agent.envelope().await?;
        received.fetch_add(1, Ordering::Relaxed);
    }
}

/// Lets the relay come to rest: its first pings are answered by then.
pub(crate) async fn settle() {
    sleep(Duration::from_secs(2)).await;
}

async fn wait_for(received: &AtomicUsize, goal: usize, deadline: Instant) -> io::Result<()> {
    while received.load(Ordering::Relaxed) < goal {
        if Instant::now() > deadline {
            let got = received.load(Ordering::Relaxed);
            return Err(io::Error::other(format!(
                "{got} envelopes arrived, expected {goal}"
            )));
        }
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// Each connection is a descriptor; the limit is raised as far as the system allows.
pub(crate) fn allow_descriptors(connections: usize) -> io::Result<()> {
    let most = descriptors::raise()?.unwrap_or(usize::MAX);
    let needed = connections.saturating_add(64);
    if most < needed {
        return Err(io::Error::other(format!(
            "{connections} connections need {needed} descriptors, but `ulimit -Hn` allows {most}"
        )));
    }
    Ok(())
}
