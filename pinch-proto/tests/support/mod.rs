//! A world for one hub: a virtual clock, agents by name, and a driver that does what a real one
//! does. It calls `poll_transmit` until all has come, then waits for `Wake`, and calls `handle_timeout`
//! exactly at each wakeup. What it relies on, it asserts: a connection ends once, and nothing
//! mentions it afterwards.

#![allow(dead_code, unused_imports, reason = "each test file uses a part of it")]

mod store;

use core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;
use pinch_proto::hub::{
    Addressing, Admission, CloseCause, Config, ConnId, Hub, HubStats, Input, JoinOptions,
    JoinRefusal, Output, QueueConfig, Turn, Wakeup, WakeupReason,
};
use pinch_proto::wire::{EncryptedPayload, Envelope, MessageType, Payload};
use pinch_proto::{Address, Frame, Host, Time, UnixMillis};
use prost::Message as _;

use self::store::Store;
pub(crate) use self::store::{StoreManner, requests};

pub(crate) const HOST: &str = "relay.example.com";
pub(crate) const START: UnixMillis = UnixMillis(1_700_000_000_000);
/// More than any test has waiting for one connection.
pub(crate) const PLENTY: usize = 1 << 20;

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) const NANO: Duration = Duration::from_nanos(1);

/// Time between two looks at a timeout that a pause does not use up; more of it does not count.
pub(crate) const STEP: Duration = millis(250);
/// The time that is added to each of these timeouts.
pub(crate) const GRACE: Duration = millis(500);

/// Open mode without rate limits: what is not about these needs none.
pub(crate) fn config() -> Config {
    let host = Host::parse(HOST).expect("a host");
    Config::new(host)
        .addressing(Addressing::Names)
        .rate_limit(None)
        .join_limit(None)
}

pub(crate) fn address(name: &str) -> Address {
    Address::parse(&format!("pinch:{name}@{HOST}")).expect("an address")
}

/// An envelope that is complete but for its payload; `message_id` is `id`.
pub(crate) fn envelope(from: &str, to: &str, kind: MessageType, id: &str) -> Envelope {
    Envelope {
        version: 1,
        from_address: address(from).as_str().into(),
        to_address: if to.is_empty() {
            String::new()
        } else {
            address(to).as_str().into()
        },
        r#type: kind.into(),
        message_id: Bytes::copy_from_slice(id.as_bytes()),
        ..Envelope::default()
    }
}

/// A MESSAGE whose id and ciphertext are `text`.
pub(crate) fn message(from: &str, to: &str, text: &str) -> Bytes {
    let ciphertext = Bytes::copy_from_slice(text.as_bytes());
    let payload = EncryptedPayload {
        ciphertext,
        ..EncryptedPayload::default()
    };
    let payload = Some(Payload::Encrypted(payload));
    Envelope {
        payload,
        ..envelope(from, to, MessageType::Message, text)
    }
    .to_bytes()
}

/// A MESSAGE of exactly `len` bytes.
pub(crate) fn message_of(from: &str, to: &str, len: usize) -> Bytes {
    let mut envelope = envelope(from, to, MessageType::Message, "big");
    let mut ciphertext = len;
    loop {
        envelope.payload = Some(Payload::Encrypted(EncryptedPayload {
            ciphertext: vec![b'x'; ciphertext].into(),
            ..EncryptedPayload::default()
        }));
        match envelope.encoded_len().checked_sub(len) {
            Some(0) => return envelope.to_bytes(),
            Some(over) => {
                ciphertext = ciphertext
                    .checked_sub(over)
                    .expect("a length that is enough");
            }
            None => panic!("no message has {len} bytes"),
        }
    }
}

/// The part of an address that a test cares for.
fn name(address: &str) -> &str {
    let name = address.strip_prefix("pinch:").unwrap_or(address);
    name.strip_suffix(HOST)
        .and_then(|name| name.strip_suffix('@'))
        .unwrap_or(name)
}

