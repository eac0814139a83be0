//! Settings from the environment, and what a program says of itself.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};

use crate::relay::{RELAYS, Relay};

/// Runs `program`, which is expected to end by itself.
fn run(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(program);
    command.env_clear().envs(variables.iter().copied());
    command.args(arguments).current_dir(directory.path());
    command.output().unwrap()
}

#[test]
fn a_port_from_the_environment_is_one_of_every_interface() {
    for (_, program) in RELAYS {
        for variable in ["PINCH_RELAY_PORT", "PORT"] {
            let mut relay = Relay::start_with(program, &["--db=none"], |command| {
                // An empty one counts as unset.
                command.env("PINCH_RELAY_PORT", "").env(variable, "0");
            });
            let port = relay.address.rsplit_once(':').unwrap().1.parse().unwrap();
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
                TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
            }
            relay.terminate();
        }
    }
}

#[test]
fn wrong_settings_end_the_start_with_code_2() {
    let cases = [
        ("PINCH_RELAY_PROT", "1", "the nearest is PINCH_RELAY_PORT"),
        ("PINCH_TURNSTILE_SECRET_KEY", "1x0", "locks a relay"),
        ("PORT", "http", "expected a port"),
    ];
    for (_, program) in RELAYS {
        for (name, value, expected) in cases {
            let output = run(program, &[], &[(name, value)]);
            assert_eq!(output.status.code(), Some(2));
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(said.contains(name) && said.contains(expected), "{said}");
        }
    }
}

#[test]
fn a_number_of_threads_that_makes_no_sense_is_an_error_and_no_panic() {
    let (_, program) = RELAYS[0];
    for nonsense in ["0", "many"] {
        let variables = [("TOKIO_WORKER_THREADS", nonsense)];
        let output = run(program, &["--db=none"], &variables);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        let expected = format!("TOKIO_WORKER_THREADS is {nonsense:?}, expected a number");
        assert!(said.contains(&expected), "{said}");
    }
    let mut relay = Relay::start(program, |command| {
        command.env("TOKIO_WORKER_THREADS", "");
    });
    relay.terminate();
}

#[test]
fn every_program_says_its_name_and_version() {
    let others = [
        ("agent", env!("CARGO_BIN_EXE_agent")),
        ("measure", env!("CARGO_BIN_EXE_measure")),
        ("axum-embed", env!("CARGO_BIN_EXE_axum-embed")),
    ];
    let relays = RELAYS.map(|(runtime, program)| (format!("relay-{runtime}"), program));
    let others = others.map(|(name, program)| (name.to_owned(), program));
    for (name, program) in relays.into_iter().chain(others) {
        let output = run(program, &["--version"], &[]);
        assert_eq!(output.status.code(), Some(0));
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said, format!("{name} {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn health_counts_tasks_by_both_of_their_names() {
    for (runtime, program) in RELAYS {
        let mut relay = Relay::start(program, |_| ());
        let health = relay.health();
        assert_eq!(health["runtime"], runtime);
        assert!(health["tasks"].as_u64().unwrap() > 0);
        assert_eq!(health["goroutines"], health["tasks"]);
        assert_eq!(health["log_lines_lost"], 0);
        relay.terminate();
    }
}
