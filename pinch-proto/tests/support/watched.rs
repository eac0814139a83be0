//! A hub, and all that an outsider can know of it: what was sent, what was transmitted, who is
//! there. After every step, what must hold is asserted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use pinch_proto::hub::{Config, ConnId, Hub, HubStats, Input, JoinOptions, Output, Turn, Wakeup};
use pinch_proto::wire::{
    BlockNotification, EncryptedPayload, Envelope, Heartbeat, MessageType, Payload, QueueStatus,
    UnblockNotification,
};
use pinch_proto::{Address, EnvelopeView, Frame, Time};

use super::support::{PLENTY, START, address, drain};
use super::{
    AGENTS, BLOCKS, BUCKETS, CONNECTIONS, OUTBOX_BYTES, OUTBOX_COUNT, Odd, Step, TOTAL_BYTES, To,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Not read: its connection had ended, or was closing.
    Late,
    Accepted,
    Refused,
    Blocked,
    Violation,
}

/// What became of a message, by its number.
#[derive(Debug)]
struct Sent {
    bytes: Bytes,
    sender: ConnId,
    fate: Fate,
    transmitted: bool,
    /// The recipient ended before it confirmed it.
    unconfirmed: bool,
    notices: usize,
}

/// A call of a hub.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Input(Input),
    Transmit(ConnId, usize),
    Timeout,
}

impl Call {
    pub(super) fn make<'a>(self, hub: &'a mut Hub, now: Time, frames: &mut Vec<Frame>) -> Turn<'a> {
        match self {
            Self::Input(input) => hub.handle_input(input, now),
            Self::Transmit(conn, credit) => {
                hub.poll_transmit(conn, credit, now, |frame| frames.push(frame))
            }
            Self::Timeout => hub.handle_timeout(now),
        }
    }
}

/// What a call led to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Said {
    pub(super) frames: Vec<Frame>,
    pub(super) outputs: Vec<Output>,
}

/// A call, and when.
pub(super) type Logged = (Call, Time);

pub(super) fn replay_one(hub: &mut Hub, (call, now): Logged) -> (Said, Option<Wakeup>) {
    let mut frames = vec![];
    let (outputs, wakeup) = drain(call.make(hub, now, &mut frames));
    (Said { frames, outputs }, wakeup)
}

/// A hub and what an outsider knows of it.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) hub: Hub,
    pub(super) now: Time,
    latest: Time,
    wakeup: Option<Wakeup>,
    pub(super) log: Vec<Logged>,
    pub(super) said: Vec<Said>,
    /// All that were ever registered, in order.
    conns: Vec<(ConnId, Address)>,
    live: BTreeMap<ConnId, Address>,
    hung_up: BTreeSet<ConnId>,
    pings: BTreeMap<ConnId, Bytes>,
    sent: Vec<Sent>,
    /// The numbers of what was accepted for a connection and was not transmitted.
    queues: BTreeMap<ConnId, VecDeque<usize>>,
    /// What was transmitted, each with the number of the first ping behind it.
    given: BTreeMap<ConnId, Vec<(usize, Option<u64>)>>,
    shutdown: bool,
    shut_down: usize,
}

impl Watched {
    pub(super) fn new(config: Config) -> Self {
        Self {
            hub: Hub::new(config, [3; 16], Time::ZERO, START),
            now: Time::ZERO,
            latest: Time::ZERO,
            wakeup: None,
            log: vec![],
            said: vec![],
            conns: vec![],
            live: BTreeMap::new(),
            hung_up: BTreeSet::new(),
            pings: BTreeMap::new(),
            sent: vec![],
            queues: BTreeMap::new(),
            given: BTreeMap::new(),
            shutdown: false,
            shut_down: 0,
        }
    }

