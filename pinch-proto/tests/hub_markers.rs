//! Whether what was given to a peer has arrived: pings as markers, what a pong confirms, and who
//! hears of what nobody confirmed.

mod support;

use bytes::Bytes;
use pinch_proto::Frame;
use pinch_proto::hub::{CloseCause, ConnId, Delivery, Fault, Input, WakeupReason};

use support::{GRACE, Manner, NANO, PLENTY, World, config, lines, message_of, millis, secs};

const UNCONFIRMED: &str = "recipient left before it confirmed the envelope, which may have arrived";

/// Delivered, and neither that nor given up.
fn books(world: &World) -> (u64, u64) {
    let stats = world.stats();
    (stats.delivered, stats.in_flight)
}

/// Alice has joined, and Bob, who reads but answers nothing that he is not told to.
fn pair(mut world: World) -> (World, ConnId, ConnId) {
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.set(bob, Manner::Silent);
    (world, alice, bob)
}

/// The number of the one ping among `frames`.
fn ping(frames: &[Frame]) -> Bytes {
    let mut pings = frames.iter().filter_map(|frame| match frame {
        Frame::Ping(payload) => Some(payload.clone()),
        Frame::Message(_) | Frame::Close(_) => None,
    });
    let ping = pings.next().expect("a ping");
    assert_eq!(pings.next(), None);
    ping
}

#[test]
fn a_second_after_it_was_given_an_envelope_a_peer_is_asked_whether_it_has_it() {
    let (mut world, alice, bob) = pair(World::open());
    world.pass(secs(3));
    world.say(alice, "bob", "1");
    world.pass(secs(1) - NANO);
    assert_eq!(world.heard(bob), ["alice: 1"]);
    assert_eq!(books(&world), (0, 1));
    assert_eq!(
        world.wakeup.map(|due| due.reason),
        Some(WakeupReason::Marker)
    );
    world.pass(NANO);
    let marker = ping(&world.frames(bob));
    assert_eq!(books(&world), (0, 1));
    world.give(Input::Pong {
        conn: bob,
        payload: marker,
    });
    assert_eq!(books(&world), (1, 0));
}

#[test]
fn a_steady_conversation_costs_one_marker_a_second_and_none_when_it_is_over() {
    let mut world = World::open();
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    for _ in 0..100 {
        world.say(alice, "bob", "x");
        world.pass(millis(100));
    }
    let heard = world.heard(bob);
    let pings = heard.iter().filter(|line| *line == "ping").count();
    assert!((9..=10).contains(&pings), "{pings} in ten seconds");
    world.pass(secs(5));
    assert_eq!(world.heard(bob).len(), usize::from(pings == 9));
    assert_eq!(books(&world), (100, 0));
}

#[test]
fn a_heartbeat_is_a_marker_too() {
    let (mut world, alice, bob) = pair(World::open());
    world.pass(millis(24_500));
    world.say(alice, "bob", "1");
    world.pass(millis(500));
    let heartbeat = ping(&world.frames(bob));
    world.give(Input::Pong {
        conn: bob,
        payload: heartbeat,
    });
    assert_eq!(books(&world), (1, 0));
    world.pass(secs(5));
    assert_eq!(world.heard(bob), [""; 0], "there is nothing to ask");
}

#[test]
fn much_at_once_is_marked_at_once() {
    let (mut world, alice, bob) = pair(World::open());
    for _ in 0..4 {
        world.receive(alice, message_of("alice", "bob", 34_000));
    }
    world.settle();
    let frames = world.frames(bob);
    let pings: Vec<usize> = (0..frames.len())
        .filter(|&at| matches!(frames[at], Frame::Ping(_)))
        .collect();
    assert_eq!(pings, [2, 5], "behind each 64 KiB");
}

#[test]
fn a_large_one_is_marked_at_once_if_it_is_the_last() {
    let (mut world, alice, bob) = pair(World::open());
    world.receive(alice, message_of("alice", "bob", 33_000));
    world.settle();
    let frames = world.frames(bob);
    assert_eq!(frames.len(), 2);
    ping(&frames[1..]);
}

#[test]
fn the_ping_behind_what_fills_a_batch_goes_with_it() {
    let (mut world, alice, bob) = pair(World::open());
    world.receive(alice, message_of("alice", "bob", 65_536));
    world.say(alice, "bob", "x");
    let frames = world.write(bob, 1);
    assert_eq!(frames.len(), 2);
    ping(&frames[1..]);
    // What was read before, and nothing of it was handed out, is no reason for one.
    assert_eq!(world.write(bob, 0), []);
    assert_eq!(world.write(bob, 1).len(), 1);
}

