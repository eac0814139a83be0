//! Who is alive: pings and pongs, sockets that stand still, closes that are never answered, and a
//! clock that does not always do what clocks do.

mod support;

use core::time::Duration;

use bytes::Bytes;
use pinch_proto::hub::{Admission, CloseCause, ConnId, Fault, Input, Output, Wakeup, WakeupReason};
use pinch_proto::{Frame, Time};

use support::{
    GRACE, Manner, NANO, PLENTY, World, address, at, awaited, config, drain, due, lines,
    lines_with_probes, looks, millis, moves, secs, stalled,
};

const fn just_before(seconds: u64) -> Time {
    Time::from_nanos(seconds * 1_000_000_000 - 1)
}

#[test]
fn a_ping_is_due_exactly_each_interval() {
    let mut world = World::open();
    let alice = world.join("alice");
    for seconds in [25, 50, 75] {
        assert_eq!(world.wakeup, due(seconds, WakeupReason::Ping));
        world.now = just_before(seconds);
        assert_eq!(world.tick(), []);
        world.now = at(seconds);
        assert_eq!(world.tick(), [Output::Wake { conn: alice }]);
        world.settle();
        assert_eq!(world.heard(alice), ["ping"]);
    }
    assert_eq!((world.stats().pings, world.stats().pongs), (4, 4));
}

#[test]
fn each_ping_carries_something_else() {
    let mut world = World::open();
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.pass(secs(100));
    let mut pings = world.frames(alice);
    pings.extend(world.frames(bob));
    assert!(
        pings
            .iter()
            .all(|frame| matches!(frame, Frame::Ping(payload) if payload.len() == 8))
    );
    assert_eq!(pings.len(), 8);
    for (index, ping) in pings.iter().enumerate() {
        assert!(!pings[..index].contains(ping), "{ping:?} came before");
    }
}

#[test]
fn the_pong_timeout_begins_when_the_ping_has_left() {
    let mut world = World::open();
    let alice = world.join("alice");
    world.now = at(25);
    world.tick();
    // Transmitted two seconds late, and taken by the socket after one more.
    world.now = at(27);
    assert_eq!(lines(&world.write(alice, PLENTY)), ["ping"]);
    assert_eq!(world.wakeup, looks(world.now, WakeupReason::Pong));
    world.give(Input::Blocked {
        conn: alice,
        progressed: false,
    });
    assert_eq!(world.wakeup, looks(world.now, WakeupReason::Stall));
    world.now = at(28);
    assert_eq!(world.write(alice, PLENTY), []);
    assert_eq!(world.wakeup, looks(world.now, WakeupReason::Pong));

    world.set(alice, Manner::Silent);
    world.pass(secs(7) + GRACE - NANO);
    assert_eq!(world.heard(alice), [""; 0]);
    world.pass(NANO);
    assert_eq!(world.heard(alice), ["close 1008 heartbeat timeout"]);
    assert_eq!(world.hub.lookup(address("alice").as_str()), None);
    assert_eq!(world.stats().heartbeat_timeouts, 1);
}

#[test]
fn who_only_answers_pings_lives_for_an_hour() {
    let mut world = World::open();
    let alice = world.join("alice");
    world.pass(secs(3600));
    assert_eq!(world.hub.lookup(address("alice").as_str()), Some(alice));
    assert_eq!(world.heard(alice), ["ping"; 144]);
}

#[test]
fn any_data_and_any_pong_are_signs_of_life() {
    let payload = Bytes::from_static(b"unasked");
    let signs: [fn(ConnId, Bytes) -> Input; 2] = [
        |conn, payload| Input::Pong { conn, payload },
        |conn, _| Input::Received {
            conn,
            message: support::message("alice", "alice", "x").into(),
        },
    ];
    for sign in signs {
        let mut world = World::open();
        let alice = awaited(&mut world);
        world.pass(secs(7) + GRACE - NANO);
        world.give(sign(alice, payload.clone()));
        assert_eq!(world.wakeup, due(50, WakeupReason::Ping));
        // The next ping has to be answered like any other.
        world.pass(secs(25) + NANO);
        assert_eq!(world.stats().heartbeat_timeouts, 1);
        assert_eq!(world.stats().connections, 0);
    }
}

#[test]
fn while_joining_only_a_pong_says_that_the_greeting_was_heard() {
    let mut world = World::open();
    let alice = world.knock("alice", Admission::Proven).expect("a join");
    world.write(alice, PLENTY);
    world.say(alice, "nobody", "1");
    world.write(alice, PLENTY);
    world.set(alice, Manner::Silent);
    world.pass(secs(1) - NANO);
    assert_eq!(world.heard(alice), [""; 0]);
    world.pass(NANO);
    assert!(world.heard(alice)[0].starts_with("QUEUE_FULL nobody #1"));
}

