//! What is not delivered, and what its sender hears about it: sizes, recipients, full outboxes
//! and rate limits.

mod support;

use bytes::Bytes;
use pinch_proto::hub::{
    Addressing, Config, ConnId, ENVELOPE_OVERHEAD, Input, Output, QueueConfig, RateLimit, Wakeup,
    WakeupReason,
};
use pinch_proto::queue::Request;
use pinch_proto::wire::{Envelope, MessageType, Payload, QueueFull};
use pinch_proto::{Address, Close, Frame, Host, SecretKey, Time};
use prost::Message as _;

use support::{
    HOST, Manner, PLENTY, START, World, address, config, envelope, lines, message, message_of,
    millis, moves, secs,
};

/// What a sender hears after it has sent `bytes`.
fn answer(world: &mut World, sender: ConnId, bytes: Bytes) -> Vec<String> {
    world.receive(sender, bytes);
    world.settle();
    world.heard(sender)
}

fn limited(per_second: f64, burst: u32) -> Config {
    config().rate_limit(Some(RateLimit::new(per_second, burst).expect("a limit")))
}

#[test]
fn an_envelope_may_have_65536_bytes_and_no_more() {
    let mut world = World::open();
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let largest = message_of("alice", "bob", 65_536);
    assert_eq!(answer(&mut world, alice, largest.clone()), [""; 0]);
    // And a marker behind so much.
    let frames = world.frames(bob);
    assert!(
        matches!(&frames[..], [Frame::Message(message), Frame::Ping(_)] if *message == largest)
    );
    for bytes in [65_537, 131_072] {
        let reason =
            format!("QUEUE_FULL bob #big: envelope of {bytes} bytes over the limit of 65536");
        assert_eq!(
            answer(&mut world, alice, message_of("alice", "bob", bytes)),
            [reason]
        );
    }
    assert_eq!(world.frames(bob), []);
    assert_eq!(world.stats().refused_size, 2);
}

#[test]
fn a_refusal_is_an_envelope_that_names_what_it_is_about() {
    let mut world = World::open();
    let alice = world.join("alice");
    world.now = Time::ZERO + millis(500);
    world.say(alice, "nobody", "id");
    let frames = world.write(alice, PLENTY);
    let [Frame::Message(bytes)] = frames.as_slice() else {
        panic!("{frames:?}")
    };
    let reason = "recipient is offline and no queue is configured".into();
    let recipient_address = address("nobody").as_str().into();
    let expected = Envelope {
        version: 1,
        to_address: address("alice").as_str().into(),
        r#type: MessageType::QueueFull.into(),
        message_id: Bytes::from_static(b"id"),
        timestamp: START.0 + 500,
        payload: Some(Payload::QueueFull(QueueFull {
            recipient_address,
            reason,
        })),
        ..Envelope::default()
    };
    assert_eq!(Envelope::decode(bytes.clone()).unwrap(), expected);
}

/// It has said goodbye, and listens until it is answered.
#[test]
fn who_leaves_hears_what_was_refused_and_nothing_else() {
    let mut world = World::open();
    let alice = world.join("alice");
    world.join("bob");
    for to in ["nobody", "alice", "nobody"] {
        world.say(alice, to, to);
    }
    assert!(world.hub.is_open(alice));
    world.give(Input::PeerClosed {
        conn: alice,
        close: None,
    });
    assert!(!world.hub.is_open(alice));
    let reason = "recipient is offline and no queue is configured";
    let refusal = format!("QUEUE_FULL nobody #nobody: {reason}");
    assert_eq!(lines(&world.write(alice, 1)), [refusal.as_str()]);
    let rest = world.write(alice, PLENTY);
    let [rest @ .., Frame::Close(answer)] = &rest[..] else {
        panic!("{rest:?}: no close frame")
    };
    assert_eq!(lines(rest), [refusal]);
    assert_eq!(*answer, Close::NO_STATUS);
    assert_eq!(world.write(alice, PLENTY), []);
    world.give(Input::Closed {
        conn: alice,
        clean: false,
    });
    assert!(!world.hub.is_open(alice));
}

#[test]
fn a_refusal_repeats_ids_of_at_most_64_bytes() {
    for (len, repeated) in [(0, 0), (64, 64), (65, 0), (1000, 0)] {
        let mut world = World::open();
        let alice = world.join("alice");
        world.say(alice, "nobody", &"i".repeat(len));
        let frames = world.write(alice, PLENTY);
        let [Frame::Message(bytes)] = frames.as_slice() else {
            panic!("{frames:?}")
        };
        let id = Envelope::decode(bytes.clone()).unwrap().message_id;
        assert_eq!(id, "i".repeat(repeated), "an id of {len} bytes");
    }
}

