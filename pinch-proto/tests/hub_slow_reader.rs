//! A recipient that reads too slowly: what waits for it is bounded in memory, and nothing is lost
//! or overtaken, whichever policy is chosen.

mod support;

use pinch_proto::hub::{
    Admission, CloseCause, Config, ConnId, ENVELOPE_OVERHEAD, Input, QueueConfig, SlowReader,
};

use support::{GRACE, Manner, StoreManner, World, config, lines, message_of, secs};

/// Alice, and Bob, whose socket has stopped with one envelope in it and two in his outbox, which
/// is full.
fn stopped(config: Config) -> (World, ConnId, ConnId) {
    let mut world = World::new(config.outbox_count(2));
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.set(bob, Manner::Blocked);
    world.say(alice, "bob", "0");
    world.settle();
    for text in ["1", "2"] {
        world.say(alice, "bob", text);
    }
    world.settle();
    assert_eq!(world.heard(bob), ["alice: 0"]);
    (world, alice, bob)
}

fn envelopes(world: &mut World, conn: ConnId) -> Vec<String> {
    let mut heard = world.heard(conn);
    heard.retain(|line| line.starts_with("alice"));
    heard
}

#[test]
fn what_an_outbox_cannot_hold_spills_and_comes_back_in_order() {
    let (mut world, alice, bob) = stopped(config().queue(QueueConfig::new()));
    for text in ["3", "4", "5"] {
        world.say(alice, "bob", text);
    }
    world.settle();
    assert_eq!(
        world.queued_for("bob"),
        ["alice: 3", "alice: 4", "alice: 5"]
    );
    assert_eq!(world.stats().queued, 2);
    world.set(bob, Manner::Honest);
    world.settle();
    world.say(alice, "bob", "6");
    world.settle();
    let expected = (1..=6).map(|number| format!("alice: {number}"));
    assert_eq!(envelopes(&mut world, bob), expected.collect::<Vec<_>>());
    world.pass(secs(2));
    assert!(world.store.queue.is_empty());
    let stats = world.stats();
    assert_eq!((stats.backlogged, stats.delivered), (0, 7));
    // From here on the store is left alone.
    let stored = world.stats().stored;
    world.say(alice, "bob", "7");
    world.settle();
    assert_eq!(envelopes(&mut world, bob), ["alice: 7"]);
    assert_eq!(world.stats().stored, stored);
}

#[test]
fn one_who_spills_and_leaves_finds_everything_in_order() {
    let (mut world, alice, bob) = stopped(config().queue(QueueConfig::new()));
    world.say(alice, "bob", "3");
    world.settle();
    world.give(Input::Closed {
        conn: bob,
        clean: false,
    });
    world.say(alice, "bob", "4");
    world.settle();
    let bob = world.knock("bob", Admission::Named).unwrap();
    world.settle();
    let expected = (0..=4).map(|number| format!("alice: {number}"));
    assert_eq!(envelopes(&mut world, bob), expected.collect::<Vec<_>>());
    assert_eq!(world.heard(alice), [""; 0]);
}

#[test]
fn what_is_written_in_the_instant_a_drain_ends_is_not_stranded() {
    let (mut world, alice, bob) = stopped(config().queue(QueueConfig::new()));
    world.say(alice, "bob", "3");
    world.settle();
    world.store.manner = StoreManner::Held;
    world.set(bob, Manner::Honest);
    world.settle();
    // All but the answer to the last read: whatever comes now comes behind it.
    for number in 4..40 {
        world.say(alice, "bob", &number.to_string());
        world.answer();
        world.settle();
    }
    while world.answer() {}
    world.settle();
    let expected = (1..40).map(|number| format!("alice: {number}"));
    assert_eq!(envelopes(&mut world, bob), expected.collect::<Vec<_>>());
    assert_eq!(world.stats().backlogged, 0);
}

#[test]
fn what_is_read_and_what_comes_meanwhile_share_the_outbox() {
    let config = config().outbox_count(2).queue(QueueConfig::new());
    let mut world = World::new(config);
    let alice = world.join("alice");
    for text in ["0", "1"] {
        world.say(alice, "bob", text);
    }
    world.settle();
    world.store.manner = StoreManner::Held;
    let bob = world.knock("bob", Admission::Named).unwrap();
    world.set(bob, Manner::Blocked);
    for text in ["2", "3"] {
        world.say(alice, "bob", text);
    }
    world.answer();
    assert_eq!(world.stats().queued, 2, "no more may wait for him");
    world.store.manner = StoreManner::Prompt;
    world.set(bob, Manner::Honest);
    world.settle();
    let expected = (0..4).map(|number| format!("alice: {number}"));
    assert_eq!(envelopes(&mut world, bob), expected.collect::<Vec<_>>());
    assert_eq!(world.stats().backlogged, 0);
}

