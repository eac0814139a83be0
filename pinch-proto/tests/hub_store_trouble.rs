//! A store that is late, fails, or never answers, while agents come and go: what is told to whom,
//! what stays in order, and what is bounded.

mod support;

use bytes::Bytes;
use pinch_proto::hub::{
    Admission, ConnId, Delivery, Input, OnDuplicate, QueueConfig, WakeupReason,
};
use pinch_proto::queue::{Entry, Failure, Outcome, Seq, Ticket, Usage};
use pinch_proto::wire::{BlockNotification, Envelope, MessageType, Payload};

use support::{
    GRACE, Manner, NANO, PLENTY, StoreManner, World, address, config, envelope, message_of, secs,
};

/// Alice is there; the store answers when it is told to.
fn held() -> (World, ConnId) {
    let mut world = World::with_queue();
    let alice = world.join("alice");
    world.store.manner = StoreManner::Held;
    (world, alice)
}

fn joined(world: &mut World, name: &str) -> ConnId {
    let conn = world.knock(name, Admission::Named).expect("it is admitted");
    world.settle();
    assert_eq!(world.heard(conn), ["ping"]);
    conn
}

/// Bob joins, is given something of Alice's, and leaves without having confirmed it.
fn leave_unconfirmed(world: &mut World, alice: ConnId) {
    let bob = joined(world, "bob");
    world.answer();
    world.set(bob, Manner::Silent);
    world.say(alice, "bob", "1");
    world.settle();
    world.give(Input::Closed {
        conn: bob,
        clean: false,
    });
}

#[test]
fn who_is_back_before_the_store_has_everything_waits_for_it() {
    let (mut world, alice) = held();
    leave_unconfirmed(&mut world, alice);
    let bob = world.knock("bob", Admission::Named).unwrap();
    world.say(alice, "bob", "2");
    world.settle();
    assert_eq!(world.heard(bob), ["ping"], "the first is not there yet");
    let asked = [
        "append for bob alice: 1",
        "read for bob",
        "append for bob alice: 2",
    ];
    assert_eq!(world.asked(), asked);
    while world.answer() {}
    world.settle();
    assert_eq!(world.heard(bob), ["QUEUE_STATUS 1", "alice: 1", "alice: 2"]);
}

#[test]
fn what_comes_while_a_read_is_under_way_is_held_and_follows_it_without_the_store() {
    let (mut world, alice) = held();
    let bob = joined(&mut world, "bob");
    // Until the first read is answered, nobody knows how much room bob's queue has.
    world.say(alice, "bob", "1");
    assert_eq!(world.asked(), ["read for bob", "append for bob alice: 1"]);
    world.answer();
    let asked = ["append for bob alice: 1", "read for bob"];
    for text in ["2", "3"] {
        world.say(alice, "bob", text);
        assert_eq!(world.asked(), asked);
    }
    assert_eq!(world.stats().queued, 2);
    while world.answer() {}
    world.settle();
    assert_eq!(world.heard(bob), ["alice: 1", "alice: 2", "alice: 3"]);
    world.say(alice, "bob", "4");
    world.settle();
    assert_eq!(world.heard(bob), ["alice: 4"]);
}

#[test]
fn what_does_not_fit_behind_a_read_goes_to_the_store_and_keeps_its_place() {
    let config = config().outbox_count(2).queue(QueueConfig::new());
    let mut world = World::new(config);
    let alice = world.join("alice");
    world.store.manner = StoreManner::Held;
    let bob = joined(&mut world, "bob");
    for text in ["1", "2", "3", "4"] {
        world.say(alice, "bob", text);
    }
    let appends = (1..=4).map(|number| format!("append for bob alice: {number}"));
    let mut expected = vec!["read for bob".to_owned()];
    expected.extend(appends);
    assert_eq!(world.asked(), expected);
    // The read that saw none of them is not the end.
    world.answer();
    world.settle();
    assert_eq!(world.heard(bob), [""; 0]);
    world.store.manner = StoreManner::Prompt;
    world.settle();
    let heard = world.heard(bob);
    let envelopes: Vec<_> = heard.iter().filter(|line| *line != "ping").collect();
    assert_eq!(envelopes, ["alice: 1", "alice: 2", "alice: 3", "alice: 4"]);
    assert_eq!(world.stats().backlogged, 0);
}

#[test]
fn what_is_held_behind_a_read_is_limited_in_bytes_as_well() {
    let config = config().envelope_bytes(1000).outbox_bytes(2000);
    let mut world = World::new(config.queue(QueueConfig::new()));
    let alice = world.join("alice");
    world.store.manner = StoreManner::Held;
    joined(&mut world, "bob");
    world.receive(alice, message_of("alice", "bob", 1000));
    world.answer();
    for _ in 0..3 {
        assert_eq!(world.asked().len(), 2, "an append and a read");
        world.receive(alice, message_of("alice", "bob", 1000));
    }
    assert_eq!(world.asked().len(), 5, "and all that was held");
}

