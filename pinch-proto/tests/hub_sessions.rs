//! Short sessions: what a close acknowledges, who waits for whom, and sessions that only send.

mod support;

use bytes::Bytes;
use pinch_proto::Frame;
use pinch_proto::hub::{
    AckOnClose, Admission, CloseCause, Config, ConnId, Input, JoinOptions, JoinRefusal,
    QueueConfig, RateLimit,
};
use pinch_proto::wire::{Envelope, MessageType};

use support::{Manner, PLENTY, World, address, config, envelope, lines, millis, secs};

fn queued() -> Config {
    config().queue(QueueConfig::new())
}

/// Alice has written `texts` to bob, who joins with `options`, takes them, and answers only the ping
/// of his join.
fn taken(world: &mut World, texts: &[&str], options: JoinOptions) -> ConnId {
    let alice = world.join("alice");
    for text in texts {
        world.say(alice, "bob", text);
    }
    world.settle();
    world.give(Input::Closed {
        conn: alice,
        clean: false,
    });
    let bob = world
        .knock_with("bob", Admission::Named, options)
        .expect("it is admitted");
    let ping = world.write(bob, PLENTY);
    pong(world, bob, &ping);
    world.settle_store();
    let frames = world.write(bob, PLENTY);
    assert_eq!(
        lines(&frames).len(),
        1 + texts.len(),
        "QUEUE_STATUS and all of them"
    );
    world.set(bob, Manner::Silent);
    bob
}

/// The pong of `conn` to the last ping among `frames`.
fn pong(world: &mut World, conn: ConnId, frames: &[Frame]) {
    let Some(Frame::Ping(payload)) = frames.last() else {
        panic!("{frames:?}")
    };
    let payload = payload.clone();
    world.give(Input::Pong { conn, payload });
}

fn close(world: &mut World, conn: ConnId, clean: bool) {
    world.give(Input::PeerClosed { conn, close: None });
    world.give(Input::Closed { conn, clean });
    world.settle_store();
}

#[test]
fn only_a_clean_close_of_a_client_that_does_not_deduplicate_acknowledges() {
    let plain = JoinOptions::default();
    let browser = JoinOptions {
        browser: true,
        ..plain
    };
    let deduplicates = JoinOptions {
        deduplicates: true,
        ..plain
    };
    let cases = [
        (AckOnClose::Clean, plain, true, 0),
        (AckOnClose::Clean, plain, false, 2),
        (AckOnClose::Clean, browser, true, 2),
        (AckOnClose::Clean, deduplicates, true, 2),
        (AckOnClose::Never, plain, true, 2),
    ];
    for (policy, options, clean, left) in cases {
        let mut world = World::new(queued().ack_on_close(policy));
        let bob = taken(&mut world, &["1", "2"], options);
        close(&mut world, bob, clean);
        let case = (policy, options, clean);
        assert_eq!(world.queued_for("bob").len(), left, "{case:?}");
        assert_eq!(world.cause(bob), Some(CloseCause::Peer));
        assert_eq!(world.stats().in_flight, 0);
    }
}

#[test]
fn a_close_that_the_relay_began_acknowledges_nothing() {
    let mut world = World::new(queued());
    let bob = taken(&mut world, &["1"], JoinOptions::default());
    world.give(Input::Shutdown);
    // His close frame is an answer, or crosses the relay's.
    close(&mut world, bob, true);
    assert_eq!(world.queued_for("bob"), ["alice: 1"]);
}

#[test]
fn without_a_queue_a_clean_close_acknowledges_too() {
    let mut world = World::open();
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.set(bob, Manner::Silent);
    world.say(alice, "bob", "1");
    world.settle();
    close(&mut world, bob, true);
    world.settle();
    assert_eq!(world.heard(alice), [""; 0]);
    assert_eq!(world.stats().delivered, 1);
}

