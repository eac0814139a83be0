//! A process that was paused, and a driver that comes late: what peers did meanwhile counts, and only
//! the driver's own look at a socket decides whether a peer is dead or too slow.

mod support;

use core::time::Duration;

use bytes::Bytes;
use pinch_proto::Time;
use pinch_proto::hub::{
    CloseCause, Config, ConnId, Fault, Input, Output, QueueConfig, WakeupReason,
};

use support::{
    GRACE, Manner, NANO, PLENTY, STEP, StoreManner, World, address, awaited, config, due, lines,
    looks, millis, moves, secs, stalled,
};

/// Signs of life.
const SIGNS: [fn(ConnId) -> Input; 4] = [
    |conn| Input::Pong {
        conn,
        payload: Bytes::new(),
    },
    |conn| Input::Received {
        conn,
        message: support::message("alice", "alice", "x").into(),
    },
    |conn| Input::Ping {
        conn,
        payload: Bytes::new(),
    },
    |conn| Input::Partial {
        conn,
        bytes: 0,
        short_fragments: 0,
    },
];

/// A driver calls one of them when it has looked at a socket that is not writable, is a little, and
/// is.
const LOOKS: [fn(&mut World, ConnId); 3] = [
    |world, conn| {
        world.give(Input::Blocked {
            conn,
            progressed: false,
        });
    },
    |world, conn| drop(world.give(moves(conn))),
    |world, conn| drop(world.transmit(conn, 0)),
];

/// Times for which a process stands still: shorter than a look at the clock takes, about as long as
/// what is left of a timeout, longer than all timeouts.
const PAUSES: [Duration; 7] = [
    millis(1),
    millis(249),
    millis(600),
    secs(2),
    secs(8),
    secs(40),
    secs(86_400),
];

/// Waits, with every wakeup on time, until the connection is woken to be looked at.
fn until_suspected(world: &mut World, conn: ConnId) {
    loop {
        world.now = world.wakeup.expect("a deadline").at;
        if world.tick().contains(&Output::Wake { conn }) {
            return;
        }
    }
}

#[test]
fn data_that_overtakes_the_report_of_the_ping_is_a_sign_of_life() {
    let mut world = World::open();
    let alice = world.join("alice");
    world.pass(secs(25) - NANO);
    world.now = world.now + NANO;
    world.tick();
    assert_eq!(lines(&world.write(alice, PLENTY)), ["ping"]);
    // The peer has heard it and answers with an envelope before the driver says that it has left.
    world.say(alice, "nobody", "1");
    world.write(alice, PLENTY);
    world.settle();
    assert_eq!(world.wakeup, due(50, WakeupReason::Ping));
}

#[test]
fn a_driver_that_looks_late_closes_no_connection_that_has_shown_life() {
    for sign in SIGNS {
        let mut world = World::open();
        let alice = awaited(&mut world);
        until_suspected(&mut world, alice);
        // One thread was blocked, the others went on.
        world.now = world.now + secs(3);
        assert_eq!(world.tick(), []);
        world.give(sign(alice));
        world.write(alice, PLENTY);
        assert_eq!(world.stats().heartbeat_timeouts, 0);
        assert_eq!(world.stats().connections, 1);
        // The next ping has to be answered like any other.
        world.pass(secs(25) + GRACE);
        assert_eq!(world.cause(alice), None);
        assert_eq!(world.stats().heartbeat_timeouts, 1);
    }
}

#[test]
fn a_dead_peer_is_closed_when_the_driver_has_looked_even_if_its_socket_is_blocked() {
    for looks_at in LOOKS {
        let mut world = World::open();
        let alice = awaited(&mut world);
        world.pass(secs(1));
        let bob = world.join("bob");
        world.say(bob, "alice", "1");
        assert_eq!(lines(&world.write(alice, PLENTY)), ["bob: 1"]);
        until_suspected(&mut world, alice);
        assert_eq!(world.stats().connections, 2);
        looks_at(&mut world, alice);
        assert_eq!(world.stats().heartbeat_timeouts, 1);
        assert_eq!(world.stats().connections, 1);
        assert_eq!(world.wakeup, looks(world.now, WakeupReason::Close));
    }
}

#[test]
fn a_driver_that_looks_late_finds_that_the_socket_has_moved() {
    for takes_all in [false, true] {
        let mut world = World::open();
        let (_, bob) = stalled(&mut world);
        until_suspected(&mut world, bob);
        if takes_all {
            world.transmit(bob, PLENTY);
        } else {
            world.give(moves(bob));
        }
        assert_eq!((world.stats().stalls, world.stats().connections), (0, 2));
        world.give(moves(bob));
        assert_eq!(world.stats().stalls, 0, "the suspicion is forgotten");
    }
}

/// The process is paused while pongs are missing. When it goes on, its timer is first, and its driver
/// finds nothing in the sockets yet: the runtime has not heard of it. That takes a step at most.
#[test]
fn a_pause_of_any_length_at_any_moment_closes_no_peer_that_has_answered() {
    for pause in PAUSES {
        for before in [millis(0), millis(10), secs(3), millis(6999), secs(7) - NANO] {
            for (sign, looks_at) in SIGNS
                .iter()
                .flat_map(|sign| LOOKS.map(|looks| (sign, looks)))
            {
                let mut world = World::open();
                let alice = awaited(&mut world);
                world.pass(before);
                world.now = world.now + pause;
                world.tick();
                looks_at(&mut world, alice);
                let resumed = world.now;
                while world.wakeup.expect("a ping at least").at < resumed + STEP {
                    world.now = world.wakeup.expect("a ping at least").at;
                    world.tick();
                    looks_at(&mut world, alice);
                }
                assert_eq!(world.stats().heartbeat_timeouts, 0, "{before:?}, {pause:?}");
                world.give(sign(alice));
                world.set(alice, Manner::Honest);
                world.pass(secs(60));
                assert_eq!(world.stats().connections, 1);
                assert_eq!(world.stats().heartbeat_timeouts, 0, "{before:?}, {pause:?}");
            }
        }
    }
}

