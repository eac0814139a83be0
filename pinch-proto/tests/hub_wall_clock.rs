//! A wall clock that was wrong when the relay began, and is set right.

mod support;

use pinch_proto::hub::Admission;
use pinch_proto::queue::{Operation, Outcome, Read};
use pinch_proto::wire::Envelope;
use pinch_proto::{Frame, UnixMillis};
use prost::Message as _;

use support::{PLENTY, START, World, address, secs};

const DAY: i64 = 86_400_000;

/// What the clock shows when it is right, while the hub believes in [`START`].
const RIGHT: UnixMillis = UnixMillis(START.0 + 8 * DAY);

#[test]
fn what_is_kept_is_kept_for_as_long_as_it_should_be() {
    let mut world = World::with_queue();
    let alice = world.join("alice");
    world.pass(secs(10));
    world.hub.set_wall_clock(RIGHT, world.now);
    world.say(alice, "bob", "1");
    world.settle();
    // The relay is started again, and believes its clock.
    let mut read = |days: i64| {
        let read = Read {
            recipient: address("bob"),
            after: None,
            bytes: PLENTY,
            count: 10,
            now: UnixMillis(RIGHT.0 + days * DAY),
        };
        let outcome = world.store.queue.execute(Operation::Read(read));
        let Outcome::Entries { entries, .. } = outcome else {
            panic!("{outcome:?}")
        };
        entries.len()
    };
    assert_eq!([read(0), read(6), read(7)], [1, 1, 0]);
}

#[test]
fn a_clock_that_jumps_ahead_takes_nothing_along() {
    let mut world = World::with_queue();
    let alice = world.join("alice");
    world.say(alice, "bob", "1");
    world.settle();
    world.hub.set_wall_clock(RIGHT, world.now);
    world.say(alice, "bob", "2");
    // What has expired is removed meanwhile.
    world.pass(secs(3600));
    let bob = world.knock("bob", Admission::Named).expect("a place");
    world.settle();
    let heard = world.heard(bob);
    assert_eq!(heard, ["ping", "QUEUE_STATUS 2", "alice: 1", "alice: 2"]);
}

#[test]
fn what_the_relay_says_has_the_date_of_the_day_and_nothing_falls_due() {
    let mut world = World::open();
    let alice = world.join("alice");
    world.pass(secs(10));
    let due = world.wakeup;
    world.hub.set_wall_clock(RIGHT, world.now);
    world.say(alice, "nobody", "1");
    assert_eq!(world.wakeup, due);
    assert_eq!(date(&world.write(alice, PLENTY)), RIGHT.0);

    // It goes on from there.
    world.pass(secs(5));
    world.say(alice, "nobody", "2");
    assert_eq!(date(&world.write(alice, PLENTY)), RIGHT.0 + 5000);
}

/// The date of the envelope that is the last of `frames`.
fn date(frames: &[Frame]) -> i64 {
    let Some(Frame::Message(message)) = frames.last() else {
        panic!("{frames:?}")
    };
    let envelope = Envelope::decode(message.clone()).expect("an envelope");
    envelope.timestamp
}