#[test]
fn a_refusal_repeats_256_bytes_of_a_recipient_and_no_half_character() {
    let mut world = World::open();
    let alice = world.join("alice");
    let mut envelope = envelope("alice", "", MessageType::Message, "");
    envelope.to_address = format!("{}é and more", "x".repeat(255));
    let answer = answer(&mut world, alice, envelope.to_bytes());
    let reason = "to_address is no address of this relay: it does not parse";
    assert_eq!(
        answer,
        [format!("QUEUE_FULL {} #: {reason}", "x".repeat(255))]
    );
}

#[test]
fn a_recipient_that_nobody_can_be_is_told_from_one_that_is_offline() {
    let host = Host::parse(HOST).unwrap();
    let key = |seed| SecretKey::from_seed([seed; 32]).public_key();
    let offline = Address::from_public_key(&key(2), &host);
    let elsewhere = Address::from_public_key(&key(2), &Host::parse("elsewhere").unwrap());
    let mut misspelt = offline.as_str().to_owned();
    misspelt.replace_range(
        10..11,
        if misspelt.as_bytes()[10] == b'z' {
            "y"
        } else {
            "z"
        },
    );

    const OFFLINE: &str = "recipient is offline and no queue is configured";
    const NO_PARSE: &str = "to_address is no address of this relay: it does not parse";
    const OTHER_HOST: &str = "to_address is no address of this relay: its host is another";
    const NO_KEY: &str =
        "to_address is no address of this relay: it is not a key with its checksum";
    let cases = [
        (offline.as_str(), OFFLINE, OFFLINE),
        ("", NO_PARSE, NO_PARSE),
        ("bob", NO_PARSE, NO_PARSE),
        ("pinch:bob", NO_PARSE, NO_PARSE),
        ("pinch:@relay.example.com", NO_PARSE, NO_PARSE),
        ("pinch:b ob@relay.example.com", NO_PARSE, NO_PARSE),
        (elsewhere.as_str(), OTHER_HOST, OFFLINE),
        ("pinch:bob@relay.example.com", NO_KEY, OFFLINE),
        (misspelt.as_str(), NO_KEY, OFFLINE),
    ];
    for (addressing, names) in [(Addressing::Keys, false), (Addressing::Names, true)] {
        let mut world = World::new(config().addressing(addressing));
        let alice = world.join("alice");
        for (to, by_key, by_name) in cases {
            let mut envelope = envelope("alice", "", MessageType::Message, "");
            envelope.to_address = to.into();
            let answer = answer(&mut world, alice, envelope.to_bytes());
            let reason = if names { by_name } else { by_key };
            assert!(
                answer[0].ends_with(&format!(" #: {reason}")),
                "{to}: {answer:?}"
            );
            assert_eq!(answer.len(), 1);
        }
        let stats = world.stats();
        let expected = if names { (4, 5) } else { (1, 8) };
        assert_eq!((stats.refused_offline, stats.refused_address), expected);
    }
}

#[test]
fn an_outbox_is_full_by_bytes_or_by_count_and_comes_free_again() {
    let by_bytes = config().envelope_bytes(300).outbox_bytes(1000);
    let by_count = config().outbox_count(3);
    let cases = [
        (by_bytes, "at most 1000 bytes or 4096 envelopes"),
        (by_count, "at most 1048576 bytes or 3 envelopes"),
    ];
    for (config, limit) in cases {
        let mut world = World::new(config);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        let big = message_of("alice", "bob", 300);
        for _ in 0..3 {
            world.receive(alice, big.clone());
        }
        world.receive(alice, big.clone());
        let reason = format!("recipient's outbox is full: {limit} wait for a connection");
        let expected = [format!("QUEUE_FULL bob #big: {reason}")];
        assert_eq!(lines(&world.write(alice, PLENTY)), expected);
        assert_eq!(world.stats().refused_full, 1);

        assert_eq!(lines(&world.write(bob, 1)).len(), 1);
        world.receive(alice, big.clone());
        assert_eq!(world.write(alice, PLENTY), []);
        assert_eq!(world.write(bob, PLENTY).len(), 3);
        assert_eq!(world.stats().queued_bytes, 0);
    }
}

