//! A relay of several hubs: what goes from one shard to another, what waits for it, and what all of
//! them together may hold.

mod support;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use pinch_proto::hub::{
    Admission, Config, ConnId, Hub, Input, JoinOptions, Output, Parcel, QueueConfig, Shard,
    ShardId, Shards, Verdict,
};
use pinch_proto::queue::{MemoryQueue, Request};
use pinch_proto::wire::{Envelope, Payload};
use pinch_proto::{Frame, Time};
use prost::Message as _;

use support::{PLENTY, START, address, config, message, message_of, secs};

/// The hubs of one relay, their bus and their store.
struct Relay {
    shards: Shards,
    hubs: Vec<Hub>,
    bus: VecDeque<(ShardId, ShardId, Vec<Parcel>)>,
    store: MemoryQueue,
    /// What the store has not done.
    asked: VecDeque<(ShardId, Request)>,
    store_answers: bool,
    conns: BTreeMap<String, (ShardId, ConnId)>,
    heard: BTreeMap<String, Vec<String>>,
    now: Time,
}

impl Relay {
    fn new(config: Config, count: u16, store: MemoryQueue) -> Self {
        let config = config.build().expect("settings that fit");
        let shards = Shards::new(count.try_into().expect("not 0"), [29; 16]);
        let parts = shards.split(store.restored());
        let hub = |(id, part)| {
            let place = Shard::new(shards.clone(), id);
            Hub::new_shard(config.clone(), place, Time::ZERO, START).with_restored(part)
        };
        Self {
            hubs: shards.all().zip(parts).map(hub).collect(),
            shards,
            bus: VecDeque::new(),
            store,
            asked: VecDeque::new(),
            store_answers: true,
            conns: BTreeMap::new(),
            heard: BTreeMap::new(),
            now: Time::ZERO,
        }
    }

    fn shard_of(&self, name: &str) -> ShardId {
        self.shards.of(address(name).as_str())
    }

    /// The first name with this beginning that lives in the shard with this number.
    fn name_in(&self, shard: usize, beginning: &str) -> String {
        let mut names = (0..).map(|number| format!("{beginning}{number}"));
        let lives_there = |name: &String| self.shard_of(name).index() == shard;
        names.find(lives_there).expect("there are many names")
    }

    fn give(&mut self, shard: ShardId, input: Input) {
        let mut turn = self.hubs[shard.index()].handle_input(input, self.now);
        let outputs: Vec<_> = core::iter::from_fn(|| turn.poll_output()).collect();
        let _ = turn.finish();
        for output in outputs {
            match output {
                Output::Registered { conn, address } => {
                    self.conns.insert(address.name().into(), (shard, conn));
                }
                Output::Store(request) => self.asked.push_back((shard, request)),
                Output::Forward { shard: to, parcels } => {
                    self.bus.push_back((shard, to, parcels));
                }
                Output::Refused { refusal, .. } => panic!("{refusal}"),
                Output::Wake { .. } | Output::Closed { .. } | Output::ShutDown => {}
            }
        }
    }

    /// Joins, and answers the first ping.
    fn join(&mut self, name: &str) {
        let address = address(name);
        let (admission, options) = (Admission::Named, JoinOptions::default());
        let register = Input::Register {
            address,
            admission,
            options,
        };
        self.give(self.shard_of(name), register);
        self.read(name, true);
        self.settle();
        self.read(name, true);
    }

    fn send(&mut self, name: &str, message: Bytes) {
        let (shard, conn) = self.conns[name];
        let message = message.into();
        self.give(shard, Input::Received { conn, message });
    }

    /// The bus and the store do what there is to do.
    fn settle(&mut self) {
        loop {
            if let Some((shard, to, parcels)) = self.bus.pop_front() {
                self.give(to, Input::Forwarded { shard, parcels });
            } else if self.store_answers
                && let Some((shard, Request { ticket, operation })) = self.asked.pop_front()
            {
                let outcome = self.store.execute(operation);
                self.give(shard, Input::Stored { ticket, outcome });
            } else {
                return;
            }
        }
    }

