//! Pongs and answers to close frames: they go behind the rejections of what came before them.

mod support;

use bytes::Bytes;
use pinch_proto::hub::{Config, ConnId, Input, Output, QueueConfig};
use pinch_proto::queue::{Failure, Outcome, Refusal, Request};
use pinch_proto::wire::{BlockNotification, Envelope, MessageType, Payload};
use pinch_proto::{Close, CloseCode, Frame};

use support::{PLENTY, World, address, config, envelope, lines, millis, secs};

const FULL: &str = "recipient's queue is full: at most 7 envelopes wait for one recipient";

fn queued() -> Config {
    config().queue(QueueConfig::new())
}

fn ping(world: &mut World, conn: ConnId, text: &'static str) {
    let payload = Bytes::from_static(text.as_bytes());
    world.give(Input::Ping { conn, payload });
}

fn close(world: &mut World, conn: ConnId) {
    let close = Some(Close::new(CloseCode::NORMAL, "bye"));
    world.give(Input::PeerClosed { conn, close });
}

/// What is written to a connection whose socket takes everything.
fn written(world: &mut World, conn: ConnId) -> Vec<String> {
    lines(&world.write(conn, PLENTY))
}

/// The store does as the request at `place` says, among those that it has not answered.
fn store(world: &mut World, place: usize) -> Vec<Output> {
    let request = world.store.asked.remove(place).expect("a request");
    let outcome = world.store.queue.execute(request.operation);
    let ticket = request.ticket;
    world.give(Input::Stored { ticket, outcome })
}

/// The store answers the request at `place` among those that it has not answered.
fn answer(world: &mut World, place: usize, outcome: Outcome) -> Vec<Output> {
    let Request { ticket, .. } = world.store.asked.remove(place).expect("a request");
    world.give(Input::Stored { ticket, outcome })
}

fn rejected() -> Outcome {
    Outcome::Refused(Refusal::RecipientFull { limit: 7 })
}

/// A relay with a queue, and an agent that has sent nothing.
fn begun() -> (World, ConnId) {
    let mut world = World::new(queued().control_limit(None));
    let alice = world.join("alice");
    world.settle();
    assert_eq!(written(&mut world, alice), [""; 0]);
    (world, alice)
}

#[test]
fn a_ping_is_answered_with_its_payload_and_shows_life() {
    let (mut world, alice) = begun();
    ping(&mut world, alice, "one");
    ping(&mut world, alice, "");
    assert_eq!(written(&mut world, alice), ["pong one", "pong "]);
    world.now = world.now + secs(25);
    world.tick();
    assert_eq!(written(&mut world, alice), ["ping"]);
    ping(&mut world, alice, "two");
    assert_eq!(written(&mut world, alice), ["pong two"]);
    for _ in 0..40 {
        world.now = world.now + millis(250);
        world.tick();
    }
    assert_eq!(world.stats().heartbeat_timeouts, 0);
}

#[test]
fn a_pong_waits_for_the_rejection_of_what_came_before_its_ping() {
    let (mut world, alice) = begun();
    world.say(alice, "bob", "1");
    ping(&mut world, alice, "first");
    world.say(alice, "carol", "2");
    ping(&mut world, alice, "second");
    assert_eq!(written(&mut world, alice), [""; 0]);
    // The later envelope is settled first: neither pong may go.
    assert_eq!(store(&mut world, 1), []);
    assert_eq!(written(&mut world, alice), [""; 0]);
    let woken = answer(&mut world, 0, rejected());
    assert_eq!(woken, [Output::Wake { conn: alice }]);
    let rejection = format!("QUEUE_FULL bob #1: {FULL}");
    let expected = [&rejection, "pong first", "pong second"];
    assert_eq!(written(&mut world, alice), expected);
}

#[test]
fn a_pong_does_not_wait_for_what_comes_after_its_ping() {
    let (mut world, alice) = begun();
    world.say(alice, "bob", "1");
    ping(&mut world, alice, "first");
    for number in 0..100 {
        world.say(alice, "bob", "x");
        if number == 0 {
            store(&mut world, 0);
        }
    }
    assert_eq!(written(&mut world, alice), ["pong first"]);
}

#[test]
fn a_pong_waits_for_a_block_that_is_stored() {
    let (mut world, alice) = begun();
    let block = Payload::BlockNotification(BlockNotification {
        blocked_address: address("bob").as_str().into(),
        ..Default::default()
    });
    let notification = Envelope {
        payload: Some(block),
        ..envelope("alice", "", MessageType::BlockNotification, "1")
    };
    world.receive(alice, notification.to_bytes());
    ping(&mut world, alice, "?");
    assert_eq!(written(&mut world, alice), [""; 0]);
    let (failure, detail) = (Failure::DiskFull, "no room".into());
    answer(&mut world, 0, Outcome::Failed { failure, detail });
    let heard = written(&mut world, alice);
    assert!(heard[0].starts_with("QUEUE_FULL"), "{heard:?}");
    assert_eq!(heard[1..], ["pong ?"]);
}

