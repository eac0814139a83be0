//! Results that tests write down, draw and read.

use std::collections::BTreeMap;

use super::load::BURST;
use super::{Comparison, Kind, Measured};
use crate::load::throughput::ThroughputReport;
use crate::load::{Account, Auth, Joins, Tally};

fn relay(name: &str, kind: Kind, rate: f64, cpu: Option<f64>) -> Measured {
    let mut relay = Measured::named(name, kind);
    let joins = Joins {
        joined: 2,
        failed: Tally::default(),
        seconds: 1.0,
        per_second: 2.0,
    };
    let report = ThroughputReport {
        scenario: "throughput",
        url: String::new(),
        auth: Auth::Open,
        pairs: 1,
        size: 1,
        window: 1,
        envelope_bytes: 1,
        joins,
        seconds: 1.0,
        messages: 1,
        messages_per_second: rate,
        latency_us: BTreeMap::new(),
        server_cpu_seconds_per_million: cpu,
        server_cpu_percent: None,
        client_cpu_percent: None,
        server_anonymous_bytes: None,
        account: Account::default(),
    };
    relay.add_throughput(BURST, report);
    relay
}

pub(crate) fn comparison() -> Comparison {
    Comparison {
        date: "2026-01-02".into(),
        machine: "a <machine> & \"more\"".into(),
        command: "cargo run".into(),
        rounds: 1,
        seconds: 4.0,
        connections: 10_000,
        relays: vec![
            relay("slow & <old>", Kind::Peer, 500_000.0, None),
            relay("relay-tokio", Kind::Ours, 1_500_000.0, Some(0.5)),
            relay("floor", Kind::Floor, 3_000_000.0, Some(0.25)),
        ],
        skipped: Vec::new(),
    }
}