    pub(super) fn take(&mut self, step: Step) {
        match step {
            Step::Register(agent, admission) => {
                let address = address(AGENTS[agent]);
                self.give(Input::Register {
                    address,
                    admission,
                    options: JoinOptions::default(),
                });
            }
            Step::Message(conn, to, padding) => self.send(conn, &to, padding),
            Step::Block(conn, agent) => self.tell_relay(conn, block(AGENTS[agent])),
            Step::Unblock(conn, agent) => self.tell_relay(conn, unblock(AGENTS[agent])),
            Step::Odd(conn, Odd::Heartbeat) => {
                self.tell_relay(conn, Payload::Heartbeat(Heartbeat::default()));
            }
            Step::Odd(conn, Odd::RelayOnly) => {
                self.tell_relay(conn, Payload::QueueStatus(QueueStatus::default()));
            }
            Step::Odd(conn, Odd::Garbage) => self.with(conn, |_, conn| Input::Received {
                conn,
                message: Bytes::from_static(&[0xff]).into(),
            }),
            Step::Pong(conn, payload) => self.with(conn, |watched, conn| {
                let last = watched.pings.get(&conn).cloned();
                let asked = matches!(payload, super::Payload::OfLastPing);
                let payload = last.filter(|_| asked).unwrap_or_default();
                Input::Pong { conn, payload }
            }),
            Step::Writable(conn, credit) => {
                if let Some((conn, _)) = self.pick(conn) {
                    self.transmit(conn, credit);
                }
            }
            Step::Blocked(conn, progressed) => {
                self.with(conn, |_, conn| Input::Blocked { conn, progressed });
            }
            Step::Ping(conn) => self.with(conn, |_, conn| Input::Ping {
                conn,
                payload: Bytes::from_static(b"?"),
            }),
            Step::Alive(conn) => self.with(conn, |_, conn| Input::Partial {
                conn,
                bytes: 0,
                short_fragments: 0,
            }),
            Step::Faulty(conn, fault) => self.with(conn, |_, conn| Input::Faulty { conn, fault }),
            Step::PeerClosed(conn) => {
                self.with(conn, |_, conn| Input::PeerClosed { conn, close: None });
            }
            Step::Closed(conn) => self.with(conn, |_, conn| Input::Closed { conn, clean: false }),
            Step::Shutdown => {
                self.shutdown = true;
                self.give(Input::Shutdown);
            }
            Step::Wait(wait) => self.now = self.now + wait,
            Step::TurnBack(back) => {
                self.now = Time::ZERO + self.now.since(Time::ZERO).saturating_sub(back);
            }
            Step::WaitForWakeup => {
                self.now = self
                    .wakeup
                    .map_or(self.now, |wakeup| self.now.max(wakeup.at));
                self.tick();
            }
        }
        self.check();
    }

    /// One of the live connections, or one of all that ever were.
    fn pick(&self, number: usize) -> Option<(ConnId, Address)> {
        if number < 6 && !self.live.is_empty() {
            let mut live = self.live.iter().cycle();
            return live
                .nth(number)
                .map(|(conn, address)| (*conn, address.clone()));
        }
        self.conns.iter().cycle().nth(number).cloned()
    }

    fn with(&mut self, number: usize, input: impl FnOnce(&Self, ConnId) -> Input) {
        if let Some((conn, _)) = self.pick(number) {
            self.give(input(self, conn));
        }
    }

    fn tell_relay(&mut self, number: usize, payload: Payload) {
        if let Some((conn, from)) = self.pick(number) {
            let message = Envelope {
                from_address: from.as_str().into(),
                r#type: payload.message_type().into(),
                payload: Some(payload),
                ..Envelope::default()
            };
            let message = message.to_bytes().into();
            self.give(Input::Received { conn, message });
        }
    }

    fn send(&mut self, conn: usize, to: &To, padding: usize) {
        let Some((sender, from)) = self.pick(conn) else {
            return;
        };
        let to = match to {
            To::Connected(number) => self.pick(*number).map(|(_, address)| address),
            To::Agent(agent) => Some(address(AGENTS[*agent])),
            To::Nobody => Some(address("nobody")),
            To::NoAddress => None,
        };
        let to = to.map_or_else(String::new, |address| address.as_str().into());
        let number = self.sent.len();
        let payload = EncryptedPayload {
            ciphertext: vec![0; padding].into(),
            ..Default::default()
        };
        let bytes = Envelope {
            from_address: from.as_str().into(),
            to_address: to.clone(),
            r#type: MessageType::Message.into(),
            message_id: number.to_be_bytes().to_vec().into(),
            payload: Some(Payload::Encrypted(payload)),
            ..Envelope::default()
        }
        .to_bytes();
        let (before, recipient) = (self.hub.stats(), self.hub.lookup(&to));
        self.give(Input::Received {
            conn: sender,
            message: bytes.clone().into(),
        });
        let fate = fate(&before, &self.hub.stats());
        self.sent.push(Sent {
            bytes,
            sender,
            fate,
            transmitted: false,
            unconfirmed: false,
            notices: 0,
        });
        if fate == Fate::Accepted {
            self.queues
                .entry(recipient.expect("it is connected"))
                .or_default()
                .push_back(number);
        }
    }

    fn give(&mut self, input: Input) {
        let incumbent = if let Input::Register { address, .. } = &input {
            self.hub.lookup(address.as_str())
        } else {
            None
        };
        self.note_confirmation(&input);
        for output in self.call(Call::Input(input)).outputs {
            self.observe(output, incumbent);
        }
    }

    fn transmit(&mut self, conn: ConnId, credit: usize) {
        let said = self.call(Call::Transmit(conn, credit));
        for frame in said.frames {
            self.transmitted(conn, frame);
        }
        for output in said.outputs {
            self.observe(output, None);
        }
    }