#[test]
fn many_at_once_are_marked_at_once_and_may_not_be_too_many() {
    let (mut world, alice, bob) = pair(World::new(config().unconfirmed_count(1000)));
    for _ in 0..1100 {
        world.say(alice, "bob", "x");
    }
    world.settle();
    let frames = world.frames(bob);
    let pings: Vec<usize> = (0..frames.len())
        .filter(|&at| matches!(frames[at], Frame::Ping(_)))
        .collect();
    assert_eq!(
        pings,
        [256, 513, 770, 1003],
        "behind each 256, and where no more may go"
    );
    assert_eq!((frames.len(), books(&world)), (1004, (0, 1000)));
    let last = ping(&frames[1003..]);
    world.give(Input::Pong {
        conn: bob,
        payload: last,
    });
    world.settle();
    assert_eq!(world.frames(bob).len(), 100);
}

#[test]
fn who_confirms_nothing_gets_no_more_than_fits_the_window() {
    let (mut world, alice, bob) = pair(World::new(config().unconfirmed_bytes(1000)));
    for _ in 0..5 {
        world.receive(alice, message_of("alice", "bob", 400));
    }
    world.settle();
    // The third is beyond the limit, but there was room when it went.
    let frames = world.frames(bob);
    assert_eq!(frames.len(), 4);
    let marker = ping(&frames);
    assert_eq!(books(&world), (0, 3));
    // What the relay itself says goes through.
    world.say(bob, "nobody", "?");
    world.settle();
    assert!(world.heard(bob)[0].starts_with("QUEUE_FULL nobody"));
    world.give(Input::Pong {
        conn: bob,
        payload: marker,
    });
    world.settle();
    assert_eq!(world.frames(bob).len(), 2);
    assert_eq!(books(&world), (3, 2));
}

#[test]
fn a_window_that_is_exactly_full_is_closed() {
    for (limit, given) in [(799, 2), (800, 2), (801, 3)] {
        let (mut world, alice, _) = pair(World::new(config().unconfirmed_bytes(limit)));
        for _ in 0..5 {
            world.receive(alice, message_of("alice", "bob", 400));
        }
        world.settle();
        assert_eq!(books(&world), (0, given), "a window of {limit} bytes");
    }
}

#[test]
fn senders_hear_of_what_was_not_confirmed_and_of_nothing_else() {
    let (mut world, alice, bob) = pair(World::open());
    world.say(alice, "bob", "1");
    world.pass(secs(1));
    let marker = ping(&world.frames(bob));
    for text in ["2", "3"] {
        world.say(alice, "bob", text);
        world.settle();
    }
    world.give(Input::Pong {
        conn: bob,
        payload: marker,
    });
    world.say(alice, "bob", "4");
    world.give(Input::Closed { conn: bob });
    world.settle();
    let left = "recipient left before the envelope was sent to it, and no queue is configured";
    assert_eq!(
        world.heard(alice),
        [
            format!("QUEUE_FULL bob #4: {left}"),
            format!("QUEUE_FULL bob #2: {UNCONFIRMED}"),
            format!("QUEUE_FULL bob #3: {UNCONFIRMED}"),
        ]
    );
    let stats = world.stats();
    assert_eq!(
        (stats.delivered, stats.unconfirmed, stats.returned),
        (1, 2, 1)
    );
    assert_eq!(stats.in_flight, 0);
}

#[test]
fn the_answer_to_the_last_of_several_pings_speaks_for_all() {
    let (mut world, alice, bob) = pair(World::open());
    let mut last = Bytes::new();
    for text in ["1", "2", "3"] {
        world.say(alice, "bob", text);
        world.pass(secs(1));
        last = ping(&world.frames(bob));
    }
    world.give(Input::Pong {
        conn: bob,
        payload: last,
    });
    assert_eq!(books(&world), (3, 0));
}

#[test]
fn a_pong_that_answers_no_ping_confirms_nothing() {
    let (mut world, alice, bob) = pair(World::open());
    world.say(alice, "bob", "1");
    world.pass(secs(1));
    let marker = ping(&world.frames(bob));
    let number = u64::from_be_bytes(marker.as_ref().try_into().expect("8 bytes"));
    let others = [
        (number + 1).to_be_bytes().to_vec(),
        u64::MAX.to_be_bytes().to_vec(),
        (number - 1).to_be_bytes().to_vec(),
        marker[..7].to_vec(),
        [&marker[..], b"!"].concat(),
        vec![],
    ];
    for payload in others {
        world.give(Input::Pong {
            conn: bob,
            payload: payload.into(),
        });
        assert_eq!(books(&world), (0, 1));
    }
}

