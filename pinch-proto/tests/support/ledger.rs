//! A hub with a store, and what an outsider knows of each envelope: who accepted it, who was given
//! it, who has confirmed it, what the store made of it, and whether its sender was told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use pinch_proto::hub::{
    Admission, Config, ConnId, Hub, HubStats, Input, Output, Wakeup, WakeupReason,
};
use pinch_proto::queue::{MemoryQueue, Operation, Outcome, Request, Ticket};
use pinch_proto::wire::{EncryptedPayload, Envelope, MessageType, Payload};
use pinch_proto::{EnvelopeView, Frame, Time};

use super::support::{PLENTY, START, address, drain, envelope, millis};
use super::{AGENTS, Step, TOTAL_BYTES};

/// What is known of one envelope.
#[derive(Debug, Default)]
struct Known {
    recipient: usize,
    bytes: Bytes,
    accepted: bool,
    transmitted: usize,
    confirmed: bool,
    /// The store did not take it, or did not say so in time.
    failed: bool,
    told: usize,
}

#[derive(Debug, Default)]
struct Peer {
    /// The last envelope that it was given.
    last: Option<usize>,
    /// What it was given and has not confirmed, and the first ping behind each.
    given: Vec<(usize, Option<u64>)>,
    pings: VecDeque<u64>,
    hung_up: bool,
    /// It was in the table when the relay shut down: what it has been given is its own until it
    /// has ended.
    shut_down: bool,
}

#[derive(Debug)]
pub(super) struct Ledger {
    hub: Hub,
    now: Time,
    wakeup: Option<Wakeup>,
    store: MemoryQueue,
    asked: VecDeque<Request>,
    outcomes: Vec<(Ticket, Outcome)>,
    /// The envelope that each ticket is about.
    appends: BTreeMap<Ticket, usize>,
    /// Recipients of whom the store may still have what they have confirmed.
    unremoved: BTreeSet<usize>,
    known: Vec<Known>,
    live: BTreeMap<ConnId, (usize, Peer)>,
    shut_down: bool,
}

impl Ledger {
    pub(super) fn new(config: Config) -> Self {
        Self {
            hub: Hub::new(config, [3; 16], Time::ZERO, START),
            now: Time::ZERO,
            wakeup: None,
            store: MemoryQueue::new(),
            asked: VecDeque::new(),
            outcomes: vec![],
            appends: BTreeMap::new(),
            unremoved: BTreeSet::new(),
            known: vec![],
            live: BTreeMap::new(),
            shut_down: false,
        }
    }

    pub(super) fn take(&mut self, step: Step) {
        match step {
            Step::Register(agent) => self.register(agent),
            Step::Message(from, to, size) => self.send(from, to, size),
            Step::Writable(agent, bytes) => {
                if let Some(conn) = self.conn(agent) {
                    self.give(Input::Writable { conn, bytes });
                }
            }
            Step::Pong(agent) => {
                if let Some(conn) = self.conn(agent) {
                    self.pong(conn);
                }
            }
            Step::PeerClosed(agent) => {
                if let Some(conn) = self.conn(agent) {
                    self.give(Input::PeerClosed { conn });
                }
            }
            Step::Closed(agent) => {
                if let Some(conn) = self.conn(agent) {
                    self.give(Input::Closed { conn });
                }
            }
            Step::Execute(count) => {
                for _ in 0..count {
                    self.execute(None);
                }
            }
            Step::Fail(failure) => self.execute(Some(Outcome::Failed {
                failure,
                detail: "a test".into(),
            })),
            Step::Answer(index) => self.answer(index),
            Step::Shutdown => {
                self.shut_down = true;
                for (conn, (agent, peer)) in &mut self.live {
                    let reachable = self.hub.lookup(address(AGENTS[*agent]).as_str());
                    peer.shut_down |= reachable == Some(*conn);
                }
                self.give(Input::Shutdown);
            }
            Step::Wait(wait) => self.now = self.now + wait,
            Step::WaitForWakeup => {
                // At most a second: else a store that is only slow would be overdue.
                let soon = self.now + millis(1000);
                let due = self.wakeup.map_or(self.now, |wakeup| wakeup.at.min(soon));
                self.now = self.now.max(due);
                self.call(None);
            }
        }
        self.check();
    }

    /// The connection of an agent: the one in the table, or one that is being closed.
    fn conn(&self, agent: usize) -> Option<ConnId> {
        let in_table = self.hub.lookup(address(AGENTS[agent]).as_str());
        let of_agent = |(conn, (of, _)): (&ConnId, &(usize, Peer))| (*of == agent).then_some(*conn);
        in_table.or_else(|| self.live.iter().find_map(of_agent))
    }

    fn register(&mut self, agent: usize) {
        self.give(Input::Register {
            address: address(AGENTS[agent]),
            admission: Admission::Named,
        });
    }