#[test]
fn what_is_held_behind_a_read_that_is_not_the_last_goes_to_the_store() {
    let config = config().outbox_bytes(140_000);
    let mut world = World::new(config.queue(QueueConfig::new()));
    let alice = world.join("alice");
    for _ in 0..4 {
        world.receive(alice, message_of("alice", "bob", 60_000));
    }
    world.settle();
    world.store.manner = StoreManner::Held;
    let bob = joined(&mut world, "bob");
    world.say(alice, "bob", "5");
    // Two of the four fit; how long the rest takes is up to Bob.
    world.answer();
    assert_eq!(world.asked(), ["append for bob alice: 5"]);
    world.store.manner = StoreManner::Prompt;
    world.settle();
    let heard = world.heard(bob);
    assert_eq!(heard.last().map(String::as_str), Some("alice: 5"));
}

#[test]
fn a_recipient_that_leaves_during_a_read_leaves_nothing_behind() {
    let (mut world, alice) = held();
    world.say(alice, "bob", "1");
    world.answer();
    let bob = joined(&mut world, "bob");
    world.say(alice, "bob", "2");
    world.give(Input::Closed {
        conn: bob,
        clean: false,
    });
    assert_eq!(world.asked(), ["read for bob", "append for bob alice: 2"]);
    while world.answer() {}
    let stats = world.stats();
    assert_eq!(
        (stats.queued, stats.queued_bytes, stats.backlogged),
        (0, 0, 0)
    );
    assert_eq!(world.queued_for("bob"), ["alice: 1", "alice: 2"]);
    // The room that was set aside is free again: a thousand such reads fit.
    for _ in 0..3000 {
        let bob = world.knock("bob", Admission::Named).unwrap();
        world.give(Input::Closed {
            conn: bob,
            clean: false,
        });
        while world.answer() {}
    }
    let bob = joined(&mut world, "bob");
    assert_eq!(world.asked(), ["read for bob"]);
    world.answer();
    world.settle();
    assert_eq!(world.heard(bob), ["QUEUE_STATUS 2", "alice: 1", "alice: 2"]);
}

#[test]
fn a_takeover_during_a_read_keeps_the_order() {
    let config = config().on_duplicate(OnDuplicate::Replace);
    let mut world = World::new(config.queue(QueueConfig::new()));
    let alice = world.join("alice");
    world.say(alice, "bob", "1");
    world.settle();
    world.store.manner = StoreManner::Held;
    let first = joined(&mut world, "bob");
    world.say(alice, "bob", "2");
    let second = world.knock("bob", Admission::Named).unwrap();
    world.say(alice, "bob", "3");
    while world.answer() {}
    world.settle();
    assert_eq!(
        world.heard(first),
        ["close 4001 replaced by a new connection"]
    );
    let heard = world.heard(second);
    assert_eq!(
        heard,
        ["ping", "QUEUE_STATUS 3", "alice: 1", "alice: 2", "alice: 3"]
    );
}

#[test]
fn who_is_out_of_disk_tells_the_senders_and_goes_on_with_live_traffic() {
    let mut world = World::with_queue();
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.store.manner = StoreManner::Failing(Failure::DiskFull);
    world.say(alice, "carol", "1");
    world.say(alice, "bob", "2");
    world.settle();
    assert_eq!(
        world.heard(alice),
        ["QUEUE_FULL carol #1: relay is out of disk"]
    );
    assert_eq!(world.heard(bob), ["alice: 2"]);
    // And so do those who come now.
    let carol = world.join("carol");
    world.say(alice, "carol", "3");
    world.settle();
    assert_eq!(world.heard(carol), ["alice: 3"]);
    assert_eq!(world.stats().store_failures, 1);
    world.store.manner = StoreManner::Failing(Failure::ReadOnly);
    world.say(alice, "dave", "4");
    world.settle();
    assert_eq!(
        world.heard(alice),
        ["QUEUE_FULL dave #4: relay's disk is read-only"]
    );
}

#[test]
fn what_cannot_be_given_back_is_told_to_its_sender() {
    let (mut world, alice) = held();
    leave_unconfirmed(&mut world, alice);
    world.fail(Failure::DiskFull);
    world.settle();
    assert_eq!(
        world.heard(alice),
        ["QUEUE_FULL bob #1: relay is out of disk"]
    );
}