    /// A pong says that what went before its ping has arrived.
    fn note_confirmation(&mut self, input: &Input) {
        if let Input::Pong { conn, payload } = input
            && let Ok(number) = payload.as_ref().try_into().map(u64::from_be_bytes)
            && let Some(given) = self.given.get_mut(conn)
        {
            given.retain(|(_, ping)| ping.is_none_or(|ping| ping > number));
        }
    }

    fn tick(&mut self) {
        let late = self.hub.stats().late;
        for output in self.call(Call::Timeout).outputs {
            self.observe(output, None);
        }
        assert_eq!(self.hub.stats().late, late, "a timeout is no late input");
        // Nothing is left to do until then: who heeds wakeups does not spin.
        assert!(
            self.wakeup.is_none_or(|wakeup| wakeup.at > self.latest),
            "{:?}",
            self.wakeup
        );
    }

    fn call(&mut self, call: Call) -> Said {
        let logged = (call, self.now);
        self.latest = self.latest.max(self.now);
        self.log.push(logged.clone());
        let (said, wakeup) = replay_one(&mut self.hub, logged);
        self.wakeup = wakeup;
        self.said.push(said.clone());
        said
    }

    fn observe(&mut self, output: Output, incumbent: Option<ConnId>) {
        match output {
            Output::Registered { conn, address } => {
                assert!(!self.shutdown);
                assert!(
                    self.conns.iter().all(|known| known.0 != conn),
                    "{conn:?} is given twice"
                );
                self.conns.push((conn, address.clone()));
                self.live.insert(conn, address);
                if let Some(moved) = incumbent.and_then(|incumbent| self.queues.remove(&incumbent))
                {
                    self.queues.insert(conn, moved);
                }
            }
            Output::Refused { address, .. } => {
                let taken = self.hub.lookup(address.as_str()).is_some();
                assert!(taken || self.shutdown || self.live.len() >= CONNECTIONS);
            }
            Output::Wake { conn } => assert!(self.live.contains_key(&conn)),
            Output::Closed { conn, address, .. } => {
                assert_eq!(
                    self.live.remove(&conn),
                    Some(address),
                    "{conn:?} has ended before"
                );
                self.queues.remove(&conn);
                for (number, _) in self.given.remove(&conn).unwrap_or_default() {
                    self.sent[number].unconfirmed = true;
                }
            }
            Output::Store(request) => panic!("there is no queue: {request:?}"),
            Output::Forward { .. } => panic!("there is one shard"),
            Output::ShutDown => {
                assert!(self.shutdown && self.live.is_empty());
                self.shut_down += 1;
            }
        }
    }

    fn transmitted(&mut self, conn: ConnId, frame: Frame) {
        assert!(self.live.contains_key(&conn), "{conn:?} has ended");
        assert!(
            !self.hung_up.contains(&conn),
            "{conn:?} got its close frame before"
        );
        let message = match frame {
            Frame::Message(message) => message,
            Frame::Ping(payload) => {
                let number = payload.as_ref().try_into().map(u64::from_be_bytes);
                for (_, ping) in self.given.entry(conn).or_default() {
                    ping.get_or_insert(number.expect("8 bytes"));
                }
                self.pings.insert(conn, payload);
                return;
            }
            Frame::Pong(_) => return,
            Frame::Close(_) => {
                self.hung_up.insert(conn);
                return;
            }
        };
        let view = EnvelopeView::parse(&message).expect("an envelope");
        let Ok(number) = view.message_id().try_into().map(usize::from_be_bytes) else {
            return;
        };
        if view.from_address().is_empty() {
            self.sent[number].notices += 1;
            return;
        }
        // First in, first out, and so in order for each sender.
        let next = self.queues.get_mut(&conn).and_then(VecDeque::pop_front);
        assert_eq!(next, Some(number));
        assert_eq!(self.sent[number].bytes, message, "verbatim");
        assert_eq!(view.to_address(), self.live[&conn].as_str());
        assert!(
            !core::mem::replace(&mut self.sent[number].transmitted, true),
            "once"
        );
        self.given.entry(conn).or_default().push((number, None));
    }

