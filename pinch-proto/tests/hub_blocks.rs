//! Who wants nothing from whom: blocks, whom they silence and how long, and their limits.

mod support;

use bytes::Bytes;
use pinch_proto::hub::{ConnId, Input};
use pinch_proto::wire::{BlockNotification, Envelope, MessageType, Payload, UnblockNotification};
use prost::Message as _;

use support::{World, address, config, envelope, message};

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
fn a_block_outlives_connections_and_tells_nobody_who_is_online() {
    let mut world = World::open();
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.receive(alice, block("alice", "alice", "bob"));
    for conn in [alice, bob] {
        world.give(Input::Closed { conn, clean: false });
    }
    let bob = world.join("bob");
    assert_eq!(
        answer(&mut world, bob, message("bob", "alice", "1")),
        [""; 0]
    );
    let alice = world.join("alice");
    assert_eq!(
        answer(&mut world, bob, message("bob", "alice", "2")),
        [""; 0]
    );
    assert_eq!(world.heard(alice), [""; 0]);
    assert_eq!(world.stats().blocked, 2);
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
    assert_eq!(
        answer(&mut world, carol, block("carol", "carol", "x")),
        [full]
    );
    assert_eq!(answer(&mut world, alice, unblock("alice", "x")), [""; 0]);
    assert_eq!(
        answer(&mut world, carol, block("carol", "carol", "x")),
        [""; 0]
    );
    assert_eq!((world.stats().blocks, world.stats().refused_memory), (2, 2));
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
        answer[0].ends_with("blocked_address is no address"),
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
