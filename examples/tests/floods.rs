//! The relay binaries under floods from one address, with their default limits: health is answered,
//! agents join, and those that are there notice nothing.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use core::time::Duration;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use pinch_examples::descriptors;
use pinch_proto::client::{Event, Identity};
use pinch_proto::wire::Envelope;
use pinch_proto::{Host, SecretKey};
use pinch_tokio::Client;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tempfile::TempDir;
use tokio::time::timeout;

/// Longer than anything here takes, so that what hangs fails.
const PATIENCE: Duration = Duration::from_secs(60);

const RELAYS: [&str; 4] = [
    env!("CARGO_BIN_EXE_relay-tokio"),
    env!("CARGO_BIN_EXE_relay-smol"),
    env!("CARGO_BIN_EXE_relay-async-std"),
    env!("CARGO_BIN_EXE_relay-mio"),
];

/// A relay, ended when the test is.
struct Relay {
    process: Child,
    address: String,
    directory: TempDir,
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Relay {
    fn start(program: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = File::create(directory.path().join("log")).unwrap();
        let mut command = Command::new(program);
        command.env_clear().args(["--listen", "127.0.0.1:0"]);
        command.current_dir(directory.path());
        let mut process = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        let stdout = process.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on ws://").unwrap();
        let address = address.strip_suffix("/ws\n").unwrap().to_owned();
        Self {
            process,
            address,
            directory,
        }
    }

    fn half_request(&self) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        // One that has given way already may be told so by a reset.
        let _ = stream.write_all(b"GET /ws HTTP/1.1\r\nHost: ");
        stream
    }

    fn try_health(&self) -> io::Result<serde_json::Value> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::Other)?;
        if head.starts_with("HTTP/1.1 200 OK\r\n") {
            serde_json::from_str(body).map_err(io::Error::other)
        } else {
            Err(io::Error::other(head.to_owned()))
        }
    }

    fn health(&self) -> serde_json::Value {
        self.try_health().unwrap()
    }

    /// An agent that has joined.
    async fn join(&self, seed: u8) -> Client {
        let secret = SecretKey::from_seed([seed; 32]);
        let host = Host::parse("localhost").unwrap();
        let url = format!("ws://{}/ws", self.address);
        let joining = Client::builder(url, Identity::Key { secret, host }).connect();
        timeout(PATIENCE, joining).await.unwrap().unwrap()
    }

    /// The log, once it has a line with `text`: it is written in the background.
    fn log_with(&self, text: &str) -> String {
        let begun = Instant::now();
        loop {
            let log = fs::read_to_string(self.directory.path().join("log")).unwrap();
            if log.contains(text) {
                return log;
            }
            assert!(begun.elapsed() < PATIENCE, "no {text:?} in {log}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// `from` sends `to` an envelope, which arrives.
async fn talk(from: &Client, to: &mut Client) {
    let to_address = to.address().to_string();
    let sent = from.send(Envelope {
        to_address,
        ..Envelope::default()
    });
    timeout(PATIENCE, sent).await.unwrap().unwrap();
    loop {
        let event = timeout(PATIENCE, to.next_event()).await.unwrap();
        let event = event.expect("it is connected");
        assert!(!matches!(event, Event::Disconnected { .. }), "{event:?}");
        if matches!(event, Event::Received(_)) {
            return;
        }
    }
}

#[test]
fn thousands_of_half_requests_from_one_address_do_not_take_a_relay_away() {
    const HALF_REQUESTS: usize = 4100;

    let allowed = descriptors::raise().unwrap();
    if allowed.is_some_and(|allowed| allowed < HALF_REQUESTS + 500) {
        // Then the relay has as few, and fewer may be pending: the next test.
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for program in RELAYS {
        let relay = Relay::start(program);
        runtime.block_on(async {
            let alice = relay.join(1).await;
            let mut flood: Vec<_> = (0..HALF_REQUESTS).map(|_| relay.half_request()).collect();
            assert_eq!(relay.health()["status"], "ok", "{program}");
            let mut bob = relay.join(2).await;
            talk(&alice, &mut bob).await;
            let mut carols = Vec::new();
            for round in 0..5_u8 {
                drop(flood.drain(..410));
                flood.extend((0..410).map(|_| relay.half_request()));
                assert_eq!(relay.health()["connections"], 2 + round, "{program}");
                let mut carol = relay.join(10 + round).await;
                talk(&alice, &mut carol).await;
                carols.push(carol);
            }
            talk(&alice, &mut bob).await;
        });
        let evicted = relay.health()["rejected"]["evicted"].as_u64().unwrap();
        assert!(evicted > 0, "{program}");
        let log = relay.log_with("evicted");
        assert!(log.contains("127.0.0.1"), "{program}: {log}");
        assert!(log.lines().count() < 50, "{program}: {log}");
    }
}

/// What a relay logs when the system gives it no socket.
const NOT_ACCEPTED: &str = "cannot accept a connection";

#[test]
fn a_relay_without_descriptors_answers_and_writes_few_lines() {
    for program in RELAYS {
        let relay = Relay::start(program);
        let pid = relay.process.id();
        relay.health();
        let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        // Lowered behind its back: it has set its own limits by more.
        let limit = Some(u64::try_from(open + 20).unwrap());
        let limit = Rlimit {
            current: limit,
            maximum: limit,
        };
        let pid = Pid::from_raw(pid.try_into().unwrap());
        prlimit(pid, Resource::Nofile, limit).unwrap();
        let flood: Vec<_> = (0..200).map(|_| relay.half_request()).collect();
        let begun = Instant::now();
        while let Err(error) = relay.try_health() {
            assert!(begun.elapsed() < PATIENCE, "{program}: {error}");
        }
        drop(flood);
        while relay.try_health().is_err() {
            assert!(begun.elapsed() < PATIENCE, "{program}");
        }
        let lines = relay.log_with(NOT_ACCEPTED).matches(NOT_ACCEPTED).count();
        let most = 2 + begun.elapsed().as_secs() / 5;
        assert!(lines as u64 <= most, "{program}: {lines} lines");
    }
}
