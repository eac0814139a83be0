//! The durable queue, with a store that does what it is asked: who is offline gets it later, in
//! order and once confirmed never again; what waits for whom, for how long, and within what.

mod support;

use pinch_proto::Time;
use pinch_proto::hub::{
    Addressing, Admission, CloseCause, ConnId, Delivery, Hub, Input, OnDuplicate, QueueConfig,
    WakeupReason,
};
use pinch_proto::wire::{BlockNotification, Envelope, MessageType, Payload, UnblockNotification};

use support::{
    GRACE, Manner, NANO, START, StoreManner, World, address, config, envelope, lines_with_probes,
    message, message_of, requests, secs,
};

/// Alice, who is connected, has written `texts` to Bob, who is not.
fn written(texts: &[&str]) -> (World, ConnId) {
    let mut world = World::with_queue();
    let alice = world.join("alice");
    for text in texts {
        world.say(alice, "bob", text);
    }
    world.settle();
    assert_eq!(world.heard(alice), [""; 0], "there is nothing to tell");
    (world, alice)
}

#[test]
fn who_joins_hears_how_much_waits_and_then_all_of_it_in_order() {
    let (mut world, alice) = written(&["1", "2", "3"]);
    assert_eq!(
        world.queued_for("bob"),
        ["alice: 1", "alice: 2", "alice: 3"]
    );
    let bob = world.knock("bob", Admission::Named).unwrap();
    world.say(alice, "bob", "4");
    world.settle();
    let heard = [
        "ping",
        "QUEUE_STATUS 3",
        "alice: 1",
        "alice: 2",
        "alice: 3",
        "alice: 4",
    ];
    assert_eq!(world.heard(bob), heard);
    world.say(alice, "bob", "5");
    world.settle();
    assert_eq!(world.heard(bob), ["alice: 5"]);
    assert_eq!(world.stats().backlogged, 0);
}

#[test]
fn both_wait_for_the_first_pong_or_a_second() {
    let (mut world, _) = written(&["1"]);
    let bob = world.knock("bob", Admission::Proven).unwrap();
    world.set(bob, Manner::Silent);
    world.pass(secs(1) - NANO);
    let greeting = ["AUTH_RESULT true bob", "ping"];
    assert_eq!(world.heard(bob), greeting);
    world.pass(NANO);
    assert_eq!(world.heard(bob), ["QUEUE_STATUS 1", "alice: 1"]);
}

#[test]
fn who_joins_and_has_nothing_waiting_hears_nothing_about_it() {
    let mut world = World::with_queue();
    let alice = world.join("alice");
    world.pass(secs(5));
    assert_eq!(world.heard(alice), [""; 0]);
    assert_eq!(world.stats().backlogged, 0);
}

#[test]
fn what_is_stored_is_forgotten_when_it_is_confirmed_and_not_before() {
    let (mut world, _) = written(&["1", "2"]);
    let bob = world.knock("bob", Admission::Named).unwrap();
    world.set(bob, Manner::Silent);
    world.pass(secs(1));
    assert_eq!(
        lines_with_probes(&world.frames(bob)),
        ["ping", "QUEUE_STATUS 2", "alice: 1", "alice: 2", "ping"]
    );
    assert_eq!(world.stats().in_flight, 2);
    assert_eq!(world.queued_for("bob"), ["alice: 1", "alice: 2"]);
    let payload = 3_u64.to_be_bytes().to_vec().into();
    world.give(Input::Pong { conn: bob, payload });
    world.settle();
    assert_eq!(world.queued_for("bob"), [""; 0]);
    let stats = world.stats();
    assert_eq!(
        (stats.delivered, stats.stored, stats.read, stats.kept),
        (2, 2, 2, 0)
    );
}

#[test]
fn a_cut_in_the_middle_of_a_drain_loses_nothing() {
    let (mut world, alice) = written(&["1", "2", "3", "4"]);
    let bob = world.knock("bob", Admission::Named).unwrap();
    world.write(bob, 1);
    world.give(Input::Pong {
        conn: bob,
        payload: 2_u64.to_be_bytes().to_vec().into(),
    });
    world.settle_store();
    for _ in 0..3 {
        world.write(bob, 1);
    }
    // It has been given the status and two envelopes, and has confirmed none.
    world.give(Input::Closed {
        conn: bob,
        clean: false,
    });
    world.say(alice, "bob", "5");
    world.settle();
    assert_eq!(world.queued_for("bob").len(), 5);
    assert_eq!(world.heard(alice), [""; 0]);
    let bob = world.knock("bob", Admission::Named).unwrap();
    world.settle();
    let heard = world.heard(bob);
    assert_eq!(heard[1..4], ["QUEUE_STATUS 5", "alice: 1", "alice: 2"]);
    assert_eq!(heard[4..], ["alice: 3", "alice: 4", "alice: 5"]);
}