    fn send(&mut self, from: usize, to: usize, size: usize) {
        let Some(conn) = self.conn(from) else { return };
        let number = self.known.len();
        let payload = EncryptedPayload {
            ciphertext: vec![0; size].into(),
            ..EncryptedPayload::default()
        };
        let message = Envelope {
            message_id: (number as u64).to_be_bytes().to_vec().into(),
            payload: Some(Payload::Encrypted(payload)),
            ..envelope(AGENTS[from], AGENTS[to], MessageType::Message, "")
        }
        .to_bytes();
        self.known.push(Known {
            recipient: to,
            bytes: message.clone(),
            ..Known::default()
        });
        let before = self.hub.stats().accepted;
        self.give(Input::Received {
            conn,
            message: message.into(),
        });
        self.known[number].accepted = self.hub.stats().accepted > before;
    }

    /// The peer answers the oldest ping that it has not answered.
    fn pong(&mut self, conn: ConnId) {
        let in_table = self.live.get(&conn).is_some_and(|(agent, _)| {
            self.hub.lookup(address(AGENTS[*agent]).as_str()) == Some(conn)
        });
        let Some((_, peer)) = self.live.get_mut(&conn) else {
            return;
        };
        let Some(number) = peer.pings.pop_front() else {
            return;
        };
        // Who is closed while the relay goes on is too late: it went back to the queue.
        if in_table || peer.shut_down {
            let is_confirmed = |ping: &Option<u64>| ping.is_some_and(|ping| ping <= number);
            for (envelope, ping) in &peer.given {
                self.known[*envelope].confirmed |= is_confirmed(ping);
            }
            peer.given.retain(|(_, ping)| !is_confirmed(ping));
        }
        let payload = number.to_be_bytes().to_vec().into();
        self.give(Input::Pong { conn, payload });
    }

    /// The store does the next thing, or comes to `outcome` instead.
    fn execute(&mut self, outcome: Option<Outcome>) {
        let Some(Request { ticket, operation }) = self.asked.pop_front() else {
            return;
        };
        if let (Some(_), Operation::Remove { recipient, .. }) = (&outcome, &operation) {
            let agent = AGENTS.iter().position(|name| address(name) == *recipient);
            self.unremoved.extend(agent);
        }
        let outcome = outcome.unwrap_or_else(|| self.store.execute(operation));
        if let (Some(&number), true) = (self.appends.get(&ticket), outcome != Outcome::Done) {
            self.known[number].failed = true;
        }
        self.outcomes.push((ticket, outcome));
    }

    fn answer(&mut self, index: usize) {
        if index < self.outcomes.len() {
            let (ticket, outcome) = self.outcomes.remove(index);
            self.give(Input::Stored { ticket, outcome });
        }
    }

    fn give(&mut self, input: Input) {
        self.call(Some(input));
    }

    fn call(&mut self, input: Option<Input>) {
        let failures = self.hub.stats().store_failures;
        let turn = match input {
            Some(input) => self.hub.handle_input(input, self.now),
            None => self.hub.handle_timeout(self.now),
        };
        let (outputs, wakeup) = drain(turn);
        self.wakeup = wakeup;
        if self.hub.stats().store_failures > failures {
            // Some tickets are overdue: whatever is unanswered may be one of them.
            let unanswered = self.asked.iter().map(|request| request.ticket);
            let unanswered = unanswered.chain(self.outcomes.iter().map(|outcome| outcome.0));
            for number in unanswered.filter_map(|ticket| self.appends.get(&ticket)) {
                self.known[*number].failed = true;
            }
        }
        for output in outputs {
            self.observe(output);
        }
    }

    fn observe(&mut self, output: Output) {
        match output {
            Output::Registered { conn, address } => {
                let agent = AGENTS
                    .iter()
                    .position(|name| super::support::address(name) == address);
                let agent = agent.expect("an agent");
                self.live.insert(conn, (agent, Peer::default()));
            }
            Output::Transmit { conn, frame } => self.transmitted(conn, &frame),
            Output::Closed { conn, .. } => drop(self.live.remove(&conn).expect("it lives")),
            Output::Store(request) => {
                if let Operation::Append(append) = &request.operation {
                    let number = number(&append.message).expect("an envelope of an agent");
                    assert_eq!(self.known[number].bytes, append.message, "verbatim");
                    self.appends.insert(request.ticket, number);
                }
                self.asked.push_back(request);
            }
            Output::Refused { .. } | Output::Wake { .. } | Output::ShutDown => {}
        }
    }

