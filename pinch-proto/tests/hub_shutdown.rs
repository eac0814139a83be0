//! The end of a relay: everybody hears what is buffered and then `going away`, within a deadline,
//! and nothing is left of any connection.

mod support;

use pinch_proto::hub::{
    Admission, CloseCause, ConnId, Fault, Input, JoinRefusal, OnDuplicate, Output, WakeupReason,
};
use pinch_proto::{Close, CloseCode};

use support::{
    GRACE, Manner, NANO, PLENTY, World, address, config, lines_with_probes, looks, secs,
};

#[test]
fn everybody_hears_what_is_buffered_and_then_going_away() {
    let mut world = World::open();
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let joining = world.knock("carol", Admission::Proven).unwrap();
    world.say(alice, "bob", "1");
    world.say(alice, "carol", "2");
    world.say(alice, "nobody", "3");
    assert_eq!(
        world.give(Input::Shutdown),
        [],
        "all of them are awake already"
    );

    world.settle();
    let offline = "QUEUE_FULL nobody #3: recipient is offline and no queue is configured";
    assert_eq!(world.heard(alice), [offline, "close 1001 going away"]);
    assert_eq!(
        lines_with_probes(&world.frames(bob)),
        ["alice: 1", "ping", "close 1001 going away"]
    );
    assert_eq!(
        lines_with_probes(&world.frames(joining)),
        [
            "AUTH_RESULT true carol",
            "alice: 2",
            "ping",
            "close 1001 going away"
        ]
    );
    assert_eq!(world.closed.len(), 3);
    assert!(
        world
            .closed
            .iter()
            .all(|closed| closed.1 == CloseCause::GoingAway)
    );
    assert_eq!(world.shut_down, 1);
    assert_eq!(world.wakeup, None);
}

#[test]
fn a_goodbye_does_not_wait_for_confirmations() {
    for config in [config().unconfirmed_count(1), config().unconfirmed_bytes(1)] {
        let mut world = World::new(config);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        world.set(bob, Manner::Silent);
        for text in ["1", "2", "3"] {
            world.say(alice, "bob", text);
        }
        world.settle();
        assert_eq!(lines_with_probes(&world.frames(bob)), ["alice: 1", "ping"]);
        world.give(Input::Shutdown);
        world.settle();
        let rest = ["alice: 2", "alice: 3", "ping", "close 1001 going away"];
        assert_eq!(lines_with_probes(&world.frames(bob)), rest);
    }
}

#[test]
fn sleeping_connections_are_woken_for_it() {
    let mut world = World::open();
    let conns = [world.join("alice"), world.join("bob")];
    assert_eq!(
        world.give(Input::Shutdown),
        conns.map(|conn| Output::Wake { conn })
    );
}

#[test]
fn the_end_is_said_once_and_after_the_last_connection_has_ended() {
    let mut world = World::open();
    let conns = [world.join("alice"), world.join("bob")];
    world.give(Input::Shutdown);
    world.give(Input::Closed {
        conn: conns[0],
        clean: false,
    });
    assert_eq!(world.shut_down, 0);
    let outputs = world.give(Input::Closed {
        conn: conns[1],
        clean: false,
    });
    let cause = CloseCause::GoingAway;
    let closed = Output::Closed {
        conn: conns[1],
        address: address("bob"),
        cause,
    };
    assert_eq!(outputs, [closed, Output::ShutDown]);

    assert_eq!(world.give(Input::Shutdown), []);
    world.pass(secs(100));
    assert_eq!(world.shut_down, 1);
}

#[test]
fn without_connections_it_is_immediate() {
    let mut world = World::open();
    assert_eq!(world.give(Input::Shutdown), [Output::ShutDown]);
    assert_eq!(world.wakeup, None);
}

#[test]
fn peers_that_do_not_answer_are_given_five_seconds() {
    let mut world = World::open();
    let (silent, blocked) = (world.join("silent"), world.join("blocked"));
    world.set(silent, Manner::Silent);
    world.set(blocked, Manner::Blocked);
    world.say(silent, "blocked", "unread");
    world.settle();
    world.give(Input::Shutdown);
    assert_eq!(world.wakeup, looks(world.now, WakeupReason::Close));
    world.pass(secs(5) + GRACE - NANO);
    assert_eq!((world.closed.len(), world.shut_down), (0, 0));
    world.pass(NANO);
    assert_eq!((world.closed.len(), world.shut_down), (2, 1));
}

#[test]
fn it_waits_for_connections_that_were_closing_already() {
    let mut world = World::open();
    let alice = world.join("alice");
    world.give(Input::Faulty {
        conn: alice,
        fault: Fault::Text,
    });
    assert_eq!(world.give(Input::Shutdown), []);
    world.settle();
    assert_eq!(
        world.heard(alice),
        ["close 1003 text message, expected a binary one"]
    );
    assert_eq!(world.shut_down, 1);
}

#[test]
fn nobody_is_admitted_any_more() {
    for duplicates in [OnDuplicate::Refuse, OnDuplicate::Replace] {
        let mut world = World::new(config().on_duplicate(duplicates));
        let alice = world.join("alice");
        world.set(alice, Manner::Silent);
        world.give(Input::Shutdown);
        for name in ["alice", "bob"] {
            assert_eq!(
                world.knock(name, Admission::Proven),
                Err(JoinRefusal::ShuttingDown)
            );
        }
        world.pass(secs(5) + GRACE);
        assert_eq!(world.shut_down, 1);
        assert_eq!(
            world.knock("bob", Admission::Proven),
            Err(JoinRefusal::ShuttingDown)
        );
        assert_eq!(world.stats().joins_refused_capacity, 3);
    }
    let close = JoinRefusal::ShuttingDown.close();
    assert_eq!(close, Close::new(CloseCode::GOING_AWAY, "going away"));
}

#[test]
fn what_is_sent_during_it_goes_nowhere() {
    let mut world = World::open();
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.give(Input::Shutdown);
    assert_eq!(world.say(alice, "bob", "too late"), []);
    world.settle();
    assert_eq!(world.heard(bob), ["close 1001 going away"]);
    assert_eq!(world.stats().late, 1);
}

#[test]
fn nothing_is_left_of_any_connection() {
    let mut world = World::open();
    let agents: Vec<(String, ConnId)> = (0..50)
        .map(|n| format!("agent{n}"))
        .map(|name| (name.clone(), world.join(&name)))
        .collect();
    for (index, (_, conn)) in agents.iter().enumerate() {
        let manner = [Manner::Honest, Manner::Silent, Manner::Blocked][index % 3];
        world.set(*conn, manner);
        for (to, _) in &agents {
            world.say(*conn, to, "x");
        }
        // One frame at a time: outboxes are left half full.
        world.write(*conn, 1);
    }
    world.give(Input::Shutdown);
    world.pass(secs(60));
    let stats = world.stats();
    let held = [
        stats.connections,
        stats.closing,
        stats.queued,
        stats.queued_bytes,
        stats.in_flight,
    ];
    assert_eq!(held, [0; 5]);
    assert_eq!(stats.accepted, 2500);
    assert_eq!(stats.delivered + stats.returned + stats.unconfirmed, 2500);
    assert_eq!((stats.closed, world.shut_down, world.wakeup), (50, 1, None));
    for (name, conn) in agents {
        assert!(!world.hub.holds(conn));
        assert_eq!(world.hub.lookup(address(&name).as_str()), None);
        assert_eq!(world.transmit(conn, PLENTY), (vec![], vec![]));
    }
}