#[test]
fn a_socket_that_takes_bytes_is_no_sign_of_life() {
    let mut world = World::open();
    let alice = awaited(&mut world);
    world.join("bob");
    world.pass(secs(5));
    assert_eq!(world.write(alice, PLENTY), []);
    world.give(moves(alice));
    world.pass(secs(2) + secs(5) + 2 * GRACE);
    assert_eq!(world.cause(alice), Some(CloseCause::HeartbeatTimeout));
}

#[test]
fn an_unsolicited_pong_is_counted_and_changes_nothing() {
    let mut world = World::open();
    let alice = world.join("alice");
    let (mut expected, wakeup) = (world.stats(), world.wakeup);
    let payload = Bytes::from_static(b"hello");
    assert_eq!(
        world.give(Input::Pong {
            conn: alice,
            payload
        }),
        []
    );
    expected.pongs += 1;
    assert_eq!((world.stats(), world.wakeup), (expected, wakeup));
}

#[test]
fn a_pong_before_the_socket_reports_the_ping_taken_counts() {
    let mut world = World::open();
    let alice = world.join("alice");
    world.now = at(25);
    world.tick();
    let frames = world.write(alice, PLENTY);
    let [Frame::Ping(payload)] = frames.as_slice() else {
        panic!("{frames:?}")
    };
    world.give(Input::Pong {
        conn: alice,
        payload: payload.clone(),
    });
    assert_eq!(world.write(alice, PLENTY), []);
    assert_eq!(world.wakeup, due(50, WakeupReason::Ping));
}

#[test]
fn a_blocked_socket_is_too_slow_after_30_seconds_and_no_heartbeat_timeout() {
    let mut world = World::open();
    let (alice, bob) = stalled(&mut world);
    world.say(alice, "bob", "1");
    world.pass(secs(30) + GRACE - NANO);
    assert!(world.hub.lookup(address("bob").as_str()).is_some());
    world.pass(NANO);
    assert_eq!(world.hub.lookup(address("bob").as_str()), None);
    assert_eq!(
        (world.stats().stalls, world.stats().heartbeat_timeouts),
        (1, 0)
    );
    assert!(
        world
            .heard(alice)
            .iter()
            .any(|line| line.starts_with("QUEUE_FULL bob #1"))
    );

    // It takes up again, too late: there is only the end left for it.
    world.set(bob, Manner::Honest);
    world.settle();
    assert_eq!(world.heard(bob), ["close 1008 too slow"]);
    assert_eq!(world.cause(bob), Some(CloseCause::TooSlow));
}

#[test]
fn a_socket_that_moves_slowly_is_not_too_slow() {
    let mut world = World::open();
    let (_, bob) = stalled(&mut world);
    for _ in 0..12 {
        world.pass(secs(29));
        world.give(moves(bob));
    }
    assert!(world.hub.lookup(address("bob").as_str()).is_some());
    world.pass(secs(30) + GRACE);
    assert_eq!((world.stats().stalls, world.stats().connections), (1, 1));
}

#[test]
fn progress_of_a_socket_that_was_given_nothing_arms_nothing() {
    let mut world = World::open();
    let alice = world.join("alice");
    world.give(moves(alice));
    assert_eq!(world.wakeup, due(25, WakeupReason::Ping));
}

#[test]
fn a_close_that_is_never_answered_ends_at_its_deadline() {
    for manner in [Manner::Silent, Manner::Blocked] {
        let mut world = World::open();
        let alice = world.join("alice");
        world.set(alice, manner);
        world.now = at(10);
        world.give(Input::Faulty {
            conn: alice,
            fault: Fault::Text,
        });
        world.settle();
        assert_eq!(world.wakeup, looks(world.now, WakeupReason::Close));
        world.pass(secs(5) + GRACE - NANO);
        assert!(world.hub.holds(alice));
        world.pass(NANO);
        assert!(!world.hub.holds(alice));
        assert_eq!(world.closed.len(), 1);
        assert_eq!(world.wakeup, None);
    }
}

#[test]
fn a_closing_connection_cannot_stall() {
    let mut world = World::new(config().stall_timeout(secs(2)));
    let alice = world.join("alice");
    world.set(alice, Manner::Blocked);
    world.give(Input::Faulty {
        conn: alice,
        fault: Fault::Text,
    });
    world.settle();
    world.give(moves(alice));
    let before = world.stats();
    assert_eq!(world.wakeup, looks(world.now, WakeupReason::Close));
    world.pass(secs(4));
    assert_eq!(world.stats(), before);
}

#[test]
fn a_closing_connection_is_not_waited_for_in_any_other_way() {
    let mut world = World::open();
    let alice = awaited(&mut world);
    world.now = at(31);
    world.give(Input::Faulty {
        conn: alice,
        fault: Fault::Text,
    });
    world.settle();
    let before = world.stats();
    assert_eq!(world.wakeup, looks(world.now, WakeupReason::Close));
    world.pass(secs(4));
    assert_eq!(world.stats(), before);
}

