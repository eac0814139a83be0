//! What a peer can cause without a message: control frames without end, and messages that have begun
//! and do not end.

mod support;

use bytes::Bytes;
use pinch_proto::hub::{CloseCause, ConnId, Input, RateLimit};
use pinch_proto::{Close, CloseCode, Frame};
use support::{GRACE, World, config, message_of, secs};

fn ping(conn: ConnId) -> Input {
    Input::Ping {
        conn,
        payload: Bytes::new(),
    }
}

fn pong(conn: ConnId) -> Input {
    Input::Pong {
        conn,
        payload: Bytes::new(),
    }
}

fn partial(conn: ConnId, bytes: usize) -> Input {
    Input::Partial {
        conn,
        bytes,
        short_fragments: 0,
    }
}

fn short_fragments(conn: ConnId, count: u32) -> Input {
    Input::Partial {
        conn,
        bytes: 1,
        short_fragments: count,
    }
}

/// The code and the reason with which the relay closes a connection.
fn close_of(world: &mut World, conn: ConnId) -> Option<(CloseCode, String)> {
    let frames = world.write(conn, usize::MAX);
    let close = frames.into_iter().find_map(|frame| match frame {
        Frame::Close(close) => Some(close),
        Frame::Message(_) | Frame::Ping(_) | Frame::Pong(_) => None,
    })?;
    Some((close.code, close.reason.into_owned()))
}

#[test]
fn control_frames_beyond_the_limit_close_a_connection() {
    let limit = RateLimit::new(10.0, 20).expect("a rate");
    for input in [ping, pong, |conn| short_fragments(conn, 1)] {
        let mut world = World::new(config().control_limit(Some(limit)));
        let alice = world.join("alice");
        for _ in 0..20 {
            world.give(input(alice));
        }
        world.pass(secs(1));
        for _ in 0..10 {
            world.give(input(alice));
        }
        assert!(world.hub.is_open(alice), "so many are honest");
        world.give(input(alice));
        assert!(!world.hub.is_open(alice));
        let close = (CloseCode::POLICY, "too many control frames".into());
        assert_eq!(close_of(&mut world, alice), Some(close));
        assert_eq!(world.stats().control_floods, 1);
    }
}

#[test]
fn many_short_fragments_of_one_read_count_one_by_one() {
    let limit = RateLimit::new(10.0, 20).expect("a rate");
    let mut world = World::new(config().control_limit(Some(limit)));
    let alice = world.join("alice");
    world.give(short_fragments(alice, 20));
    assert!(world.hub.is_open(alice));
    world.give(short_fragments(alice, 1));
    assert!(!world.hub.is_open(alice));
}

#[test]
fn pongs_that_answer_pings_are_free() {
    let limit = RateLimit::new(1e-6, 1).expect("a rate");
    let mut world = World::new(config().control_limit(Some(limit)));
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    for number in 0..100 {
        world.say(alice, "bob", &number.to_string());
        world.pass(secs(2));
    }
    assert!(world.hub.is_open(bob), "{:?}", world.stats());
    assert!(world.stats().pongs > 50);
}

#[test]
fn a_message_that_does_not_end_closes_its_connection() {
    let mut world = World::new(config());
    let alice = world.join("alice");
    world.give(partial(alice, 100));
    for second in 0..29 {
        world.pass(secs(1));
        world.give(partial(alice, 100 + second));
    }
    assert!(world.hub.is_open(alice), "it has 30 s");
    world.pass(secs(1) + GRACE);
    assert_eq!(world.cause(alice), Some(CloseCause::MessageTimeout));
    let close = Close::new(CloseCode::POLICY, "message took too long");
    assert_eq!(CloseCause::MessageTimeout.close(), Some(close));
    assert_eq!(world.stats().message_timeouts, 1);
    assert_eq!(world.stats().begun_bytes, 0);
}

#[test]
fn each_message_has_its_own_time() {
    let mut world = World::new(config());
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    for _ in 0..5 {
        // A message ends, and the next one begins in the same read.
        world.receive(alice, message_of("alice", "bob", 300));
        world.give(partial(alice, 100));
        world.give(partial(bob, 100));
        world.give(partial(bob, 0));
        world.pass(secs(20));
    }
    assert!(world.hub.is_open(alice) && world.hub.is_open(bob));
    assert_eq!(world.stats().begun_bytes, 100);
    world.give(Input::Closed {
        conn: alice,
        clean: false,
    });
    assert_eq!(world.stats().begun_bytes, 0);
}

#[test]
fn the_oldest_of_too_many_begun_messages_gives_way() {
    let mut world = World::new(config().total_outbox_bytes(400_000).message_bytes(65_536));
    let agents = ["a", "b", "c", "d"].map(|name| world.join(name));
    let [oldest, second, third, newest] = agents;
    world.give(partial(oldest, 10_000));
    world.give(partial(second, 40_000));
    world.give(partial(third, 40_000));
    // That it goes on makes it no younger.
    world.give(partial(oldest, 40_000));
    assert_eq!(world.stats().begun_bytes, 120_000);
    world.give(partial(newest, 40_000));
    let reason = "too many messages have begun; send it again";
    let close = (CloseCode::TRY_AGAIN_LATER, reason.into());
    assert_eq!(close_of(&mut world, oldest), Some(close));
    assert!(
        [second, third, newest]
            .iter()
            .all(|conn| world.hub.is_open(*conn))
    );
    assert_eq!(world.stats().begun_bytes, 120_000);
    assert_eq!(world.stats().messages_evicted, 1);
}