#[test]
fn an_outbox_takes_bytes_up_to_its_limit_exactly() {
    let mut world = World::new(config().envelope_bytes(300).outbox_bytes(600));
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    for bytes in [300, 300] {
        world.receive(alice, message_of("alice", "bob", bytes));
    }
    assert_eq!(
        (world.stats().queued_bytes, world.stats().refused_full),
        (600, 0)
    );
    assert_eq!(lines(&world.write(bob, PLENTY)).len(), 2);
}

#[test]
fn all_outboxes_together_have_a_limit() {
    let limits = config()
        .envelope_bytes(300)
        .outbox_bytes(600)
        .total_outbox_bytes(3 * (300 + ENVELOPE_OVERHEAD));
    let mut world = World::new(limits);
    let (alice, carol) = (world.join("alice"), world.join("carol"));
    let bob = world.join("bob");
    for to in ["bob", "bob", "carol"] {
        world.receive(alice, message_of("alice", to, 300));
    }
    let reason = "relay is out of memory for envelopes: at most 1251 bytes wait in all";
    world.receive(alice, message_of("alice", "carol", 100));
    let answer = lines(&world.write(alice, PLENTY));
    assert_eq!(answer, [format!("QUEUE_FULL carol #big: {reason}")]);
    assert_eq!(world.stats().refused_memory, 1);

    // What bob was given still counts, until he says that he has it.
    world.write(bob, PLENTY);
    world.receive(alice, message_of("alice", "carol", 100));
    assert_eq!(world.stats().refused_memory, 2);
    world.pass(secs(1));
    world.receive(alice, message_of("alice", "carol", 100));
    world.settle();
    assert_eq!(world.stats().refused_memory, 2);
    let heard = world.frames(carol);
    let messages = heard
        .iter()
        .filter(|frame| matches!(frame, Frame::Message(_)));
    assert_eq!(messages.count(), 2);
}

#[test]
fn a_sender_with_unread_rejections_is_paused_and_not_closed() {
    let mut world = World::new(config().refusal_bytes(500));
    let alice = world.join("alice");
    // What was read in one go is handed in, paused or not: each is answered.
    for _ in 0..20 {
        world.say(alice, "nobody", "x");
    }
    world.give(moves(alice));
    assert!(world.hub.is_paused(alice));
    // Its socket takes some of them: it is paused as long as more than the limit waits.
    assert_eq!(lines(&world.write(alice, 1000)).len(), 8);
    assert!(world.hub.is_paused(alice));
    assert_eq!(lines(&world.write(alice, PLENTY)).len(), 12);
    assert!(!world.hub.is_paused(alice));
    assert_eq!(world.stats().refused(), 20);
    assert_eq!(world.stats().connections, 1);
}

#[test]
fn a_recipient_that_vanishes_with_thousands_in_flight_costs_no_sender_its_connection() {
    let mut world = World::new(config().refusal_bytes(10_000));
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    for _ in 0..3000 {
        world.say(alice, "bob", "x");
    }
    world.write(bob, PLENTY);
    world.give(Input::Closed {
        conn: bob,
        clean: false,
    });
    world.give(moves(alice));
    assert!(world.hub.is_paused(alice));
    assert_eq!(lines(&world.write(alice, PLENTY)).len(), 3000);
    assert!(!world.hub.is_paused(alice));
    assert_eq!(world.stats().connections, 1);
}

#[test]
fn a_paused_sender_is_not_closed_for_a_pong_that_nobody_reads() {
    let mut world = World::new(config().refusal_bytes(500));
    let alice = world.join("alice");
    world.now = world.now + secs(25);
    world.tick();
    for _ in 0..20 {
        world.say(alice, "nobody", "x");
    }
    assert_eq!(lines(&world.write(alice, 1)), ["ping"]);
    // Its pong lies in the socket, unread.
    assert_eq!(world.write(alice, 1).len(), 1);
    assert!(world.hub.is_paused(alice));
    for _ in 0..100 {
        world.now = world.now + millis(100);
        world.tick();
    }
    world.write(alice, PLENTY);
    assert_eq!(world.stats().heartbeat_timeouts, 0);
    // From here on it is read, and has the time of a pong.
    assert!(!world.hub.is_paused(alice));
    world.write(alice, PLENTY);
    assert_eq!(world.stats().heartbeat_timeouts, 0);
    world.set(alice, Manner::Silent);
    world.pass(secs(8));
    assert_eq!(world.stats().heartbeat_timeouts, 1);
}

