//! Who wants nothing from whom: blocks, whom they silence and how long, and their limits.

mod support;

use core::time::Duration;

use bytes::Bytes;
use pinch_proto::hub::{Config, ConnId, Hub, Input, QueueConfig};
use pinch_proto::queue::{Operation, Restored};
use pinch_proto::wire::{BlockNotification, Envelope, MessageType, Payload, UnblockNotification};
use pinch_proto::{Address, Host, SecretKey, Time, UnixMillis};
use prost::Message as _;

use support::{HOST, START, World, address, config, envelope, message};

/// What a sender hears after it has sent `bytes`.
fn answer(world: &mut World, sender: ConnId, bytes: Bytes) -> Vec<String> {
    world.receive(sender, bytes);
    world.settle();
    world.heard(sender)
}

fn block(from: &str, blocker: &str, blocked: &str) -> Bytes {
    let payload = Payload::BlockNotification(BlockNotification {
        blocker_address: address(blocker).as_str().into(),
        blocked_address: address(blocked).as_str().into(),
    });
    let payload = Some(payload);
    Envelope {
        payload,
        ..envelope(from, "", MessageType::BlockNotification, "b")
    }
    .to_bytes()
}

fn unblock(from: &str, blocked: &str) -> Bytes {
    let payload = Payload::UnblockNotification(UnblockNotification {
        unblocker_address: address(from).as_str().into(),
        unblocked_address: address(blocked).as_str().into(),
    });
    let payload = Some(payload);
    Envelope {
        payload,
        ..envelope(from, "", MessageType::UnblockNotification, "u")
    }
    .to_bytes()
}

#[test]
fn a_block_silences_the_sender_for_the_one_who_sent_it_and_nobody_else() {
    let mut world = World::open();
    let (alice, bob, carol) = (world.join("alice"), world.join("bob"), world.join("carol"));
    // Alice writes Carol's name into the payload; the block is Alice's all the same.
    assert_eq!(
        answer(&mut world, alice, block("alice", "carol", "bob")),
        [""; 0]
    );
    assert_eq!((world.stats().blocks, world.stats().consumed), (1, 1));

    for to in ["alice", "carol"] {
        assert_eq!(answer(&mut world, bob, message("bob", to, "hi")), [""; 0]);
    }
    assert_eq!(world.heard(alice), [""; 0]);
    assert_eq!(world.heard(carol), ["bob: hi"]);
    assert_eq!(world.stats().blocked, 1);
    // The other way round is open.
    world.say(alice, "bob", "ho");
    world.settle();
    assert_eq!(world.heard(bob), ["alice: ho"]);

    assert_eq!(answer(&mut world, alice, unblock("alice", "bob")), [""; 0]);
    world.say(bob, "alice", "again");
    world.settle();
    assert_eq!(world.heard(alice), ["bob: again"]);
    assert_eq!(world.stats().blocks, 0);
}

#[test]
fn a_block_outlives_connections_and_its_sender_hears_what_others_hear() {
    let mut world = World::open();
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.receive(alice, block("alice", "alice", "bob"));
    for conn in [alice, bob] {
        world.give(Input::Closed { conn, clean: false });
    }
    let bob = world.join("bob");
    let offline = "QUEUE_FULL alice #1: recipient is offline and no queue is configured";
    assert_eq!(
        answer(&mut world, bob, message("bob", "alice", "1")),
        [offline]
    );
    let alice = world.join("alice");
    assert_eq!(
        answer(&mut world, bob, message("bob", "alice", "2")),
        [""; 0]
    );
    assert_eq!(world.heard(alice), [""; 0]);
    assert_eq!(world.stats().blocked, 1);
}

