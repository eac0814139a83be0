//! A long time of everything at once: agents that come, go and die, readers that hardly read, floods,
//! and strangers who never join. When all of them have gone, the relay has to hold what it held before.
//! How its memory has grown while they were there is reported, for people to judge.

mod burdens;
mod slope;

use core::time::Duration;
use std::io;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use self::burdens::Load;
use self::slope::slope;
use crate::process::{Memory, descriptors};
use crate::relay::{Health, Relay};
use crate::{SoakFlags, idle, report};

/// How many lines the report has, besides its first and last.
const SAMPLES: u32 = 20;

/// How long the relay may take to forget everybody: longer than a heartbeat and its pong.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a relay holds.
struct Holding {
    connections: u64,
    tasks: u64,
    stored: u64,
    descriptors: usize,
    memory: Memory,
}

impl Holding {
    async fn of(relay: &Relay) -> io::Result<Self> {
        let pid = relay.pid()?;
        let (descriptors, memory) = (descriptors(pid)?, Memory::of(pid)?);
        let Health {
            connections,
            tasks,
            stored,
        } = relay.health().await?;
        Ok(Self {
            connections,
            tasks,
            stored,
            descriptors,
            memory,
        })
    }

    /// Whether nobody is left of those who have come since `before`.
    fn is_back_at(&self, before: &Self) -> bool {
        self.connections == before.connections
            && self.tasks == before.tasks
            && self.descriptors <= before.descriptors
    }

    fn row(&self, when: &str, load: &Load) -> String {
        let Self {
            connections,
            tasks,
            stored,
            descriptors,
            memory,
        } = self;
        format!(
            "| {when} | {connections} | {tasks} | {descriptors} | {} | {stored} | {} |",
            memory.rss,
            load.done(),
        )
    }
}

/// Measures and reports; an error if something is left, or if nothing has happened.
pub(crate) async fn measure(flags: &SoakFlags) -> io::Result<()> {
    let agents = usize::from(flags.agents);
    idle::allow_descriptors(2 * agents)?;
    let lifetime = Duration::try_from_secs_f64(flags.minutes * 60.0).map_err(io::Error::other)?;
    let relay = Relay::start(&flags.adapter).await?;
    let before = Holding::of(&relay).await?;
    let begin = Instant::now();
    let load = Arc::new(Load::new(&relay.url, agents, begin + lifetime));
    report("| second | connections | tasks | descriptors | VmRSS KiB | stored | so far |")?;
    report("|---|---|---|---|---|---|---|")?;
    report(&before.row("0", &load))?;

    let mut burdens = JoinSet::new();
    load.spawn_on(&mut burdens);
    let mut memories = Vec::new();
    for sample in 1..=SAMPLES {
        sleep_until(begin + lifetime * sample / SAMPLES).await;
        let holding = Holding::of(&relay).await?;
        let second = begin.elapsed().as_secs();
        report(&holding.row(&second.to_string(), &load))?;
        memories.push((begin.elapsed().as_secs_f64() / 60.0, holding.memory.rss));
    }
    burdens.abort_all();
    while let Some(ended) = burdens.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            return Err(io::Error::other(error));
        }
    }
    if !load.done().has_traffic() {
        return Err(io::Error::other(
            "the relay lets nobody in, or relays nothing",
        ));
    }

    let deadline = Instant::now() + PATIENCE;
    let mut after = Holding::of(&relay).await?;
    while !after.is_back_at(&before) && Instant::now() < deadline {
        sleep(Duration::from_millis(500)).await;
        after = Holding::of(&relay).await?;
    }
    report(&after.row("after", &load))?;
    // At first, caches and allocators fill.
    let growth = slope(memories.split_off(memories.len() / 2));
    report(&format!(
        "\nVmRSS changed by {growth:+.0} KiB per minute in the second half"
    ))?;
    if after.is_back_at(&before) {
        report("nothing is left")
    } else {
        Err(io::Error::other(
            "something is left: compare the first row with the last",
        ))
    }
}