#[test]
fn a_queue_that_cannot_be_read_is_read_again_and_nothing_passes_it() {
    let (mut world, alice) = held();
    world.say(alice, "bob", "1");
    world.answer();
    let bob = joined(&mut world, "bob");
    world.say(alice, "bob", "2");
    world.fail(Failure::Broken);
    assert_eq!(world.asked(), ["append for bob alice: 2"]);
    world.answer();
    world.say(alice, "bob", "3");
    world.answer();
    world.settle();
    assert_eq!(world.heard(bob), [""; 0]);
    assert_eq!(world.wakeup.map(|due| due.reason), Some(WakeupReason::Read));
    world.pass(secs(1));
    assert_eq!(world.asked(), ["read for bob"]);
    world.answer();
    world.settle();
    assert_eq!(
        world.heard(bob),
        ["QUEUE_STATUS 3", "alice: 1", "alice: 2", "alice: 3"]
    );
}

#[test]
fn a_queue_that_cannot_be_read_is_not_read_again_at_once() {
    let (mut world, _) = held();
    let bob = joined(&mut world, "bob");
    world.fail(Failure::Broken);
    world.write(bob, PLENTY);
    world.pass(secs(1) - NANO);
    assert_eq!(world.asked(), [""; 0]);
    world.pass(NANO);
    assert_eq!(world.asked(), ["read for bob"]);
}

#[test]
fn a_store_that_does_not_answer_keeps_no_sender_waiting() {
    let (mut world, alice) = held();
    world.say(alice, "carol", "1");
    world.pass(secs(10) + GRACE - NANO);
    assert_eq!(world.heard(alice), [""; 0]);
    world.pass(NANO);
    let told = "relay's store does not answer; the envelope may arrive nevertheless";
    assert_eq!(world.heard(alice), [format!("QUEUE_FULL carol #1: {told}")]);
    assert_eq!(world.stats().store_unanswered, 1);
    // When it does answer, that is no news.
    world.answer();
    world.settle();
    assert_eq!(world.heard(alice), [""; 0]);
    assert_eq!(world.stats().store_unanswered, 0);
    let carol = world.knock("carol", Admission::Named).unwrap();
    world.answer();
    world.settle();
    assert_eq!(world.heard(carol), ["ping", "QUEUE_STATUS 1", "alice: 1"]);
}

#[test]
fn what_was_not_answered_in_time_and_then_fails_has_failed_once() {
    let (mut world, alice) = held();
    world.say(alice, "bob", "1");
    world.pass(secs(10) + GRACE);
    assert_eq!(world.stats().store_failures, 1);
    assert!(world.fail(Failure::Broken));
    assert_eq!(world.stats().store_failures, 1);
}

#[test]
fn what_is_held_behind_a_read_that_is_not_answered_is_told_too() {
    let (mut world, alice) = held();
    let _bob = joined(&mut world, "bob");
    world.say(alice, "bob", "1");
    world.pass(secs(10) + GRACE);
    assert_eq!(world.asked(), ["read for bob", "append for bob alice: 1"]);
    world.pass(secs(10) + GRACE);
    let heard = world.heard(alice);
    assert!(
        heard
            .iter()
            .any(|line| line.starts_with("QUEUE_FULL bob #1: relay's store does not"))
    );
    assert_eq!(world.stats().queued, 0);
    assert_eq!(
        world.asked().len(),
        2,
        "it is not asked again while it owes an answer"
    );
}

#[test]
fn a_store_that_does_not_answer_holds_no_more_than_its_share() {
    let queue = QueueConfig::new().unanswered_bytes(10_000);
    let mut world = World::new(config().queue(queue));
    let alice = world.join("alice");
    world.store.manner = StoreManner::Held;
    for _ in 0..100 {
        world.receive(alice, message_of("alice", "carol", 1000));
        world.pass(secs(1));
    }
    let held: usize = world.store.asked.len() * 1000;
    assert!((7000..=10_000).contains(&held), "{held}");
    let busy = "relay's store is too busy: it owes answers for 10000 bytes";
    let busies = |heard: &[String]| heard.iter().filter(|line| line.ends_with(busy)).count();
    let refused = busies(&world.heard(alice));
    assert_eq!(refused, 100 - held / 1000);
    assert_eq!(world.stats().refused_store, refused as u64);
    // A block would be forgotten, and so is refused as well.
    let block = Payload::BlockNotification(BlockNotification {
        blocked_address: address("carol").as_str().into(),
        ..Default::default()
    });
    let kind: MessageType = block.message_type();
    let payload = Some(block);
    let notification = Envelope {
        payload,
        ..envelope("alice", "", kind, "")
    };
    for _ in 0..10 {
        world.say(alice, "carol", "small");
    }
    world.receive(alice, notification.to_bytes());
    world.settle();
    let heard = world.heard(alice);
    assert!(heard.last().is_some_and(|line| line.ends_with(busy)));
    let refused = refused + busies(&heard);
    assert_eq!(world.stats().refused_store, refused as u64);
    assert_eq!(world.stats().blocks, 0);
    while world.answer() {}
    world.say(alice, "carol", "again");
    assert_eq!(world.asked(), ["append for carol alice: again"]);
}

