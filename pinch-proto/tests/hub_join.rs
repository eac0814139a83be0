//! How connections begin and give way: the join and what is held back during it, addresses that
//! are taken, takeovers, a full hub, and names of connections that are no more.

mod support;

use core::time::Duration;

use bytes::Bytes;
use pinch_proto::hub::{
    Admission, CloseCause, Config, ConnId, Fault, Hub, Input, JoinOptions, JoinRefusal,
    OnDuplicate, Output, QueueConfig, RateLimit,
};
use pinch_proto::wire::{Envelope, Payload};
use pinch_proto::{Close, CloseCode, Frame, Host, Time};
use prost::Message as _;

use support::{GRACE, HOST, Manner, NANO, PLENTY, World, address, config, lines, millis, secs};

#[test]
fn a_hub_can_be_shared_between_threads() {
    const fn assert_send_sync<T: Send + Sync>() {}
    assert_send_sync::<Hub>();
}

/// An agent whose AUTH_RESULT and ping were written, and what its ping carried.
fn joining(world: &mut World, name: &str) -> (ConnId, Bytes) {
    let conn = world
        .knock(name, Admission::Proven)
        .expect("it is admitted");
    let frames = world.write(conn, PLENTY);
    assert_eq!(
        lines(&frames),
        [format!("AUTH_RESULT true {name}").as_str(), "ping"]
    );
    assert_eq!(world.write(conn, PLENTY), []);
    let Some(Frame::Ping(payload)) = frames.last() else {
        panic!("no ping")
    };
    (conn, payload.clone())
}

#[test]
fn a_proven_agent_hears_its_address_then_a_ping_then_nothing_until_its_pong() {
    let mut world = World::open();
    let bob = world.join("bob");
    let (alice, ping) = joining(&mut world, "alice");

    // What is sent to it meanwhile is kept, and nothing else ends the join.
    assert_eq!(world.say(bob, "alice", "1"), []);
    let wrong = [
        Bytes::new(),
        Bytes::from_static(b"hello"),
        Bytes::from_static(&[0; 8]),
    ];
    for payload in wrong {
        assert_eq!(
            world.give(Input::Pong {
                conn: alice,
                payload
            }),
            []
        );
        assert_eq!(world.write(alice, PLENTY), []);
    }
    world.say(alice, "bob", "data");
    assert_eq!(world.say(bob, "alice", "2"), []);
    assert_eq!(world.write(alice, PLENTY), []);

    let outputs = world.give(Input::Pong {
        conn: alice,
        payload: ping,
    });
    assert_eq!(outputs, [Output::Wake { conn: alice }]);
    assert_eq!(lines(&world.write(alice, PLENTY)), ["bob: 1", "bob: 2"]);
    world.settle();
    assert_eq!(world.heard(bob), ["alice: data"]);
}

#[test]
fn auth_result_is_dated_and_names_the_address() {
    let mut world = World::open();
    world.now = Time::ZERO + millis(1234);
    let alice = world.knock("alice", Admission::Proven).unwrap();
    let frames = world.write(alice, PLENTY);
    let Some(Frame::Message(bytes)) = frames.first() else {
        panic!("no message")
    };
    let envelope = Envelope::decode(bytes.clone()).unwrap();
    assert_eq!(envelope.version, 1);
    assert_eq!(envelope.timestamp, support::START.0 + 1234);
    let Some(Payload::AuthResult(result)) = envelope.payload else {
        panic!("no AUTH_RESULT")
    };
    assert_eq!(result.assigned_address, address("alice").as_str());
}

#[test]
fn without_a_pong_the_join_is_over_after_a_second() {
    let mut world = World::open();
    let bob = world.join("bob");
    let (alice, _) = joining(&mut world, "alice");
    world.say(bob, "alice", "1");
    world.set(alice, Manner::Silent);
    world.pass(secs(1) - NANO);
    assert_eq!(world.tick(), []);
    world.now = world.now + NANO;
    assert_eq!(world.tick(), [Output::Wake { conn: alice }]);
    assert_eq!(lines(&world.write(alice, PLENTY)), ["bob: 1"]);
}

#[test]
fn the_second_of_a_join_begins_when_its_ping_has_left() {
    let mut world = World::open();
    let bob = world.join("bob");
    let alice = world.knock("alice", Admission::Proven).unwrap();
    world.say(bob, "alice", "1");
    // Its socket, or the task that serves it, comes late.
    world.now = Time::ZERO + secs(3);
    assert_eq!(world.tick(), []);
    assert_eq!(
        lines(&world.write(alice, PLENTY)),
        ["AUTH_RESULT true alice", "ping"]
    );
    assert_eq!(world.write(alice, PLENTY), []);
    world.now = world.now + secs(1);
    world.tick();
    assert_eq!(lines(&world.write(alice, PLENTY)), ["bob: 1"]);
}