    /// Reads what there is; its pings are answered if it `acks`.
    fn read(&mut self, name: &str, acks: bool) {
        let (shard, conn) = self.conns[name];
        loop {
            let mut frames = vec![];
            let hub = &mut self.hubs[shard.index()];
            let turn = hub.poll_transmit(conn, PLENTY, self.now, |frame| frames.push(frame));
            let _ = turn.finish();
            if frames.is_empty() {
                return;
            }
            for frame in frames {
                let heard = match frame {
                    Frame::Message(message) => describe(&message),
                    Frame::Pong(payload) => format!("pong {payload:?}"),
                    Frame::Close(close) => format!("close {close}"),
                    Frame::Ping(payload) if acks => {
                        self.give(shard, Input::Pong { conn, payload });
                        continue;
                    }
                    Frame::Ping(_) => continue,
                };
                self.heard.entry(name.into()).or_default().push(heard);
            }
        }
    }

    fn heard(&mut self, name: &str) -> Vec<String> {
        self.settle();
        self.read(name, true);
        self.settle();
        self.heard.remove(name).unwrap_or_default()
    }

    fn ping(&mut self, name: &str) {
        let (shard, conn) = self.conns[name];
        let payload = Bytes::from_static(b"?");
        self.give(shard, Input::Ping { conn, payload });
    }

    /// The connection is cut; nothing is heard any more.
    fn cut(&mut self, name: &str) {
        let (shard, conn) = self.conns.remove(name).expect("it is connected");
        let clean = false;
        self.give(shard, Input::Closed { conn, clean });
        self.settle();
    }
}

/// The id of an envelope, or why one was rejected.
fn describe(message: &Bytes) -> String {
    let envelope = Envelope::decode(&message[..]).expect("an envelope");
    match envelope.payload {
        Some(Payload::QueueFull(full)) => full.reason,
        Some(Payload::QueueStatus(status)) => format!("{} wait", status.pending_count),
        Some(_) | None => String::from_utf8_lossy(&envelope.message_id).into_owned(),
    }
}

/// Two shards: the names of somebody in each.
fn two(config: Config) -> (Relay, String, String) {
    let relay = Relay::new(config, 2, MemoryQueue::new());
    let (alice, bob) = (relay.name_in(0, "alice"), relay.name_in(1, "bob"));
    (relay, alice, bob)
}

#[test]
fn a_pong_waits_for_the_verdict_of_the_other_shard_and_goes_behind_the_rejection() {
    let (mut relay, alice, bob) = two(config());
    relay.join(&alice);
    relay.send(&alice, message(&alice, &bob, "1"));
    relay.ping(&alice);
    relay.read(&alice, true);
    assert!(
        !relay.heard.contains_key(&alice),
        "the verdict is not there"
    );
    let offline = "recipient is offline and no queue is configured";
    assert_eq!(relay.heard(&alice), [offline, "pong b\"?\""]);
}

#[test]
fn a_close_for_a_breach_goes_behind_the_rejection_and_the_pong_of_what_came_before() {
    let (mut relay, alice, bob) = two(config());
    relay.join(&alice);
    relay.send(&alice, message(&alice, &bob, "1"));
    relay.ping(&alice);
    relay.send(&alice, Bytes::from_static(b"\xff"));
    relay.read(&alice, true);
    assert!(
        !relay.heard.contains_key(&alice),
        "the verdict is not there"
    );
    let heard = relay.heard(&alice);
    let [offline, pong, close] = &heard[..] else {
        panic!("{heard:?}");
    };
    assert!(offline.contains("offline") && pong.contains("pong") && close.contains("1007"));
}

