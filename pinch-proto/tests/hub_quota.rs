//! The limits of the queue, whoever tries to pass them: what comes back from a connection that was
//! cut, a stranger that fills a recipient's queue, and a sender that is blocked.

mod support;

use pinch_proto::hub::{Admission, Config, ConnId, Delivery, Input, JoinOptions, QueueConfig};
use pinch_proto::hub::{OnDuplicate, SlowReader};
use pinch_proto::queue::Failure;
use pinch_proto::wire::{BlockNotification, Envelope, MessageType, Payload};

use support::{
    Manner, StoreManner, World, address, config, envelope, message, message_of, millis, secs,
};

const MIB: u64 = 1 << 20;

/// Joins, and from then on reads everything and acknowledges nothing.
fn join_silently(world: &mut World, name: &str) -> ConnId {
    let conn = world.knock(name, Admission::Named).expect("it is admitted");
    world.set(conn, Manner::Silent);
    world.pass(secs(1));
    conn
}

fn cut(world: &mut World, conn: ConnId) {
    world.give(Input::Closed { conn, clean: false });
    world.settle();
}

#[test]
fn what_a_cut_gives_back_stays_within_the_bytes_of_one_sender_and_of_all() {
    let one_mib = QueueConfig::new().sender_bytes(MIB).total_bytes(MIB);
    for delivery in [Delivery::AtLeastOnce, Delivery::AtMostOnce] {
        let config = config().queue(one_mib).delivery(delivery);
        let mut world = World::new(config.unconfirmed_bytes(1 << 22).outbox_bytes(1 << 22));
        let alice = world.join("alice");
        for round in 0..12 {
            // The same again and again, and others.
            let name = if round % 2 == 0 { "bob" } else { "carol" };
            let cut_off = join_silently(&mut world, name);
            if delivery == Delivery::AtMostOnce {
                world.set(cut_off, Manner::Blocked);
            }
            for _ in 0..50 {
                world.receive(alice, message_of("alice", name, 32_000));
                world.settle();
            }
            cut(&mut world, cut_off);
            let stored = world.store.queue.bytes();
            assert!(stored <= MIB, "round {round}: {stored} bytes are stored");
        }
        assert!(world.store.queue.bytes() > MIB - 33_000, "the limit is met");
    }
}

#[test]
fn what_a_cut_gives_back_stays_within_the_count_of_one_recipient() {
    let mut world = World::with_queue();
    let (alice, carol) = (world.join("alice"), world.join("carol"));
    for round in 0..4 {
        let bob = join_silently(&mut world, "bob");
        for number in 0..1500 {
            world.say(if number % 2 == 0 { alice } else { carol }, "bob", "x");
            world.settle();
        }
        cut(&mut world, bob);
        let stored = world.queued_for("bob").len();
        assert_eq!(stored, 1000, "round {round}");
    }
    let refused = world.heard(alice).len() + world.heard(carol).len();
    assert_eq!(refused as u64, world.stats().returned, "each is told");
    assert_eq!(world.stats().returned, 4 * 1500 - 1000);
}

#[test]
fn what_is_on_its_way_to_one_recipient_leaves_room_for_itself() {
    let cost = message("alice", "bob", "x").len() + 2 * address("alice").as_str().len();
    let total = 10 * cost as u64;
    let mut world = World::new(config().queue(QueueConfig::new().total_bytes(total)));
    let (alice, carol) = (world.join("alice"), world.join("carol"));
    let bob = join_silently(&mut world, "bob");
    for (sender, to) in [(alice, "bob"), (carol, "dave")] {
        for _ in 0..6 {
            world.say(sender, to, "x");
        }
        world.settle();
    }
    let told = world.heard(carol).len();
    assert!(told > 0, "there is no room for {told} envelopes for dave");
    cut(&mut world, bob);
    assert_eq!(world.queued_for("bob").len(), 6);
    assert!(world.store.queue.bytes() <= total);
}

#[test]
fn acknowledged_envelopes_take_no_part_of_any_limit() {
    let queue = QueueConfig::new().recipient_count(4).sender_bytes(2000);
    let mut world = World::new(config().queue(queue));
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    for number in 0..100 {
        world.say(alice, "bob", &number.to_string());
        world.pass(millis(100));
    }
    assert_eq!(world.heard(bob).len(), 100);
    assert_eq!(
        world.stats().stored,
        0,
        "none took the way through the store"
    );
    assert_eq!(world.heard(alice), [""; 0]);
}