#[test]
fn a_named_agent_hears_no_auth_result() {
    let mut world = World::open();
    let alice = world.knock("alice", Admission::Named).unwrap();
    assert_eq!(lines(&world.write(alice, PLENTY)), ["ping"]);
}

#[test]
fn a_joining_agent_that_is_closed_still_hears_who_it_was() {
    let mut world = World::open();
    let alice = world.knock("alice", Admission::Proven).unwrap();
    world.give(Input::Faulty {
        conn: alice,
        fault: Fault::Text,
    });
    world.settle();
    let expected = [
        "AUTH_RESULT true alice",
        "close 1003 text message, expected a binary one",
    ];
    assert_eq!(world.heard(alice), expected);
}

#[test]
fn a_joining_agent_that_leaves_at_once_still_hears_who_it_was() {
    let mut world = World::open();
    let alice = world.knock("alice", Admission::Proven).unwrap();
    world.give(Input::PeerClosed {
        conn: alice,
        close: None,
    });
    let expected = ["AUTH_RESULT true alice", "close 1005"];
    assert_eq!(lines(&world.write(alice, PLENTY)), expected);
}

#[test]
fn a_taken_address_is_refused_and_its_holder_pinged_at_once() {
    let mut world = World::open();
    let incumbent = world.join("alice");
    world.pass(secs(10));

    let register = Input::Register {
        address: address("alice"),
        admission: Admission::Proven,
        options: JoinOptions::default(),
    };
    let refusal = JoinRefusal::AlreadyConnected;
    let refused = Output::Refused {
        address: address("alice"),
        refusal,
    };
    assert_eq!(
        world.give(register.clone()),
        [Output::Wake { conn: incumbent }, refused.clone()]
    );
    assert_eq!(
        refusal.close(),
        Close::new(CloseCode::POLICY, "address already connected")
    );
    assert_eq!(lines(&world.write(incumbent, PLENTY)), ["ping"]);

    // One ping is enough for any number of knocks.
    assert_eq!(world.give(register), [refused]);
    assert_eq!(world.write(incumbent, PLENTY), []);
    assert_eq!(world.stats().joins_refused_duplicate, 2);
}

#[test]
fn an_honest_holder_keeps_its_address() {
    let mut world = World::open();
    let alice = world.join("alice");
    for _ in 0..5 {
        assert_eq!(
            world.knock("alice", Admission::Named),
            Err(JoinRefusal::AlreadyConnected)
        );
        world.pass(secs(8));
    }
    assert_eq!(world.hub.lookup(address("alice").as_str()), Some(alice));
    assert_eq!(world.closed, []);
}

#[test]
fn a_dead_holder_frees_its_address_after_the_pong_timeout() {
    let mut world = World::open();
    let dead = world.join("alice");
    world.pass(secs(2));
    world.set(dead, Manner::Silent);
    assert_eq!(
        world.knock("alice", Admission::Named),
        Err(JoinRefusal::AlreadyConnected)
    );
    world.pass(secs(7) + GRACE - NANO);
    assert_eq!(
        world.knock("alice", Admission::Named),
        Err(JoinRefusal::AlreadyConnected)
    );
    world.pass(NANO);
    let alice = world.knock("alice", Admission::Named).unwrap();
    world.pass(secs(60));
    assert_eq!(world.closed, [(dead, CloseCause::HeartbeatTimeout)]);
    assert_eq!(world.hub.lookup(address("alice").as_str()), Some(alice));
}

#[test]
fn a_takeover_closes_the_old_connection_and_moves_what_waits_for_it() {
    let mut world = World::new(config().on_duplicate(OnDuplicate::Replace));
    let bob = world.join("bob");
    let old = world.join("alice");
    world.say(bob, "alice", "0");
    world.settle();
    assert_eq!(world.heard(old), ["bob: 0"]);
    for text in ["1", "2"] {
        world.say(bob, "alice", text);
    }

    let new = world.knock("alice", Admission::Proven).unwrap();
    assert_eq!(world.hub.lookup(address("alice").as_str()), Some(new));
    assert!(world.hub.holds(old));
    world.say(bob, "alice", "3");
    world.settle();
    assert_eq!(
        world.heard(old),
        ["close 4001 replaced by a new connection"]
    );
    assert_eq!(
        world.heard(new),
        [
            "AUTH_RESULT true alice",
            "ping",
            "bob: 1",
            "bob: 2",
            "bob: 3"
        ]
    );
    assert_eq!(world.closed, [(old, CloseCause::Replaced)]);
    world.pass(secs(1));
    let stats = world.stats();
    assert_eq!(
        (stats.replaced, stats.delivered, stats.queued_bytes),
        (1, 4, 0)
    );
    assert_eq!(world.heard(bob), [""; 0], "nothing was refused or returned");
}