#[test]
fn what_was_not_sent_before_the_close_is_delivered_to_the_next_session() {
    let mut world = World::new(queued());
    let alice = world.join("alice");
    for text in ["1", "2"] {
        world.say(alice, "bob", text);
    }
    world.settle();
    let bob = world.knock("bob", Admission::Named).unwrap();
    let ping = world.write(bob, PLENTY);
    pong(&mut world, bob, &ping);
    world.settle_store();
    // QUEUE_STATUS and the first envelope; then he closes.
    for _ in 0..2 {
        world.write(bob, 1);
    }
    close(&mut world, bob, true);
    assert_eq!(world.queued_for("bob"), ["alice: 2"]);
}

#[test]
fn a_successor_waits_until_it_is_known_what_its_predecessor_has_acknowledged() {
    for (clean, waiting) in [
        (true, vec!["alice: 2"]),
        (false, vec!["alice: 1", "alice: 2"]),
    ] {
        let mut world = World::new(queued());
        let first = taken(&mut world, &["1"], JoinOptions::default());
        world.give(Input::PeerClosed {
            conn: first,
            close: None,
        });
        // He is back before his stream has ended, and somebody writes to him.
        let second = world.knock("bob", Admission::Named).unwrap();
        world.settle();
        let alice = world.join("alice");
        world.say(alice, "bob", "2");
        world.settle();
        assert_eq!(world.heard(second), ["ping"], "nothing is read yet");
        world.give(Input::Closed { conn: first, clean });
        world.settle();
        let status = format!("QUEUE_STATUS {}", waiting.len());
        let mut expected = vec![status];
        expected.extend(waiting.into_iter().map(String::from));
        assert_eq!(world.heard(second), expected);
    }
}

#[test]
fn a_successor_waits_for_a_second_at_most() {
    let mut world = World::new(queued());
    let first = taken(&mut world, &["1"], JoinOptions::default());
    world.give(Input::PeerClosed {
        conn: first,
        close: None,
    });
    world.pass(secs(2));
    let second = world.knock("bob", Admission::Named).unwrap();
    world.pass(millis(999));
    assert_eq!(world.heard(second), ["ping"]);
    world.pass(millis(1));
    assert_eq!(world.heard(second), ["QUEUE_STATUS 1", "alice: 1"]);
    // The end of the old stream comes too late, however clean.
    world.give(Input::Closed {
        conn: first,
        clean: true,
    });
    world.pass(secs(1));
    assert_eq!(world.stats().delivered, 1);
}

#[test]
fn a_pong_behind_the_close_frame_lets_the_successor_go_on() {
    let mut world = World::new(queued());
    let alice = world.join("alice");
    let bob = world.join("bob");
    world.set(bob, Manner::Silent);
    world.say(alice, "bob", "1");
    let frames = world.write(bob, PLENTY);
    world.give(Input::PeerClosed {
        conn: bob,
        close: None,
    });
    let second = world.knock("bob", Admission::Named).unwrap();
    world.say(alice, "bob", "2");
    world.settle();
    pong(&mut world, bob, &frames);
    world.settle();
    assert_eq!(world.heard(second), ["ping", "QUEUE_STATUS 1", "alice: 2"]);
}

const SEND_ONLY: JoinOptions = JoinOptions {
    send_only: true,
    deduplicates: false,
    browser: false,
};

#[test]
fn a_send_only_session_takes_neither_the_address_nor_the_queue() {
    let mut world = World::new(queued());
    let alice = world.join("alice");
    world.say(alice, "bob", "1");
    world.settle();
    let sender = world
        .knock_with("bob", Admission::Proven, SEND_ONLY)
        .unwrap();
    world.say(alice, "bob", "2");
    world.settle();
    assert_eq!(world.heard(sender), ["AUTH_RESULT true bob", "ping"]);
    assert_eq!(world.hub.lookup(address("bob").as_str()), None);
    let bob = world.knock("bob", Admission::Named).unwrap();
    world.settle();
    assert_eq!(
        world.heard(bob),
        ["ping", "QUEUE_STATUS 2", "alice: 1", "alice: 2"]
    );
    // Both may send, and a slot that is used again does not change who receives.
    world.say(sender, "alice", "3");
    world.say(bob, "alice", "4");
    world.say(alice, "bob", "5");
    world.settle();
    assert_eq!(world.heard(alice), ["bob: 3", "bob: 4"]);
    assert_eq!(
        (world.heard(bob), world.heard(sender)),
        (vec!["alice: 5".into()], vec![])
    );
    assert_eq!((world.stats().connections, world.stats().send_only), (3, 1));
}