#[test]
fn the_memory_of_all_together_spills_too() {
    let config = config()
        .total_outbox_bytes(130_000)
        .queue(QueueConfig::new());
    let mut world = World::new(config.outbox_bytes(100_000));
    let (alice, bob, carol) = (world.join("alice"), world.join("bob"), world.join("carol"));
    for (conn, name) in [(bob, "bob"), (carol, "carol")] {
        world.set(conn, Manner::Blocked);
        for _ in 0..4 {
            world.receive(alice, message_of("alice", name, 30_000));
            world.settle();
            let stats = world.stats();
            assert!(stats.queued_bytes + stats.in_flight_bytes <= 130_000);
        }
    }
    assert_eq!(world.store.queue.len(), 4);
    for conn in [bob, carol] {
        world.set(conn, Manner::Honest);
    }
    world.pass(secs(5));
    for conn in [bob, carol] {
        assert_eq!(envelopes(&mut world, conn).len(), 4);
    }
    assert_eq!(world.heard(alice), [""; 0]);
    assert!(world.store.queue.is_empty());
}

/// A read may bring one envelope of any size: what is set aside for it has to hold that.
#[test]
fn queues_are_read_within_the_memory_of_all_together_however_it_relates_to_a_read() {
    for read_bytes in [1, 1_000_000] {
        let queue = QueueConfig::new().read_bytes(read_bytes);
        let mut world = World::new(config().total_outbox_bytes(100_000).queue(queue));
        let alice = world.join("alice");
        for name in ["bob", "carol"] {
            for _ in 0..3 {
                world.receive(alice, message_of("alice", name, 60_000));
                world.settle();
            }
        }
        world.store.manner = StoreManner::Held;
        let readers = ["bob", "carol"].map(|name| {
            let conn = world.knock(name, Admission::Named).expect("it is admitted");
            world.settle();
            conn
        });
        let mut heard = 0;
        for _ in 0..20 {
            while world.answer() {
                let stats = world.stats();
                assert!(stats.queued_bytes + stats.in_flight_bytes <= 100_000);
            }
            world.pass(secs(1));
            heard += readers
                .map(|conn| envelopes(&mut world, conn).len())
                .iter()
                .sum::<usize>();
        }
        assert_eq!(heard, 6, "read {read_bytes} bytes at once");
    }
}

#[test]
fn memory_for_one_envelope_is_enough() {
    let config = config().queue(QueueConfig::new());
    for config in [
        config.clone().outbox_bytes(65_536),
        config.total_outbox_bytes(65_536 + ENVELOPE_OVERHEAD),
    ] {
        let mut world = World::new(config);
        let alice = world.join("alice");
        for _ in 0..2 {
            world.receive(alice, message_of("alice", "bob", 65_536));
        }
        let bob = world
            .knock("bob", Admission::Named)
            .expect("it is admitted");
        world.pass(secs(2));
        assert_eq!(envelopes(&mut world, bob).len(), 2);
    }
}

#[test]
fn without_a_queue_spilling_is_refusing() {
    let (mut world, alice, _) = stopped(config());
    world.say(alice, "bob", "3");
    world.settle();
    let told = "QUEUE_FULL bob #3: recipient's outbox is full: at most 1048576 bytes or 2 envelopes wait for a connection";
    assert_eq!(world.heard(alice), [told]);
}

#[test]
fn refusing_leaves_the_queue_to_those_who_are_offline() {
    let config = config().queue(QueueConfig::new());
    let (mut world, alice, bob) = stopped(config.slow_reader(SlowReader::Refuse));
    world.say(alice, "bob", "3");
    world.say(alice, "carol", "4");
    world.settle();
    let heard = world.heard(alice);
    assert_eq!(heard.len(), 1);
    assert!(heard[0].starts_with("QUEUE_FULL bob #3: recipient's outbox is full"));
    assert_eq!(world.queued_for("carol"), ["alice: 4"]);
    world.set(bob, Manner::Honest);
    world.settle();
    assert_eq!(envelopes(&mut world, bob), ["alice: 1", "alice: 2"]);
}

#[test]
fn disconnecting_keeps_everything_in_the_queue() {
    let config = config().queue(QueueConfig::new());
    let (mut world, alice, bob) = stopped(config.slow_reader(SlowReader::Disconnect));
    world.say(alice, "bob", "3");
    world.settle();
    assert_eq!(world.stats().stalls, 1);
    let expected: Vec<_> = (0..=3).map(|number| format!("alice: {number}")).collect();
    assert_eq!(world.queued_for("bob"), expected);
    world.pass(secs(5) + GRACE);
    assert_eq!(world.cause(bob), Some(CloseCause::TooSlow));
    let bob = world.knock("bob", Admission::Named).unwrap();
    world.settle();
    assert_eq!(envelopes(&mut world, bob), expected);
    assert_eq!(world.heard(alice), [""; 0]);
}