#[test]
fn a_shutdown_does_not_wait_for_a_store_that_does_not_answer() {
    let (mut world, alice) = held();
    world.say(alice, "carol", "1");
    world.give(Input::Shutdown);
    world.settle();
    world.pass(secs(9));
    assert_eq!((world.shut_down, world.stats().connections), (0, 0));
    world.pass(secs(1) + GRACE);
    assert_eq!(world.shut_down, 1);
    world.answer();
    assert_eq!(world.shut_down, 1);
}

#[test]
fn an_answer_that_was_never_owed_is_ignored_and_counted() {
    let (mut world, alice) = held();
    let before = world.stats().late;
    let outputs = world.give(Input::Stored {
        ticket: Ticket(99),
        outcome: Outcome::Appended {
            usage: Usage::default(),
            displaced: None,
        },
    });
    assert_eq!((outputs, world.stats().late), (vec![], before + 1));
    world.say(alice, "carol", "1");
    let ticket = world.store.asked[0].ticket;
    for _ in 0..2 {
        world.give(Input::Stored {
            ticket,
            outcome: Outcome::Appended {
                usage: Usage::default(),
                displaced: None,
            },
        });
    }
    assert_eq!((world.stats().stored, world.stats().late), (1, before + 2));
}

#[test]
fn an_answer_that_does_not_fit_its_question_is_a_failure() {
    let (mut world, alice) = held();
    let bob = joined(&mut world, "bob");
    world.say(alice, "carol", "1");
    for request in core::mem::take(&mut world.store.asked) {
        world.give(Input::Stored {
            ticket: request.ticket,
            outcome: Outcome::Expired { count: 7 },
        });
    }
    world.settle();
    assert_eq!(
        world.heard(alice),
        ["QUEUE_FULL carol #1: relay's store does not work"]
    );
    assert_eq!(world.stats().expired, 0);
    world.store.manner = StoreManner::Prompt;
    world.say(alice, "bob", "2");
    world.pass(secs(1));
    assert_eq!(world.heard(bob), ["QUEUE_STATUS 1", "alice: 2"]);
}

#[test]
fn what_a_store_has_made_up_is_counted_if_it_cannot_be_put_back() {
    let queue = QueueConfig::new();
    let mut world = World::new(config().delivery(Delivery::AtMostOnce).queue(queue));
    world.store.manner = StoreManner::Held;
    let bob = joined(&mut world, "bob");
    let read = world.store.asked.pop_front().expect("the queue is read");
    let made_up = Entry {
        seq: Seq(7),
        message: Bytes::from_static(b"no envelope"),
    };
    world.give(Input::Stored {
        ticket: read.ticket,
        outcome: Outcome::Entries {
            entries: vec![made_up],
            pending: 1,
            usage: Usage::default(),
        },
    });
    assert_eq!((world.stats().read, world.stats().queued), (1, 1));
    world.give(Input::Closed {
        conn: bob,
        clean: false,
    });
    assert_eq!((world.stats().returned, world.stats().queued), (1, 0));
}

#[test]
fn an_address_has_one_read_under_way_however_often_it_comes_and_goes() {
    let (mut world, alice) = held();
    world.say(alice, "bob", "1");
    world.answer();
    for _ in 0..3000 {
        let bob = world.knock("bob", Admission::Named).unwrap();
        world.give(Input::Closed {
            conn: bob,
            clean: false,
        });
    }
    assert_eq!(world.asked(), ["read for bob"]);
    // There is memory for others still.
    let carol = world.knock("carol", Admission::Named).unwrap();
    assert_eq!(world.asked(), ["read for bob", "read for carol"]);
    let bob = world.knock("bob", Admission::Named).unwrap();
    world.say(alice, "bob", "2");
    world.settle();
    while world.answer() {}
    world.settle();
    assert_eq!(
        world.heard(bob),
        ["ping", "QUEUE_STATUS 2", "alice: 1", "alice: 2"]
    );
    assert_eq!(world.heard(carol), ["ping"]);
}

#[test]
fn a_read_that_nobody_waits_for_any_more_leaves_nothing() {
    let (mut world, _) = held();
    let bob = world.knock("bob", Admission::Named).unwrap();
    world.give(Input::Closed {
        conn: bob,
        clean: false,
    });
    // Its answer does not come in time, and fails.
    world.pass(secs(20));
    assert!(world.fail(Failure::Broken));
    let bob = world.knock("bob", Admission::Named).unwrap();
    assert_eq!(world.asked(), ["read for bob"]);
    while world.answer() {}
    world.settle();
    assert_eq!(world.heard(bob), ["ping"]);
    assert_eq!(world.stats().backlogged, 0);
}