#[test]
fn envelopes_survive_a_row_of_takeovers_in_order() {
    let mut world = World::new(config().on_duplicate(OnDuplicate::Replace));
    let bob = world.join("bob");
    let mut alice = world.join("alice");
    for text in ["1", "2", "3", "4"] {
        world.say(bob, "alice", text);
        alice = world.knock("alice", Admission::Named).unwrap();
    }
    world.settle();
    assert_eq!(
        world.heard(alice),
        ["ping", "bob: 1", "bob: 2", "bob: 3", "bob: 4"]
    );
    assert_eq!(world.closed.len(), 4);
}

#[test]
fn what_an_agent_sends_after_it_was_replaced_goes_nowhere() {
    let mut world = World::new(config().on_duplicate(OnDuplicate::Replace));
    let bob = world.join("bob");
    let old = world.join("alice");
    let new = world.knock("alice", Admission::Named).unwrap();
    assert_eq!(world.say(old, "bob", "stale"), []);
    world.settle();
    assert_eq!(world.heard(bob), [""; 0]);
    assert!(world.hub.holds(new));
}

#[test]
fn a_full_hub_refuses_until_somebody_has_left() {
    let mut world = World::new(config().max_connections(2));
    let alice = world.join("alice");
    world.join("bob");
    assert_eq!(
        world.knock("carol", Admission::Named),
        Err(JoinRefusal::Full)
    );
    assert_eq!(
        JoinRefusal::Full.close(),
        Close::new(CloseCode::TRY_AGAIN_LATER, "relay is full")
    );
    assert_eq!(world.stats().joins_refused_capacity, 1);
    world.give(Input::Closed {
        conn: alice,
        clean: false,
    });
    world.join("carol");
}

#[test]
fn a_full_hub_lets_a_takeover_in_because_it_frees_a_place() {
    let config = config()
        .max_connections(1)
        .on_duplicate(OnDuplicate::Replace);
    let mut world = World::new(config);
    let first = world.join("alice");
    let second = world.knock("alice", Admission::Named).expect("a takeover");
    assert_ne!(first, second);
    assert_eq!((world.stats().connections, world.stats().replaced), (1, 1));
}

/// Every input that names a connection.
fn inputs_for(conn: ConnId) -> Vec<Input> {
    let payload = Bytes::from_static(b"pong");
    let message = support::message("alice", "bob", "late").into();
    vec![
        Input::Received { conn, message },
        Input::Pong { conn, payload },
        Input::Blocked {
            conn,
            progressed: true,
        },
        Input::Ping {
            conn,
            payload: Bytes::new(),
        },
        Input::Partial {
            conn,
            bytes: 0,
            short_fragments: 0,
        },
        Input::Faulty {
            conn,
            fault: Fault::Protocol,
        },
        Input::PeerClosed { conn, close: None },
        Input::Closed { conn, clean: false },
    ]
}

#[test]
fn late_events_of_an_ended_connection_are_counted_and_change_nothing() {
    let mut world = World::open();
    world.join("bob");
    let dead = world.join("alice");
    world.give(Input::Closed {
        conn: dead,
        clean: false,
    });
    for reused in [false, true] {
        if reused {
            let alice = world.join("alice");
            assert_eq!(alice.index(), dead.index(), "the slot is used again");
            assert_ne!(alice, dead);
        }
        for input in inputs_for(dead) {
            let (mut expected, wakeup) = (world.stats(), world.wakeup);
            assert_eq!(world.give(input.clone()), [], "{input:?}");
            expected.late += 1;
            assert_eq!(
                (world.stats(), world.wakeup),
                (expected, wakeup),
                "{input:?}"
            );
        }
        let late = world.stats().late;
        assert_eq!(world.transmit(dead, PLENTY), (vec![], vec![]));
        assert_eq!(world.stats().late, late + 1);
    }
    assert_eq!(world.stats().connections, 2);
}

#[test]
fn a_closing_connection_hears_what_is_left_and_says_nothing_any_more() {
    let mut world = World::open();
    let bob = world.join("bob");
    let alice = world.join("alice");
    world.give(Input::Faulty {
        conn: alice,
        fault: Fault::Protocol,
    });
    for input in inputs_for(alice) {
        let mut expected = world.stats();
        match &input {
            Input::Blocked { .. } | Input::Closed { .. } => continue,
            // It may answer what it heard before.
            Input::Pong { .. } => expected.pongs += 1,
            Input::PeerClosed { .. } => {}
            Input::Register { .. }
            | Input::Received { .. }
            | Input::Ping { .. }
            | Input::Partial { .. }
            | Input::Faulty { .. }
            | Input::Stored { .. }
            | Input::Forwarded { .. }
            | Input::Shutdown => expected.late += 1,
        }
        assert_eq!(world.give(input.clone()), [], "{input:?}");
        assert_eq!(world.stats(), expected, "{input:?}");
    }
    world.settle();
    assert_eq!(world.heard(alice), ["close 1002 WebSocket protocol error"]);
    assert_eq!(world.heard(bob), [""; 0]);
}

