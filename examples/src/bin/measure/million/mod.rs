//! What a relay costs with more connections than a process may have descriptors: they lie in memory,
//! each with an agent that answers pings. Whatever is above the sockets is the real thing: the tasks
//! on their runtime, the driver, the hub.
//!
//! The agents and the streams are in the same process, so that their time counts, too. An agent
//! answers at once, which wakes the task that has just sent the ping; its size is known and told.
//!
//! What is freed goes to the allocator, which keeps much of it: the memory after the end is no
//! memory that somebody holds. A relay that lives on keeps its tables as large as they were.

mod peer;

use core::time::Duration;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use pinch_driver::{Auth, Relay, RelayStats, Runtime, Upgrade};
use pinch_proto::hub::Config;
use pinch_proto::{Address, Host};
use pinch_smol::Smol;
use pinch_tokio::Tokio;
use tokio::time::sleep;

use self::peer::{Fault, Peer};
use crate::agent::name;
use crate::process::{Memory, own_cpu_time};
use crate::{MillionFlags, RuntimeName, report};

/// How many connections join at once. A relay refuses more than 4096.
const JOINING: u64 = 1024;

/// How long to wait before the relay is asked again whether they have joined, so that it does not
/// wait for more of them.
const JOIN_PAUSE: Duration = Duration::from_millis(1);

/// How long to wait before it is asked again about pings, which costs it the less the longer it is.
const PING_PAUSE: Duration = Duration::from_millis(50);

/// How long everything may take that is not waiting for the time of a heartbeat.
const PATIENCE: Duration = Duration::from_secs(120);

/// How this process was at one moment.
#[derive(Clone, Copy)]
struct Moment {
    at: Instant,
    cpu: Duration,
    memory: Memory,
}

impl Moment {
    fn now() -> io::Result<Self> {
        Ok(Self {
            at: Instant::now(),
            cpu: own_cpu_time()?,
            memory: Memory::of(std::process::id())?,
        })
    }

    fn seconds_since(&self, earlier: &Self) -> f64 {
        self.at.duration_since(earlier.at).as_secs_f64()
    }

    fn cpu_seconds_since(&self, earlier: &Self) -> f64 {
        self.cpu.saturating_sub(earlier.cpu).as_secs_f64()
    }
}

/// Measures and reports; an error if a connection was closed, or something is left.
pub(crate) async fn measure(flags: &MillionFlags) -> io::Result<()> {
    match flags.runtime {
        RuntimeName::Tokio => measure_on::<Tokio>(flags).await,
        RuntimeName::Smol => measure_on::<Smol>(flags).await,
    }
}

async fn measure_on<R: Runtime + Default>(flags: &MillionFlags) -> io::Result<()> {
    let count = u64::from(flags.connections);
    let pings = count * u64::from(flags.rounds);
    let scene = Scene::<R>::new(flags)?;
    let start = Moment::now()?;
    report("| step | seconds | CPU seconds | RssAnon KiB | bytes per connection |")?;
    report("|---|--:|--:|--:|--:|")?;
    scene.row("a relay", &start, &start, &start)?;

    scene.join(count).await?;
    let joined = Moment::now()?;
    scene.row("all have joined", &start, &start, &joined)?;

    let before = scene.relay.stats().hub.pings;
    let patience = PATIENCE + 2 * flags.heartbeat_interval * flags.rounds;
    scene
        .wait_for("pongs", patience, PING_PAUSE, |stats| {
            stats.hub.pings >= before + pings && stats.hub.pongs == stats.hub.pings
        })
        .await?;
    let pings = scene.relay.stats().hub.pings - before;
    let pinged = Moment::now()?;
    scene.row(&format!("{pings} pings"), &start, &joined, &pinged)?;

    scene.relay.shutdown().await;
    let ended = Moment::now()?;
    scene.row("all have left", &start, &pinged, &ended)?;
    scene.check_end()?;

    let (runtime, connections) = (R::NAME, scene.connections);
    drop(scene);
    let dropped = Moment::now()?;
    row("no relay", connections, &start, &ended, &dropped)?;

    let (seconds, cpu) = (
        pinged.seconds_since(&joined),
        pinged.cpu_seconds_since(&joined),
    );
    report(&format!(
        "\n{count} connections on {runtime}, none of them closed; of the bytes of each, {} are its peer",
        size_of::<Peer>()
    ))?;
    report(&format!(
        "heartbeats: {:.2} CPU seconds per million pings, {:.2} % of one core",
        cpu * 1e6 / pings as f64,
        100.0 * cpu / seconds
    ))
}

