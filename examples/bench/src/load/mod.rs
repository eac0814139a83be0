//! The load generator: agents on one thread that join a relay, send each other envelopes, and keep
//! account of every one of them.
//!
//! It measures any relay that speaks the Pinch wire protocol, in challenge mode or in open mode.
//! Envelopes are framed and masked once; from one to the next only the message id changes, which
//! holds the number of the envelope and when it was sent. So the work that is measured is the
//! relay's, and what is lost, comes twice, late or altered shows.

pub(crate) mod arrivals;
pub(crate) mod clients;
pub(crate) mod connection;
mod flow;
pub(crate) mod identity;
pub mod idle;
mod joining;
mod readable;
mod tally;
pub(crate) mod target;
pub(crate) mod template;
pub mod throughput;
mod traffic;

use core::time::Duration;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use pinch_proto::UnixMillis;
use thiserror::Error;

pub use self::joining::Joins;
pub use self::readable::{describe_idle, describe_throughput};
pub use self::tally::Tally;
pub use self::target::{Auth, Target};
pub use self::traffic::Account;

/// Why there is nothing to report.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The URL is not one of a WebSocket.
    #[error("{0:?} is not a URL of a relay, expected ws://HOST:PORT/PATH")]
    InvalidUrl(String),
    /// Nobody takes connections there.
    #[error("cannot connect to {authority}: {error}; check that the relay runs and listens there")]
    Unreachable {
        /// The host and the port.
        authority: String,
        /// What the system says.
        error: io::Error,
    },
    /// The process to look at is not there.
    #[error("there is no process {pid} that can be looked at; check --pid")]
    NoProcess {
        /// Its number.
        pid: u32,
    },
    /// The system does not let a process have so many connections.
    #[error("{wanted} connections are too many: `ulimit -Hn` allows {allowed}")]
    Descriptors {
        /// How many were asked for.
        wanted: usize,
        /// How many there may be.
        allowed: u64,
    },
    /// Some agents could not join.
    #[error("not all agents could join: {0}")]
    NotAllJoined(Tally),
    /// There are no random numbers.
    #[error("no random bytes: {0}")]
    Random(#[from] getrandom::Error),
    /// A call of the system failed.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Lets this process have `wanted` connections.
fn descriptors(wanted: usize) -> Result<(), LoadError> {
    match crate::descriptors::raise()? {
        Some(allowed) if allowed < wanted as u64 => Err(LoadError::Descriptors { wanted, allowed }),
        _ => Ok(()),
    }
}

/// Reads a number of seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds")?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// What the wall clock says.
pub(crate) fn unix_now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = since.map_or(0, |since| since.as_millis());
    UnixMillis(i64::try_from(millis).unwrap_or(i64::MAX))
}