/// A frame as a line of a table: `bob: hello`, `QUEUE_FULL bob #hello: recipient is …`, `ping`.
pub(crate) fn line(frame: &Frame) -> String {
    let envelope = match frame {
        Frame::Ping(_) => return "ping".into(),
        Frame::Pong(payload) => return format!("pong {}", String::from_utf8_lossy(payload)),
        Frame::Close(close) => return format!("close {close}"),
        Frame::Message(bytes) => Envelope::decode(bytes.clone()).expect("an envelope"),
    };
    let from = name(&envelope.from_address);
    let id = String::from_utf8_lossy(&envelope.message_id);
    let Some(payload) = &envelope.payload else {
        return format!("{from}: type {}", envelope.r#type);
    };
    if let Payload::Encrypted(payload) = payload {
        format!("{from}: {}", String::from_utf8_lossy(&payload.ciphertext))
    } else if let Payload::AuthResult(result) = payload {
        let said = if result.success {
            &result.assigned_address
        } else {
            &result.error_message
        };
        format!("AUTH_RESULT {} {}", result.success, name(said))
    } else if let Payload::QueueFull(full) = payload {
        format!(
            "QUEUE_FULL {} #{id}: {}",
            name(&full.recipient_address),
            full.reason
        )
    } else if let Payload::RateLimited(limited) = payload {
        format!(
            "RATE_LIMITED {} ms #{id}: {}",
            limited.retry_after_ms, limited.reason
        )
    } else if let Payload::QueueStatus(status) = payload {
        format!("QUEUE_STATUS {}", status.pending_count)
    } else {
        format!("{from}: {:?}", payload.message_type())
    }
}

/// The frames as lines, without the ack probes: pings right behind an envelope of another agent.
pub(crate) fn lines(frames: &[Frame]) -> Vec<String> {
    let mut behind_an_envelope = false;
    let is_told = |frame: &&Frame| {
        let is_probe = behind_an_envelope && matches!(frame, Frame::Ping(_));
        behind_an_envelope = matches!(frame, Frame::Message(bytes) if is_of_an_agent(bytes));
        !is_probe
    };
    frames.iter().filter(is_told).map(line).collect()
}

/// The frames as lines, ack probes included.
pub(crate) fn lines_with_probes(frames: &[Frame]) -> Vec<String> {
    frames.iter().map(line).collect()
}

fn is_of_an_agent(message: &Bytes) -> bool {
    pinch_proto::EnvelopeView::parse(message).is_ok_and(|view| !view.from_address().is_empty())
}

/// All outputs of a turn, and its wakeup.
pub(crate) fn drain(mut turn: Turn<'_>) -> (Vec<Output>, Option<Wakeup>) {
    let outputs = core::iter::from_fn(|| turn.poll_output()).collect();
    (outputs, turn.finish())
}

/// How the other end of a connection behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Reads, answers pings, and answers a close frame before it hangs up.
    Honest,
    /// Its socket takes everything, and nothing comes back.
    Silent,
    /// Its socket takes nothing any more.
    Blocked,
}

#[derive(Debug)]
struct Peer {
    name: String,
    manner: Manner,
    /// Its task has a reason to call `poll_transmit`.
    awake: bool,
    /// Frames were handed out that its socket will not take.
    stuck: bool,
    ended: bool,
    frames: Vec<Frame>,
    /// The last ping in a socket that is blocked.
    ping: Option<Bytes>,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) hub: Hub,
    pub(crate) now: Time,
    pub(crate) wakeup: Option<Wakeup>,
    /// Every `Closed`, in order.
    pub(crate) closed: Vec<(ConnId, CloseCause)>,
    /// How often `ShutDown` was said.
    pub(crate) shut_down: usize,
    pub(crate) store: Store,
    peers: BTreeMap<ConnId, Peer>,
}

impl World {
    pub(crate) fn new(config: Config) -> Self {
        let hub = Hub::new(
            config.build().expect("settings that fit"),
            [7; 16],
            Time::ZERO,
            START,
        );
        Self {
            hub,
            now: Time::ZERO,
            wakeup: None,
            closed: vec![],
            shut_down: 0,
            store: Store::default(),
            peers: BTreeMap::new(),
        }
    }

    pub(crate) fn open() -> Self {
        Self::new(config())
    }

    /// With a queue, and a store that does what it is asked at once.
    pub(crate) fn with_queue() -> Self {
        Self::new(config().queue(QueueConfig::new()))
    }

    pub(crate) fn stats(&self) -> HubStats {
        self.hub.stats()
    }

    /// Hands in one input, and does nothing else: no socket moves.
    pub(crate) fn give(&mut self, input: Input) -> Vec<Output> {
        let (outputs, wakeup) = drain(self.hub.handle_input(input, self.now));
        self.note(&outputs, wakeup);
        outputs
    }

