//! The two sides of an exchange: a foreign client in a process of its own, and ours.

use core::fmt::Write as _;
use std::process::Stdio;

use pinch_proto::client::{Event as OurEvent, Identity};
use pinch_proto::wire::{EncryptedPayload, Envelope, Payload};
use pinch_proto::{Address, Host, SecretKey};
use pinch_tokio::Client;
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::relay::Relay;
use crate::row::{Agent, MESSAGE, Mode};
use crate::setup::Program;
use crate::{HOST, send_signal, soon};

/// What a foreign client tells.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// It has joined, under this address.
    Joined { address: String },
    /// The relay answered the upgrade with another status than 101.
    Rejected { status: u16 },
    /// The AUTH_RESULT was none to be glad of.
    Refused { reason: String },
    /// These bytes are being sent.
    Sent { hex: String },
    /// These bytes came; the client reads them so.
    Envelope { hex: String, envelope: Value },
    /// A ping came, which the library answers.
    Ping,
    /// The WebSocket has ended.
    Closed { code: u16, reason: String },
    /// The answer to an HTTP request.
    Response { status: u16, body: String },
}

/// A foreign client.
#[derive(Debug)]
pub(crate) struct Foreign {
    child: Child,
    commands: ChildStdin,
    events: Lines<BufReader<ChildStdout>>,
    pings: usize,
}

impl Foreign {
    pub(crate) fn start(program: &Program) -> Self {
        let mut command = program.command();
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().expect("the interpreter can be run");
        Self {
            commands: child.stdin.take().expect("a pipe"),
            events: BufReader::new(child.stdout.take().expect("a pipe")).lines(),
            child,
            pings: 0,
        }
    }

    /// Gives it a command, a JSON object with the name under `do`.
    pub(crate) async fn tell(&mut self, command: &Value) {
        let line = format!("{command}\n");
        let written = soon("giving a command", self.commands.write_all(line.as_bytes()));
        written.await.expect("the client takes it");
    }

    /// The next event, be it a ping.
    async fn any_event(&mut self) -> Event {
        let line = soon("an event", self.events.next_line())
            .await
            .expect("text");
        let line = line.expect("the client lives, or has told on stderr why not");
        let event = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.pings += usize::from(event == Event::Ping);
        event
    }

    /// The next event that is no ping.
    pub(crate) async fn event(&mut self) -> Event {
        loop {
            let event = self.any_event().await;
            if event != Event::Ping {
                return event;
            }
        }
    }

    /// Waits until the relay has pinged it `count` times. Nothing else may happen meanwhile.
    pub(crate) async fn pinged(&mut self, count: usize) {
        while self.pings < count {
            assert_eq!(self.any_event().await, Event::Ping);
        }
    }

    /// Waits for one more ping. Nothing else may happen meanwhile.
    pub(crate) async fn pinged_again(&mut self) {
        self.pinged(self.pings + 1).await;
    }

    /// Begins to join.
    pub(crate) async fn ask_to_join(&mut self, relay: &Relay, agent: Agent, mode: Mode) {
        self.ask_to_join_with(relay, agent, mode, &json!({})).await;
    }

    async fn ask_to_join_with(&mut self, relay: &Relay, agent: Agent, mode: Mode, how: &Value) {
        let mut command = agent.join_command(mode);
        command["url"] = relay.url.as_str().into();
        for (name, value) in how.as_object().expect("an object") {
            command[name] = value.clone();
        }
        self.tell(&command).await;
    }

    pub(crate) async fn join(&mut self, relay: &Relay, agent: Agent, mode: Mode) {
        self.join_with(relay, agent, mode, &json!({})).await;
    }

    /// Joins with more values in the command.
    pub(crate) async fn join_with(&mut self, relay: &Relay, agent: Agent, mode: Mode, how: &Value) {
        self.ask_to_join_with(relay, agent, mode, how).await;
        let address = agent.address(mode).into();
        assert_eq!(self.event().await, Event::Joined { address });
    }

    /// Sends an envelope, with bytes of unknown fields behind it, and returns all in hex.
    pub(crate) async fn send(&mut self, envelope: &Value, unknown: &str) -> String {
        self.tell(&json!({ "do": "send", "envelope": envelope, "unknown": unknown }))
            .await;
        let event = self.event().await;
        let Event::Sent { hex } = event else {
            panic!("{event:?} instead of an envelope on its way")
        };
        hex
    }

