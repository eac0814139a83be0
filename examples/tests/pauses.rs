//! Processes that are stopped (SIGSTOP) and go on: whoever has answered meanwhile is not given up, by
//! no relay and no client, on no runtime.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use core::future::Future;
use core::time::Duration;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use pinch_driver::{Client, Runtime};
use pinch_proto::client::{Config, Event, Identity};
use pinch_proto::handshake::Agent;
use pinch_proto::wire::{Envelope, Payload};
use pinch_proto::{Address, Host, SecretKey, UnixMillis};
use prost::Message as _;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// Longer than anything here takes, so that what hangs fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a peer may take to answer: long enough that a busy machine answers in time while it is not
/// stopped.
const TIMEOUT: Duration = Duration::from_secs(5);

/// By when a process that is not stopped would have given up whoever has not answered.
const OVER: Duration = Duration::from_secs(7);

const PEERS: usize = 30;

/// As many join at once, of each kind: their time runs while others begin.
const JOINING: usize = 10;

const RELAYS: [(&str, &str); 4] = [
    ("tokio", env!("CARGO_BIN_EXE_relay-tokio")),
    ("smol", env!("CARGO_BIN_EXE_relay-smol")),
    ("async-std", env!("CARGO_BIN_EXE_relay-async-std")),
    ("mio", env!("CARGO_BIN_EXE_relay-mio")),
];

/// A process, killed when the test ends.
struct Process(Child);

impl Process {
    /// Stops it, and waits until it stands still.
    fn stop(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
        let stopped = waitpid(Some(self.pid()), WaitOptions::UNTRACED).unwrap();
        assert!(stopped.unwrap().1.stopped());
    }

    fn go_on(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A relay without a queue, and where it listens.
fn relay(program: &str, flags: &[&str]) -> (Process, String) {
    let mut command = Command::new(program);
    command.env_clear().args(["--listen", "127.0.0.1:0"]);
    command.args(["--db", "none"]).args(flags);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut relay = Process(command.spawn().unwrap());
    let mut line = String::new();
    let stdout = relay.0.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    let address = line.strip_prefix("listening on ws://").unwrap();
    (relay, address.strip_suffix("/ws\n").unwrap().into())
}

const MESSAGE: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// One end of a WebSocket, byte by byte: it answers nothing by itself.
struct Peer {
    stream: TcpStream,
    bytes: Vec<u8>,
    /// A client masks what it sends: with zeros, which changes nothing.
    masks: bool,
}

impl Peer {
    fn connect(address: &str) -> Self {
        Self {
            stream: TcpStream::connect(address).unwrap(),
            bytes: vec![],
            masks: true,
        }
    }

    fn join(address: &str, target: &str) -> Self {
        let mut peer = Self::connect(address);
        peer.write(Self::request(address, target).as_bytes());
        peer.expect_upgrade();
        peer
    }

    /// The relay's end of a client's connection.
    fn accept(listener: &TcpListener) -> Self {
        let mut relay = Self {
            stream: listener.accept().unwrap().0,
            bytes: vec![],
            masks: false,
        };
        let head = relay.head();
        let key = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_key = name.eq_ignore_ascii_case("sec-websocket-key");
            is_key.then_some(value.trim())
        });
        let accept = tungstenite::handshake::derive_accept_key(key.unwrap().as_bytes());
        let response = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        relay.write(response.as_bytes());
        relay
    }

