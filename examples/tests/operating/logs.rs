//! Whatever happens to the logs, the relay goes on and ends in order.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Resource, Signal, kill_process};

use crate::relay::{Agent, RELAYS, Relay, eventually};

/// A place that takes nothing, as a full disk.
fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

/// Shows that everything of `relay` works, and ends it in order.
fn still_serves(mut relay: Relay) {
    assert_eq!(relay.health()["status"], "ok");
    let mut agent = Agent::join(&relay, "somebody");
    relay.signal(Signal::TERM);
    assert_eq!(agent.close_code(), Some(1001));
    assert_eq!(relay.ended().code(), Some(0));
}

#[test]
fn a_relay_starts_and_ends_while_the_disk_of_its_logs_is_full() {
    for (_, program) in RELAYS {
        let relay = Relay::start(program, |command| {
            command.stderr(full());
        });
        // The line that says that it has started is one of those.
        let lost = || relay.health()["log_lines_lost"].as_u64().unwrap();
        eventually("a lost line is counted", || lost() > 0);
        Agent::join(&relay, "stranger").violate();
        still_serves(relay);
    }
}

#[test]
fn a_closed_pipe_and_a_lack_of_descriptors_end_nothing() {
    for (_, program) in RELAYS {
        let mut relay = Relay::start(program, |command| {
            command.stderr(Stdio::piped());
        });
        drop(relay.child.stderr.take());
        Agent::join(&relay, "stranger").violate();
        let lost = || relay.health()["log_lines_lost"].as_u64().unwrap();
        eventually("a lost line is counted", || lost() > 0);
        // Now and then no connection can be accepted, and a line says so.
        let before = lost();
        eventually("the lack of descriptors is logged", || {
            relay.limit(Resource::Nofile, Some(3));
            drop(relay.connect());
            relay.limit(Resource::Nofile, Some(1024));
            lost() > before
        });
        still_serves(relay);
    }
}

#[test]
fn a_log_reader_that_stops_stops_nothing() {
    for (_, program) in RELAYS {
        let mut relay = Relay::start(program, |command| {
            command.stderr(Stdio::piped()).env("RUST_LOG", "debug");
        });
        // A pipe holds 64 KiB, and each of these is some 500 bytes.
        for n in 0..400 {
            Agent::join(&relay, &format!("stranger{n}")).violate();
        }
        let mut logs = relay.child.stderr.take().unwrap();
        still_serves(relay);
        let mut said = String::new();
        logs.read_to_string(&mut said).unwrap();
        assert!(said.contains("joined"), "{said}");
    }
}

#[test]
fn a_relay_whose_first_line_nobody_reads_goes_on() {
    for (_, program) in RELAYS {
        let closed = std::io::pipe().unwrap().1;
        for stdout in [Stdio::from(closed), full().into()] {
            let directory = tempfile::tempdir().unwrap();
            let mut command = Command::new(program);
            command
                .env_clear()
                .args(["--listen=127.0.0.1:0", "--db=none"]);
            command.stdout(stdout).stderr(Stdio::piped());
            let mut child = command.current_dir(directory.path()).spawn().unwrap();
            let mut logs = BufReader::new(child.stderr.take().unwrap());
            let mut line = String::new();
            while !line.contains("cannot write to stdout") {
                line.clear();
                assert!(logs.read_line(&mut line).unwrap() > 0, "it has ended");
            }
            let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
            kill_process(pid, Signal::TERM).unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(0));
        }
    }
}

#[test]
fn what_a_full_disk_has_swallowed_is_said_when_there_is_room_again() {
    let (_, program) = RELAYS[0];
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = OpenOptions::new().append(true).create(true).open(&path);
    let relay = Relay::start(program, |command| {
        command.stderr(log.unwrap()).arg("--db=none");
    });
    eventually("a line", || {
        fs::read_to_string(&path).unwrap().contains("started")
    });
    relay.limit(Resource::Fsize, Some(0));
    Agent::join(&relay, "stranger").violate();
    let lost = || relay.health()["log_lines_lost"].as_u64().unwrap();
    eventually("a lost line is counted", || lost() == 1);
    relay.limit(Resource::Fsize, None);
    // The end of another kind.
    drop(Agent::join(&relay, "stranger"));
    let expected = "log lines were lost lines=1";
    let says_so = || fs::read_to_string(&path).unwrap().contains(expected);
    eventually("the loss is said", says_so);
    still_serves(relay);
    let said = fs::read_to_string(&path).unwrap();
    assert!(said.contains("connection ended abnormally"), "{said}");
    assert!(said.contains("agent=stranger"), "{said}");
}

#[test]
fn a_flood_of_violations_is_a_few_lines() {
    let (_, program) = RELAYS[0];
    let mut relay = Relay::start(program, |command| {
        command.stderr(Stdio::piped());
    });
    for n in 0..500 {
        Agent::join(&relay, &format!("stranger{n}")).violate();
    }
    let mut logs = relay.child.stderr.take().unwrap();
    relay.terminate();
    let mut said = String::new();
    logs.read_to_string(&mut said).unwrap();
    let lines = said.lines().filter(|line| line.contains("abnormally"));
    // A line at once, and one for each ten seconds that this has taken, and one at the end.
    assert!(lines.count() < 20, "{said}");
    assert!(said.contains("count="), "{said}");
}

#[test]
fn no_program_panics_where_nobody_reads() {
    let programs = RELAYS.map(|(_, program)| program);
    let others = [
        env!("CARGO_BIN_EXE_agent"),
        env!("CARGO_BIN_EXE_measure"),
        env!("CARGO_BIN_EXE_axum-embed"),
    ];
    let directory = tempfile::tempdir().unwrap();
    let run = |program: &str, arguments: &[&str], stdout: Stdio| {
        let mut command = Command::new(program);
        command.env_clear().current_dir(directory.path());
        command.args(arguments).stdin(Stdio::null()).stdout(stdout);
        command.stderr(full()).status().unwrap()
    };
    let closed = || {
        let (_, writer) = std::io::pipe().unwrap();
        Stdio::from(writer)
    };
    for program in programs.iter().chain(&others) {
        for arguments in [["--help"].as_slice(), &["--version"], &["--nonsense"]] {
            for stdout in [closed(), full().into()] {
                let status = run(program, arguments, stdout);
                assert!(
                    matches!(status.code(), Some(0..=2)),
                    "{program} {arguments:?}: {status}"
                );
            }
        }
    }
    pinch_store_redb::RedbStore::open(directory.path().join("pinch-relay.db")).unwrap();
    let commands = [
        (programs[0], ["queue", "inspect"].as_slice()),
        (programs[0], &["queue", "inspect", "--json"]),
        (
            others[0],
            &["address", "--key", "key.json", "--host", "relay"],
        ),
    ];
    for (program, arguments) in commands {
        for stdout in [closed(), full().into()] {
            let status = run(program, arguments, stdout);
            assert!(
                matches!(status.code(), Some(0 | 1)),
                "{arguments:?}: {status}"
            );
        }
    }
}
