//! What a relay that lies can make an agent believe: nothing that its correspondents did not say.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};

use bytes::Bytes;
use pinch_examples::mailbox::{Fresh, Mailbox, Received};
use pinch_proto::handshake::{self, auth_succeeded};
use pinch_proto::wire::{self, AuthChallenge, DeliveryConfirm, Envelope, MessageType, Payload};
use pinch_proto::{Address, Host, PublicKey, SecretKey, UnixMillis};
use prost::Message as _;
use serde_json::Value;
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

use crate::{PATIENCE, Process, agent_of, error};

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

/// A relay that lets everybody in, and then says what the test wants.
struct Hostile {
    listener: TcpListener,
    directory: TempDir,
}

/// An agent's connection to it.
struct Link {
    socket: WebSocket<TcpStream>,
    agent: Address,
}

impl Hostile {
    fn new() -> Self {
        Self {
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// The agent under test, which prints JSON; its files outlive it.
    fn agent(&self, command: &str, arguments: &[&str]) -> std::process::Command {
        let url = format!("ws://{}/ws", self.listener.local_addr().unwrap());
        let mut agent = agent_of(&self.directory, command, &url, arguments);
        agent.arg("--json");
        agent
    }

    /// Starts the agent, and lets it join.
    fn join(&self, command: &str, arguments: &[&str]) -> (Process, Link) {
        let process = Process::start(self.agent(command, arguments));
        let link = self.accept();
        assert_eq!(process.json()["event"], "joined");
        (process, link)
    }

    fn accept(&self) -> Link {
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut socket = tungstenite::accept(stream).unwrap();
        let now = Fresh::draw(NOW).unwrap();
        let challenge = AuthChallenge {
            version: wire::VERSION,
            nonce: Bytes::from([now.id, now.id].concat()),
            issued_at_ms: 0,
            expires_at_ms: i64::MAX,
            relay_host: "localhost".into(),
        };
        let challenge = Envelope::from_relay(Payload::AuthChallenge(challenge), NOW).to_bytes();
        socket.send(Message::Binary(challenge)).unwrap();
        let answer = Envelope::decode(socket.read().unwrap().into_data()).unwrap();
        let Some(Payload::AuthResponse(answer)) = answer.payload else {
            panic!("no AUTH_RESPONSE")
        };
        let key = PublicKey::try_from(&answer.public_key[..]).unwrap();
        let agent = Address::from_public_key(&key, &host());
        let result = auth_succeeded(&agent, NOW);
        socket.send(Message::Binary(result)).unwrap();
        Link { socket, agent }
    }

    /// The file beside the key whose name ends in `suffix`.
    fn file(&self, suffix: &str) -> std::path::PathBuf {
        self.directory.path().join(format!("key.json.{suffix}"))
    }
}

impl Link {
    fn send(&mut self, envelope: &Envelope) {
        let message = Message::Binary(envelope.to_bytes());
        self.socket.send(message).unwrap();
    }

    /// The next envelope; pings are answered.
    fn receive(&mut self) -> Envelope {
        loop {
            match self.socket.read().unwrap() {
                Message::Binary(bytes) => return Envelope::decode(bytes).unwrap(),
                Message::Ping(_) => self.socket.flush().unwrap(),
                Message::Text(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => {}
            }
        }
    }

    /// What is received up to the end of the link.
    fn rest(&mut self) -> Vec<Envelope> {
        let mut rest = Vec::new();
        loop {
            match self.socket.read() {
                Ok(Message::Binary(bytes)) => rest.push(Envelope::decode(bytes).unwrap()),
                Ok(_) => self.socket.flush().unwrap_or_default(),
                Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    panic!("the link does not end")
                }
                Err(_) => return rest,
            }
        }
    }
}

fn host() -> Host {
    Host::parse("localhost").unwrap()
}

/// A correspondent, in the test's own process.
fn mailbox(seed: u8) -> Mailbox {
    let secret = SecretKey::from_seed([seed; 32]);
    let address = address(seed);
    Mailbox::new(secret, address)
}

fn address(seed: u8) -> Address {
    let secret = SecretKey::from_seed([seed; 32]);
    Address::from_public_key(&secret.public_key(), &host())
}

fn fresh(now: UnixMillis) -> Fresh {
    Fresh::draw(now).unwrap()
}

fn confirm_of(envelope: &mut Envelope) -> &mut DeliveryConfirm {
    match &mut envelope.payload {
        Some(Payload::DeliveryConfirm(confirm)) => confirm,
        other => panic!("{other:?}"),
    }
}

/// `envelope`, which the agent sent to `peer`, as if `peer` had sent it to the agent.
fn reflected(envelope: &Envelope, peer: u8) -> Envelope {
    let mut reflected = envelope.clone();
    reflected.from_address = address(peer).to_string();
    reflected.to_address.clone_from(&envelope.from_address);
    if let Some(Payload::Encrypted(payload)) = &mut reflected.payload {
        let key = SecretKey::from_seed([peer; 32]).public_key();
        payload.sender_public_key = Bytes::copy_from_slice(key.as_bytes());
    }
    reflected
}

fn assert_reflected(notice: &Value) {
    assert_eq!(notice["event"], "rejected", "{notice}");
    let reason = notice["reason"].as_str().unwrap();
    assert!(reason.contains("reflected"), "{reason}");
}

#[test]
fn what_was_sealed_here_is_nobody_elses_word() {
    let hostile = Hostile::new();
    let mut bob = mailbox(2);
    let (mut alice, mut link) = hostile.join("chat", &[address(2).as_str()]);
    alice.type_line("I owe you nothing");
    let sent = link.receive();
    link.send(&reflected(&sent, 2));
    assert_reflected(&alice.json());

    // The sequence is still free: what the peer says under the same number arrives.
    let genuine = bob.write(
        &link.agent,
        "I owe you something",
        fresh(UnixMillis(sent.timestamp)),
    );
    link.send(&genuine.unwrap());
    assert_eq!(alice.json()["text"], "I owe you something");

    // Another peer has another box, and a confirmation its signer.
    link.send(&reflected(&sent, 3));
    assert_eq!(alice.json()["event"], "rejected");
    let confirm = link.receive();
    assert_eq!(confirm.r#type, i32::from(MessageType::DeliveryConfirm));
    link.send(&reflected(&confirm, 2));
    assert_eq!(alice.json()["event"], "rejected");

    // A later process knows its own seal.
    alice.signal("INT");
    link.rest();
    alice.code();
    let (alice, mut link) = hostile.join("listen", &[]);
    link.send(&reflected(&sent, 2));
    assert_reflected(&alice.json());
}

#[test]
fn a_note_to_oneself_is_no_reflection() {
    let hostile = Hostile::new();
    let (listener, mut link) = hostile.join("listen", &[]);
    let own = link.agent.to_string();
    let send = Process::start(hostile.agent("send", &[&own, "Milk"]));
    let note = hostile.accept().receive();
    link.send(&note);
    assert_eq!(listener.json()["text"], "Milk");
    drop(send);
}

#[test]
fn a_message_is_no_news_to_a_later_process() {
    let hostile = Hostile::new();
    let mut bob = mailbox(2);
    let (mut alice, mut link) = hostile.join("listen", &[]);
    let first = bob.write(&link.agent, "Pay Bob", fresh(NOW)).unwrap();
    link.send(&first);
    assert_eq!(alice.json()["text"], "Pay Bob");
    link.receive();
    alice.signal("KILL");
    alice.code();

    let (alice, mut link) = hostile.join("listen", &[]);
    link.send(&first);
    let replayed = alice.json();
    assert_eq!(replayed["event"], "replayed", "{replayed}");
    assert_eq!(replayed["from"], address(2).as_str());
    assert_eq!(replayed["sequence"], replayed["last"]);
    let second = bob.write(&link.agent, "Paid", fresh(NOW)).unwrap();
    link.send(&second);
    assert_eq!(alice.json()["text"], "Paid");
}

#[test]
fn a_peer_that_counts_anew_is_accepted_once_that_is_asked_for() {
    let hostile = Hostile::new();
    let (alice, mut link) = hostile.join("listen", &[]);
    let mut bob = mailbox(2);
    let before = bob.write(&link.agent, "before", fresh(NOW)).unwrap();
    link.send(&before);
    assert_eq!(alice.json()["text"], "before");
    link.receive();

    // Its clock was set back, and it has forgotten what it sent.
    let mut bob = mailbox(2);
    let early = UnixMillis(1);
    let lost = bob.write(&link.agent, "lost", fresh(early)).unwrap();
    link.send(&lost);
    assert_eq!(alice.json()["event"], "replayed");

    // The process that listens hears of it.
    let mut forget = std::process::Command::new(env!("CARGO_BIN_EXE_agent"));
    forget.args(["forget", "--json", "--key"]);
    forget.arg(hostile.directory.path().join("key.json"));
    assert!(forget.arg(address(2).as_str()).status().unwrap().success());
    let anew = bob.write(&link.agent, "anew", fresh(early)).unwrap();
    link.send(&anew);
    assert_eq!(alice.json()["text"], "anew");
    // The count begins there.
    let mut old = lost;
    old.timestamp += 1;
    link.send(&old);
    assert_eq!(alice.json()["event"], "replayed");
}

#[test]
fn a_damaged_record_of_what_came_is_named() {
    let hostile = Hostile::new();
    let (mut alice, mut link) = hostile.join("listen", &[]);
    let message = mailbox(2).write(&link.agent, "Hi", fresh(NOW)).unwrap();
    link.send(&message);
    alice.json();
    link.receive();
    alice.signal("INT");
    link.rest();
    alice.code();

    let path = hostile.file("seen");
    let whole = std::fs::read(&path).unwrap();
    for damaged in [&whole[..whole.len() - 1], b"# A shopping list\n", b""] {
        std::fs::write(&path, damaged).unwrap();
        let output = hostile.agent("listen", &[]).output().unwrap();
        let error = error(&output);
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
    std::fs::write(&path, whole).unwrap();
    let (alice, mut link) = hostile.join("listen", &[]);
    link.send(&message);
    assert_eq!(alice.json()["event"], "replayed");
}

#[test]
fn only_known_states_are_a_word() {
    let hostile = Hostile::new();
    let mut bob = mailbox(2);
    let (mut alice, mut link) = hostile.join("chat", &[address(2).as_str()]);
    for (state, event) in [
        ("delivered", "delivered"),
        ("paid\x1b[2J by Bob", "confirmed"),
        ("", "confirmed"),
    ] {
        alice.type_line("Hello");
        let sent = link.receive();
        let Ok(Received::Text { confirm, .. }) = bob.read(&sent.to_bytes(), NOW) else {
            panic!("no text")
        };
        let mut confirm = confirm.unwrap();
        confirm_of(&mut confirm).state = state.into();
        link.send(&confirm);
        let notice = alice.json();
        assert_eq!(notice["event"], event, "{notice}");
    }
}

#[test]
fn a_signature_cannot_be_had_for_anything() {
    let hostile = Hostile::new();
    let mut bob = mailbox(2);
    let (alice, mut link) = hostile.join("listen", &[]);
    let challenge = handshake::signed_bytes("localhost", &[7; handshake::NONCE_LEN]);
    let (auth, _) = challenge.split_at(challenge.len() - 8);
    for id in [&[][..], &[b'x'; 65], &[b'x'; 32_000], auth] {
        let mut message = bob.write(&link.agent, "Sign here", fresh(NOW)).unwrap();
        message.message_id = Bytes::copy_from_slice(id);
        link.send(&message);
        assert_eq!(alice.json()["text"], "Sign here");
        let unconfirmed = alice.json();
        assert_eq!(unconfirmed["event"], "unconfirmed", "{unconfirmed}");
        assert!(unconfirmed.to_string().len() < 1000, "{unconfirmed}");
    }
    let longest = Bytes::from_static(&[b'x'; 64]);
    let mut message = bob.write(&link.agent, "Sign here", fresh(NOW)).unwrap();
    message.message_id = longest.clone();
    link.send(&message);
    assert_eq!(
        confirm_of(&mut link.receive()).message_id,
        longest,
        "the first one that is confirmed"
    );
}

#[test]
fn every_message_of_a_long_drain_is_confirmed() {
    const MESSAGES: usize = 3000;
    let hostile = Hostile::new();
    let mut bob = mailbox(2);
    let (mut alice, mut link) = hostile.join("listen", &[]);
    // Nothing is read meanwhile, so no ping is answered, and nothing of what she says is confirmed.
    for _ in 0..MESSAGES {
        let message = bob.write(&link.agent, "Hi", fresh(NOW)).unwrap();
        link.send(&message);
    }
    for _ in 0..MESSAGES {
        assert_eq!(alice.json()["event"], "message");
    }
    for _ in 0..MESSAGES {
        confirm_of(&mut link.receive());
    }
    alice.signal("INT");
    assert!(link.rest().is_empty());
    assert_eq!(alice.code(), Some(0));
}