#[test]
fn what_a_cut_leaves_unconfirmed_comes_again_before_what_was_written_since() {
    let mut world = World::with_queue();
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.set(bob, Manner::Silent);
    world.say(alice, "bob", "1");
    world.settle();
    world.set(bob, Manner::Blocked);
    for text in ["2", "3"] {
        world.say(alice, "bob", text);
    }
    assert_eq!(world.heard(bob), ["alice: 1"]);
    let outputs = world.give(Input::Closed {
        conn: bob,
        clean: false,
    });
    let appends = [1, 2, 3].map(|number| format!("append for bob alice: {number}"));
    let mut asked = requests(&outputs);
    asked.sort();
    assert_eq!(asked, appends);
    world.say(alice, "bob", "4");
    let bob = world.knock("bob", Admission::Named).unwrap();
    world.settle();
    let heard = world.heard(bob);
    assert_eq!(
        heard[1..],
        [
            "QUEUE_STATUS 4",
            "alice: 1",
            "alice: 2",
            "alice: 3",
            "alice: 4"
        ]
    );
    assert_eq!(
        world.heard(alice),
        [""; 0],
        "nothing is lost, so nobody is told"
    );
}

#[test]
fn a_takeover_gets_everything_that_its_predecessor_has_not_confirmed() {
    let config = config().queue(QueueConfig::new());
    let mut world = World::new(config.on_duplicate(OnDuplicate::Replace));
    let (alice, first) = (world.join("alice"), world.join("bob"));
    world.set(first, Manner::Blocked);
    world.say(alice, "bob", "1");
    world.settle();
    world.say(alice, "bob", "2");
    let second = world.knock("bob", Admission::Named).unwrap();
    world.say(alice, "bob", "3");
    world.settle();
    let heard = world.heard(second);
    assert_eq!(
        heard,
        ["ping", "QUEUE_STATUS 2", "alice: 1", "alice: 2", "alice: 3"]
    );
    world.set(first, Manner::Honest);
    world.settle();
    assert_eq!(world.cause(first), Some(CloseCause::Replaced));
    world.pass(secs(2));
    assert_eq!(world.queued_for("bob"), [""; 0]);
    assert_eq!(world.stats().delivered, 3);
}

#[test]
fn a_shutdown_flushes_and_keeps_what_is_not_confirmed() {
    let mut world = World::with_queue();
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let carol = world.join("carol");
    world.set(carol, Manner::Silent);
    for to in ["bob", "carol"] {
        world.say(alice, to, "last words");
    }
    world.store.manner = StoreManner::Held;
    world.give(Input::Shutdown);
    world.settle();
    assert_eq!(world.heard(bob)[0], "alice: last words");
    assert_eq!(world.heard(carol)[0], "alice: last words");
    world.pass(secs(5) + GRACE);
    assert_eq!(world.asked(), ["append for carol alice: last words"]);
    assert_eq!(world.shut_down, 0, "the store has not answered");
    world.answer();
    assert_eq!(world.shut_down, 1);
    assert_eq!(world.queued_for("carol"), ["alice: last words"]);
    assert_eq!(world.stats().delivered, 1);
}

#[test]
fn a_restart_goes_on_where_the_store_stands() {
    let (world, _) = written(&["1", "2"]);
    let restored = world.store.queue.restored();
    let mut reborn = World::with_queue();
    reborn.hub = reborn.hub.with_restored(restored);
    reborn.store.queue = world.store.queue;
    let alice = reborn.join("alice");
    reborn.say(alice, "bob", "3");
    reborn.settle();
    let bob = reborn.knock("bob", Admission::Named).unwrap();
    reborn.settle();
    let heard = reborn.heard(bob);
    assert_eq!(
        heard[1..],
        ["QUEUE_STATUS 3", "alice: 1", "alice: 2", "alice: 3"]
    );
}

#[test]
fn beyond_a_recipients_quota_the_sender_is_told() {
    let mut world = World::new(config().queue(QueueConfig::new().recipient_count(2)));
    let alice = world.join("alice");
    for text in ["1", "2", "3"] {
        world.say(alice, "bob", text);
    }
    world.say(alice, "carol", "4");
    world.settle();
    let told =
        "QUEUE_FULL bob #3: recipient's queue is full: at most 2 envelopes wait for one recipient";
    assert_eq!(world.heard(alice), [told]);
    assert_eq!(world.queued_for("bob").len(), 2);
    assert_eq!(world.queued_for("carol").len(), 1);
}

