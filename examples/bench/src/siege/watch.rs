//! The relay as it is seen from outside: how it answers, and how much memory it holds.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

use crate::process::Sample;

/// How often memory is looked at.
const TICK: Duration = Duration::from_millis(100);

/// How often `/health` is asked for.
const HEALTH: Duration = Duration::from_secs(1);

/// After so long, `/health` counts as unanswered.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was seen.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Watched {
    /// The most bytes of memory that it held (`RssAnon`), if known.
    pub peak_bytes: Option<u64>,
    /// Its CPU time in seconds, if known.
    pub cpu_seconds: Option<f64>,
    /// How often `/health` was answered.
    pub answered: usize,
    /// How often it was not.
    pub unanswered: usize,
    /// The longest that an answer took, in milliseconds.
    pub slowest_answer_ms: f64,
    /// The most connections that it had.
    pub most_connections: u64,
    /// Its states, in the order in which they were seen first.
    pub states: Vec<String>,
    /// Its last answer.
    pub health: Value,
    /// Whether it was there in the end.
    pub has_survived: bool,
}

/// Watches until it is `over`.
pub(super) fn watch(relay: SocketAddr, pid: u32, over: &AtomicBool) -> Watched {
    let before = Sample::of(Some(pid));
    let mut watched = Watched::default();
    let mut asked: Option<Instant> = None;
    while !over.load(Ordering::Acquire) {
        let sample = Sample::of(Some(pid));
        watched.peak_bytes = watched.peak_bytes.max(sample.anonymous_bytes());
        watched.cpu_seconds = sample.cpu_seconds_since(&before);
        if asked.is_none_or(|asked| asked.elapsed() >= HEALTH) {
            asked = Some(Instant::now());
            watched.ask(relay);
        }
        thread::sleep(TICK);
    }
    watched.ask(relay);
    watched
}

impl Watched {
    fn ask(&mut self, relay: SocketAddr) {
        let begin = Instant::now();
        let Ok(health) = health(relay) else {
            self.unanswered += 1;
            return;
        };
        self.answered += 1;
        let took = begin.elapsed().as_secs_f64() * 1e3;
        self.slowest_answer_ms = self.slowest_answer_ms.max(took);
        let connections = health["connections"].as_u64().unwrap_or_default();
        self.most_connections = self.most_connections.max(connections);
        let state = health["status"].as_str().unwrap_or_default().to_owned();
        if !self.states.contains(&state) {
            self.states.push(state);
        }
        self.health = health;
    }
}

fn health(relay: SocketAddr) -> io::Result<Value> {
    let mut stream = TcpStream::connect_timeout(&relay, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer
        .split_once("\r\n\r\n")
        .ok_or(ErrorKind::InvalidData)?;
    Ok(serde_json::from_str(body)?)
}