#[test]
fn eight_send_only_sessions_live_beside_each_other() {
    let mut world = World::open();
    let mut all = vec![];
    for _ in 0..8 {
        all.push(
            world
                .knock_with("bob", Admission::Named, SEND_ONLY)
                .unwrap(),
        );
    }
    let ninth = world.knock_with("bob", Admission::Named, SEND_ONLY);
    assert_eq!(ninth, Err(JoinRefusal::TooManySendOnly));
    world.knock("bob", Admission::Named).unwrap();
    world.give(Input::Closed {
        conn: all[0],
        clean: false,
    });
    world
        .knock_with("bob", Admission::Named, SEND_ONLY)
        .unwrap();
}

#[test]
fn the_sessions_of_an_address_share_one_rate_limit() {
    let limit = RateLimit::new(0.001, 3).unwrap();
    let mut world = World::new(config().rate_limit(Some(limit)));
    let bob = world.join("bob");
    world.join("alice");
    world.say(bob, "alice", "1");
    let sender = world
        .knock_with("bob", Admission::Named, SEND_ONLY)
        .unwrap();
    world.say(sender, "alice", "2");
    world.give(Input::Closed {
        conn: bob,
        clean: false,
    });
    world.say(sender, "alice", "3");
    assert_eq!(world.stats().refused_rate, 0);
    // Whoever comes and goes, there is nothing left.
    let bob = world.knock("bob", Admission::Named).unwrap();
    world.give(Input::Closed {
        conn: sender,
        clean: false,
    });
    world.say(bob, "alice", "4");
    let sender = world
        .knock_with("bob", Admission::Named, SEND_ONLY)
        .unwrap();
    world.say(sender, "alice", "5");
    assert_eq!(world.stats().refused_rate, 2);
}

#[test]
fn a_rejection_goes_to_the_session_that_sent() {
    let limited = QueueConfig::new().recipient_count(1);
    let mut world = World::new(config().queue(limited));
    let listener = world.join("bob");
    let sender = world
        .knock_with("bob", Admission::Named, SEND_ONLY)
        .unwrap();
    world.settle();
    for text in ["1", "2"] {
        world.say(sender, "carol", text);
    }
    world.settle();
    let heard = world.heard(sender);
    assert!(
        heard.last().unwrap().starts_with("QUEUE_FULL carol #2"),
        "{heard:?}"
    );
    assert_eq!(world.heard(listener), [""; 0]);
}

fn confirmation(from: &str, to: &str) -> Bytes {
    let confirmation = envelope(from, to, MessageType::DeliveryConfirm, "c");
    Envelope::to_bytes(&confirmation)
}

#[test]
fn one_confirmation_for_each_delivered_envelope_costs_no_token() {
    let limit = RateLimit::new(0.001, 20).unwrap();
    let mut world = World::new(config().rate_limit(Some(limit)));
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    for _ in 0..18 {
        world.say(alice, "bob", "x");
    }
    world.settle();
    // Bob uses up his own tokens; then he confirms, and once more.
    for _ in 0..20 {
        world.say(bob, "alice", "y");
    }
    for _ in 0..18 {
        world.receive(bob, confirmation("bob", "alice"));
    }
    assert_eq!(world.stats().refused_rate, 0);
    world.receive(bob, confirmation("bob", "alice"));
    assert_eq!(world.stats().refused_rate, 1);
}

#[test]
fn a_confirmation_of_a_confirmation_costs_a_token() {
    let limit = RateLimit::new(0.001, 1).unwrap();
    let mut world = World::new(config().rate_limit(Some(limit)));
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.receive(alice, confirmation("alice", "bob"));
    world.settle();
    world.receive(bob, confirmation("bob", "alice"));
    assert_eq!(world.stats().refused_rate, 0);
    world.receive(bob, confirmation("bob", "alice"));
    assert_eq!(world.stats().refused_rate, 1);
}
