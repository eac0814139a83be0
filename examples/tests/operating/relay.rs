//! A relay in a process of its own that ends with the test, and what talks to it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use serde_json::Value;
use tempfile::TempDir;

use crate::PATIENCE;

/// The relays, and the names of their runtimes.
pub(crate) const RELAYS: [(&str, &str); 4] = [
    ("tokio", env!("CARGO_BIN_EXE_relay-tokio")),
    ("smol", env!("CARGO_BIN_EXE_relay-smol")),
    ("async-std", env!("CARGO_BIN_EXE_relay-async-std")),
    ("mio", env!("CARGO_BIN_EXE_relay-mio")),
];

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        thread::yield_now();
    }
}

/// A relay that listens.
pub(crate) struct Relay {
    pub(crate) child: Child,
    /// `127.0.0.1:…`.
    pub(crate) address: String,
    _directory: TempDir,
}

impl Relay {
    /// Starts `program` in open mode, without a rate limit, in an empty directory; `change` is what
    /// else there is to its command.
    pub(crate) fn start(program: &str, change: impl FnOnce(&mut Command)) -> Self {
        Self::start_with(program, &["--listen=127.0.0.1:0", "--auth=open"], change)
    }

    /// As [`start`](Self::start), with other flags.
    pub(crate) fn start_with(
        program: &str,
        flags: &[&str],
        change: impl FnOnce(&mut Command),
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        command.env_clear().current_dir(directory.path());
        command.args(flags);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        change(&mut command);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let relay = |address| Self {
            child,
            address,
            _directory: directory,
        };
        output.read_line(&mut line).unwrap();
        let url = line.strip_prefix("listening on ws://");
        let address = url.and_then(|url| url.strip_suffix("/ws\n"));
        relay(address.expect("a relay that listens").to_owned())
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// What `/health` says.
    pub(crate) fn health(&self) -> Value {
        let mut stream = self.connect();
        stream
            .write_all(b"GET /health HTTP/1.1\r\nhost: relay\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        serde_json::from_str(body).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap()).unwrap()
    }

    /// Sets the soft limit of `resource`.
    pub(crate) fn limit(&self, resource: Resource, current: Option<u64>) {
        let maximum = getrlimit(resource).maximum;
        prlimit(Some(self.pid()), resource, Rlimit { current, maximum }).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "the relay does not end");
            thread::yield_now();
        }
    }

    /// Ends it in order.
    pub(crate) fn terminate(&mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.ended().code(), Some(0));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An agent that has joined, and answers nothing.
pub(crate) struct Agent(TcpStream);

impl Agent {
    pub(crate) fn join(relay: &Relay, name: &str) -> Self {
        let mut stream = relay.connect();
        write!(
            stream,
            "GET /ws?address=pinch:{name}@localhost HTTP/1.1\r\nHost: relay\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .unwrap();
        let head = head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        Self(stream)
    }

    /// Sends a text message, which is a violation, and waits for the end.
    pub(crate) fn violate(mut self) {
        // Masked with zeros.
        self.0.write_all(&[0x81, 0x81, 0, 0, 0, 0, b'x']).unwrap();
        assert_eq!(self.close_code(), Some(1003));
    }

    /// Reads until the end; the code of the close frame, if there is one.
    pub(crate) fn close_code(&mut self) -> Option<u16> {
        close_code(&mut self.0)
    }
}

/// The head of a response.
pub(crate) fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a whole head in time");
        head.extend(byte);
    }
    String::from_utf8(head).unwrap()
}

/// Reads frames until the end, and then leaves, too; the code of the close frame, if there is one.
pub(crate) fn close_code(stream: &mut TcpStream) -> Option<u16> {
    let mut code = None;
    let mut start = [0; 2];
    while stream.read_exact(&mut start).is_ok() {
        let mut length = u64::from(start[1]);
        if length == 126 {
            let mut long = [0; 2];
            stream.read_exact(&mut long).unwrap();
            length = u16::from_be_bytes(long).into();
        }
        let mut payload = vec![0; length.try_into().unwrap()];
        stream.read_exact(&mut payload).unwrap();
        if start[0] == 0x88 {
            code = Some(u16::from_be_bytes([payload[0], payload[1]]));
            let _ = stream.shutdown(Shutdown::Write);
        }
    }
    code
}