#[test]
fn a_block_that_cannot_be_kept_is_refused() {
    let mut world = World::new(config().max_blocks(1, 2));
    let (alice, bob, carol) = (world.join("alice"), world.join("bob"), world.join("carol"));
    let full = "QUEUE_FULL  #b: block list is full";
    assert_eq!(
        answer(&mut world, alice, block("alice", "alice", "x")),
        [""; 0]
    );
    assert_eq!(
        answer(&mut world, alice, block("alice", "alice", "x")),
        [""; 0],
        "no second entry"
    );
    assert_eq!(
        answer(&mut world, alice, block("alice", "alice", "y")),
        [full]
    );
    assert_eq!(answer(&mut world, bob, block("bob", "bob", "x")), [""; 0]);
    assert_eq!((world.stats().blocks, world.stats().refused_memory), (2, 1));
    // All places are taken: the list gives way whose owner was not seen for longest.
    assert_eq!(
        answer(&mut world, carol, block("carol", "carol", "alice")),
        [""; 0]
    );
    let stats = world.stats();
    assert_eq!((stats.blocks, stats.block_owners), (2, 2));
    assert_eq!((stats.blocks_forgotten, stats.refused_memory), (1, 1));
    assert_eq!(
        answer(&mut world, alice, message("alice", "carol", "hi")),
        [""; 0]
    );
    assert_eq!(world.heard(carol), [""; 0]);
}

#[test]
fn long_lists_cannot_crowd_out_short_ones() {
    let queue = QueueConfig::new();
    let mut world = World::new(config().queue(queue).max_blocks(4, 12));
    let alice = world.join("alice");
    world.receive(alice, block("alice", "alice", "eve"));
    // Eve has keys enough to take all places, and again.
    for key in 0..20 {
        let name = format!("eve{key}");
        let conn = world.join(&name);
        for number in 0..4 {
            let blocked = format!("x{number}");
            let heard = answer(&mut world, conn, block(&name, &name, &blocked));
            assert_eq!(heard, [""; 0]);
        }
    }
    assert_eq!(
        world.stats().blocks,
        world.store.queue.restored().blocks.len() as u64
    );
    let eve = world.join("eve");
    assert_eq!(
        answer(&mut world, eve, message("eve", "alice", "1")),
        [""; 0]
    );
    assert_eq!(world.heard(alice), [""; 0]);
    // And everybody else can still block.
    let bob = world.join("bob");
    assert_eq!(answer(&mut world, bob, block("bob", "bob", "eve")), [""; 0]);
    assert_eq!(answer(&mut world, eve, message("eve", "bob", "2")), [""; 0]);
    assert_eq!(world.heard(bob), [""; 0]);
}

#[test]
fn lists_of_owners_that_never_come_back_are_forgotten() {
    let day = Duration::from_secs(24 * 60 * 60);
    let config = config()
        .queue(QueueConfig::new().expiry_interval(day))
        .heartbeat_interval(365 * day)
        .block_ttl(10 * day);
    let mut world = World::new(config);
    for name in ["alice", "bob"] {
        let conn = world.join(name);
        world.receive(conn, block(name, name, "eve"));
        world.settle();
        world.give(Input::Closed { conn, clean: false });
    }
    for _ in 0..3 {
        world.pass(5 * day);
        let bob = world.join("bob");
        world.settle();
        world.give(Input::Closed {
            conn: bob,
            clean: false,
        });
    }
    let restored = world.store.queue.restored();
    assert_eq!(restored.blocks, [(address("bob"), address("eve"))]);
    assert_eq!(
        (world.stats().blocks, world.stats().blocks_forgotten),
        (1, 1)
    );
    let seen = restored.owners[0].1;
    assert_eq!((seen.0 - START.0) / 86_400_000, 15);

    // After a restart, it is known when he was seen.
    let mut again = World::new(world.hub.config().clone());
    again.hub = Hub::new(
        world.hub.config().clone(),
        [7; 16],
        Time::ZERO,
        UnixMillis(START.0 + 86_400_000 * 24),
    )
    .with_restored(restored);
    again.store.queue = world.store.queue;
    again.tick();
    again.pass(day);
    assert_eq!(again.stats().blocks, 1);
    again.pass(2 * day);
    assert_eq!(again.stats().blocks, 0);
    assert_eq!(
        again.store.queue.restored(),
        Restored {
            last_seq: None,
            ..Restored::default()
        }
    );
}

