//! Ack probes: when a ping follows what is in flight, what its pong acknowledges, and what becomes of
//! what nobody acknowledged.

mod support;

use bytes::Bytes;
use pinch_proto::Frame;
use pinch_proto::hub::{Admission, CloseCause, ConnId, Delivery, Fault, Input, WakeupReason};

use support::{Manner, NANO, PLENTY, World, config, lines_with_probes, message_of, millis, secs};

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
        Frame::Message(_) | Frame::Pong(_) | Frame::Close(_) => None,
    });
    let ping = pings.next().expect("a ping");
    assert_eq!(pings.next(), None);
    ping
}

/// The pongs of Bob to all pings among `frames`.
fn answer(world: &mut World, bob: ConnId, frames: &[Frame]) {
    for frame in frames {
        if let Frame::Ping(payload) = frame {
            let payload = payload.clone();
            world.give(Input::Pong { conn: bob, payload });
        }
    }
}

#[test]
fn an_ack_probe_follows_the_first_envelope_in_flight_at_once() {
    let (mut world, alice, bob) = pair(World::open());
    world.pass(secs(3));
    for text in ["1", "2"] {
        world.say(alice, "bob", text);
    }
    world.settle();
    let frames = world.frames(bob);
    assert_eq!(lines_with_probes(&frames), ["alice: 1", "alice: 2", "ping"]);
    assert_eq!(books(&world), (0, 2));
    answer(&mut world, bob, &frames);
    assert_eq!(books(&world), (2, 0));
}

#[test]
fn no_ack_probe_is_sent_while_another_is_unanswered() {
    let (mut world, alice, bob) = pair(World::open());
    for text in ["1", "2", "3"] {
        world.say(alice, "bob", text);
        world.pass(secs(1));
    }
    let frames = world.frames(bob);
    assert_eq!(
        lines_with_probes(&frames),
        ["alice: 1", "ping", "alice: 2", "alice: 3"]
    );
    // Its pong is late: the next one follows at once, and acknowledges the rest.
    answer(&mut world, bob, &frames);
    assert_eq!(books(&world), (1, 2));
    world.settle();
    let frames = world.frames(bob);
    assert_eq!(lines_with_probes(&frames), ["ping"]);
    answer(&mut world, bob, &frames);
    assert_eq!(books(&world), (3, 0));
}

#[test]
fn ack_probes_keep_a_gap_of_100_ms() {
    let (mut world, alice, bob) = pair(World::open());
    world.say(alice, "bob", "1");
    world.settle();
    let frames = world.frames(bob);
    world.pass(millis(1));
    answer(&mut world, bob, &frames);
    world.say(alice, "bob", "2");
    world.pass(millis(99) - NANO);
    assert_eq!(lines_with_probes(&world.frames(bob)), ["alice: 2"]);
    assert_eq!(
        world.wakeup.map(|due| due.reason),
        Some(WakeupReason::AckProbe)
    );
    world.pass(NANO);
    assert_eq!(lines_with_probes(&world.frames(bob)), ["ping"]);
}

#[test]
fn the_end_of_a_drain_does_not_wait_for_the_gap() {
    let mut world = World::with_queue();
    let alice = world.join("alice");
    for text in ["1", "2", "3"] {
        world.say(alice, "bob", text);
    }
    world.settle();
    let bob = world.knock("bob", Admission::Named).unwrap();
    let greeting = world.write(bob, PLENTY);
    answer(&mut world, bob, &greeting);
    world.settle_store();
    // The socket takes one frame at a time: the first envelope has a probe, and so has the last.
    let mut frames = vec![];
    for _ in 0..4 {
        let written = world.write(bob, 1);
        answer(&mut world, bob, &written);
        frames.extend(written);
    }
    frames.extend(world.write(bob, 1));
    assert_eq!(
        lines_with_probes(&frames),
        [
            "QUEUE_STATUS 3",
            "alice: 1",
            "ping",
            "alice: 2",
            "alice: 3",
            "ping"
        ]
    );
    answer(&mut world, bob, &frames);
    assert_eq!(world.stats().in_flight, 0);
    world.settle_store();
    assert_eq!(world.queued_for("bob"), [""; 0]);
}

#[test]
fn a_steady_conversation_has_ten_ack_probes_a_second_and_none_when_it_is_over() {
    let mut world = World::open();
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    for _ in 0..1000 {
        world.say(alice, "bob", "x");
        world.pass(millis(10));
    }
    let heard = lines_with_probes(&world.frames(bob));
    let pings = heard.iter().filter(|line| *line == "ping").count();
    assert_eq!(pings, 101, "and one for the last of it");
    world.pass(secs(5));
    assert_eq!(world.frames(bob).len(), 0);
    assert_eq!(books(&world), (1000, 0));
}