    /// The envelope that comes next: in hex, and as the client reads it.
    pub(crate) async fn receive(&mut self) -> (String, Value) {
        let event = self.event().await;
        let Event::Envelope { hex, envelope } = event else {
            panic!("{event:?} instead of an envelope")
        };
        (hex, envelope)
    }

    /// The status and the body of the answer to a GET.
    pub(crate) async fn get(&mut self, url: &str) -> (u16, String) {
        self.tell(&json!({ "do": "get", "url": url })).await;
        let event = self.event().await;
        let Event::Response { status, body } = event else {
            panic!("{event:?} instead of a response")
        };
        (status, body)
    }

    /// Begins to close in order.
    pub(crate) async fn close(&mut self) {
        self.tell(&json!({ "do": "close", "code": 1000, "reason": "" }))
            .await;
    }

    /// Kills it, at whatever it is. Returns what it had told until then.
    pub(crate) async fn kill(mut self) -> Vec<Event> {
        soon("its death", self.child.kill())
            .await
            .expect("it is ours");
        let mut told = Vec::new();
        while let Some(line) = soon("the rest", self.events.next_line())
            .await
            .expect("text")
        {
            told.push(serde_json::from_str(&line).expect("an event"));
        }
        told
    }

    pub(crate) fn freeze(&self) {
        send_signal(&self.child, Signal::STOP);
    }

    pub(crate) fn thaw(&self) {
        send_signal(&self.child, Signal::CONT);
    }
}

/// Somebody who exchanges envelopes.
pub(crate) enum Party {
    Foreign(Box<Foreign>),
    Ours(Client),
}

impl Party {
    pub(crate) async fn foreign(
        program: &Program,
        relay: &Relay,
        agent: Agent,
        mode: Mode,
    ) -> Self {
        let mut foreign = Foreign::start(program);
        foreign.join(relay, agent, mode).await;
        Self::Foreign(Box::new(foreign))
    }

    pub(crate) async fn ours(relay: &Relay, agent: Agent, mode: Mode) -> Self {
        let identity = match mode {
            Mode::Challenge => Identity::Key {
                secret: SecretKey::from_seed(agent.seed),
                host: Host::parse(HOST).expect("a host"),
            },
            Mode::Open => Identity::Name(Address::parse(agent.name).expect("an address")),
        };
        let joining = Client::builder(relay.url.as_str(), identity).connect();
        let client = soon("joining", joining)
            .await
            .expect("the relay lets it in");
        assert_eq!(client.address().as_str(), agent.address(mode));
        Self::Ours(client)
    }

    /// Sends a message, and returns its bytes in hex. A foreign client adds a field that nobody
    /// knows.
    pub(crate) async fn send(&mut self, message: &Value) -> String {
        match self {
            Self::Foreign(foreign) => foreign.send(message, "9a0603616263").await,
            Self::Ours(client) => {
                let envelope = envelope(message);
                let bytes = envelope.to_bytes();
                let sent = soon("sending", client.send(envelope)).await;
                sent.expect("it can be sent");
                to_hex(&bytes)
            }
        }
    }

    /// The bytes, in hex, of the message that comes next. A foreign client has to read it as
    /// `expected`.
    pub(crate) async fn receive(&mut self, expected: &Value) -> String {
        match self {
            Self::Foreign(foreign) => {
                let (hex, message) = foreign.receive().await;
                assert_eq!(&message, expected);
                hex
            }
            Self::Ours(client) => match soon("an envelope", client.next_event()).await {
                Some(OurEvent::Received(bytes)) => to_hex(&bytes),
                other => panic!("{other:?} instead of an envelope"),
            },
        }
    }
}

/// A MESSAGE as our own client writes it, from its form in JSON.
fn envelope(message: &Value) -> Envelope {
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let bytes = |value: &Value| from_hex(&text(value)).into();
    let encrypted = &message["encrypted"];
    Envelope {
        version: 1,
        from_address: text(&message["from_address"]),
        to_address: text(&message["to_address"]),
        r#type: MESSAGE,
        message_id: bytes(&message["message_id"]),
        timestamp: message["timestamp"].as_i64().expect("a number"),
        payload: Some(Payload::Encrypted(EncryptedPayload {
            nonce: bytes(&encrypted["nonce"]),
            ciphertext: bytes(&encrypted["ciphertext"]),
            sender_public_key: bytes(&encrypted["sender_public_key"]),
        })),
    }
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn from_hex(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
    (0..hex.len()).step_by(2).map(byte).collect()
}