#[test]
fn owners_of_older_stores_are_seen_with_the_first_sweep() {
    let day = Duration::from_secs(24 * 60 * 60);
    let queue = QueueConfig::new().expiry_interval(day);
    let mut world = World::new(config().queue(queue));
    let (alice, eve) = (address("alice"), address("eve"));
    world.store.queue.execute(Operation::Block {
        blocker: alice.clone(),
        blocked: eve,
    });
    let config = world.hub.config().clone();
    let restored = world.store.queue.restored();
    assert_eq!(restored.owners, []);
    world.hub = Hub::new(config, [7; 16], Time::ZERO, START).with_restored(restored);
    world.tick();
    world.pass(day);
    let owners = world.store.queue.restored().owners;
    assert_eq!(owners, [(alice, UnixMillis(START.0 + 86_400_000))]);
}

#[test]
fn only_what_could_send_here_can_be_blocked() {
    let host = Host::parse(HOST).unwrap();
    let mut world = World::new(Config::new(host.clone()).queue(QueueConfig::new()));
    let alice = world.join("alice");
    let key = SecretKey::from_seed([1; 32]).public_key();
    let own = Address::from_public_key(&key, &host);
    let elsewhere = Address::from_public_key(&key, &Host::parse("elsewhere").unwrap());
    let named = |blocked: &Address| {
        let payload = BlockNotification {
            blocked_address: blocked.as_str().into(),
            ..BlockNotification::default()
        };
        Envelope {
            payload: Some(Payload::BlockNotification(payload)),
            ..envelope("alice", "", MessageType::BlockNotification, "b")
        }
        .to_bytes()
    };
    let refused = "QUEUE_FULL  #b: blocked_address is no address of this relay: ";
    for (blocked, why) in [
        (&elsewhere, "its host is another"),
        (&address("bob"), "it is not a key with its checksum"),
    ] {
        let heard = answer(&mut world, alice, named(blocked));
        assert_eq!(heard, [format!("{refused}{why}")]);
    }
    assert_eq!(answer(&mut world, alice, named(&own)), [""; 0]);
    assert_eq!(
        (world.stats().blocks, world.stats().refused_address),
        (1, 2)
    );
}

#[test]
fn a_block_of_what_is_no_address_is_refused() {
    let mut world = World::open();
    let alice = world.join("alice");
    let blocked_address = "not an address".into();
    let payload = BlockNotification {
        blocked_address,
        ..BlockNotification::default()
    };
    let payload = Some(Payload::BlockNotification(payload));
    let envelope = Envelope {
        payload,
        ..envelope("alice", "", MessageType::BlockNotification, "b")
    };
    let answer = answer(&mut world, alice, envelope.to_bytes());
    assert_eq!(answer.len(), 1);
    assert!(
        answer[0].ends_with("blocked_address is no address of this relay: it does not parse"),
        "{answer:?}"
    );
    assert_eq!(
        (world.stats().blocks, world.stats().refused_address),
        (0, 1)
    );
}

#[test]
fn a_notification_of_another_type_than_its_envelope_is_a_violation() {
    let cases = [
        (
            block("alice", "alice", "bob"),
            MessageType::UnblockNotification,
        ),
        (unblock("alice", "bob"), MessageType::BlockNotification),
    ];
    for (notification, kind) in cases {
        let mut world = World::open();
        let alice = world.join("alice");
        let envelope = Envelope {
            r#type: kind.into(),
            ..Envelope::decode(notification).unwrap()
        };
        assert_eq!(
            answer(&mut world, alice, envelope.to_bytes()),
            [format!("close 1007 the payload is no {kind:?}")]
        );
        assert_eq!((world.stats().blocks, world.stats().violations), (0, 1));
    }
}