#[test]
fn an_address_is_free_as_soon_as_its_connection_is_closing() {
    let mut world = World::open();
    let old = world.join("alice");
    world.give(Input::PeerClosed {
        conn: old,
        close: None,
    });
    let new = world.join("alice");
    // The end of the old one leaves the new one alone.
    world.give(Input::Closed {
        conn: old,
        clean: false,
    });
    assert_eq!(world.hub.lookup(address("alice").as_str()), Some(new));
    assert_eq!(world.closed, [(old, CloseCause::Peer)]);
}

fn limited(world: Config) -> World {
    World::new(world.join_limit(Some(RateLimit::new(2.0, 3).expect("a limit"))))
}

/// Joins and leaves again.
fn visit(world: &mut World, name: &str, send_only: bool) -> Result<(), JoinRefusal> {
    let options = JoinOptions {
        send_only,
        ..JoinOptions::default()
    };
    let conn = world.knock_with(name, Admission::Named, options)?;
    world.give(Input::Closed { conn, clean: false });
    Ok(())
}

#[test]
fn joins_of_an_address_have_a_limit_and_a_refusal_says_when_to_try_again() {
    let mut world = limited(config().queue(QueueConfig::new()));
    let refused = |wait| Err(JoinRefusal::TooManyJoins { retry_after: wait });
    for send_only in [false, true, false] {
        assert_eq!(visit(&mut world, "alice", send_only), Ok(()));
    }
    world.settle();
    for send_only in [false, true] {
        assert_eq!(visit(&mut world, "alice", send_only), refused(millis(500)));
    }
    assert_eq!(world.asked(), [""; 0], "nothing is read for it");
    assert_eq!(visit(&mut world, "bob", false), Ok(()), "nobody else's");
    world.pass(millis(499));
    assert_eq!(visit(&mut world, "alice", false), refused(millis(1)));
    world.pass(millis(1));
    assert_eq!(visit(&mut world, "alice", false), Ok(()));
    assert_eq!(visit(&mut world, "alice", false), refused(millis(500)));
    assert_eq!(world.stats().joins_refused_rate, 4);
    assert_eq!(world.stats().joins_refused_capacity, 0);
    let close = JoinRefusal::TooManyJoins {
        retry_after: Duration::from_micros(1500),
    }
    .close();
    let text = "1013 too many joins of this address; try again in 2 ms";
    assert_eq!(close.to_string(), text);
}

#[test]
fn a_join_that_is_refused_for_another_reason_counts_too() {
    let mut world = limited(config());
    let alice = world.join("alice");
    for _ in 0..2 {
        assert_eq!(
            world.knock("alice", Admission::Named),
            Err(JoinRefusal::AlreadyConnected)
        );
    }
    assert!(matches!(
        world.knock("alice", Admission::Named),
        Err(JoinRefusal::TooManyJoins { .. })
    ));
    world.settle();
    world.say(alice, "alice", "the connection goes on");
    world.settle();
    let heard = world.heard(alice);
    assert_eq!(heard, ["ping", "alice: the connection goes on"]);
}

#[test]
fn what_is_remembered_of_joins_is_bounded_and_forgotten() {
    let mut world = limited(config().max_parked_buckets(2));
    for name in ["a", "b", "c"] {
        visit(&mut world, name, false).unwrap();
    }
    assert_eq!(world.stats().join_buckets, 2);
    world.pass(millis(1499));
    assert_eq!(world.stats().join_buckets, 2);
    world.pass(millis(1));
    assert_eq!(world.stats().join_buckets, 0);
    assert_eq!(world.wakeup, None);
}

#[test]
fn scripts_that_run_a_tool_in_a_loop_stay_below_the_default() {
    let mut world = World::new(Config::new(Host::parse(HOST).unwrap()));
    // Five a second for ten seconds, and then two a second as long as it likes.
    for number in 0..650 {
        assert_eq!(
            visit(&mut world, "alice", number % 2 == 0),
            Ok(()),
            "{number}"
        );
        world.pass(millis(if number < 50 { 200 } else { 500 }));
    }
    // As fast as it can.
    let joined = (0..450).filter(|_| visit(&mut world, "alice", false).is_ok());
    assert!(joined.count() <= 60);
}