#[test]
fn what_comes_in_one_bundle_has_one_verdict() {
    let (mut relay, alice, bob) = two(config());
    relay.join(&alice);
    relay.join(&bob);
    for number in 0..3 {
        relay.send(&alice, message(&alice, &bob, &number.to_string()));
    }
    let parcels: Vec<_> = relay
        .bus
        .drain(..)
        .flat_map(|(_, _, parcels)| parcels)
        .collect();
    let (shard, to) = (relay.shard_of(&alice), relay.shard_of(&bob));
    relay.give(to, Input::Forwarded { shard, parcels });
    let verdicts = &relay.bus.back().expect("there is an answer").2;
    assert!(matches!(
        verdicts[..],
        [Parcel::Verdict {
            first: 0,
            last: 2,
            verdict: Verdict::Accepted,
            ..
        }]
    ));
    assert_eq!(relay.heard(&bob), ["0", "1", "2"]);
}

#[test]
fn a_silent_store_holds_up_nobody_who_writes_to_those_who_are_live() {
    let queue = QueueConfig::new().unanswered_bytes(1 << 20);
    let small = config()
        .queue(queue)
        .envelope_bytes(1000)
        .message_bytes(2000);
    let (mut relay, alice, bob) = two(small.total_outbox_bytes(1 << 20));
    let hoarder = relay.name_in(0, "hoarder");
    let (absent, other) = (relay.name_in(1, "absent"), relay.name_in(1, "other"));
    for name in [&alice, &bob, &hoarder, &other] {
        relay.join(name);
    }
    relay.store_answers = false;
    // More than the store of the other shard may owe: the rest is rejected, and takes nothing.
    for _ in 0..2000 {
        relay.send(&hoarder, message_of(&hoarder, &absent, 1000));
        relay.settle();
    }
    for number in 0..1000 {
        relay.send(&alice, message(&alice, &bob, &number.to_string()));
        assert_eq!(relay.heard(&bob), [number.to_string()]);
        let (shard, conn) = relay.conns[&alice];
        assert!(!relay.hubs[shard.index()].is_paused(conn));
    }
    assert_eq!(relay.heard(&alice), [""; 0]);
    let stats = relay.hubs[relay.shard_of(&alice).index()].stats();
    assert_eq!((stats.held_bytes, stats.forwarded), (0, 3000));
    assert!(stats.unanswered > 100, "their pongs wait still");
}

#[test]
fn a_fast_sender_is_paused_before_anything_is_rejected() {
    let (mut relay, alice, bob) = two(config().total_outbox_bytes(4 << 20));
    relay.join(&alice);
    relay.join(&bob);
    let (shard, conn) = relay.conns[&alice];
    let mut sent = 0;
    while !relay.hubs[shard.index()].is_paused(conn) {
        relay.send(&alice, message_of(&alice, &bob, 10_000));
        relay.read(&alice, true);
        sent += 1;
    }
    assert!((5..100).contains(&sent), "{sent}");
    assert_eq!(relay.heard(&bob).len(), sent);
    relay.read(&alice, true);
    assert!(!relay.hubs[shard.index()].is_paused(conn));
    assert_eq!(relay.heard(&alice), [""; 0]);
}

/// Two shards reserve within the same limits, each with what it knows. Whatever comes back, the
/// store has at most twice what it may have.
#[test]
fn what_all_shards_have_reserved_comes_to_the_limits_once_more_at_most() {
    const LIMIT: u64 = 20_000;
    for (sender_bytes, total_bytes) in [(LIMIT, u64::MAX), (u64::MAX, LIMIT)] {
        let queue = QueueConfig::new()
            .sender_bytes(sender_bytes)
            .total_bytes(total_bytes);
        let (mut relay, alice, bob) = two(config().queue(queue));
        let carol = relay.name_in(0, "carol");
        for round in 0..30 {
            for name in [&alice, &bob, &carol] {
                if !relay.conns.contains_key(name) {
                    relay.join(name);
                }
            }
            for number in 0..30 {
                let to = if number % 2 == 0 { &bob } else { &carol };
                relay.send(&alice, message_of(&alice, to, 500));
            }
            relay.settle();
            for name in [&bob, &carol] {
                relay.read(name, false);
                relay.cut(name);
            }
            relay.now = relay.now + secs(1);
            let sent = relay.store.sender_bytes(address(&alice).as_str());
            let all = relay.store.bytes();
            assert!(
                sent <= 2 * LIMIT && all <= 2 * LIMIT,
                "round {round}: {sent}, {all}"
            );
        }
        assert!(relay.store.bytes() > LIMIT / 2, "the limits were reached");
    }
}