    /// Calls `handle_timeout`, and does nothing else.
    pub(crate) fn tick(&mut self) -> Vec<Output> {
        let (outputs, wakeup) = drain(self.hub.handle_timeout(self.now));
        self.note(&outputs, wakeup);
        outputs
    }

    fn note(&mut self, outputs: &[Output], wakeup: Option<Wakeup>) {
        self.wakeup = wakeup;
        for output in outputs {
            match output {
                Output::Registered { conn, address } => {
                    let peer = Peer {
                        name: name(address.as_str()).into(),
                        manner: Manner::Honest,
                        awake: true,
                        stuck: false,
                        ended: false,
                        frames: vec![],
                        ping: None,
                    };
                    assert!(
                        self.peers.insert(*conn, peer).is_none(),
                        "{conn:?} is given twice"
                    );
                }
                Output::Wake { conn } => self.peer(*conn).awake = true,
                Output::Closed { conn, cause, .. } => {
                    self.peer(*conn).ended = true;
                    self.closed.push((*conn, cause.clone()));
                }
                Output::Store(request) => self.store.asked.push_back(request.clone()),
                Output::ShutDown => self.shut_down += 1,
                Output::Refused { .. } | Output::Forward { .. } => {}
            }
        }
    }

    fn peer(&mut self, conn: ConnId) -> &mut Peer {
        let peer = self.peers.get_mut(&conn).expect("it was registered");
        assert!(!peer.ended, "{conn:?} has ended and is mentioned again");
        peer
    }

    /// Registers an agent. Its first frames come with [`settle`](Self::settle).
    pub(crate) fn knock(
        &mut self,
        name: &str,
        admission: Admission,
    ) -> Result<ConnId, JoinRefusal> {
        self.knock_with(name, admission, JoinOptions::default())
    }

    /// Registers an agent whose upgrade request shows `options`.
    pub(crate) fn knock_with(
        &mut self,
        name: &str,
        admission: Admission,
        options: JoinOptions,
    ) -> Result<ConnId, JoinRefusal> {
        let outputs = self.give(Input::Register {
            address: address(name),
            admission,
            options,
        });
        let mut answer = None;
        for output in outputs {
            if let Output::Registered { conn, .. } = output {
                answer = Some(Ok(conn));
            } else if let Output::Refused { refusal, .. } = output {
                answer = Some(Err(refusal));
            }
        }
        answer.expect("an answer to a join")
    }

    /// An agent that has joined, and hears everything from now on.
    pub(crate) fn join(&mut self, name: &str) -> ConnId {
        let conn = self.knock(name, Admission::Named).expect("it is admitted");
        self.settle();
        assert_eq!(self.heard(conn), ["ping"]);
        conn
    }

    /// Changes how the other end behaves.
    pub(crate) fn set(&mut self, conn: ConnId, manner: Manner) {
        let peer = self.peer(conn);
        peer.manner = manner;
        if manner != Manner::Blocked && core::mem::take(&mut peer.stuck) {
            peer.awake = true;
        }
        let ping = peer.ping.take_if(|_| manner == Manner::Honest);
        if let Some(payload) = ping {
            self.give(Input::Pong { conn, payload });
        }
    }

    /// `from` sends a MESSAGE to the agent `to`. No socket moves.
    pub(crate) fn say(&mut self, from: ConnId, to: &str, text: &str) -> Vec<Output> {
        let sender = self.peer(from).name.clone();
        self.receive(from, message(&sender, to, text))
    }

    pub(crate) fn receive(&mut self, conn: ConnId, message: Bytes) -> Vec<Output> {
        let message = message.into();
        self.give(Input::Received { conn, message })
    }

    /// Calls `poll_transmit` once, and returns the frames that come.
    pub(crate) fn write(&mut self, conn: ConnId, credit: usize) -> Vec<Frame> {
        let (frames, _) = self.transmit(conn, credit);
        let transmitted: usize = frames.iter().map(|frame| frame.len().max(1)).sum();
        // Less than may be taken is all that there was.
        self.peer(conn).awake = transmitted >= credit;
        frames
    }

    /// Calls `poll_transmit`, and does nothing else.
    pub(crate) fn transmit(&mut self, conn: ConnId, credit: usize) -> (Vec<Frame>, Vec<Output>) {
        let mut frames = vec![];
        let turn = self
            .hub
            .poll_transmit(conn, credit, self.now, |frame| frames.push(frame));
        let (outputs, wakeup) = drain(turn);
        self.note(&outputs, wakeup);
        (frames, outputs)
    }

