//! Tools of the command line: `tool.mjs`, an agent as a row of short runs of a program.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use futures_util::future::join_all;
use pinch_proto::{Address, Host, SecretKey};
use serde::Deserialize;
use serde_json::json;

use crate::peer::to_hex;
use crate::relay::Relay;
use crate::row::Mode;
use crate::setup::{Language, Program};
use crate::{HOST, LIMIT, soon};

/// How long a run lasts beyond its join, at most.
const RUN_LIMIT_MS: u32 = 60;

const ROUNDS: u32 = 50;

/// Messages that come while the recipient does not run, in each round.
const OFFLINE: usize = 5;

/// The pairs of agents that share the rounds: whether handlers are attached before the join, and
/// after how many ms of silence a run ends.
const PAIRS: [(bool, u32); 5] = [(true, 8), (false, 8), (true, 20), (false, 20), (true, 40)];

/// What an agent knows between its runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Store {
    contact: String,
    requests: u32,
    responses: u32,
    /// By the message's id: `sent`, then `delivered`.
    sent: BTreeMap<String, String>,
    /// By the message's id: `received`, then `confirmed`.
    received: BTreeMap<String, String>,
    failures: Vec<String>,
}

/// An agent that is a program now and then.
#[derive(Debug)]
struct Tool<'a> {
    program: &'a Program,
    relay: &'a Relay,
    seed: [u8; 32],
    peer: String,
    store: PathBuf,
    is_early: bool,
    quiet_ms: u32,
}

impl Tool<'_> {
    /// One run.
    async fn run(&self, work: &str) -> Store {
        self.run_with(work, 1).await
    }

    /// One run, which sends `count` messages if it is there to send.
    async fn run_with(&self, work: &str, count: usize) -> Store {
        let task = json!({
            "do": work,
            "count": count,
            "url": self.relay.url,
            "host": HOST,
            "seed": to_hex(&self.seed),
            "peer": self.peer,
            "store": self.store,
            "early": self.is_early,
            "quiet": self.quiet_ms,
            "limit": RUN_LIMIT_MS,
        });
        let mut command = self.program.command();
        command.arg(task.to_string()).stdin(Stdio::null());
        let run = command.kill_on_drop(true).status();
        let status = soon(work, run).await.expect("Node can be run");
        assert!(status.success(), "{work}: {status}");
        let text = fs::read_to_string(&self.store).expect("the run wrote it");
        let store: Store = serde_json::from_str(&text).expect("it is JSON");
        assert_eq!(store.failures, Vec::<String>::new(), "{work}");
        store
    }

    /// Runs until `is_done`: where the machine is slow, a run may be over before its queue comes.
    async fn run_until(&self, work: &str, is_done: impl Fn(&Store) -> bool) {
        let runs = async { while !is_done(&self.run(work).await) {} };
        soon(work, runs).await;
    }
}

/// Whether these are `total` messages, and all in this state.
fn are_all(states: &BTreeMap<String, String>, state: &str, total: usize) -> bool {
    states.len() == total && states.values().all(|now| now == state)
}

/// A run of Alice sends messages, then Bob runs until he has them all: `total`, with those before.
async fn deliver(alice: &Tool<'_>, bob: &Tool<'_>, count: usize, total: usize) {
    // The contact may not be active yet in the first run.
    let sends = async { while alice.run_with("send", count).await.sent.len() != total {} };
    soon("send", sends).await;
    let has_all = |store: &Store| are_all(&store.received, "confirmed", total);
    bob.run_until("history", has_all).await;
}

/// A round: connect, accept, send, history, status, then messages to a recipient that is offline.
async fn round(alice: &Tool<'_>, bob: &Tool<'_>, number: u32, before: usize) {
    let is_pending = |store: &Store| store.contact == "pending_outbound";
    alice.run_until("connect", is_pending).await;
    let is_accepted = |store: &Store| store.responses == number;
    bob.run_until("accept", is_accepted).await;
    deliver(alice, bob, 1, before + 1).await;
    let is_settled = |store: &Store| are_all(&store.sent, "delivered", before + 1);
    alice.run_until("status", is_settled).await;
    deliver(alice, bob, OFFLINE, before + 1 + OFFLINE).await;
}

async fn pair(program: &Program, relay: &Relay, folder: &Path, number: u8) {
    let (is_early, quiet_ms) = PAIRS[usize::from(number)];
    let host = Host::parse(HOST).expect("a host");
    let seeds = [[2 * number + 1; 32], [2 * number + 2; 32]];
    let address = |seed| Address::from_public_key(&SecretKey::from_seed(seed).public_key(), &host);
    let tool = |own: usize| Tool {
        program,
        relay,
        seed: seeds[own],
        peer: address(seeds[1 - own]).to_string(),
        store: folder.join(format!("{number}-{own}.json")),
        is_early,
        quiet_ms,
    };
    let (alice, bob) = (tool(0), tool(1));
    let rounds = ROUNDS / u32::try_from(PAIRS.len()).expect("a small number");
    let mut total = 0;
    for number in 1..=rounds {
        round(&alice, &bob, number, total).await;
        total += 1 + OFFLINE;
    }
    let is_settled = |store: &Store| are_all(&store.sent, "delivered", total);
    alice.run_until("status", is_settled).await;
    // Nothing is left, and nothing comes again.
    for (tool, requests) in [(&alice, 0), (&bob, rounds)] {
        let before = tool.run("status").await;
        assert_eq!((before.requests, before.responses), (requests, rounds));
        assert_eq!(before.contact, "active");
        assert_eq!(tool.run("status").await, before);
    }
    let (alice, bob) = (alice.run("status").await, bob.run("status").await);
    let ids = |states: BTreeMap<String, String>| states.into_keys().collect::<Vec<_>>();
    assert_eq!(ids(alice.sent), ids(bob.received));
}

#[tokio::test]
async fn fifty_rounds_of_short_runs_lose_nothing_and_get_nothing_twice() {
    let test = "fifty_rounds_of_short_runs_lose_nothing_and_get_nothing_twice";
    let Some(program) = Language::tool(test) else {
        return;
    };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let db = directory.path().join("queue.db");
    let db = ["--db", db.to_str().expect("text")];
    let relay = Relay::start(Mode::Challenge, &db).await;
    let pairs = (0..).zip(PAIRS);
    let pairs = pairs.map(|(number, _)| pair(&program, &relay, directory.path(), number));
    let all = tokio::time::timeout(10 * LIMIT, join_all(pairs)).await;
    all.expect("the rounds come to an end");
}
