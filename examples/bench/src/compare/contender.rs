//! Which relays there are, and how each is started.

use std::ffi::OsString;
use std::path::Path;

use serde::Serialize;

use super::build::Built;
use super::javascript;
use super::results::Skipped;

/// What a relay is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The yardstick.
    Floor,
    /// One of ours.
    Ours,
    /// What one would write or take otherwise.
    Peer,
}

/// A relay that can be started.
#[derive(Debug)]
pub(super) struct Contender {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) program: OsString,
    pub(super) arguments: Vec<OsString>,
}

impl Contender {
    pub(super) fn peer(name: &str, program: impl Into<OsString>, argument: &Path) -> Self {
        Self {
            name: name.to_owned(),
            kind: Kind::Peer,
            program: program.into(),
            arguments: vec![argument.into()],
        }
    }
}

/// Our hubs, each written as usual and once more with its writes in batches.
const HUBS: [(&str, &str); 2] = [
    ("hub-tungstenite", "tokio-tungstenite"),
    ("hub-fastwebsockets", "fastwebsockets"),
];

/// All relays that are here, the floor first, and those that are not.
pub(super) fn all(built: &Built) -> (Vec<Contender>, Vec<Skipped>) {
    let mut contenders = Vec::new();
    let mut add = |name: String, kind, program: &Path, arguments: &[&str]| {
        contenders.push(Contender {
            name,
            kind,
            program: program.into(),
            arguments: arguments.iter().map(OsString::from).collect(),
        });
    };
    for floor in built.peers.iter().filter(|peer| peer.name == "floor") {
        add(floor.name.clone(), Kind::Floor, &floor.path, &[]);
    }
    for relay in &built.relays {
        let flags = [
            "--listen",
            "127.0.0.1:0",
            "--auth",
            "open",
            "--rate-limit",
            "off",
        ];
        add(relay.name.clone(), Kind::Ours, &relay.path, &flags);
    }
    for (program, name) in HUBS {
        for hub in built.peers.iter().filter(|peer| peer.name == program) {
            add(name.to_owned(), Kind::Peer, &hub.path, &[]);
            let batching = format!("{name}-batching");
            add(batching, Kind::Peer, &hub.path, &["--batch"]);
        }
    }
    let mut skipped = Vec::new();
    for found in [javascript::node(&built.target), javascript::bun()] {
        match found {
            Ok(contender) => contenders.push(contender),
            Err(reason) => skipped.push(reason),
        }
    }
    (contenders, skipped)
}