#[test]
fn a_close_frame_is_answered_with_its_code_behind_rejections_and_pongs() {
    let (mut world, alice) = begun();
    world.say(alice, "bob", "1");
    ping(&mut world, alice, "?");
    close(&mut world, alice);
    assert_eq!(written(&mut world, alice), [""; 0]);
    assert_eq!(
        answer(&mut world, 0, rejected()),
        [Output::Wake { conn: alice }]
    );
    let rejection = format!("QUEUE_FULL bob #1: {FULL}");
    let expected = [&rejection, "pong ?", "close 1000 bye"];
    assert_eq!(written(&mut world, alice), expected);
    assert_eq!(written(&mut world, alice), [""; 0]);
}

#[test]
fn a_silent_store_holds_a_reply_for_5_seconds_and_no_longer() {
    for closes in [false, true] {
        let (mut world, alice) = begun();
        world.say(alice, "bob", "1");
        if closes {
            close(&mut world, alice);
        } else {
            ping(&mut world, alice, "?");
        }
        let start = world.now;
        let mut heard = vec![];
        while heard.is_empty() {
            world.now = world.now + millis(250);
            world.tick();
            heard = written(&mut world, alice);
        }
        let waited = world.now.since(start);
        assert!((secs(5)..secs(6)).contains(&waited), "{waited:?}");
        assert_eq!(heard, [if closes { "close 1000 bye" } else { "pong ?" }]);
        // What is sent from now on is settled for itself.
        if !closes {
            world.say(alice, "bob", "2");
            ping(&mut world, alice, "!");
            store(&mut world, 1);
            assert_eq!(written(&mut world, alice), ["pong !"]);
            answer(&mut world, 0, rejected());
            assert_eq!(
                written(&mut world, alice),
                [format!("QUEUE_FULL bob #1: {FULL}")]
            );
        }
    }
}

#[test]
fn an_agent_that_closes_has_the_time_of_a_close_handshake_from_its_answer_on() {
    let (mut world, alice) = begun();
    world.say(alice, "bob", "1");
    close(&mut world, alice);
    for _ in 0..16 {
        world.now = world.now + millis(250);
        world.tick();
    }
    store(&mut world, 0);
    assert_eq!(written(&mut world, alice), ["close 1000 bye"]);
    for _ in 0..19 {
        world.now = world.now + millis(250);
        world.tick();
    }
    assert!(world.hub.holds(alice));
    for _ in 0..4 {
        world.now = world.now + millis(250);
        world.tick();
    }
    assert!(!world.hub.holds(alice));
}

#[test]
fn a_connection_that_the_relay_closes_gets_no_pong_for_what_is_not_settled() {
    let (mut world, alice) = begun();
    world.say(alice, "bob", "1");
    ping(&mut world, alice, "?");
    world.receive(alice, Bytes::from_static(b"no envelope"));
    ping(&mut world, alice, "late");
    let frames = world.write(alice, PLENTY);
    assert!(matches!(frames[..], [Frame::Close(_)]), "{frames:?}");
    assert_eq!(store(&mut world, 0), []);
}

#[test]
fn pings_without_end_keep_the_newest_pongs_and_no_memory() {
    let (mut world, alice) = begun();
    world.say(alice, "bob", "1");
    for _ in 0..10_000 {
        ping(&mut world, alice, "old");
    }
    ping(&mut world, alice, "new");
    store(&mut world, 0);
    for _ in 0..10_000 {
        ping(&mut world, alice, "older");
    }
    ping(&mut world, alice, "newest");
    let heard = written(&mut world, alice);
    assert_eq!(
        (heard.len(), heard.last().unwrap().as_str()),
        (128, "pong newest")
    );
}

#[test]
fn without_a_queue_a_pong_goes_behind_the_rejection_at_once() {
    let mut world = World::open();
    let alice = world.join("alice");
    let to_nobody = envelope("alice", "nobody", MessageType::Message, "1").to_bytes();
    world.receive(alice, to_nobody);
    ping(&mut world, alice, "?");
    let heard = written(&mut world, alice);
    assert_eq!(heard.len(), 2);
    assert!(heard[0].starts_with("QUEUE_FULL nobody"), "{heard:?}");
    assert_eq!(heard[1], "pong ?");
}

#[test]
fn a_store_that_answers_each_time_is_never_overtaken() {
    let (mut world, alice) = begun();
    let (mut asked, mut heard) = (0, 0);
    for step in 0..120_u64 {
        // An envelope and a ping each second; each answer takes a second and a half.
        if step % 4 == 0 {
            world.say(alice, "bob", "x");
            ping(&mut world, alice, "?");
            asked += 1;
        }
        if step % 4 == 2 && step > 4 {
            store(&mut world, 0);
        }
        world.now = world.now + millis(250);
        world.tick();
        let lines = written(&mut world, alice);
        heard += lines.iter().filter(|line| *line == "pong ?").count();
        let answered = asked - world.store.asked.len();
        assert!(heard <= answered, "{heard} pongs, and {answered} answers");
    }
}