    fn transmitted(&mut self, conn: ConnId, frame: &Frame) {
        let (agent, peer) = self.live.get_mut(&conn).expect("it lives");
        assert!(!peer.hung_up, "nothing follows the close frame");
        let message = match frame {
            Frame::Ping(payload) => {
                let ping = u64::from_be_bytes(payload.as_ref().try_into().expect("8 bytes"));
                peer.pings.push_back(ping);
                for (_, behind) in &mut peer.given {
                    behind.get_or_insert(ping);
                }
                return;
            }
            Frame::Close(_) => {
                peer.hung_up = true;
                return;
            }
            Frame::Message(message) => message,
        };
        let Some(number) = number(message) else {
            return;
        };
        let view = EnvelopeView::parse(message).expect("an envelope");
        let known = &mut self.known[number];
        if view.from_address().is_empty() {
            known.told += 1;
            return;
        }
        assert_eq!(known.bytes, message, "verbatim");
        assert_eq!(known.recipient, *agent);
        assert!(peer.last < Some(number), "{number} after {:?}", peer.last);
        assert!(
            !known.confirmed || self.unremoved.contains(agent),
            "{number} was confirmed before"
        );
        peer.last = Some(number);
        known.transmitted += 1;
        peer.given.push((number, None));
    }

    fn check(&self) {
        let stats = self.hub.stats();
        let (given, taken) = sums(&stats);
        assert_eq!(given, taken, "{stats:?}");
        assert!(stats.queued_bytes + stats.in_flight_bytes <= TOTAL_BYTES as u64);
        let unanswered = self.asked.len() + self.outcomes.len();
        assert_eq!(stats.store_unanswered, unanswered as u64);
    }

    /// The store works again, everybody is there, reads, and confirms.
    pub(super) fn heal(&mut self) {
        for round in 0..200 {
            if round % 20 == 0 && !self.shut_down {
                for agent in 0..AGENTS.len() {
                    self.register(agent);
                }
            }
            for conn in self.live.keys().copied().collect::<Vec<_>>() {
                for _ in 0..3 {
                    self.give(Input::Writable {
                        conn,
                        bytes: PLENTY,
                    });
                }
                self.pong(conn);
                self.pong(conn);
                if self.live.get(&conn).is_some_and(|(_, peer)| peer.hung_up) {
                    self.give(Input::PeerClosed { conn });
                    self.give(Input::Closed { conn });
                }
            }
            while !self.asked.is_empty() {
                self.execute(None);
            }
            while !self.outcomes.is_empty() {
                self.answer(0);
            }
            self.now = self.now + millis(5);
            self.call(None);
            self.check();
        }
        let stats = self.hub.stats();
        assert_eq!((stats.backlogged, stats.queued, stats.in_flight), (0, 0, 0));
        if self.shut_down {
            // What waits now waits for the next start.
            self.restart();
        } else {
            for agent in (0..AGENTS.len()).filter(|agent| !self.unremoved.contains(agent)) {
                let recipient = address(AGENTS[agent]);
                let stranded = self.store.entries(recipient.as_str()).next();
                assert_eq!(stranded, None);
            }
            self.everybody_leaves();
        }
    }

    /// A new hub on the same store: what was queued arrives.
    fn restart(&mut self) {
        assert!(self.live.is_empty(), "all connections have ended");
        let config = self.hub.config().clone();
        let restored = self.store.restored();
        self.hub = Hub::new(config, [4; 16], self.now, START).with_restored(restored);
        self.appends.clear();
        self.shut_down = false;
        self.heal();
    }

    fn everybody_leaves(&mut self) {
        for conn in self.live.keys().copied().collect::<Vec<_>>() {
            self.give(Input::Closed { conn });
        }
        for _ in 0..100 {
            self.now = self.now + millis(5);
            self.call(None);
            while !self.asked.is_empty() {
                self.execute(None);
                self.answer(0);
            }
        }
        let stats = self.hub.stats();
        assert_eq!((stats.connections, stats.closing), (0, 0));
        assert_eq!((stats.store_unanswered, stats.storing), (0, 0));
        let reason = self.wakeup.map(|wakeup| wakeup.reason);
        assert_eq!(
            reason,
            Some(WakeupReason::Expiry),
            "nothing else is left to do"
        );
    }

    pub(super) fn everything_accepted_was_confirmed(&self) {
        for (number, known) in self.known.iter().enumerate() {
            assert_eq!(known.confirmed, known.accepted, "{number}: {known:?}");
            assert!(!known.accepted || known.told == 0, "{number}: {known:?}");
        }
    }

    pub(super) fn everything_accepted_was_confirmed_or_told(&self) {
        for (number, known) in self.known.iter().enumerate() {
            let excused = known.told > 0 || known.failed;
            assert!(
                known.confirmed || !known.accepted || excused,
                "{number}: {known:?}"
            );
        }
    }
}

/// The envelope that a message is, or is about.
fn number(message: &Bytes) -> Option<usize> {
    let view = EnvelopeView::parse(message).expect("an envelope");
    let number = view.message_id().try_into().map(u64::from_be_bytes);
    number.ok().and_then(|number| number.try_into().ok())
}

/// Both sides of the equation about envelopes that [`HubStats`] promises.
fn sums(stats: &HubStats) -> (u64, u64) {
    let ended = stats.delivered + stats.returned + stats.unconfirmed + stats.stored + stats.kept;
    (
        stats.accepted + stats.read,
        ended + stats.queued + stats.in_flight + stats.storing,
    )
}
