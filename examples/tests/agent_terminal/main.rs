//! The programs as people and supervisors use them: processes, arguments, lines and exit codes.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    reason = "a test ends with what it did not expect"
)]

mod hostile;

use core::time::Duration;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

/// Long enough for a busy machine; nothing waits that long if all is well.
const PATIENCE: Duration = Duration::from_secs(20);

/// A process whose stdout is read line by line. It is killed when it is dropped.
struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Process {
    fn start(mut command: Command) -> Self {
        let command = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            stdout
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        Self {
            stdin: child.stdin.take(),
            child,
            lines,
        }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line in time")
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    fn type_line(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Its exit code, once it has ended by itself.
    fn code(&mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(start.elapsed() < PATIENCE, "it does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Relay {
    process: Process,
    url: String,
}

impl Relay {
    fn start(arguments: &[&str]) -> Self {
        let mut command = relay();
        if !arguments.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.args(arguments);
        let process = Process::start(command);
        let line = process.line();
        let url = line.strip_prefix("listening on ").unwrap().to_owned();
        Self { process, url }
    }

    /// Starts one where another was, once the port can be had: it may be in use for a moment, as
    /// that of another test's connection.
    fn start_at(address: &str) -> Self {
        let start = Instant::now();
        loop {
            let mut command = relay();
            command.args(["--listen", address]);
            let process = Process::start(command);
            if let Ok(line) = process.lines.recv_timeout(PATIENCE) {
                let url = line.strip_prefix("listening on ").unwrap().to_owned();
                return Self { process, url };
            }
            assert!(start.elapsed() < PATIENCE, "the port cannot be had");
        }
    }

    /// Where it listens.
    fn address(&self) -> &str {
        let address = self.url.strip_prefix("ws://").unwrap();
        address.strip_suffix("/ws").unwrap()
    }

    /// Waits until it takes no more connections: it shuts down.
    fn stops_listening(&self) {
        let start = Instant::now();
        while TcpStream::connect(self.address()).is_ok() {
            assert!(start.elapsed() < PATIENCE, "it listens on");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn relay() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay-tokio"));
    command.env_clear().env("RUST_LOG", "warn");
    // A test that wants a queue says where.
    command.env("PINCH_RELAY_DB", "none");
    command
}

/// A person with a key file.
struct Person<'a> {
    directory: TempDir,
    relay: &'a Relay,
}

impl<'a> Person<'a> {
    fn at(relay: &'a Relay) -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            relay,
        }
    }

    fn key(&self) -> PathBuf {
        self.directory.path().join("key.json")
    }

    fn agent(&self, command: &str, arguments: &[&str]) -> Command {
        let mut agent = Command::new(env!("CARGO_BIN_EXE_agent"));
        agent
            .args([command, "--relay", &self.relay.url, "--key"])
            .arg(self.key());
        agent.args(["--host", "localhost"]).args(arguments);
        agent
    }

    fn run(&self, command: &str, arguments: &[&str]) -> Output {
        self.agent(command, arguments).output().unwrap()
    }

    fn address(&self) -> String {
        let output = self.run("address", &[]);
        assert!(output.status.success());
        text(&output.stdout).trim().to_owned()
    }

    /// An agent that has joined.
    fn join(&self, command: &str, arguments: &[&str]) -> Process {
        let process = Process::start(self.agent(command, arguments));
        assert!(process.line().contains("joined"));
        process
    }
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

fn error(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(1));
    text(&output.stderr)
        .lines()
        .find(|line| line.starts_with("error: "))
        .unwrap()
}

#[test]
fn a_message_arrives_as_a_line() {
    let relay = Relay::start(&[]);
    let (alice, bob) = (Person::at(&relay), Person::at(&relay));
    let mut listener = bob.join("listen", &[]);
    let sent = alice.run("send", &[&bob.address(), "Hello,", "Bob\u{1b}[2J\n!"]);
    assert_eq!(sent.status.code(), Some(0));
    assert!(
        text(&sent.stdout)
            .lines()
            .any(|line| line.starts_with("-- sent: "))
    );
    assert_eq!(
        listener.line(),
        format!("{}: Hello, Bob[2J !", alice.address())
    );
    listener.signal("INT");
    assert_eq!(listener.code(), Some(0));
}

#[test]
fn a_message_to_somebody_who_is_away_arrives_when_they_return() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("queue.db");
    let relay = Relay::start(&["--db", path.to_str().unwrap()]);
    let (alice, bob) = (Person::at(&relay), Person::at(&relay));
    let sent = alice.run("send", &[&bob.address(), "Hello"]);
    assert_eq!(sent.status.code(), Some(0));
    let listener = Process::start(bob.agent("listen", &[]));
    assert_eq!(listener.line(), format!("-- joined as {}", bob.address()));
    assert_eq!(listener.line(), "-- 1 waiting");
    assert_eq!(listener.line(), format!("{}: Hello", alice.address()));
}

/// The id in the line `-- sent: ID`, which is all that `send` prints.
fn sent_id(sent: &Output) -> String {
    assert_eq!(sent.status.code(), Some(0), "{sent:?}");
    let id = text(&sent.stdout).strip_prefix("-- sent: ");
    id.expect("one line").trim().to_owned()
}

#[test]
fn a_message_is_sent_while_the_same_agent_listens() {
    let relay = Relay::start(&[]);
    let (alice, bob) = (Person::at(&relay), Person::at(&relay));
    let listener = alice.join("listen", &[]);
    let recipient = bob.join("listen", &[]);
    let id = sent_id(&alice.run("send", &[&bob.address(), "Hello"]));
    assert_eq!(recipient.line(), format!("{}: Hello", alice.address()));
    assert_eq!(listener.line(), format!("-- delivered: {id}"));
}

#[test]
fn a_late_confirmation_is_a_success_to_a_later_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("queue.db");
    let relay = Relay::start(&["--db", path.to_str().unwrap()]);
    let (alice, bob) = (Person::at(&relay), Person::at(&relay));
    let first = sent_id(&alice.run("send", &[&bob.address(), "1"]));
    let mut recipient = bob.join("listen", &[]);
    assert_eq!(recipient.line(), "-- 1 waiting");
    assert_eq!(recipient.line(), format!("{}: 1", alice.address()));
    recipient.signal("INT");
    assert_eq!(recipient.code(), Some(0));
    // What waits for her is none of the business of a process that only sends.
    let second = sent_id(&alice.run("send", &[&bob.address(), "2"]));
    let listener = alice.join("listen", &[]);
    assert_eq!(listener.line(), "-- 1 waiting");
    assert_eq!(listener.line(), format!("-- delivered: {first}"));
    let recipient = bob.join("listen", &[]);
    assert_eq!(recipient.line(), "-- 1 waiting");
    assert_eq!(recipient.line(), format!("{}: 2", alice.address()));
    assert_eq!(listener.line(), format!("-- delivered: {second}"));
}

#[test]
fn a_message_arrives_as_json() {
    let relay = Relay::start(&[]);
    let (alice, bob) = (Person::at(&relay), Person::at(&relay));
    let mut listener = Process::start(bob.agent("listen", &["--json"]));
    let joined = listener.json();
    assert_eq!(
        (&joined["event"], &joined["address"]),
        (&"joined".into(), &bob.address().into())
    );
    let sent = alice.run("send", &["--json", &bob.address(), "Hello\nBob"]);
    let sent: Value = serde_json::from_str(text(&sent.stdout).lines().last().unwrap()).unwrap();
    let message = listener.json();
    assert_eq!(message["event"], "message");
    assert_eq!(message["from"], alice.address());
    assert_eq!(message["text"], "Hello\nBob");
    assert_eq!(message["message_id"], sent["message_id"]);
    listener.signal("TERM");
    assert_eq!(listener.code(), Some(0));
}

#[test]
fn two_people_chat() {
    let relay = Relay::start(&[]);
    let (alice, bob) = (Person::at(&relay), Person::at(&relay));
    let mut first = alice.join("chat", &[&bob.address()]);
    let mut second = bob.join("chat", &[&alice.address()]);
    first.type_line("Hello");
    assert_eq!(second.line(), "< Hello");
    assert!(first.line().starts_with("-- delivered: "));
    second.type_line("Hello yourself");
    assert_eq!(first.line(), "< Hello yourself");
    assert!(second.line().starts_with("-- delivered: "));

    drop(first.stdin.take());
    assert_eq!(first.code(), Some(0), "the end of stdin");
    second.signal("INT");
    assert_eq!(second.code(), Some(0), "Ctrl-C");
}

#[test]
fn what_was_typed_before_the_end_of_stdin_is_sent() {
    let relay = Relay::start(&["--rate-limit=off"]);
    let (alice, bob) = (Person::at(&relay), Person::at(&relay));
    let listener = bob.join("listen", &[]);
    let mut chat = alice.join("chat", &[&bob.address()]);
    for number in 0..300 {
        chat.type_line(&number.to_string());
    }
    drop(chat.stdin.take());
    let from = alice.address();
    for number in 0..300 {
        assert_eq!(listener.line(), format!("{from}: {number}"));
    }
    assert_eq!(chat.code(), Some(0));
}

#[test]
fn a_refused_message_is_named() {
    let relay = Relay::start(&["--rate-burst=1", "--rate-limit=0.001"]);
    let (alice, bob) = (Person::at(&relay), Person::at(&relay));
    let refused = alice.run("send", &["--json", &bob.address(), "Hello"]);
    let line: Value = serde_json::from_str(text(&refused.stdout).lines().last().unwrap()).unwrap();
    let id = line["message_id"].as_str().unwrap();
    assert_eq!(
        (&line["event"], &line["to"]),
        (&"refused".into(), &bob.address().into())
    );
    assert!(error(&refused).starts_with(&format!(
        "error: refused: message {id}: recipient is offline"
    )));

    let _listener = bob.join("listen", &[]);
    let limited = alice.run("send", &[&bob.address(), "Hello"]);
    let error = error(&limited);
    assert!(
        error.starts_with("error: refused: message ") && error.contains("; try again in "),
        "{error}"
    );
    assert_eq!(text(&limited.stdout), "");
}

#[test]
fn two_names_for_one_relay_are_told_apart() {
    let relay = Relay::start(&["--public-host", "relay.example.com"]);
    let output = Person::at(&relay).run("listen", &[]);
    assert_eq!(
        error(&output),
        "error: the relay calls itself `relay.example.com`, but `localhost` was expected; if it is \
         the relay that you mean, run this again with --host relay.example.com"
    );
}

#[test]
fn an_agent_comes_back_with_its_relay() {
    let relay = Relay::start(&[]);
    let bob = Person::at(&relay);
    let address = bob.address();
    let listener = Process::start(bob.agent("listen", &[]));
    assert_eq!(listener.line(), format!("-- joined as {address}"));
    relay.process.signal("KILL");
    assert!(
        listener
            .line()
            .starts_with("-- disconnected, trying again: ")
    );
    let _relay = Relay::start_at(relay.address());
    let joined = format!("-- joined as {address}");
    loop {
        let line = listener.line();
        if line == joined {
            break;
        }
        assert!(
            line.starts_with("-- disconnected, trying again: "),
            "{line}"
        );
    }
}

/// An address at which nobody listens.
fn unused_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Somebody whose relay is at `url`, whether it is there or not.
fn agent_of(directory: &TempDir, command: &str, url: &str, arguments: &[&str]) -> Command {
    let mut agent = Command::new(env!("CARGO_BIN_EXE_agent"));
    agent.args([command, "--host=localhost", "--relay", url, "--key"]);
    agent.arg(directory.path().join("key.json")).args(arguments);
    agent
}

#[test]
fn a_listener_waits_for_a_relay_that_is_not_there_yet() {
    let directory = tempfile::tempdir().unwrap();
    let address = unused_address();
    let url = format!("ws://{address}/ws");
    let listener = Process::start(agent_of(&directory, "listen", &url, &[]));
    let disconnected = "-- disconnected, trying again: cannot connect to 127.0.0.1:";
    // More than the tries of a client that nobody told otherwise would take long.
    for _ in 0..3 {
        let line = listener.line();
        assert!(line.starts_with(disconnected), "{line}");
    }
    let _relay = Relay::start_at(&address);
    while listener.line().starts_with(disconnected) {}
}

#[test]
fn tries_are_limited_if_that_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("ws://{}/ws", unused_address());
    let run = |command, arguments: &[&str]| {
        let mut agent = agent_of(&directory, command, &url, arguments);
        agent.stdin(Stdio::null()).output().unwrap()
    };
    let bob = "pinch:2kpsAVWeesP916eiCW6FxmgGQcrsvyQSp3JFsdjExT3sS8b2Nz@localhost";
    for (command, arguments, failures) in [
        ("listen", &["--tries=2"][..], 1),
        ("chat", &["--tries=2", bob], 1),
        ("send", &["--tries=2", bob, "Hello"], 1),
        ("send", &[bob, "Hello"], 0),
    ] {
        let output = run(command, arguments);
        assert!(error(&output).contains("cannot connect to 127.0.0.1:"));
        assert_eq!(text(&output.stdout).lines().count(), failures, "{command}");
    }
}

#[test]
fn an_answer_that_will_not_change_ends_a_listener() {
    let relay = Relay::start(&[]);
    let directory = tempfile::tempdir().unwrap();
    let nowhere = format!("ws://{}/nowhere", relay.address());
    let output = agent_of(&directory, "listen", &nowhere, &[])
        .output()
        .unwrap();
    let error = error(&output);
    assert!(error.contains("the relay answered 404 ("), "{error}");
    assert!(
        error.contains("check the host and the path of the URL"),
        "{error}"
    );
    assert_eq!(text(&output.stdout), "", "there was one try");
}

/// Runs what follows it where the only name server takes questions and answers none. The whole of it
/// has namespaces of its own: neither files nor networks of this machine change.
const MUTE_NAME_SERVER: &str = r#"
import fcntl, os, socket, struct, subprocess, sys
subprocess.run(["mount", "--bind", sys.argv[1], "/etc/resolv.conf"], check=True)
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
flags = struct.pack("16sh", b"lo", 1)
fcntl.ioctl(server, 0x8914, flags) # The loopback interface goes up.
server.bind(("127.0.0.1", 53))
server.set_inheritable(True)
os.execv(sys.argv[2], sys.argv[2:])
"#;

#[test]
fn ctrl_c_ends_an_agent_whose_name_server_does_not_answer() {
    const NAMESPACES: [&str; 3] = ["--map-root-user", "--mount", "--net"];
    let may = Command::new("unshare")
        .args(NAMESPACES)
        .arg("true")
        .output();
    if !may.is_ok_and(|output| output.status.success()) {
        // Containers may forbid it, and then there is no harmless way to such a name server.
        let _ = std::io::stderr().write_all(b"skipped: no namespaces here\n");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let settings = directory.path().join("resolv.conf");
    // Each question takes longer than the test.
    let text = "nameserver 127.0.0.1\noptions timeout:30 attempts:5\n";
    std::fs::write(&settings, text).unwrap();
    let url = "ws://relay.example.com/ws";
    let bob = "pinch:2kpsAVWeesP916eiCW6FxmgGQcrsvyQSp3JFsdjExT3sS8b2Nz@localhost";
    for (command, arguments) in [("listen", &[][..]), ("send", &[bob, "Hello"])] {
        let agent = agent_of(&directory, command, url, arguments);
        let mut namespaced = Command::new("unshare");
        namespaced
            .args(NAMESPACES)
            .args(["python3", "-c", MUTE_NAME_SERVER]);
        namespaced
            .arg(&settings)
            .arg(agent.get_program())
            .args(agent.get_args());
        let mut agent = Process::start(namespaced);
        asks_for_a_name(&agent);
        agent.signal("INT");
        assert_eq!(agent.code(), Some(130), "{command}");
    }
}

/// Waits until a thread of the process asks a name server.
fn asks_for_a_name(process: &Process) {
    let tasks = PathBuf::from(format!("/proc/{}/task", process.child.id()));
    let start = Instant::now();
    let is_asking = || {
        let tasks = std::fs::read_dir(&tasks).into_iter().flatten().flatten();
        tasks
            .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
            .any(|name| name.trim() == "pinch-resolve")
    };
    while !is_asking() {
        assert!(start.elapsed() < PATIENCE, "it asks for no name");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_damaged_or_exposed_key_file_is_said() {
    use std::os::unix::fs::PermissionsExt as _;

    let relay = Relay::start(&[]);
    let bob = Person::at(&relay);
    bob.address();
    std::fs::set_permissions(bob.key(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let exposed = bob.run("address", &[]);
    assert!(exposed.status.success());
    let path = bob.key();
    let path = path.display();
    assert!(text(&exposed.stderr).starts_with("warning: others can get at the key in "));
    assert!(text(&exposed.stderr).ends_with(&format!("run: chmod 600 {path}\n")));

    std::fs::write(bob.key(), "{}").unwrap();
    let damaged = bob.run("address", &[]);
    assert!(error(&damaged).starts_with(&format!("error: key file {path}: it is no key file")));
}

#[test]
fn nobody_has_to_read_to_the_end() {
    let relay = Relay::start(&[]);
    let bob = Person::at(&relay);
    let mut agent = bob
        .agent("address", &[])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(agent.stdout.take());
    assert_eq!(agent.wait().unwrap().code(), Some(0));
}

#[test]
fn a_relay_ends_in_order_on_both_signals() {
    for signal in ["INT", "TERM"] {
        let mut relay = Relay::start(&[]);
        relay.process.signal(signal);
        assert_eq!(relay.process.code(), Some(0));
        assert!(
            relay.process.lines.recv_timeout(PATIENCE).is_err(),
            "no other line on stdout"
        );
    }
}

#[test]
fn a_second_signal_ends_a_relay_at_once() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut relay = Relay::start(&[]);
        let bob = Person::at(&relay);
        let listener = bob.join("listen", &[]);
        // It will not answer the close frame, for which the relay waits.
        listener.signal("STOP");
        relay.process.signal("TERM");
        relay.stops_listening();
        assert!(
            relay.process.child.try_wait().unwrap().is_none(),
            "it waits"
        );
        relay.process.signal(signal);
        let start = Instant::now();
        assert_eq!(relay.process.code(), Some(code));
        assert!(start.elapsed() < Duration::from_secs(4));
    }
}

#[test]
fn a_relay_says_why_it_cannot_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = relay().args(["--listen", &address]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(&format!("cannot listen on {address}: ")));
    assert!(output.stdout.is_empty());

    let output = relay().env("PINCH_RELAY_RATE_LIMIT", "fast").output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(2));
    let expected =
        "error: invalid value \"fast\" for the environment variable PINCH_RELAY_RATE_LIMIT: ";
    assert!(text(&output.stderr).starts_with(expected));

    let output = relay()
        .env("RUST_LOG", "info=debug=trace")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("RUST_LOG"));
}

#[test]
fn a_relay_takes_its_port_from_the_environment_and_logs_json() {
    let mut command = relay();
    command
        .env("PINCH_RELAY_PORT", "0")
        .env("RUST_LOG", "info")
        .arg("--log=json");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut logs = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = stdout.next().unwrap().unwrap();
    let started: Value = serde_json::from_str(&logs.next().unwrap().unwrap()).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    // Every interface: IPv4 alone where the system has no IPv6.
    let every = ["listening on ws://[::]:", "listening on ws://0.0.0.0:"];
    assert!(every.iter().any(|start| line.starts_with(start)), "{line}");
    assert_eq!(
        (&started["level"], &started["message"]),
        (&"INFO".into(), &"started".into())
    );
}