    fn check(&mut self) {
        let stats = self.hub.stats();
        let (messages, envelopes, connections) = sums(&stats);
        assert_eq!(stats.received, messages);
        assert_eq!(stats.accepted, envelopes);
        assert_eq!(stats.registered, connections);

        assert_eq!(stats.connections + stats.closing, self.live.len() as u64);
        assert!(
            self.conns
                .iter()
                .all(|(conn, _)| self.hub.holds(*conn) == self.live.contains_key(conn))
        );
        let reachable = self.reachable();
        assert_eq!(stats.connections, reachable.len() as u64);
        assert!(stats.queued_bytes <= TOTAL_BYTES as u64);
        assert!(stats.parked_buckets <= BUCKETS as u64 && stats.blocks <= BLOCKS as u64);
        for conn in reachable {
            let queue = self.queues.get(&conn).into_iter().flatten();
            let sizes: Vec<usize> = queue.map(|number| self.sent[*number].bytes.len()).collect();
            assert!(sizes.len() <= OUTBOX_COUNT && sizes.iter().sum::<usize>() <= OUTBOX_BYTES);
        }
        // A timeout that is called too early changes nothing.
        if self.wakeup.is_none_or(|wakeup| wakeup.at > self.latest) {
            let wakeup = self.wakeup;
            let spurious = (Call::Timeout, self.latest);
            assert_eq!(
                replay_one(&mut self.hub, spurious),
                (Said::default(), wakeup)
            );
            assert_eq!(self.hub.stats(), stats);
        }
    }

    /// The connections in the routing table, each under its own address.
    fn reachable(&self) -> Vec<ConnId> {
        let found = AGENTS.iter().filter_map(|name| {
            let address = address(name);
            let conn = self.hub.lookup(address.as_str())?;
            assert_eq!(self.live.get(&conn), Some(&address));
            Some(conn)
        });
        found.collect()
    }

    /// Everybody reads everything; then each sender knows what became of its messages.
    pub(super) fn everybody_reads(&mut self) {
        for _ in 0..2 * OUTBOX_COUNT {
            for conn in self.live.keys().copied().collect::<Vec<_>>() {
                for _ in 0..3 {
                    self.transmit(conn, PLENTY);
                }
                if let Some(payload) = self.pings.remove(&conn) {
                    self.give(Input::Pong { conn, payload });
                }
            }
        }
        self.check();
        let reachable = self.reachable();
        for (number, sent) in self.sent.iter().enumerate() {
            let told = match sent.fate {
                Fate::Refused => true,
                Fate::Accepted => !sent.transmitted || sent.unconfirmed,
                Fate::Late | Fate::Blocked | Fate::Violation => false,
            };
            let listens = reachable.contains(&sent.sender);
            let fits = if told && listens {
                sent.notices == 1
            } else {
                sent.notices <= usize::from(told)
            };
            assert!(fits, "message {number}: {sent:?}");
        }
    }

    pub(super) fn everybody_leaves(&mut self, by_shutdown: bool) {
        if by_shutdown {
            self.take(Step::Shutdown);
        } else {
            for conn in self.live.keys().copied().collect::<Vec<_>>() {
                self.give(Input::Closed { conn, clean: false });
                self.check();
            }
        }
        for _ in 0..20 {
            self.take(Step::WaitForWakeup);
        }
        let stats = self.hub.stats();
        let held = [
            stats.connections,
            stats.closing,
            stats.queued,
            stats.queued_bytes,
        ];
        assert_eq!(held, [0; 4]);
        assert_eq!(
            (stats.in_flight, stats.parked_buckets, self.wakeup),
            (0, 0, None)
        );
        assert_eq!(self.shut_down, usize::from(self.shutdown));
        let count = |fits: fn(&&Sent) -> bool| self.sent.iter().filter(fits).count() as u64;
        assert_eq!(stats.unconfirmed, count(|sent| sent.unconfirmed));
        let delivered = count(|sent| sent.transmitted && !sent.unconfirmed);
        assert_eq!(stats.delivered, delivered);
    }
}

/// Both sides of the equations that [`HubStats`] promises.
fn sums(stats: &HubStats) -> (u64, u64, u64) {
    (
        stats.accepted + stats.consumed + stats.blocked + stats.refused() + stats.violations,
        stats.delivered + stats.returned + stats.unconfirmed + stats.queued + stats.in_flight,
        stats.connections + stats.closing + stats.closed,
    )
}

/// What became of the one message between two looks at the books: exactly one thing.
fn fate(before: &HubStats, after: &HubStats) -> Fate {
    let fates = [
        (Fate::Late, after.late - before.late),
        (Fate::Accepted, after.accepted - before.accepted),
        (Fate::Refused, after.refused() - before.refused()),
        (Fate::Blocked, after.blocked - before.blocked),
        (Fate::Violation, after.violations - before.violations),
    ];
    assert_eq!(fates.iter().map(|fate| fate.1).sum::<u64>(), 1, "{fates:?}");
    fates
        .into_iter()
        .find(|fate| fate.1 == 1)
        .expect("one of them")
        .0
}

fn block(agent: &str) -> Payload {
    Payload::BlockNotification(BlockNotification {
        blocked_address: address(agent).as_str().into(),
        ..BlockNotification::default()
    })
}

fn unblock(agent: &str) -> Payload {
    Payload::UnblockNotification(UnblockNotification {
        unblocked_address: address(agent).as_str().into(),
        ..UnblockNotification::default()
    })
}