#[test]
fn what_was_accepted_comes_back_whatever_its_sender_has_stored_since() {
    let queue = QueueConfig::new().sender_bytes(1500);
    let (mut relay, alice, bob) = two(config().queue(queue));
    let carol = relay.name_in(0, "carol");
    relay.join(&alice);
    relay.join(&bob);
    relay.send(&alice, message(&alice, &bob, "precious"));
    relay.ping(&alice);
    assert_eq!(relay.heard(&alice), ["pong b\"?\""]);
    relay.read(&bob, false);
    // She fills her share, and leaves; then he turns out not to have got it.
    for number in 0..20 {
        relay.send(&alice, message(&alice, &carol, &number.to_string()));
    }
    relay.settle();
    relay.cut(&alice);
    relay.cut(&bob);
    relay.heard.clear();
    relay.join(&bob);
    assert_eq!(relay.heard(&bob), ["1 wait", "precious"]);
}

#[test]
fn few_large_envelopes_at_once_are_taken_with_many_shards() {
    for count in [2, 16, 64] {
        let mut relay = Relay::new(config(), count, MemoryQueue::new());
        let (alice, bob) = (relay.name_in(0, "alice"), relay.name_in(1, "bob"));
        relay.join(&alice);
        for _ in 0..7 {
            relay.send(&alice, message_of(&alice, &bob, 60 << 10));
        }
        let stats = relay.hubs[0].stats();
        assert_eq!(
            (stats.forwarded, stats.refused_memory),
            (7, 0),
            "{count} shards"
        );
    }
}

#[test]
fn connections_are_counted_in_all_shards() {
    let (mut relay, ..) = two(config().max_connections(3));
    let mut admitted = 0;
    for number in 0..20 {
        let address = address(&format!("agent{number}"));
        let shard = relay.shards.of(address.as_str()).index();
        let others = relay.hubs[1 - shard].connection_count();
        let hub = &mut relay.hubs[shard];
        hub.set_other_connections(others);
        let (admission, options) = (Admission::Named, JoinOptions::default());
        let register = Input::Register {
            address,
            admission,
            options,
        };
        let mut turn = hub.handle_input(register, Time::ZERO);
        admitted += u32::from(matches!(
            turn.poll_output(),
            Some(Output::Registered { .. })
        ));
    }
    assert_eq!(admitted, 3);
}

#[test]
fn a_relay_begins_anew_with_another_number_of_shards() {
    let mut store = MemoryQueue::new();
    for count in [1, 4, 2, 3] {
        let mut relay = Relay::new(config().queue(QueueConfig::new()), count, store);
        relay.join("alice");
        let waiting: Vec<_> = (0..20).map(|number| format!("agent{number}")).collect();
        for name in &waiting {
            relay.send("alice", message("alice", name, &count.to_string()));
        }
        relay.settle();
        assert_eq!(relay.heard("alice"), [""; 0]);
        for (number, name) in (0..).zip(&waiting) {
            if number % 4 == count {
                relay.join(name);
                let heard = relay.heard(name);
                assert!(heard.is_sorted_by_key(|it| order(it)) && !heard.is_empty());
            }
        }
        store = relay.store;
    }
}

/// Of which relay a message is: they began in this order.
fn order(heard: &str) -> Option<usize> {
    ["1", "4", "2", "3"]
        .iter()
        .position(|count| *count == heard)
}