    fn request(address: &str, target: &str) -> String {
        format!(
            "GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
    }

    fn expect_upgrade(&mut self) {
        let head = self.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    }

    /// A head of HTTP.
    fn head(&mut self) -> String {
        loop {
            if let Some(at) = self.bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                let rest = self.bytes.split_off(at + 4);
                let head = core::mem::replace(&mut self.bytes, rest);
                return String::from_utf8(head).unwrap();
            }
            self.read();
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    fn send(&mut self, opcode: u8, payload: &[u8]) {
        let mut frame = vec![0x80 | opcode];
        let mask = if self.masks { 0x80 } else { 0 };
        match u8::try_from(payload.len()).ok().filter(|len| *len < 126) {
            Some(len) => frame.push(mask | len),
            None => {
                frame.push(mask | 126);
                frame.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
            }
        }
        if self.masks {
            frame.extend([0; 4]);
        }
        frame.extend(payload);
        self.write(&frame);
    }

    /// Reads once.
    fn read(&mut self) {
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut buffer = [0; 4096];
        let read = self.stream.read(&mut buffer).unwrap();
        assert!(read > 0, "the connection was closed");
        self.bytes.extend(&buffer[..read]);
    }

    /// The next frame with this opcode.
    fn frame(&mut self, opcode: u8) -> Vec<u8> {
        loop {
            let Some((found, payload)) = self.parse() else {
                self.read();
                continue;
            };
            if found == opcode {
                return payload;
            }
            assert_ne!(found, CLOSE, "{}", String::from_utf8_lossy(&payload[2..]));
        }
    }

    fn parse(&mut self) -> Option<(u8, Vec<u8>)> {
        let [first, second, ..] = self.bytes[..] else {
            return None;
        };
        let (mut at, mut len) = (2, usize::from(second & 0x7f));
        if len == 126 {
            let [.., high, low] = *self.bytes.get(..4)? else {
                return None;
            };
            (at, len) = (4, usize::from(u16::from_be_bytes([high, low])));
        }
        let mut mask = [0; 4];
        if second & 0x80 != 0 {
            mask.copy_from_slice(self.bytes.get(at..at + 4)?);
            at += 4;
        }
        let payload = self
            .bytes
            .get(at..at + len)?
            .iter()
            .zip(mask.iter().cycle());
        let payload = payload.map(|(byte, mask)| byte ^ mask).collect();
        self.bytes.drain(..at + len);
        Some((first & 0x0f, payload))
    }
}

/// Does something for each relay, all at once: most of the time is waited.
fn for_each_relay(test: fn(&str, &str)) {
    thread::scope(|scope| {
        for (runtime, program) in RELAYS {
            scope.spawn(move || test(runtime, program));
        }
    });
}

/// Stops `process`, lets `act` happen meanwhile, and waits until the time of everybody would be over
/// that had begun when this was called.
fn while_stopped(process: &Process, act: impl FnOnce()) {
    process.stop();
    let over = Instant::now() + OVER;
    act();
    thread::sleep(over.saturating_duration_since(Instant::now()));
    process.go_on();
}

#[test]
fn a_relay_that_was_stopped_closes_no_connection_that_has_answered() {
    for_each_relay(|_, program| {
        let timeout = format!("{}s", TIMEOUT.as_secs());
        let flags = [
            "--auth",
            "open",
            "--heartbeat-interval",
            "1s",
            "--pong-timeout",
            &timeout,
        ];
        let (relay, address) = relay(program, &flags);
        let mut peers: Vec<_> = (0..PEERS)
            .map(|number| {
                let target = format!("/ws?address=pinch:peer{number}@localhost");
                let mut peer = Peer::join(&address, &target);
                let greeting = peer.frame(PING);
                peer.send(PONG, &greeting);
                peer
            })
            .collect();
        let pings: Vec<_> = peers.iter_mut().map(|peer| peer.frame(PING)).collect();
        while_stopped(&relay, || {
            for (peer, ping) in peers.iter_mut().zip(&pings) {
                peer.send(PONG, ping);
            }
        });
        for _ in 0..2 {
            for peer in &mut peers {
                let ping = peer.frame(PING);
                peer.send(PONG, &ping);
            }
        }
    });
}

/// Its answer to the challenge of a relay.
fn response(challenge: &[u8], number: usize) -> Vec<u8> {
    let secret = SecretKey::from_seed([u8::try_from(number).unwrap(); 32]);
    let agent = Agent::new(secret, Host::parse("localhost").unwrap());
    let issued = Envelope::decode(challenge).unwrap().timestamp;
    let (response, _) = agent
        .handle_challenge(challenge, UnixMillis(issued))
        .unwrap();
    response.to_vec()
}

#[test]
fn a_relay_that_was_stopped_ends_no_handshake_that_goes_on() {
    for_each_relay(|runtime, program| {
        let timeout = format!("{}s", TIMEOUT.as_secs());
        let (relay, address) = relay(program, &["--auth-timeout", &timeout]);
        let request = Peer::request(&address, "/ws");
        let (begun, rest) = request.split_at(request.len() / 2);
        let mut requesting: Vec<_> = (0..JOINING).map(|_| Peer::connect(&address)).collect();
        requesting
            .iter_mut()
            .for_each(|peer| peer.write(begun.as_bytes()));
        let mut challenged: Vec<_> = (0..JOINING)
            .map(|_| {
                let mut peer = Peer::join(&address, "/ws");
                let challenge = peer.frame(MESSAGE);
                (peer, challenge)
            })
            .collect();
        while_stopped(&relay, || {
            requesting
                .iter_mut()
                .for_each(|peer| peer.write(rest.as_bytes()));
            for (number, (peer, challenge)) in challenged.iter_mut().enumerate() {
                peer.send(MESSAGE, &response(challenge, number));
            }
        });
        for (mut peer, _) in challenged {
            let result = Envelope::decode(&*peer.frame(MESSAGE)).unwrap();
            let Some(Payload::AuthResult(result)) = result.payload else {
                panic!("{runtime}: {result:?}")
            };
            assert!(result.success, "{runtime}: {result:?}");
        }
        for mut peer in requesting {
            peer.expect_upgrade();
            peer.frame(MESSAGE);
        }
    });
}

/// Names the runtime of a client that is a process of its own.
const CLIENT: &str = "PINCH_TEST_CLIENT";
/// Where its relay is.
const URL: &str = "PINCH_TEST_URL";

const CLIENTS: [&str; 4] = ["tokio", "smol", "async-std", "mio"];

/// Not a test, but the process of a client, if the environment says so. It ends with its link.
#[test]
fn client() {
    let Ok(runtime) = std::env::var(CLIENT) else {
        return;
    };
    match &*runtime {
        "tokio" => tokio::runtime::Runtime::new()
            .unwrap()
            .block_on(stay::<pinch_tokio::Tokio>()),
        "smol" => smol::block_on(stay::<pinch_smol::Smol>()),
        "async-std" => async_std::task::block_on(stay::<pinch_async_std::AsyncStd>()),
        "mio" => smol::block_on(stay::<pinch_mio::Threads>()),
        other => panic!("no runtime: {other}"),
    }
}

fn stay<R: Runtime + Default>() -> impl Future<Output = ()> {
    let config = Config::new()
        .heartbeat_interval(Duration::from_secs(1))
        .pong_timeout(TIMEOUT);
    let address = Address::parse("pinch:alice@localhost").unwrap();
    let url = std::env::var(URL).unwrap();
    let client = Client::<R>::builder(url, Identity::Name(address)).config(config);
    async {
        let mut client = client.connect().await.unwrap();
        while let Some(event) = client.next_event().await {
            assert!(matches!(event, Event::Received(_)), "{event:?}");
        }
    }
}

#[test]
fn a_client_that_was_stopped_stays_with_a_relay_that_has_answered() {
    thread::scope(|scope| {
        for runtime in CLIENTS {
            scope.spawn(move || {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let mut command = Command::new(std::env::current_exe().unwrap());
                command.args(["--exact", "client", "--nocapture"]);
                command.env(CLIENT, runtime);
                command.env(URL, format!("ws://{}/ws", listener.local_addr().unwrap()));
                command.stdout(Stdio::null());
                let client = Process(command.spawn().unwrap());
                let mut relay = Peer::accept(&listener);
                let ping = relay.frame(PING);
                while_stopped(&client, || relay.send(PONG, &ping));
                for _ in 0..2 {
                    let ping = relay.frame(PING);
                    relay.send(PONG, &ping);
                }
            });
        }
    });
}

/// The user of a client pauses: nothing more is read for it, and so no pong either.
#[test]
fn a_client_whose_user_takes_no_events_stays_with_a_relay_that_has_answered() {
    const ENVELOPES: u32 = 2000;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/ws", listener.local_addr().unwrap());
    let config = Config::new()
        .heartbeat_interval(Duration::from_millis(200))
        .pong_timeout(Duration::from_millis(200));
    let address = Address::parse("pinch:alice@localhost").unwrap();
    let client = Client::<pinch_tokio::Tokio>::builder(url, Identity::Name(address)).config(config);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let connecting = runtime.spawn(client.connect());
    let mut relay = Peer::accept(&listener);
    let mut client = runtime.block_on(connecting).unwrap().unwrap();
    for number in 0..ENVELOPES {
        let envelope = Envelope {
            version: 1,
            from_address: "pinch:bob@localhost".into(),
            to_address: "pinch:alice@localhost".into(),
            message_id: number.to_be_bytes().to_vec().into(),
            ..Envelope::default()
        };
        relay.send(MESSAGE, &envelope.to_bytes());
    }
    let ping = relay.frame(PING);
    relay.send(PONG, &ping);
    // So long that it would be given up if somebody read.
    thread::sleep(Duration::from_secs(1));
    runtime.block_on(async {
        for _ in 0..ENVELOPES {
            let event = client.next_event().await.unwrap();
            assert!(matches!(event, Event::Received(_)), "{event:?}");
        }
    });
    let ping = relay.frame(PING);
    relay.send(PONG, &ping);
}
