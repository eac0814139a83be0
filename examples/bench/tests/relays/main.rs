//! The load generator against relays: ours in both modes, and every relay that is compared with
//! them. Each has to relay everything once, in order and unchanged.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

mod process;

use core::time::Duration;
#[cfg(unix)]
use std::path::Path;

use pinch_bench::load::idle::{self, Idle};
use pinch_bench::load::throughput::{self, Throughput};
use pinch_bench::load::{Auth, LoadError, Target, describe_idle, describe_throughput};
use pinch_tokio::Relay;
use pinch_tokio::proto::Host;
use pinch_tokio::proto::hub::Config;

use crate::process::Process;

const HOST: &str = "relay.example.com";

fn target(url: &str, auth: Auth) -> Target {
    Target {
        url: url.to_owned(),
        host: Host::parse(HOST).unwrap(),
        auth,
        pid: Some(std::process::id()),
        concurrency: 8,
        spin: false,
    }
}

fn traffic(target: Target) -> Throughput {
    Throughput {
        target,
        pairs: 4,
        size: 256,
        window: 16,
        secs: Duration::from_millis(300),
        warmup: Duration::from_millis(100),
    }
}

fn staying(target: Target) -> Idle {
    Idle {
        target,
        conns: 40,
        settle: Duration::ZERO,
        hold: Duration::ZERO,
        envelope: Some(65_000),
    }
}

/// Puts all loads on the relay at `url`.
fn loads(url: &str, auth: Auth) {
    let report = throughput::run(&traffic(target(url, auth))).unwrap();
    assert!(report.account.is_clean(), "{report:?}");
    assert_eq!(report.account.arrived, report.account.sent);
    assert!(report.messages > 0 && report.account.sent > report.messages);
    assert_eq!(report.joins.joined, 8);
    assert!(report.latency_us["p50"] > 0.0);
    assert!(report.latency_us["p50"] <= report.latency_us["max"]);

    let large = Throughput {
        size: 65_000,
        window: 4,
        ..traffic(target(url, auth))
    };
    let report = throughput::run(&large).unwrap();
    assert!(report.account.is_clean(), "{report:?}");
    assert!(report.envelope_bytes > 65_000);

    let report = idle::run(&staying(target(url, auth))).unwrap();
    assert_eq!(report.joins.joined, 41);
    assert_eq!(report.envelopes_lost, 0);
    assert_eq!(report.disconnects.total(), 0, "{report:?}");
}

/// Runs `test` with the URL of a relay of ours.
fn with_ours(auth: pinch_tokio::Auth, test: impl FnOnce(&str)) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let hub = Config::new(Host::parse(HOST).unwrap())
        .rate_limit(None)
        .join_limit(None);
    let relay = Relay::builder().hub(hub).auth(auth);
    let relay = runtime.block_on(relay.bind(([127, 0, 0, 1], 0))).unwrap();
    test(&format!("ws://{}/ws", relay.local_addr().unwrap()));
    runtime.block_on(relay.shutdown());
}

#[test]
fn our_relay_relays_everything_in_open_mode() {
    with_ours(pinch_tokio::Auth::Open, |url| loads(url, Auth::Open));
}

#[test]
fn our_relay_relays_everything_in_challenge_mode() {
    with_ours(pinch_tokio::Auth::Challenge, |url| {
        loads(url, Auth::Challenge);
    });
}

#[test]
fn pings_are_answered_while_agents_stay() {
    with_ours(pinch_tokio::Auth::Challenge, |url| {
        let report = idle::run(&staying(target(url, Auth::Challenge))).unwrap();
        // To each agent comes one before its first envelope.
        assert!(report.pings >= 40, "{report:?}");
    });
}

#[test]
fn the_floor_relays_everything() {
    let floor = Process::start(env!("CARGO_BIN_EXE_floor"), &[]);
    loads(&floor.url, Auth::Open);
}

#[test]
fn the_hubs_relay_everything_in_batches_or_not() {
    for program in [
        env!("CARGO_BIN_EXE_hub-tungstenite"),
        env!("CARGO_BIN_EXE_hub-fastwebsockets"),
    ] {
        for flags in [&[][..], &["--batch"]] {
            loads(&Process::start(program, flags).url, Auth::Open);
        }
    }
}