/// A relay, and what can go wrong at the other ends of its connections.
struct Scene<R: Runtime> {
    relay: Relay<R>,
    connections: u32,
    fault: Arc<Fault>,
}

impl<R: Runtime + Default> Scene<R> {
    fn new(flags: &MillionFlags) -> io::Result<Self> {
        let host = Host::parse("localhost").map_err(io::Error::other)?;
        let connections = usize::try_from(flags.connections).map_err(io::Error::other)?;
        let hub = Config::new(host)
            .heartbeat_interval(flags.heartbeat_interval)
            .max_connections(connections);
        let relay = Relay::builder().auth(Auth::Open).hub(hub);
        Ok(Self {
            relay: relay.detached().map_err(io::Error::other)?,
            connections: flags.connections,
            fault: Arc::default(),
        })
    }

    /// Lets `count` agents join, and waits until all of them have.
    async fn join(&self, count: u64) -> io::Result<()> {
        for number in 0..count {
            if number % JOINING == 0 {
                self.wait_for_joined(number.saturating_sub(JOINING)).await?;
            }
            let number = usize::try_from(number).map_err(io::Error::other)?;
            let address = Address::parse(&name(number)).map_err(io::Error::other)?;
            let peer = Peer::new(Arc::clone(&self.fault));
            let upgrade = Upgrade::trusted().vouched_for(address);
            self.relay.adopt_upgraded(peer, upgrade);
        }
        self.wait_for_joined(count).await
    }

    async fn wait_for_joined(&self, goal: u64) -> io::Result<()> {
        self.wait_for("joins", PATIENCE, JOIN_PAUSE, |stats| {
            stats.hub.registered >= goal
        })
        .await
    }

    /// Waits until `is_reached`, while nobody may be closed.
    async fn wait_for(
        &self,
        what: &str,
        patience: Duration,
        pause: Duration,
        is_reached: impl Fn(&RelayStats) -> bool,
    ) -> io::Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let stats = self.relay.stats();
            if stats.hub.registered != stats.hub.connections {
                let fault = self.fault.message().unwrap_or("no peer knows why");
                return Err(io::Error::other(format!(
                    "{} connections were closed: {fault}",
                    stats.hub.registered - stats.hub.connections
                )));
            }
            if is_reached(&stats) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!(
                    "waited in vain for {what}: {stats:?}"
                )));
            }
            sleep(pause).await;
        }
    }

    /// Whether everybody has left in peace.
    fn check_end(&self) -> io::Result<()> {
        let stats = self.relay.stats();
        if let Some(fault) = self.fault.message() {
            return Err(io::Error::other(fault));
        }
        let left = (stats.hub.connections, stats.hub.closing, stats.tasks);
        if left == (0, 0, 0) && stats.hub.closed == u64::from(self.connections) {
            Ok(())
        } else {
            Err(io::Error::other(format!("something is left: {stats:?}")))
        }
    }

    fn row(&self, step: &str, start: &Moment, from: &Moment, to: &Moment) -> io::Result<()> {
        row(step, self.connections, start, from, to)
    }
}

/// One step, which took from `from` to `to`; memory counts from `start` on.
fn row(step: &str, count: u32, start: &Moment, from: &Moment, to: &Moment) -> io::Result<()> {
    let grown = to.memory.anonymous as f64 - start.memory.anonymous as f64;
    report(&format!(
        "| {step} | {:.1} | {:.2} | {} | {:.0} |",
        to.seconds_since(from),
        to.cpu_seconds_since(from),
        to.memory.anonymous,
        grown * 1024.0 / f64::from(count)
    ))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use core::time::Duration;

    use super::measure;
    use crate::{MillionFlags, RuntimeName};

    #[tokio::test]
    async fn many_connections_join_answer_and_leave_on_every_runtime() {
        for runtime in [RuntimeName::Tokio, RuntimeName::Smol] {
            let flags = MillionFlags {
                runtime,
                connections: 1000,
                heartbeat_interval: Duration::from_millis(100),
                rounds: 2,
            };
            measure(&flags).await.unwrap();
        }
    }
}