#[test]
fn a_heartbeat_acknowledges_too() {
    let (mut world, alice, bob) = pair(World::open());
    world.pass(millis(24_500));
    for text in ["1", "2"] {
        world.say(alice, "bob", text);
        world.settle();
    }
    world.frames(bob);
    world.pass(millis(500));
    let heartbeat = ping(&world.frames(bob));
    world.give(Input::Pong {
        conn: bob,
        payload: heartbeat,
    });
    assert_eq!(books(&world), (2, 0));
    world.pass(secs(5));
    assert_eq!(world.frames(bob), [], "nothing is in flight");
}

#[test]
fn an_ack_probe_follows_each_64_kib_at_once() {
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
fn an_ack_probe_follows_a_last_envelope_of_32_kib_at_once() {
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
fn an_ack_probe_follows_each_256_envelopes_and_a_full_window() {
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
    let probe = ping(&frames);
    assert_eq!(books(&world), (0, 3));
    // What the relay itself says goes through.
    world.say(bob, "nobody", "?");
    world.settle();
    assert!(world.heard(bob)[0].starts_with("QUEUE_FULL nobody"));
    world.give(Input::Pong {
        conn: bob,
        payload: probe,
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
    let probe = ping(&world.frames(bob));
    for text in ["2", "3"] {
        world.say(alice, "bob", text);
        world.settle();
    }
    world.give(Input::Pong {
        conn: bob,
        payload: probe,
    });
    world.say(alice, "bob", "4");
    world.give(Input::Closed {
        conn: bob,
        clean: false,
    });
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
fn the_pong_of_the_last_of_several_pings_acknowledges_all() {
    let (mut world, alice, bob) = pair(World::open());
    let mut last = Bytes::new();
    for _ in 0..3 {
        world.receive(alice, message_of("alice", "bob", 33_000));
        world.settle();
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
    let probe = ping(&world.frames(bob));
    let number = u64::from_be_bytes(probe.as_ref().try_into().expect("8 bytes"));
    let others = [
        (number + 1).to_be_bytes().to_vec(),
        u64::MAX.to_be_bytes().to_vec(),
        (number - 1).to_be_bytes().to_vec(),
        probe[..7].to_vec(),
        [&probe[..], b"!"].concat(),
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
fn a_ping_goes_before_the_goodbye_and_its_pong_confirms_everything() {
    let (mut world, alice, bob) = pair(World::open());
    world.say(alice, "bob", "1");
    world.settle();
    world.frames(bob);
    world.say(alice, "bob", "2");
    world.give(Input::Shutdown);
    world.settle();
    let frames = world.frames(bob);
    assert_eq!(
        lines_with_probes(&frames),
        ["alice: 2", "ping", "close 1001 going away"]
    );
    assert_eq!(books(&world), (0, 2));
    let late = world.stats().late;
    world.give(Input::Pong {
        conn: bob,
        payload: ping(&frames),
    });
    assert_eq!(books(&world), (2, 0));
    world.give(Input::PeerClosed {
        conn: bob,
        close: None,
    });
    world.give(Input::Closed {
        conn: bob,
        clean: false,
    });
    assert_eq!((world.stats().unconfirmed, world.stats().late), (0, late));
}

#[test]
fn a_goodbye_with_nothing_before_it_has_no_ping() {
    let (mut world, alice, bob) = pair(World::open());
    world.say(alice, "bob", "1");
    world.pass(secs(1));
    let probe = ping(&world.frames(bob));
    world.give(Input::Pong {
        conn: bob,
        payload: probe,
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
    world.give(Input::PeerClosed {
        conn: bob,
        close: None,
    });
    world.give(Input::Closed {
        conn: bob,
        clean: false,
    });
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
    world.give(Input::PeerClosed {
        conn: bob,
        close: None,
    });
    world.give(Input::Closed {
        conn: bob,
        clean: false,
    });
    assert_eq!(world.stats().unconfirmed, 1);
    world.settle();
    assert_eq!(
        world.heard(alice),
        [format!("QUEUE_FULL bob #1: {UNCONFIRMED}")]
    );

    let (mut world, alice, bob) = pair(World::open());
    world.say(alice, "bob", "1");
    world.settle();
    world.give(Input::PeerClosed {
        conn: bob,
        close: None,
    });
    world.give(Input::Closed {
        conn: bob,
        clean: false,
    });
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
    assert_eq!(lines_with_probes(&world.write(bob, PLENTY)), ["alice: 2"]);
    assert_eq!(books(&world), (2, 0));
    world.give(Input::Closed {
        conn: bob,
        clean: false,
    });
    world.settle();
    assert_eq!(world.heard(alice), [""; 0]);
    assert_eq!(world.stats().unconfirmed, 0);
}