#[test]
fn after_the_peers_close_frame_a_deadline_runs_and_only_the_answer_is_sent() {
    let mut world = World::open();
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.say(bob, "alice", "1");
    world.give(Input::PeerClosed {
        conn: alice,
        close: None,
    });
    assert_eq!(lines(&world.write(alice, PLENTY)), ["close 1005"]);
    world.pass(secs(5) + GRACE);
    assert_eq!(world.closed, [(alice, CloseCause::Peer)]);
}

#[test]
fn time_that_goes_backwards_stands_still_and_is_counted() {
    let mut world = World::open();
    let alice = awaited(&mut world);
    world.now = at(3);
    world.give(moves(alice));
    assert_eq!(world.tick(), []);
    assert_eq!(world.stats().clock_regressions, 2);
    assert_eq!(world.wakeup, looks(at(25), WakeupReason::Pong));
    // What begins now begins at 25 s, where time stands.
    world.knock("bob", Admission::Named).unwrap();
    world.give(Input::Closed {
        conn: alice,
        clean: false,
    });
    assert_eq!(world.wakeup, due(50, WakeupReason::Ping));
    assert_eq!(world.stats().clock_regressions, 4);
    world.now = at(25);
    world.tick();
    assert_eq!(world.stats().clock_regressions, 4);
}

#[test]
fn a_spurious_timeout_changes_nothing() {
    let mut world = World::open();
    let (_, bob) = stalled(&mut world);
    world.knock("carol", Admission::Proven).unwrap();
    for step in 0..200 {
        let before = world.stats();
        let earlier = world.wakeup.is_none_or(|wakeup| wakeup.at > world.now);
        assert!(earlier, "the world has done what was due");
        // At most it looks at the clock, and so wants to do so again one step later.
        assert_eq!((world.tick(), world.stats()), (vec![], before));
        let wakeup = world.wakeup;
        assert_eq!(world.tick(), []);
        assert_eq!((world.stats(), world.wakeup), (before, wakeup));
        if step == 30 {
            world.give(Input::Faulty {
                conn: bob,
                fault: Fault::Protocol,
            });
        }
        world.pass(millis(333));
    }
}

#[test]
fn heartbeats_that_fall_due_at_once_are_done_over_several_turns() {
    let mut world = World::open();
    let conns: Vec<_> = (0..5000)
        .map(|n| world.join(&format!("agent{n}")))
        .collect();
    world.now = at(25);
    let mut woken = vec![];
    let mut turns = 0;
    loop {
        let outputs = world.tick();
        turns += 1;
        assert!(outputs.len() <= 1024, "a turn has a bound");
        woken.extend(outputs);
        let wakeup = world.wakeup.unwrap();
        if wakeup.reason != WakeupReason::Backlog {
            assert_eq!(Some(wakeup), due(50, WakeupReason::Ping));
            break;
        }
        assert_eq!(wakeup.at, at(25));
    }
    assert_eq!(turns, 5);
    let expected: Vec<_> = conns.iter().map(|&conn| Output::Wake { conn }).collect();
    assert_eq!(woken, expected);
}

#[test]
fn outputs_that_are_left_in_a_turn_come_in_the_next_one() {
    let mut world = World::open();
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.now = at(1);
    let message = support::message("alice", "bob", "1").into();
    let wakeup = world
        .hub
        .handle_input(
            Input::Received {
                conn: alice,
                message,
            },
            world.now,
        )
        .finish();
    let now = Some(Wakeup {
        at: at(1),
        reason: WakeupReason::Backlog,
    });
    assert_eq!(wakeup, now);
    // Also when a turn is dropped without a word, or polled in part.
    let mut frames = vec![];
    let transmit = |frame| frames.push(frame);
    drop(world.hub.poll_transmit(bob, PLENTY, world.now, transmit));
    assert_eq!(lines_with_probes(&frames), ["alice: 1", "ping"]);
    let mut turn = world.hub.handle_input(
        Input::Closed {
            conn: bob,
            clean: false,
        },
        world.now,
    );
    assert_eq!(turn.poll_output(), Some(Output::Wake { conn: bob }));
    assert_eq!(turn.finish(), now);

    let (outputs, wakeup) = drain(world.hub.handle_timeout(world.now));
    // Its sender is to hear that nobody has confirmed it.
    let wake = Output::Wake { conn: alice };
    let [woken, Output::Closed { .. }] = outputs.as_slice() else {
        panic!("{outputs:?}")
    };
    assert_eq!(*woken, wake);
    assert_eq!(wakeup, due(25, WakeupReason::Ping));
}

#[test]
fn settings_of_time_are_heeded() {
    let times = config()
        .heartbeat_interval(Duration::from_millis(400))
        .pong_timeout(Duration::from_millis(100))
        .close_timeout(Duration::from_millis(50));
    let mut world = World::new(times);
    let alice = world.join("alice");
    world.set(alice, Manner::Silent);
    // The grace is half of the shortest: it is added to the pong timeout and the close timeout.
    let grace = millis(50) / 2;
    world.pass(millis(550) + 2 * grace - NANO);
    assert!(world.hub.holds(alice));
    world.pass(NANO);
    assert_eq!(world.cause(alice), Some(CloseCause::HeartbeatTimeout));
}