#[test]
fn a_marker_has_no_deadline_of_its_own() {
    let (mut world, alice, bob) = pair(World::open());
    world.say(alice, "bob", "1");
    // One that is slow to read is asked again only by the heartbeat, and that counts.
    world.pass(secs(32) + GRACE - NANO);
    assert_eq!(world.heard(bob), ["alice: 1", "ping", "ping"]);
    assert_eq!(world.stats().heartbeat_timeouts, 0);
    world.pass(NANO);
    assert_eq!(world.stats().heartbeat_timeouts, 1);
}

#[test]
fn a_ping_goes_before_the_goodbye_and_its_pong_confirms_everything() {
    let (mut world, alice, bob) = pair(World::open());
    world.say(alice, "bob", "1");
    world.settle();
    world.say(alice, "bob", "2");
    world.give(Input::Shutdown);
    world.settle();
    let frames = world.frames(bob);
    assert_eq!(
        lines(&frames),
        ["alice: 1", "alice: 2", "ping", "close 1001 going away"]
    );
    assert_eq!(books(&world), (0, 2));
    let late = world.stats().late;
    world.give(Input::Pong {
        conn: bob,
        payload: ping(&frames),
    });
    assert_eq!(books(&world), (2, 0));
    world.give(Input::PeerClosed { conn: bob });
    world.give(Input::Closed { conn: bob });
    assert_eq!((world.stats().unconfirmed, world.stats().late), (0, late));
}

#[test]
fn a_goodbye_with_nothing_before_it_has_no_ping() {
    let (mut world, alice, bob) = pair(World::open());
    world.say(alice, "bob", "1");
    world.pass(secs(1));
    let marker = ping(&world.frames(bob));
    world.give(Input::Pong {
        conn: bob,
        payload: marker,
    });
    assert_eq!(books(&world), (1, 0));
    world.give(Input::Shutdown);
    world.settle();
    assert_eq!(world.heard(bob), ["close 1001 going away"]);
}

#[test]
fn a_goodbye_that_crosses_the_peers_own_confirms_nothing() {
    let (mut world, alice, bob) = pair(World::open());
    world.say(alice, "bob", "1");
    world.give(Input::Shutdown);
    // Everything is handed out, and lies in the socket: the peer says the same without having read it.
    world.settle();
    world.give(Input::PeerClosed { conn: bob });
    world.give(Input::Closed { conn: bob });
    assert_eq!(books(&world), (0, 0));
    assert_eq!(world.stats().unconfirmed, 1);

    let (mut world, alice, bob) = pair(World::open());
    world.say(alice, "bob", "1");
    world.settle();
    world.give(Input::Faulty {
        conn: bob,
        fault: Fault::Text,
    });
    // The relay's close frame is still here.
    world.give(Input::PeerClosed { conn: bob });
    world.give(Input::Closed { conn: bob });
    assert_eq!(world.stats().unconfirmed, 1);
    world.settle();
    assert_eq!(
        world.heard(alice),
        [format!("QUEUE_FULL bob #1: {UNCONFIRMED}")]
    );

    let (mut world, alice, bob) = pair(World::open());
    world.say(alice, "bob", "1");
    world.settle();
    world.give(Input::PeerClosed { conn: bob });
    world.give(Input::Closed { conn: bob });
    assert_eq!(world.cause(bob), Some(CloseCause::Peer));
    assert_eq!(world.stats().unconfirmed, 1);
}

#[test]
fn at_most_once_asks_nobody_and_tells_nobody() {
    let (mut world, alice, bob) = pair(World::new(config().delivery(Delivery::AtMostOnce)));
    world.say(alice, "bob", "1");
    world.pass(secs(10));
    assert_eq!(world.heard(bob), ["alice: 1"]);
    assert_eq!(books(&world), (1, 0));
    world.say(alice, "bob", "2");
    assert_eq!(lines(&world.write(bob, PLENTY)), ["alice: 2"]);
    world.give(Input::Closed { conn: bob });
    world.settle();
    assert_eq!(world.heard(alice), [""; 0]);
    assert_eq!(world.stats().unconfirmed, 1);
}
