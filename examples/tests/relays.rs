//! The relay binaries differ in their runtime alone: the same first line, the same health but for
//! the runtime's name, the same end.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use core::time::Duration;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use pinch_store_redb::RedbStore;
use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything here takes, so that what hangs fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A relay, ended when the test is.
struct Relay(Child);

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The body of the answer to a GET of `/health`, and the connection, whose other half is still open.
fn health(address: &str) -> (serde_json::Value, TcpStream) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET /health HTTP/1.1\r\nhost: {address}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    (serde_json::from_str(body).unwrap(), stream)
}

#[test]
fn each_relay_starts_without_configuration_names_its_runtime_and_ends_in_order() {
    let relays = [
        ("tokio", env!("CARGO_BIN_EXE_relay-tokio")),
        ("smol", env!("CARGO_BIN_EXE_relay-smol")),
        ("async-std", env!("CARGO_BIN_EXE_relay-async-std")),
        ("mio", env!("CARGO_BIN_EXE_relay-mio")),
    ];
    for (runtime, program) in relays {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        command.env_clear().args(["--listen", "127.0.0.1:0"]);
        command.args(["--shards", "1"]);
        command.current_dir(directory.path());
        let command = command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut relay = Relay(command.spawn().unwrap());
        let mut output = BufReader::new(relay.0.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on ws://").unwrap();
        let address = address.strip_suffix("/ws\n").unwrap();

        let (first, open) = health(address);
        assert_eq!(first["runtime"], runtime);
        assert_eq!(first["connections"], 0);
        // The store's and this one's; and the timer's and the listener's, or the loop's.
        let tasks = if runtime == "mio" { 3 } else { 4 };
        assert_eq!(first["tasks"], tasks, "{runtime}");
        assert_eq!(
            (&first["store"], &first["stored"]),
            (&"ok".into(), &0.into())
        );
        // The end of an answer is told at once, and not by dropping who was answered.
        let (second, _) = health(address);
        assert_eq!(
            second["tasks"],
            tasks + 1,
            "{runtime} waits for the first to close its half"
        );
        drop(open);

        let pid = Pid::from_raw(relay.0.id().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        assert_eq!(relay.0.wait().unwrap().code(), Some(0), "{runtime}");
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "", "{runtime} says one line");
        let queue = directory.path().join("pinch-relay.db");
        let inspection = RedbStore::inspect(queue).unwrap();
        assert_eq!((inspection.count, inspection.blocks), (0, 0));
    }
}

#[test]
fn relay_mio_takes_a_number_of_threads_from_the_environment_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let run = |threads: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_relay-mio"));
        command.env_clear().env("PINCH_MIO_THREADS", threads);
        command.args(["--listen", "127.0.0.1:0", "--db", "none"]);
        command.current_dir(directory.path());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Relay(command.spawn().unwrap())
    };
    for nonsense in ["0", "two", " ", "1025"] {
        let mut relay = run(nonsense);
        let (mut said, mut log) = (String::new(), String::new());
        let stdout = relay.0.stdout.as_mut().unwrap();
        stdout.read_to_string(&mut said).unwrap();
        let stderr = relay.0.stderr.as_mut().unwrap();
        stderr.read_to_string(&mut log).unwrap();
        assert_eq!(relay.0.wait().unwrap().code(), Some(1));
        let expected = format!(
            "cannot start the runtime: PINCH_MIO_THREADS is {nonsense:?}, expected a number of threads from 1 to 1024"
        );
        assert!(log.contains(&expected), "{log}");
        assert_eq!(said, "");
    }
    for threads in ["1", ""] {
        let mut relay = run(threads);
        let mut line = String::new();
        let stdout = relay.0.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert!(line.starts_with("listening on ws://"), "{line}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn relays_share_a_port_if_all_of_them_say_so() {
    let start = |flags: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_relay-tokio"));
        command.env_clear().args(["--db", "none"]).args(flags);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut relay = Relay(command.spawn().unwrap());
        let mut line = String::new();
        let stdout = relay.0.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        (relay, line)
    };
    let (first, line) = start(&["--reuse-port", "--listen", "127.0.0.1:0"]);
    let address = line.strip_prefix("listening on ws://").unwrap();
    let address = address.strip_suffix("/ws\n").unwrap();
    let (second, again) = start(&["--reuse-port", "--listen", address]);
    assert_eq!(again, line);
    let (mut third, said) = start(&["--listen", address]);
    assert_eq!(
        (said.as_str(), third.0.wait().unwrap().code()),
        ("", Some(1))
    );
    let mut log = String::new();
    let stderr = third.0.stderr.as_mut().unwrap();
    stderr.read_to_string(&mut log).unwrap();
    assert!(
        log.contains(&format!("cannot listen on {address}")),
        "{log}"
    );

    // Whoever is left gets everything.
    drop(first);
    for _ in 0..20 {
        assert_eq!(health(address).0["status"], "ok");
    }
    drop(second);
    TcpStream::connect(address).unwrap_err();
}