#[test]
fn a_recipient_with_a_full_queue_gets_live_envelopes_again_once_it_has_read_it() {
    let mut world = World::new(config().queue(QueueConfig::new().recipient_count(4)));
    let alice = world.join("alice");
    for number in 0..4 {
        world.say(alice, "bob", &number.to_string());
    }
    world.settle();
    let bob = world.knock("bob", Admission::Named).unwrap();
    world.settle();
    for number in 4..20 {
        world.say(alice, "bob", &number.to_string());
        world.pass(millis(100));
    }
    let heard = world.heard(bob);
    let expected = (0..20).map(|number| format!("alice: {number}"));
    assert_eq!(heard[2..], expected.collect::<Vec<_>>());
    assert_eq!(world.heard(alice), [""; 0]);
    assert!(
        world.stats().stored <= 5,
        "one told the hub that there is room"
    );
}

#[test]
fn a_session_that_only_sends_has_its_share_too() {
    let mut world = World::new(config().queue(QueueConfig::new().sender_bytes(1000)));
    let bob = join_silently(&mut world, "bob");
    for _ in 0..3 {
        let options = JoinOptions {
            send_only: true,
            ..JoinOptions::default()
        };
        let sender = world.knock_with("alice", Admission::Named, options);
        let sender = sender.expect("it is admitted");
        world.settle();
        for _ in 0..10 {
            world.say(sender, "bob", "x");
            world.settle();
        }
        cut(&mut world, sender);
    }
    cut(&mut world, bob);
    assert!(world.store.queue.bytes() <= 1000);
    assert!(world.queued_for("bob").len() > 2);
}

/// A queue of four, filled for bob: `mallory` has sent three of them, and `alice` one.
fn filled() -> (World, [ConnId; 3]) {
    let mut world = World::new(config().queue(QueueConfig::new().recipient_count(4)));
    let senders = ["mallory", "alice", "carol"].map(|name| world.join(name));
    for text in ["1", "2", "3"] {
        world.say(senders[0], "bob", text);
    }
    world.say(senders[1], "bob", "4");
    world.settle();
    (world, senders)
}

const GAVE_WAY: &str = "recipient's queue is full, and this envelope gave way to one of a sender \
                        with fewer in it";

#[test]
fn one_sender_does_not_close_a_queue_for_the_others() {
    let (mut world, [mallory, alice, carol]) = filled();
    world.say(carol, "bob", "5");
    world.settle();
    assert_eq!(world.heard(carol), [""; 0]);
    assert_eq!(
        world.heard(mallory),
        [format!("QUEUE_FULL bob #3: {GAVE_WAY}")]
    );
    assert_eq!(world.stats().displaced, 1);
    // Two, one and one: nobody has two more than another.
    world.say(alice, "bob", "6");
    world.say(mallory, "bob", "7");
    world.settle();
    let full = "recipient's queue is full: at most 4 envelopes wait for one recipient";
    assert_eq!(world.heard(alice), [format!("QUEUE_FULL bob #6: {full}")]);
    assert_eq!(world.heard(mallory), [format!("QUEUE_FULL bob #7: {full}")]);
    let left = ["mallory: 1", "mallory: 2", "alice: 4", "carol: 5"];
    assert_eq!(world.queued_for("bob"), left);
}

#[test]
fn whose_envelope_gives_way_and_is_gone_is_counted() {
    let (mut world, [mallory, _, carol]) = filled();
    cut(&mut world, mallory);
    world.say(carol, "bob", "5");
    world.settle();
    assert_eq!(world.stats().displaced, 1);
    assert_eq!(world.queued_for("bob").len(), 4);
}

#[test]
fn nothing_that_was_given_to_a_connection_gives_way() {
    let (mut world, [mallory, _, carol]) = filled();
    let bob = join_silently(&mut world, "bob");
    assert_eq!(world.heard(bob).len(), 6);
    // He is there, so it goes to him, without a place in his queue.
    world.say(carol, "bob", "5");
    world.settle();
    assert_eq!(world.heard(carol), [""; 0]);
    assert_eq!(world.heard(bob).len(), 1);
    cut(&mut world, bob);
    let full = "QUEUE_FULL bob #5: recipient's queue is full: at most 4 envelopes wait for one \
                recipient";
    assert_eq!(world.heard(carol), [full]);
    assert_eq!(world.heard(mallory), [""; 0]);
    assert_eq!(world.stats().displaced, 0);
    // While a queue is being read, nobody knows yet what of it is given away.
    let (mut world, [mallory, _, carol]) = filled();
    world.store.manner = StoreManner::Held;
    world.knock("bob", Admission::Named).unwrap();
    world.say(carol, "bob", "5");
    while world.answer() {}
    assert_eq!(world.stats().displaced, 0);
    assert_eq!(world.heard(mallory), [""; 0]);
}

