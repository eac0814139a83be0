//! The report on a relay's health (protocol section 5).

use core::fmt::Write as _;
use core::time::Duration;

use http::{Response, StatusCode};

use super::RelayStats;
use crate::http::respond;

/// A field of `/health`, and where its value comes from.
pub type HealthCounter = (&'static str, fn() -> u64);

/// What a report says besides the [`RelayStats`].
#[derive(Clone, Copy, Debug)]
pub struct Health<'a> {
    /// How long the relay has been running.
    pub uptime: Duration,
    /// A task that has panicked, and without which the relay is none.
    pub dead_task: Option<&'static str>,
    /// The name of the runtime.
    pub runtime: &'static str,
    /// Counters of the program around the relay.
    pub counters: &'a [HealthCounter],
}

impl Health<'_> {
    /// Returns the report: with status 200 if all is well, 503 if a task has died.
    #[must_use]
    pub fn report(&self, stats: &RelayStats) -> Response<String> {
        let (code, status) = match self.dead_task {
            None => (StatusCode::OK, "ok".to_owned()),
            Some(task) => {
                let status = format!("the {task} task has died");
                (StatusCode::SERVICE_UNAVAILABLE, status)
            }
        };
        // The Go relay calls its tasks goroutines, and monitors read that.
        let mut body = format!(
            r#"{{"status":"{status}","connections":{},"tasks":{tasks},"goroutines":{tasks},"uptime_seconds":{},"version":"{}","runtime":"{}","store":"{}","stored":{}"#,
            stats.hub.connections,
            self.uptime.as_secs(),
            env!("CARGO_PKG_VERSION"),
            self.runtime,
            stats.store.as_str(),
            stats.hub.stored,
            tasks = stats.tasks,
        );
        let rejected = stats.handshakes.rejected.each();
        let rejected: Vec<_> = rejected
            .map(|(reason, count)| format!(r#""{reason}":{count}"#))
            .collect();
        let _ = write!(
            body,
            r#","pending":{},"rejected":{{{}}}"#,
            stats.pending,
            rejected.join(",")
        );
        let memory = if stats.hub.is_memory_short() {
            "short"
        } else {
            "ok"
        };
        let _ = write!(
            body,
            r#","memory":"{memory}","held_bytes":{},"closed":{{"stalled":{},"unacknowledged":{},"memory":{}}}"#,
            stats.hub.held_bytes, stats.hub.stalls, stats.hub.ack_timeouts, stats.hub.memory_closes,
        );
        for (name, count) in self.counters {
            let _ = write!(body, r#","{name}":{}"#, count());
        }
        body.push('}');
        respond(code, "application/json", body)
    }
}