    /// Lets every socket and every peer do what it can.
    pub(crate) fn settle(&mut self) {
        let runs = |(conn, peer): (&ConnId, &Peer)| (peer.awake && !peer.ended).then_some(*conn);
        loop {
            if let Some(conn) = self.peers.iter().find_map(runs) {
                self.serve(conn);
            } else if !self.serve_store() {
                return;
            }
        }
    }

    fn serve(&mut self, conn: ConnId) {
        if self.peer(conn).stuck {
            self.peer(conn).awake = false;
            self.give(Input::Blocked {
                conn,
                progressed: false,
            });
            return;
        }
        let mut frames = self.write(conn, PLENTY);
        let manner = self.peer(conn).manner;
        if manner == Manner::Blocked && !frames.is_empty() {
            let progressed = false;
            self.give(Input::Blocked { conn, progressed });
            let peer = self.peer(conn);
            peer.stuck = true;
            for frame in &frames {
                if let Frame::Ping(payload) = frame {
                    peer.ping = Some(payload.clone());
                }
            }
        }
        while self.peer(conn).awake && !self.peer(conn).stuck {
            frames.extend(self.write(conn, PLENTY));
        }
        self.peer(conn).frames.extend(frames.iter().cloned());
        if manner != Manner::Honest {
            return;
        }
        for frame in frames {
            match frame {
                Frame::Ping(payload) => drop(self.give(Input::Pong { conn, payload })),
                Frame::Close(_) => {
                    self.give(Input::PeerClosed { conn, close: None });
                    self.give(Input::Closed { conn, clean: true });
                }
                Frame::Message(_) | Frame::Pong(_) => {}
            }
        }
    }

    /// Lets time go by, with a `handle_timeout` exactly at each wakeup.
    pub(crate) fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.settle();
        while let Some(wakeup) = self.wakeup.filter(|wakeup| wakeup.at <= end) {
            self.now = self.now.max(wakeup.at);
            let before = (self.stats(), self.wakeup);
            let outputs = self.tick();
            let moved = !outputs.is_empty() || before != (self.stats(), self.wakeup);
            assert!(moved, "{wakeup:?} led to nothing");
            self.settle();
        }
        self.now = end;
    }

    /// What a connection got since this was asked before, also if it has ended.
    pub(crate) fn heard(&mut self, conn: ConnId) -> Vec<String> {
        lines(&self.frames(conn))
    }

    /// As [`heard`](Self::heard), undecoded.
    pub(crate) fn frames(&mut self, conn: ConnId) -> Vec<Frame> {
        core::mem::take(&mut self.peers.get_mut(&conn).expect("it was registered").frames)
    }

    /// Why a connection ended, if it has.
    pub(crate) fn cause(&self, conn: ConnId) -> Option<CloseCause> {
        let mut causes = self.closed.iter().filter(|closed| closed.0 == conn);
        let cause = causes.next().map(|closed| closed.1.clone());
        assert_eq!(causes.next(), None, "{conn:?} has ended twice");
        cause
    }
}

pub(crate) const fn at(seconds: u64) -> Time {
    Time::from_nanos(seconds * 1_000_000_000)
}

/// Its socket has taken a part of what it was given.
pub(crate) fn moves(conn: ConnId) -> Input {
    Input::Blocked {
        conn,
        progressed: true,
    }
}

/// The next look at a timeout that a pause does not use up, and that has more than a step left.
pub(crate) fn looks(now: Time, reason: WakeupReason) -> Option<Wakeup> {
    Some(Wakeup {
        at: now + STEP,
        reason,
    })
}

pub(crate) fn due(seconds: u64, reason: WakeupReason) -> Option<Wakeup> {
    Some(Wakeup {
        at: at(seconds),
        reason,
    })
}

/// A connection whose second ping has left, at 25 s.
pub(crate) fn awaited(world: &mut World) -> ConnId {
    let alice = world.join("alice");
    world.set(alice, Manner::Silent);
    world.pass(secs(25));
    assert_eq!(world.heard(alice), ["ping"]);
    assert_eq!(world.wakeup, looks(world.now, WakeupReason::Pong));
    alice
}

/// A connection whose socket has stopped with an envelope in it, at 0 s.
pub(crate) fn stalled(world: &mut World) -> (ConnId, ConnId) {
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.set(bob, Manner::Blocked);
    world.say(alice, "bob", "0");
    world.settle();
    assert_eq!(world.heard(bob), ["alice: 0"]);
    (alice, bob)
}