#[test]
fn what_waits_behind_a_read_has_a_place_or_is_decided_by_the_store() {
    let (mut world, [_, _, carol]) = filled();
    world.store.manner = StoreManner::Held;
    world.knock("bob", Admission::Named).unwrap();
    world.settle();
    world.frames(carol);
    // The queue is full while it is being read: the store says so before the pong goes.
    world.say(carol, "bob", "5");
    world.give(Input::Ping {
        conn: carol,
        payload: bytes::Bytes::from_static(b"?"),
    });
    world.settle();
    assert_eq!(world.heard(carol), [""; 0]);
    while world.answer() {}
    world.settle();
    let heard = world.heard(carol);
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert!(heard[0].starts_with("QUEUE_FULL bob #5"), "{heard:?}");
    assert_eq!(heard[1], "pong ?");
}

#[test]
fn a_full_queue_stops_no_traffic_between_those_who_are_connected() {
    let full = QueueConfig::new().total_bytes(1000);
    let mut world = World::new(config().queue(full));
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    for number in 0..9 {
        let mallory = world.join(&format!("mallory{number}"));
        world.say(mallory, "nobody", "x");
    }
    world.settle();
    let reason = "relay's queue is full: at most 1000 bytes wait in all";
    world.say(alice, "nobody", "1");
    world.settle();
    assert_eq!(
        world.heard(alice),
        [format!("QUEUE_FULL nobody #1: {reason}")]
    );
    for _ in 0..100 {
        world.say(alice, "bob", "2");
        world.settle();
    }
    assert_eq!(world.heard(alice), [""; 0]);
    let heard = world.heard(bob);
    assert_eq!(heard.iter().filter(|line| *line == "alice: 2").count(), 100);
    assert!(world.store.queue.bytes() <= 1000);
}

#[test]
fn a_sender_that_does_not_read_is_not_told_without_end() {
    let config = config()
        .refusal_bytes(600)
        .queue(QueueConfig::new().recipient_count(20));
    let mut world = World::new(config);
    let mallory = world.join("mallory");
    for _ in 0..20 {
        world.say(mallory, "bob", "x");
    }
    world.settle();
    world.set(mallory, Manner::Blocked);
    for number in 0..18 {
        let name = format!("friend{number}");
        let friend = world.join(&name);
        world.say(friend, "bob", "y");
        world.settle();
    }
    assert_eq!(world.stats().displaced, 18);
    let told = world.heard(mallory).len();
    world.set(mallory, Manner::Honest);
    world.settle();
    assert!(told + world.heard(mallory).len() < 6, "it was told of all");
}

fn block(blocker: &str, blocked: &str) -> bytes::Bytes {
    let payload = Payload::BlockNotification(BlockNotification {
        blocker_address: address(blocker).as_str().into(),
        blocked_address: address(blocked).as_str().into(),
    });
    let payload = Some(payload);
    Envelope {
        payload,
        ..envelope(blocker, "", MessageType::BlockNotification, "b")
    }
    .to_bytes()
}

/// How bob is when somebody writes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Situation {
    Live,
    Offline,
    Full,
    Crowded,
    NoQueue,
    NoQueueAndStalled,
    BeingRead,
    Stalled(SlowReader),
    StoreFails,
    StoreIsBusy,
    StoreIsSilent,
}