#[test]
fn what_comes_back_from_a_connection_has_its_place() {
    let mut world = World::new(config().queue(QueueConfig::new().recipient_count(2)));
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.set(bob, Manner::Silent);
    for text in ["1", "2", "3"] {
        world.say(alice, "bob", text);
    }
    world.settle();
    world.give(Input::Closed {
        conn: bob,
        clean: false,
    });
    world.settle();
    assert_eq!(world.queued_for("bob"), ["alice: 1", "alice: 2"]);
    let told =
        "QUEUE_FULL bob #3: recipient's queue is full: at most 2 envelopes wait for one recipient";
    assert_eq!(world.heard(alice), [told], "there was no place for it");
}

#[test]
fn a_sender_cannot_fill_the_disk_with_recipients() {
    let queue = QueueConfig::new().sender_bytes(1000).total_bytes(2500);
    let mut world = World::new(config().queue(queue));
    let senders = ["alice", "bob", "carol"].map(|name| (name, world.join(name)));
    for (name, conn) in senders {
        for nobody in 0..20 {
            let to = format!("nobody{nobody}");
            world.receive(conn, message(name, &to, "x"));
        }
    }
    world.settle();
    assert!(world.store.queue.bytes() <= 2500);
    let alices = world.heard(senders[0].1);
    let expected = "too much of yours is queued: at most 1000 bytes of one sender wait";
    assert!(alices.iter().all(|line| line.ends_with(expected)));
    assert!((1..20).contains(&alices.len()));
    let carols = world.heard(senders[2].1);
    let expected = "relay's queue is full: at most 2500 bytes wait in all";
    assert!(carols.iter().any(|line| line.ends_with(expected)));
}

#[test]
fn with_keys_only_an_address_that_somebody_can_own_has_a_queue() {
    let config = config().addressing(Addressing::Keys);
    let mut world = World::new(config.queue(QueueConfig::new()));
    let alice = world.join("alice");
    world.say(alice, "bob", "1");
    world.settle();
    let told = "QUEUE_FULL bob #1: to_address is no address of this relay: it is not a key with its checksum";
    assert_eq!(world.heard(alice), [told]);
    assert!(world.store.queue.is_empty());
}

#[test]
fn what_nobody_fetched_in_time_is_forgotten() {
    let queue = QueueConfig::new()
        .ttl(secs(100))
        .recipient_count(2)
        .expiry_interval(secs(600));
    let mut world = World::new(config().queue(queue));
    let alice = world.join("alice");
    world.say(alice, "bob", "1");
    world.settle();
    world.pass(secs(60));
    world.say(alice, "bob", "2");
    world.settle();
    world.pass(secs(40));
    // The first has expired, and counts no more.
    world.say(alice, "bob", "3");
    world.settle();
    assert!(world.heard(alice).iter().all(|line| line == "ping"));
    let bob = world.knock("bob", Admission::Named).unwrap();
    world.settle();
    assert_eq!(
        world.heard(bob),
        ["ping", "QUEUE_STATUS 2", "alice: 2", "alice: 3"]
    );
    world.say(alice, "carol", "4");
    world.settle();
    world.pass(secs(501));
    assert!(world.store.queue.is_empty());
    assert_eq!(world.stats().expired, 2);
}

#[test]
fn the_store_is_told_to_forget_at_its_own_pace() {
    let queue = QueueConfig::new().expiry_interval(secs(10));
    let mut world = World::new(config().queue(queue));
    world.store.manner = StoreManner::Held;
    world.tick();
    assert_eq!(
        world.wakeup.map(|due| due.reason),
        Some(WakeupReason::Expiry)
    );
    world.pass(secs(30));
    assert_eq!(world.asked(), ["expire"], "one at a time");
    world.answer();
    world.pass(secs(10));
    assert_eq!(world.asked(), ["expire"]);
}

#[test]
fn an_envelope_is_stored_as_it_came() {
    let mut world = World::with_queue();
    let alice = world.join("alice");
    let mut bytes = message("alice", "bob", "x").to_vec();
    bytes.extend_from_slice(&[0xba, 0x3e, 2, 1, 2]);
    world.receive(alice, bytes.clone().into());
    world.settle();
    let recipient = address("bob");
    let entries: Vec<_> = world.store.queue.entries(recipient.as_str()).collect();
    assert_eq!(entries[0].message, bytes);
    let bob = world.knock("bob", Admission::Named).unwrap();
    world.settle();
    let frames = world.frames(bob);
    let [.., last, _ack_probe] = frames.as_slice() else {
        panic!("{frames:?}")
    };
    assert_eq!(*last, pinch_proto::Frame::Message(bytes.into()));
}