#[cfg(unix)]
#[test]
fn the_hub_on_node_relays_everything() {
    use pinch_conformance::packages::{npm, or_skip};

    let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let installed = npm(parent, "bench-peers", &peers);
    let Some(directory) = or_skip("the_hub_on_node_relays_everything", installed) else {
        return;
    };
    // Node looks for packages beside the program.
    for file in ["recipient.mjs", "ws.mjs"] {
        std::fs::copy(peers.join(file), directory.join(file)).unwrap();
    }
    let program = directory.join("ws.mjs");
    let hub = Process::start("node", &[program.to_str().unwrap()]);
    loads(&hub.url, Auth::Open);
}

#[test]
fn the_program_reports_to_people_and_to_programs() {
    let floor = Process::start(env!("CARGO_BIN_EXE_floor"), &[]);
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_pinch-load"));
        command
            .args(arguments)
            .args(["--auth", "open", "--url", &floor.url]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let short = [
        "throughput",
        "--pairs",
        "2",
        "--secs",
        "0.2",
        "--warmup",
        "0",
    ];
    let json = run(&[&short[..], &["--json", "--spin"]].concat());
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["scenario"], "throughput");
    assert_eq!(report["account"]["lost"], 0);
    assert!(report["messages_per_second"].as_f64().unwrap() > 0.0);
    // Nobody has said which process it is.
    assert!(report["server_cpu_seconds_per_million"].is_null());

    let text = run(&short);
    assert!(text.contains("lost 0, duplicated 0"), "{text}");
    assert!(text.contains("unknown"), "{text}");
}

#[test]
fn reports_say_what_was_measured() {
    with_ours(pinch_tokio::Auth::Open, |url| {
        let mut text = String::new();
        let report = throughput::run(&traffic(target(url, Auth::Open))).unwrap();
        describe_throughput(&report, &mut text).unwrap();
        let sent = format!(
            "sent {}, arrived {}",
            report.account.sent, report.account.sent
        );
        assert!(text.contains(&sent), "{text}");
        assert!(text.contains("disconnects: none"), "{text}");

        text.clear();
        let report = idle::run(&staying(target(url, Auth::Open))).unwrap();
        describe_idle(&report, &mut text).unwrap();
        assert!(text.starts_with("41 agents joined"), "{text}");
    });
}

#[test]
fn what_cannot_be_measured_is_said() {
    let failure = |target| throughput::run(&traffic(target)).unwrap_err();
    for url in [
        "localhost",
        "http://localhost/ws",
        "ws://",
        "wss://localhost/ws",
    ] {
        let error = failure(target(url, Auth::Open));
        assert!(
            matches!(&error, LoadError::InvalidUrl(said) if said == url),
            "{error}"
        );
    }
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/ws", free.local_addr().unwrap());
    drop(free);
    let error = failure(target(&url, Auth::Open));
    assert!(matches!(error, LoadError::Unreachable { .. }), "{error}");

    with_ours(pinch_tokio::Auth::Challenge, |url| {
        // The relay has another name than the one that is expected.
        let mut elsewhere = target(url, Auth::Challenge);
        elsewhere.host = Host::parse("elsewhere").unwrap();
        let error = failure(elsewhere);
        assert!(matches!(error, LoadError::NotAllJoined(_)), "{error}");
        assert!(error.to_string().contains("relay.example.com"), "{error}");

        if cfg!(target_os = "linux") {
            let mut nobody = target(url, Auth::Challenge);
            nobody.pid = Some(u32::MAX);
            let error = failure(nobody);
            assert!(matches!(error, LoadError::NoProcess { .. }), "{error}");
        }
    });
}

#[test]
fn a_rate_limit_is_told_from_a_loss() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let hub = Config::new(Host::parse(HOST).unwrap());
    let relay = Relay::builder().hub(hub).auth(pinch_tokio::Auth::Open);
    let relay = runtime.block_on(relay.bind(([127, 0, 0, 1], 0))).unwrap();
    let url = format!("ws://{}/ws", relay.local_addr().unwrap());
    let report = throughput::run(&traffic(target(&url, Auth::Open))).unwrap();
    let account = &report.account;
    assert!(
        account.rate_limited > 0 && !account.is_clean(),
        "{account:?}"
    );
    assert_eq!(account.arrived + account.rate_limited, account.sent);
    assert_eq!(account.lost, 0);
    runtime.block_on(relay.shutdown());
}
