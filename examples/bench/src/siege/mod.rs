//! All attacks on a relay's resources at once, and what its honest agents notice of them.
//!
//! The relay is a process of its own with its default settings, which exempt loopback from the
//! limits of one address: so the attackers are as many addresses as they like. They run on a thread of
//! the lowest priority, since in earnest they have machines of their own. The honest agents are on
//! another: pairs that write to each other, and one who writes to a victim that is away and whose
//! queue is stuffed. A third thread asks the relay how it is, and the system how large it is.

mod attackers;
mod bound;
mod forging;
mod honest;
mod readable;
mod relay;
mod watch;

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::path::PathBuf;
use std::thread;

use clap::Args;
use pinch_proto::Host;
use serde::Serialize;
use thiserror::Error;

pub use self::attackers::{Attack, Deed, Deeds};
pub use self::bound::{Bound, bounds};
pub use self::honest::Fates;
pub use self::readable::describe;
pub use self::watch::Watched;

use self::attackers::Attackers;
use self::relay::Server;
use self::watch::watch;
use crate::load::{Auth, LoadError, Target, duration};

/// The host in all addresses: what a relay calls itself unless it is told otherwise.
const HOST: &str = "localhost";

/// A siege of a relay.
#[derive(Args, Clone, Debug)]
pub struct Siege {
    /// Seconds of the siege
    #[arg(long, default_value = "120", value_parser = duration)]
    pub secs: Duration,
    /// How many attackers, in per cent of the full number of them
    #[arg(long, default_value_t = 100)]
    pub percent: usize,
    /// Pairs of honest agents
    #[arg(long, default_value_t = 10)]
    pub pairs: usize,
    /// The program of the relay; `relay-tokio` is built and run if it is not named
    #[arg(long)]
    pub relay: Option<PathBuf>,
    /// Plays only these attacks
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<Attack>,
}

/// Why there was no siege.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SiegeError {
    /// The relay cannot be built.
    #[error(transparent)]
    Build(#[from] crate::compare::CompareError),
    /// The relay cannot be started.
    #[error("{}: {error}", program.display())]
    Start {
        /// Its program.
        program: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The agents cannot do what they should.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A call of the system failed.
    #[error(transparent)]
    System(#[from] std::io::Error),
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct SiegeReport {
    /// How long it took, in seconds.
    pub seconds: f64,
    /// How many attackers there were.
    pub attackers: usize,
    /// What the attackers did and what they were told, by attack.
    pub attacks: Deeds,
    /// What became of the envelopes between honest agents.
    pub honest: Fates,
    /// What became of the envelopes for the victim.
    pub victim: Fates,
    /// The relay as it was seen from outside.
    pub relay: Watched,
    /// What its memory may hold by its limits.
    pub bounds: Vec<Bound>,
}

impl SiegeReport {
    /// The sum of the bounds, in bytes.
    #[must_use]
    pub fn bound(&self) -> u64 {
        self.bounds.iter().map(|bound| bound.bytes).sum()
    }

    /// The relay's largest memory, compared to the sum of the bounds.
    #[must_use]
    pub fn memory_ratio(&self) -> Option<f64> {
        Some(self.relay.peak_bytes? as f64 / self.bound() as f64)
    }

    /// Whether no honest envelope was lost, no honest agent was cut, and the relay has answered all
    /// the time.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let fates = [&self.honest, &self.victim];
        fates.iter().all(|fates| fates.is_sound())
            && self.relay.unanswered == 0
            && self.relay.has_survived
    }
}

/// Besieges a relay.
///
/// # Errors
/// [`SiegeError`] says why nothing could be said.
///
/// # Panics
/// Never.
pub fn run(siege: &Siege) -> Result<SiegeReport, SiegeError> {
    crate::descriptors::raise()?;
    let mut server = Server::start(siege.relay.as_deref())?;
    let target = Target {
        url: server.url.clone(),
        host: Host::parse(HOST).expect("a host"),
        auth: Auth::Challenge,
        pid: Some(server.pid()),
        concurrency: 1,
        spin: false,
    };
    let endpoint = target.endpoint()?;
    let authority = endpoint.addr;
    let over = AtomicBool::new(false);
    let plan = attackers::plan(siege)?;
    let mut honest = honest::Honest::join(endpoint.clone(), &target.host, siege.pairs, &plan)?;

    let (outcome, deeds, mut watched) = thread::scope(|scope| {
        let watching = scope.spawn(|| watch(authority, server.pid(), &over));
        let attacking = scope.spawn(|| {
            least_priority();
            Attackers::new(endpoint.clone(), plan.clone())?.run(&over)
        });
        let outcome = honest.live(siege.secs);
        over.store(true, Ordering::Release);
        let deeds = attacking.join().expect("attackers do not panic");
        let watched = watching.join().expect("nothing there panics");
        (outcome, deeds, watched)
    });
    let seconds = outcome?;
    watched.has_survived = server.is_alive();
    let connections = watched.most_connections;
    Ok(SiegeReport {
        seconds,
        attackers: plan.len(),
        attacks: deeds?,
        honest: honest.pairs(),
        victim: honest.victim(),
        relay: watched,
        bounds: bounds(connections),
    })
}

/// Lets other threads have what they want of the processors.
fn least_priority() {
    #[cfg(target_os = "linux")]
    {
        // Without it, the honest agents wait for the attackers, and not only for the relay.
        let _ = rustix::process::nice(19);
    }
}
