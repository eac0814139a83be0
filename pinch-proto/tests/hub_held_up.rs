//! A driver that comes late: what peers did meanwhile counts, and only its own look at a socket
//! decides whether somebody is dead or too slow.

mod support;

use bytes::Bytes;
use pinch_proto::hub::{ConnId, Input, Output, WakeupReason};

use support::{PLENTY, World, address, at, awaited, due, lines, moves, secs, stalled};

#[test]
fn data_that_overtakes_the_report_of_the_ping_is_a_sign_of_life() {
    let mut world = World::open();
    let alice = world.join("alice");
    world.now = at(25);
    world.tick();
    assert_eq!(lines(&world.write(alice, PLENTY)), ["ping"]);
    // The peer has heard it and answers with an envelope before the driver says that it has left.
    world.say(alice, "nobody", "1");
    world.write(alice, PLENTY);
    world.settle();
    assert_eq!(world.wakeup, due(50, WakeupReason::Ping));
}

#[test]
fn a_driver_that_was_held_up_cuts_nobody_who_has_answered() {
    let signs: [fn(ConnId) -> Input; 3] = [
        |conn| Input::Pong {
            conn,
            payload: Bytes::new(),
        },
        |conn| Input::Received {
            conn,
            message: support::message("alice", "alice", "x").into(),
        },
        |conn| Input::Alive { conn },
    ];
    for sign in signs {
        let mut world = World::open();
        let alice = awaited(&mut world);
        // The timer comes first, much too late; then what the socket had.
        world.now = at(49);
        assert_eq!(world.tick(), [Output::Wake { conn: alice }]);
        assert_eq!(world.wakeup, due(50, WakeupReason::Ping));
        world.give(sign(alice));
        world.write(alice, PLENTY);
        assert_eq!(world.stats().heartbeat_timeouts, 0);
        assert_eq!(world.stats().connections, 1);
        // The next ping has to be answered like any other.
        world.pass(secs(8));
        assert_eq!(world.cause(alice), None);
        assert_eq!(world.stats().heartbeat_timeouts, 1);
    }
}

#[test]
fn a_dead_peer_ends_when_the_driver_has_looked_even_if_its_socket_is_blocked() {
    for looks in [
        |conn| Input::Blocked {
            conn,
            progressed: false,
        },
        moves,
        |conn| Input::Writable { conn, bytes: 0 },
    ] {
        let mut world = World::open();
        let alice = awaited(&mut world);
        world.now = at(26);
        world.join("bob");
        let bob = world.hub.lookup(address("bob").as_str()).expect("bob");
        world.say(bob, "alice", "1");
        assert_eq!(lines(&world.write(alice, PLENTY)), ["bob: 1"]);
        world.now = at(32);
        assert_eq!(world.tick(), [Output::Wake { conn: alice }]);
        assert_eq!(world.stats().connections, 2);
        world.give(looks(alice));
        assert_eq!(world.stats().heartbeat_timeouts, 1);
        assert_eq!(world.stats().connections, 1);
        assert_eq!(world.wakeup, due(37, WakeupReason::Close));
    }
}

#[test]
fn a_driver_that_was_held_up_finds_that_the_socket_has_moved() {
    let taken = |conn| Input::Writable {
        conn,
        bytes: PLENTY,
    };
    for looks in [moves, taken] {
        let mut world = World::open();
        let (_, bob) = stalled(&mut world);
        world.now = at(40);
        assert!(world.tick().contains(&Output::Wake { conn: bob }));
        world.give(looks(bob));
        assert_eq!((world.stats().stalls, world.stats().connections), (0, 2));
        world.give(moves(bob));
        assert_eq!(world.stats().stalls, 0, "the suspicion is forgotten");
    }
}