#[test]
fn disconnecting_without_a_queue_tells_the_senders() {
    let (mut world, alice, bob) = stopped(config().slow_reader(SlowReader::Disconnect));
    world.say(alice, "bob", "3");
    world.pass(secs(5) + GRACE);
    assert_eq!(world.cause(bob), Some(CloseCause::TooSlow));
    let heard = world.heard(alice);
    let told = |id: u32| {
        heard
            .iter()
            .any(|line| line.starts_with(&format!("QUEUE_FULL bob #{id}")))
    };
    assert!((0..=3).all(told), "{heard:?}");
}

#[test]
fn nobody_is_cut_off_for_the_memory_that_others_take() {
    let config = config().outbox_bytes(100_000).total_outbox_bytes(130_000);
    let mut world = World::new(config.slow_reader(SlowReader::Disconnect));
    let (alice, bob, carol) = (world.join("alice"), world.join("bob"), world.join("carol"));
    world.set(bob, Manner::Blocked);
    for _ in 0..2 {
        world.receive(alice, message_of("alice", "bob", 45_000));
    }
    world.receive(alice, message_of("alice", "carol", 45_000));
    world.settle();
    let told = "QUEUE_FULL carol #big: relay is out of memory for envelopes: at most 130000 bytes wait in all";
    assert_eq!(world.heard(alice), [told]);
    assert_eq!([bob, carol].map(|conn| world.cause(conn)), [None, None]);
}

/// Some take all that they can get and confirm nothing, but show life.
#[test]
fn those_who_hold_nothing_get_their_envelopes_whatever_others_hold() {
    for queue in [None, Some(QueueConfig::new())] {
        let config = config().total_outbox_bytes(1 << 20);
        let mut world = World::new(match queue {
            Some(queue) => config.queue(queue),
            None => config,
        });
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        let hogs = ["carol", "dave"].map(|name| (name, world.join(name)));
        for (name, hog) in hogs {
            world.set(hog, Manner::Silent);
            for _ in 0..16 {
                world.receive(alice, message_of("alice", name, 60_000));
                world.settle();
            }
        }
        if queue.is_none() {
            let told = "QUEUE_FULL dave #big: relay is out of memory for envelopes: at most 786432 \
                        bytes wait in all";
            assert_eq!(world.heard(alice).pop().as_deref(), Some(told));
        }
        let stats = world.stats();
        // Three quarters for the first of them, and one envelope for the other.
        assert_eq!(stats.queued_bytes + stats.in_flight_bytes, 14 * 60_000);
        world.heard(alice);
        for _ in 0..3 {
            world.receive(alice, message_of("alice", "bob", 60_000));
            world.pass(secs(2));
            assert_eq!(envelopes(&mut world, bob).len(), 1);
        }
        assert_eq!(envelopes(&mut world, alice), [""; 0]);
    }
}

/// A queue is read as fast as its reader confirms, also when others hold what they can.
#[test]
fn whoever_confirms_has_its_queue_read_without_a_pause_whatever_others_hold() {
    let config = config().total_outbox_bytes(1 << 20);
    let mut world = World::new(config.queue(QueueConfig::new()));
    let (alice, hog) = (world.join("alice"), world.join("carol"));
    world.set(hog, Manner::Silent);
    for name in ["carol", "bob"] {
        for _ in 0..16 {
            world.receive(alice, message_of("alice", name, 60_000));
            world.settle();
        }
    }
    let bob = world.knock("bob", Admission::Named).expect("a place");
    world.pass(secs(1));
    let mut heard = 0;
    // No time passes.
    for _ in 0..20 {
        let lines = lines(&world.write(bob, 1 << 20));
        heard += lines
            .iter()
            .filter(|line| line.starts_with("alice"))
            .count();
        world.settle();
        heard += envelopes(&mut world, bob).len();
    }
    assert_eq!(heard, 16);
}

#[test]
fn one_who_is_cut_off_by_its_own_envelope_has_said_nothing_too_late() {
    let config = config().slow_reader(SlowReader::Disconnect);
    let mut world = World::new(config.outbox_count(1).refusal_bytes(1));
    let bob = world.join("bob");
    for text in ["0", "1"] {
        world.say(bob, "bob", text);
    }
    let stats = world.stats();
    assert_eq!((stats.stalls, stats.closing), (1, 1));
    assert_eq!(stats.late, 0, "he was there when he sent it");
}