/// What `sender` hears that writes to bob, step by step, and what bob got of it.
fn heard_by(sender: &str, situation: Situation) -> (Vec<Vec<String>>, usize) {
    let mut queue = QueueConfig::new();
    if situation == Situation::Full {
        queue = queue.recipient_count(3);
    } else if situation == Situation::Crowded {
        queue = queue.recipient_count(6);
    } else if situation == Situation::StoreIsBusy {
        queue = queue.unanswered_bytes(300);
    }
    let mut config: Config = config().on_duplicate(OnDuplicate::Replace).outbox_count(2);
    if situation == Situation::NoQueueAndStalled {
        config = config.slow_reader(SlowReader::Refuse);
    } else if let Situation::Stalled(slow_reader) = situation {
        config = config.slow_reader(slow_reader);
    }
    if !matches!(situation, Situation::NoQueue | Situation::NoQueueAndStalled) {
        config = config.queue(queue);
    }
    let mut world = World::new(config);
    let mut bob = world.join("bob");
    world.receive(bob, block("bob", "eve"));
    world.settle();
    let conn = world.join(sender);
    let other = world.join("other");
    if !matches!(
        situation,
        Situation::Live | Situation::Stalled(_) | Situation::NoQueueAndStalled
    ) {
        cut(&mut world, bob);
    }
    match situation {
        Situation::Full => {
            for name in ["x", "y", "z"] {
                let friend = world.join(name);
                world.say(friend, "bob", "first");
            }
        }
        // What gives way is the other's.
        Situation::Crowded => {
            for _ in 0..6 {
                world.say(other, "bob", "first");
            }
        }
        Situation::Stalled(_) | Situation::NoQueueAndStalled => {
            world.set(bob, Manner::Blocked);
            for _ in 0..3 {
                world.say(other, "bob", "first");
                world.settle();
            }
        }
        Situation::StoreFails => world.store.manner = StoreManner::Failing(Failure::DiskFull),
        Situation::StoreIsBusy | Situation::StoreIsSilent => {
            world.store.manner = StoreManner::Held;
        }
        Situation::BeingRead => {
            world.store.manner = StoreManner::Held;
            bob = world.knock("bob", Admission::Named).expect("admitted");
        }
        Situation::Live | Situation::Offline | Situation::NoQueue => {}
    }
    world.settle();
    let mut steps = vec![];
    for _ in 0..2 {
        world.say(conn, "bob", "mine");
        steps.push(world.heard(conn));
        world.settle();
        steps.push(world.heard(conn));
    }
    world.pass(secs(11) + millis(1));
    steps.push(world.heard(conn));
    while world.answer() {}
    world.settle();
    steps.push(world.heard(conn));
    let got = format!("{sender}: mine");
    let arrived = world.heard(bob).iter().filter(|line| **line == got).count();
    let stored = world.queued_for("bob");
    let stored = stored.iter().filter(|line| **line == got).count();
    (steps, arrived + stored)
}

#[test]
fn a_blocked_sender_hears_what_everybody_hears() {
    for situation in [
        Situation::Live,
        Situation::Offline,
        Situation::Full,
        Situation::Crowded,
        Situation::NoQueue,
        Situation::NoQueueAndStalled,
        Situation::BeingRead,
        Situation::Stalled(SlowReader::Spill),
        Situation::Stalled(SlowReader::Refuse),
        Situation::Stalled(SlowReader::Disconnect),
        Situation::StoreFails,
        Situation::StoreIsBusy,
        Situation::StoreIsSilent,
    ] {
        let (friend, _) = heard_by("ann", situation);
        let (blocked, arrived) = heard_by("eve", situation);
        assert_eq!(blocked, friend, "{situation:?}");
        assert_eq!(arrived, 0, "{situation:?}: nothing of it is for bob");
    }
}

#[test]
fn a_blocked_sender_changes_nothing_for_the_one_who_blocks_it() {
    let mut world = World::new(
        config()
            .outbox_count(1)
            .slow_reader(SlowReader::Disconnect)
            .queue(QueueConfig::new()),
    );
    let bob = world.join("bob");
    world.receive(bob, block("bob", "eve"));
    let (eve, ann) = (world.join("eve"), world.join("ann"));
    world.set(bob, Manner::Blocked);
    world.say(ann, "bob", "1");
    world.settle();
    world.say(ann, "bob", "2");
    world.settle();
    let before = world.stats();
    for _ in 0..10 {
        world.say(eve, "bob", "mine");
        world.settle();
    }
    let after = world.stats();
    assert_eq!(after.connections, before.connections, "bob is not cut off");
    assert_eq!(after.backlogged, before.backlogged);
    assert_eq!((after.blocked, after.accepted), (10, before.accepted));
    assert_eq!(world.queued_for("bob"), [""; 0]);
}