#[test]
fn after_a_pause_a_peer_that_was_paused_too_has_the_rest_of_its_time() {
    for pause in PAUSES {
        let mut world = World::open();
        let alice = awaited(&mut world);
        world.pass(secs(2));
        world.now = world.now + pause;
        world.tick();
        world.settle();
        world.pass(secs(4));
        assert_eq!(world.stats().heartbeat_timeouts, 0, "{pause:?}");
        world.give(SIGNS[0](alice));
        world.set(alice, Manner::Honest);
        world.pass(secs(60));
        assert_eq!(world.stats().heartbeat_timeouts, 0, "{pause:?}");
    }
}

#[test]
fn a_pause_of_any_length_cuts_no_socket_that_has_moved() {
    for pause in PAUSES {
        for before in [millis(0), secs(29), secs(30) - NANO] {
            let mut world = World::open();
            let (_, bob) = stalled(&mut world);
            world.pass(before);
            world.now = world.now + pause;
            for _ in 0..2 {
                world.tick();
                world.settle();
                world.now = world.now + (STEP - NANO);
            }
            world.give(moves(bob));
            assert_eq!(world.stats().stalls, 0, "{before:?}, {pause:?}");
        }
    }
}

/// Its pong and its close frame are in the socket, and confirm what was sent last.
#[test]
fn a_pause_of_any_length_ends_no_close_handshake() {
    for pause in PAUSES {
        let mut world = World::open();
        let alice = world.join("alice");
        world.set(alice, Manner::Silent);
        world.give(Input::Faulty {
            conn: alice,
            fault: Fault::Text,
        });
        world.settle();
        world.pass(secs(5) - NANO);
        world.now = world.now + pause;
        world.tick();
        world.pass(STEP - NANO);
        assert!(world.hub.holds(alice), "{pause:?}");
    }
}

#[test]
fn a_pause_of_any_length_makes_no_answer_of_the_store_late() {
    for pause in PAUSES {
        let mut world = World::with_queue();
        let alice = world.join("alice");
        world.store.manner = StoreManner::Held;
        world.say(alice, "carol", "1");
        world.pass(secs(10) - NANO);
        world.now = world.now + pause;
        world.tick();
        world.pass(STEP - NANO);
        world.answer();
        world.settle();
        assert_eq!(world.stats().store_failures, 0, "{pause:?}");
        assert_eq!(world.stats().stored, 1, "{pause:?}");
    }
}

/// Times between two looks at the clock of a hub that is always late: each counts as a step at most.
#[test]
fn a_hub_that_is_always_late_closes_dead_peers_after_a_bounded_number_of_looks() {
    let closes = |ready: fn(&mut World) -> ConnId, bound: u32, cause: CloseCause| {
        let looks = |timeout: Duration| (timeout + GRACE).as_millis().div_ceil(STEP.as_millis());
        for late in [millis(300), secs(2), secs(3600)] {
            let mut world = World::open();
            let conn = ready(&mut world);
            let mut looked = 0;
            while world.cause(conn).is_none() {
                world.now = world.wakeup.expect("a deadline").at.max(world.now) + late;
                world.tick();
                world.settle();
                looked += 1;
                assert!(looked <= bound, "{cause:?}, {late:?}");
            }
            assert_eq!(world.cause(conn), Some(cause.clone()));
            let close = looks(secs(5));
            assert!(u128::from(looked) > close, "it closes with a handshake");
        }
    };
    // The timeouts and the grace in steps, those of the close handshake, and two for the ping itself.
    closes(awaited, 30 + 22 + 2, CloseCause::HeartbeatTimeout);
    let blocked = |world: &mut World| stalled(world).1;
    closes(blocked, 122 + 22 + 2, CloseCause::TooSlow);
}

/// As `cpulimit` and a container's quota do it.
#[test]
fn a_process_that_is_paused_again_and_again_closes_no_live_peer_and_each_dead_one() {
    let mut world = World::open();
    let (alice, dead) = (world.join("alice"), world.join("dead"));
    world.set(dead, Manner::Silent);
    for _ in 0..400 {
        world.pass(millis(100));
        world.now = world.now + millis(900);
        world.tick();
    }
    assert_eq!(world.cause(alice), None);
    assert_eq!(world.cause(dead), Some(CloseCause::HeartbeatTimeout));
}

#[test]
fn short_timeouts_have_short_steps_and_pauses_are_forgiven_all_the_same() {
    let short = |config: Config| {
        config
            .pong_timeout(millis(80))
            .close_timeout(millis(60))
            .stall_timeout(millis(100))
            .queue(QueueConfig::new().answer_timeout(millis(40)))
    };
    let step = millis(10);
    let mut world = World::new(short(config()));
    let alice = world.join("alice");
    world.set(alice, Manner::Silent);
    world.pass(secs(25) + millis(80) - NANO);
    world.now = world.now + secs(1);
    world.tick();
    world.settle();
    world.pass(step - NANO);
    assert_eq!(world.hub.lookup(address("alice").as_str()), Some(alice));
    world.pass(step + NANO);
    assert_eq!(world.stats().heartbeat_timeouts, 1);
    assert!(world.now < Time::ZERO + secs(27));
}