#[test]
fn at_most_once_forgets_what_it_has_read() {
    let config = config().queue(QueueConfig::new());
    let mut world = World::new(config.delivery(Delivery::AtMostOnce));
    let alice = world.join("alice");
    for text in ["1", "2"] {
        world.say(alice, "bob", text);
    }
    world.settle();
    let bob = world.knock("bob", Admission::Named).unwrap();
    world.set(bob, Manner::Blocked);
    world.settle();
    assert_eq!(world.queued_for("bob"), [""; 0]);
    // It was given nothing but a ping: so all of it goes back.
    world.give(Input::Closed {
        conn: bob,
        clean: false,
    });
    world.settle();
    assert_eq!(world.queued_for("bob"), ["alice: 1", "alice: 2"]);
    let bob = world.knock("bob", Admission::Named).unwrap();
    world.settle();
    world.give(Input::Closed {
        conn: bob,
        clean: false,
    });
    world.settle();
    assert_eq!(world.queued_for("bob"), [""; 0]);
    assert_eq!(world.stats().delivered + world.stats().unconfirmed, 2);
}

#[test]
fn blocks_are_for_good() {
    let mut world = World::with_queue();
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let block = Payload::BlockNotification(BlockNotification {
        blocked_address: address("alice").as_str().into(),
        ..Default::default()
    });
    let unblock = Payload::UnblockNotification(UnblockNotification {
        unblocked_address: address("alice").as_str().into(),
        ..Default::default()
    });
    let says = |payload: Payload| {
        let kind: MessageType = payload.message_type();
        let payload = Some(payload);
        Envelope {
            payload,
            ..envelope("bob", "", kind, "")
        }
        .to_bytes()
    };
    let asked = world.receive(bob, says(block.clone()));
    assert_eq!(requests(&asked), ["block bob alice", "seen bob"]);
    // It may be that the store has failed: who repeats it is to be sure.
    assert_eq!(
        requests(&world.receive(bob, says(block.clone()))),
        ["block bob alice"]
    );
    world.settle();
    world.give(Input::Closed {
        conn: bob,
        clean: false,
    });
    world.say(alice, "bob", "unheard");
    world.settle();
    assert!(world.store.queue.is_empty());

    let config = world.hub.config().clone();
    let hub = Hub::new(config, [1; 16], Time::ZERO, START);
    let mut reborn = World::with_queue();
    reborn.hub = hub.with_restored(world.store.queue.restored());
    let (alice, bob) = (reborn.join("alice"), reborn.join("bob"));
    reborn.say(alice, "bob", "unheard");
    assert_eq!(
        requests(&reborn.receive(bob, says(unblock.clone()))),
        ["unblock bob alice"]
    );
    assert_eq!(
        requests(&reborn.receive(bob, says(unblock))),
        ["unblock bob alice"]
    );
    reborn.say(alice, "bob", "heard");
    reborn.settle();
    assert_eq!(reborn.heard(bob), ["alice: heard"]);
}

#[test]
fn a_long_queue_is_read_as_the_reader_reads() {
    let mut world = World::new(config().outbox_bytes(200_000).queue(QueueConfig::new()));
    let alice = world.join("alice");
    for _ in 0..20 {
        world.receive(alice, message_of("alice", "bob", 60_000));
    }
    world.settle();
    let bob = world.knock("bob", Admission::Named).unwrap();
    world.settle_store();
    let stats = world.stats();
    assert!(
        (60_000..=200_000).contains(&stats.queued_bytes),
        "{stats:?}"
    );
    world.settle();
    assert_eq!(
        world
            .heard(bob)
            .iter()
            .filter(|line| line.starts_with("alice"))
            .count(),
        20
    );
    world.pass(secs(2));
    assert!(world.store.queue.is_empty());
    assert_eq!(world.stats().backlogged, 0);
}

#[test]
fn a_queue_is_read_on_when_half_of_the_outbox_is_free_and_not_before() {
    let by_bytes = config().envelope_bytes(500).outbox_bytes(4000);
    let by_count = config().outbox_count(8);
    for config in [by_bytes, by_count] {
        let mut world = World::new(config.queue(QueueConfig::new()));
        let alice = world.join("alice");
        for _ in 0..9 {
            world.receive(alice, message_of("alice", "bob", 500));
        }
        world.settle();
        world.store.manner = StoreManner::Held;
        let bob = world.knock("bob", Admission::Named).unwrap();
        world.settle();
        world.answer();
        assert_eq!(world.stats().queued, 8, "the outbox is full");
        assert_eq!(world.write(bob, 1).len(), 1, "QUEUE_STATUS");
        for _ in 0..4 {
            assert_eq!(world.asked(), [""; 0]);
            world.write(bob, 1);
        }
        assert_eq!(world.stats().queued, 4);
        assert_eq!(world.asked(), ["read for bob"]);
    }
}
