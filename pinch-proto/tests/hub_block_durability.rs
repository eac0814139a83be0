//! Blocks that the store could not keep: who asked for one is told so, and can ask again.

mod support;

use bytes::Bytes;
use pinch_proto::hub::{ConnId, QueueConfig};
use pinch_proto::queue::Failure;
use pinch_proto::wire::{BlockNotification, Envelope, MessageType, Payload, UnblockNotification};

use support::{GRACE, StoreManner, World, address, config, envelope, secs};

const NOT_KEPT: &str =
    "QUEUE_FULL  #block: relay is out of disk; the change holds until the relay restarts";

fn notification(payload: Payload) -> Bytes {
    let kind: MessageType = payload.message_type();
    let envelope = envelope("alice", "", kind, "block");
    let payload = Some(payload);
    Envelope {
        payload,
        ..envelope
    }
    .to_bytes()
}

fn block() -> Bytes {
    notification(Payload::BlockNotification(BlockNotification {
        blocked_address: address("eve").as_str().into(),
        ..Default::default()
    }))
}

fn unblock() -> Bytes {
    notification(Payload::UnblockNotification(UnblockNotification {
        unblocked_address: address("eve").as_str().into(),
        ..Default::default()
    }))
}

/// Alice has joined, and her queue was read.
fn alice(mut world: World) -> (World, ConnId) {
    let alice = world.join("alice");
    world.settle();
    world.heard(alice);
    (world, alice)
}

/// Whom the store keeps blocked by Alice.
fn kept(world: &World) -> usize {
    world.store.queue.restored().blocks.len()
}

#[test]
fn a_block_that_cannot_be_kept_holds_for_now_and_can_be_repeated() {
    let (mut world, alice) = alice(World::with_queue());
    world.store.manner = StoreManner::Failing(Failure::DiskFull);
    world.receive(alice, block());
    world.settle();
    assert_eq!(world.heard(alice), [NOT_KEPT]);
    let eve = world.join("eve");
    world.say(eve, "alice", "unwanted");
    world.settle();
    assert_eq!(world.heard(alice), [""; 0]);
    assert_eq!((world.stats().blocks, kept(&world)), (1, 0));

    world.store.manner = StoreManner::Prompt;
    world.receive(alice, block());
    world.settle();
    assert_eq!(world.heard(alice), [""; 0]);
    assert_eq!((world.stats().blocks, kept(&world)), (1, 1));
}

#[test]
fn so_does_the_end_of_a_block() {
    let (mut world, alice) = alice(World::with_queue());
    world.receive(alice, block());
    world.settle();
    world.store.manner = StoreManner::Failing(Failure::DiskFull);
    world.receive(alice, unblock());
    world.settle();
    assert_eq!(world.heard(alice), [NOT_KEPT]);
    assert_eq!((world.stats().blocks, kept(&world)), (0, 1));

    world.store.manner = StoreManner::Prompt;
    world.receive(alice, unblock());
    world.settle();
    assert_eq!(world.heard(alice), [""; 0]);
    assert_eq!((world.stats().blocks, kept(&world)), (0, 0));
}

#[test]
fn of_a_silent_store_nobody_knows_whether_it_keeps_a_block() {
    let (mut world, alice) = alice(World::with_queue());
    world.store.manner = StoreManner::Held;
    world.receive(alice, block());
    world.pass(secs(10) + GRACE);
    world.settle();
    let unknown = "QUEUE_FULL  #block: relay's store does not answer; the change may hold only until \
                   the relay restarts";
    assert_eq!(world.heard(alice), [unknown]);
    // The second is about when she was seen.
    assert_eq!(world.stats().store_failures, 2);
    // It answers after all: all is said.
    while world.answer() {}
    world.settle();
    assert_eq!(world.heard(alice), [""; 0]);
    assert_eq!((world.stats().blocks, kept(&world)), (1, 1));
}

#[test]
fn what_the_store_owes_for_blocks_is_bounded() {
    let queue = QueueConfig::new().unanswered_bytes(2000);
    let (mut world, alice) = alice(World::new(config().queue(queue)));
    world.store.manner = StoreManner::Held;
    for _ in 0..100 {
        world.receive(alice, block());
    }
    let (each, seen) = (256 + block().len(), 256);
    let mut asked = world.asked();
    asked.retain(|line| line != "seen alice");
    assert_eq!(asked.len(), (2000 - seen) / each);
    assert_eq!(world.stats().refused_store, 100 - asked.len() as u64);
}