#[test]
fn a_sender_is_paused_while_the_store_may_reject_too_much_and_woken_when_it_answers() {
    for is_blocked in [false, true] {
        let queue = QueueConfig::new();
        let mut world = World::new(config().queue(queue).refusal_bytes(3000));
        let alice = world.join("alice");
        world.settle();
        for _ in 0..4 {
            world.say(alice, "bob", "x");
        }
        let looked = Input::Blocked {
            conn: alice,
            progressed: false,
        };
        if is_blocked {
            // It may wait for what it sends to be read before it reads itself.
            world.give(looked.clone());
        } else {
            assert_eq!(world.write(alice, PLENTY), []);
        }
        assert!(world.hub.is_paused(alice));
        // The first answer makes room for one more.
        let Request { ticket, operation } = world.store.asked.pop_front().expect("an append");
        let outcome = world.store.queue.execute(operation);
        let woken = world.give(Input::Stored { ticket, outcome });
        assert!(woken.contains(&Output::Wake { conn: alice }));
        if is_blocked {
            world.give(looked);
        } else {
            world.write(alice, PLENTY);
        }
        assert!(!world.hub.is_paused(alice));
    }
}

#[test]
fn the_true_time_until_the_next_token_is_told() {
    for (per_second, burst, retry_after) in [
        (1.0, 10, 1000),
        (2.0, 3, 500),
        (3.0, 1, 334),
        (0.01, 2, 100_000),
        (1000.0, 5, 1),
    ] {
        let mut world = World::new(limited(per_second, burst));
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        let hello = message("alice", "bob", "hello");
        for _ in 0..burst {
            assert_eq!(answer(&mut world, alice, hello.clone()), [""; 0]);
        }
        let refusal = |wait: u64| {
            let limit = format!("rate limit of {per_second} per second, {burst} at once");
            vec![format!("RATE_LIMITED {wait} ms #hello: {limit}")]
        };
        let start = world.now;
        assert_eq!(
            answer(&mut world, alice, hello.clone()),
            refusal(retry_after)
        );
        world.now = start + millis(retry_after - 1);
        assert_eq!(answer(&mut world, alice, hello.clone()), refusal(1));
        world.now = start + millis(retry_after);
        assert_eq!(answer(&mut world, alice, hello.clone()), [""; 0]);
        assert_eq!(world.heard(bob).len(), burst as usize + 1);
        assert_eq!(world.stats().refused_rate, 2);
    }
}

#[test]
fn without_a_rate_limit_nobody_is_slowed_down() {
    let mut world = World::new(config().rate_limit(None));
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    for _ in 0..1000 {
        world.say(alice, "bob", "x");
    }
    world.settle();
    let heard = world.heard(bob);
    assert_eq!(
        heard.iter().filter(|line| *line == "alice: x").count(),
        1000
    );
}

#[test]
fn a_reconnect_does_not_refill_the_rate_limit() {
    let mut world = World::new(limited(1.0, 2));
    let mut alice = world.join("alice");
    world.join("bob");
    for _ in 0..2 {
        world.say(alice, "bob", "x");
    }
    for _ in 0..3 {
        world.give(Input::Closed {
            conn: alice,
            clean: false,
        });
        assert_eq!(world.stats().parked_buckets, 1);
        alice = world.join("alice");
        assert_eq!(world.stats().parked_buckets, 0);
        let answer = answer(&mut world, alice, message("alice", "bob", "y"));
        assert!(
            answer[0].starts_with("RATE_LIMITED 1000 ms #y"),
            "{answer:?}"
        );
    }
    world.now = world.now + secs(1);
    assert_eq!(
        answer(&mut world, alice, message("alice", "bob", "y")),
        [""; 0]
    );
}

#[test]
fn a_rate_bucket_is_forgotten_when_it_is_full_again() {
    let mut world = World::new(limited(1.0, 10));
    let alice = world.join("alice");
    world.say(alice, "nobody", "x");
    world.give(Input::Closed {
        conn: alice,
        clean: false,
    });
    let at = world.now + secs(10);
    assert_eq!(
        world.wakeup,
        Some(Wakeup {
            at,
            reason: WakeupReason::Bucket
        })
    );
    world.now = at;
    assert_eq!(world.tick(), []);
    assert_eq!((world.stats().parked_buckets, world.wakeup), (0, None));
}

#[test]
fn a_connection_that_sent_nothing_leaves_no_bucket() {
    let mut world = World::new(limited(1.0, 10));
    let alice = world.join("alice");
    world.give(Input::Closed {
        conn: alice,
        clean: false,
    });
    assert_eq!((world.stats().parked_buckets, world.wakeup), (0, None));
}
