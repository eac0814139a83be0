//! Peers that acknowledge nothing: how long they hold what they were sent, and who gives way when
//! memory is short.

mod support;

use core::time::Duration;

use bytes::Bytes;
use pinch_proto::Frame;
use pinch_proto::hub::{CloseCause, Config, ConnId, Input, QueueConfig, SlowReader};

use support::{GRACE, PLENTY, World, config, message_of, millis, secs};

fn queued() -> Config {
    config().queue(QueueConfig::new()).rate_limit(None)
}

/// An agent that has joined, and whose queue was read.
fn joined(world: &mut World, name: &str) -> ConnId {
    let conn = world.join(name);
    world.settle();
    world.frames(conn);
    conn
}

/// A peer whose socket takes everything: it gets what waits for it, and answers no ping.
fn take(world: &mut World, conn: ConnId) -> Vec<Frame> {
    let mut all = world.write(conn, PLENTY);
    loop {
        let frames = world.write(conn, PLENTY);
        if frames.is_empty() {
            return all;
        }
        all.extend(frames);
    }
}

/// Time goes by with all sockets looked at four times a second; `alive` say something each time.
fn pass(world: &mut World, time: Duration, all: &[ConnId], alive: &[ConnId]) {
    for _ in 0..time.as_millis() / 250 {
        world.now = world.now + millis(250);
        world.tick();
        for conn in alive {
            world.give(Input::Partial {
                conn: *conn,
                bytes: 0,
                short_fragments: 0,
            });
        }
        for conn in all {
            world.write(*conn, PLENTY);
        }
        world.settle_store();
    }
}

/// Answers the last ping among `frames`.
fn pong(world: &mut World, conn: ConnId, frames: &[Frame]) {
    let last = frames.iter().rev().find_map(|frame| match frame {
        Frame::Ping(payload) => Some(payload.clone()),
        Frame::Message(_) | Frame::Pong(_) | Frame::Close(_) => None,
    });
    let payload: Bytes = last.expect("a ping");
    world.give(Input::Pong { conn, payload });
}

#[test]
fn a_peer_that_sends_and_acknowledges_nothing_is_closed_after_the_stall_timeout() {
    let mut world = World::new(queued());
    let (alice, bob) = (joined(&mut world, "alice"), joined(&mut world, "bob"));
    world.say(alice, "bob", "1");
    take(&mut world, bob);
    pass(&mut world, secs(30), &[alice, bob], &[alice, bob]);
    assert_eq!(world.cause(bob), None);
    pass(
        &mut world,
        GRACE + millis(250),
        &[alice, bob],
        &[alice, bob],
    );
    let stats = world.stats();
    assert_eq!((stats.ack_timeouts, stats.heartbeat_timeouts), (1, 0));
    assert!(!world.hub.is_open(bob));
    assert_eq!(world.queued_for("bob"), ["alice: 1"]);
    assert!(world.hub.is_open(alice), "nothing is expected of her");
    world.give(Input::Closed {
        conn: bob,
        clean: false,
    });
    assert_eq!(world.cause(bob), Some(CloseCause::TooSlow));
}

#[test]
fn a_reader_that_pauses_for_10_seconds_is_not_closed() {
    let mut world = World::new(queued());
    let (alice, bob) = (joined(&mut world, "alice"), joined(&mut world, "bob"));
    world.say(alice, "bob", "1");
    let frames = take(&mut world, bob);
    pass(&mut world, secs(10), &[bob], &[alice]);
    pong(&mut world, bob, &frames);
    pass(&mut world, secs(40), &[bob], &[alice, bob]);
    assert!(world.hub.is_open(bob));
    assert_eq!(world.stats().ack_timeouts, 0);
    assert_eq!(world.stats().delivered, 1);
}

#[test]
fn each_ack_gives_a_slow_peer_its_time_anew() {
    let mut world = World::new(queued());
    let (alice, bob) = (joined(&mut world, "alice"), joined(&mut world, "bob"));
    for _ in 0..6 {
        world.receive(alice, message_of("alice", "bob", 40_000));
        world.receive(alice, message_of("alice", "bob", 40_000));
    }
    let frames = take(&mut world, bob);
    let pings: Vec<_> = frames
        .iter()
        .filter(|frame| matches!(frame, Frame::Ping(_)))
        .cloned()
        .collect();
    assert!(pings.len() > 4, "{}", pings.len());
    for ping in pings {
        pass(&mut world, secs(25), &[bob], &[alice, bob]);
        assert!(world.hub.is_open(bob));
        pong(&mut world, bob, &[ping]);
    }
    assert_eq!(world.stats().ack_timeouts, 0);
}

#[test]
fn an_ack_that_was_read_late_counts() {
    let mut world = World::new(queued());
    let (alice, bob) = (joined(&mut world, "alice"), joined(&mut world, "bob"));
    world.say(alice, "bob", "1");
    let frames = take(&mut world, bob);
    while world.tick().is_empty() {
        world.now = world.now + millis(250);
        world.give(Input::Partial {
            conn: bob,
            bytes: 0,
            short_fragments: 0,
        });
    }
    // He is suspected; the driver reads his socket before it says that it is writable.
    pong(&mut world, bob, &frames);
    world.write(bob, PLENTY);
    assert!(world.hub.is_open(bob));
}

/// A hub with memory for some, all of whose shared part is held by agents that acknowledge nothing.
fn hoarded(slow_reader: SlowReader) -> (World, ConnId, Vec<ConnId>) {
    let config = queued()
        .total_outbox_bytes(400_000)
        .outbox_bytes(100_000)
        .envelope_bytes(12_000)
        .slow_reader(slow_reader);
    let mut world = World::new(config);
    let mallory = joined(&mut world, "mallory");
    let hoarders = (0..5)
        .map(|number| joined(&mut world, &format!("hoarder{number}")))
        .collect::<Vec<_>>();
    for round in 0..7 {
        for (number, hoarder) in hoarders.iter().enumerate() {
            // The later ones hold more.
            if round < number + 3 {
                let to = format!("hoarder{number}");
                world.receive(mallory, message_of("mallory", &to, 11_600));
                take(&mut world, *hoarder);
            }
        }
    }
    (world, mallory, hoarders)
}

#[test]
fn where_memory_is_short_the_largest_holder_that_acknowledges_nothing_gives_way() {
    let (mut world, mallory, hoarders) = hoarded(SlowReader::Spill);
    let (alice, bob) = (joined(&mut world, "alice"), joined(&mut world, "bob"));
    let all = [&hoarders[..], &[mallory, alice, bob]].concat();
    pass(&mut world, secs(3), &all, &all);
    assert_eq!(world.stats().memory_closes, 0, "nobody needs it");
    // Bob holds something, little, and has acknowledged nothing either.
    for _ in 0..3 {
        world.receive(alice, message_of("alice", "bob", 10_000));
    }
    take(&mut world, bob);
    pass(&mut world, secs(3), &all, &all);
    for _ in 0..3 {
        world.receive(alice, message_of("alice", "bob", 10_000));
    }
    let stats = world.stats();
    assert!(stats.memory_closes > 0);
    assert!(!world.hub.is_open(hoarders[4]), "the largest goes first");
    assert!(world.hub.is_open(hoarders[0]) && world.hub.is_open(bob));
    assert_eq!(
        take(&mut world, bob).len(),
        3,
        "he gets what is sent to him"
    );
}

#[test]
fn nobody_gives_way_who_has_had_no_time_to_acknowledge() {
    let (mut world, mallory, hoarders) = hoarded(SlowReader::Refuse);
    for _ in 0..10 {
        world.receive(mallory, message_of("mallory", "hoarder4", 10_000));
    }
    assert_eq!(world.stats().memory_closes, 0);
    assert!(hoarders.iter().all(|hoarder| world.hub.is_open(*hoarder)));
}

#[test]
fn a_reader_that_drips_gives_way_too() {
    let (mut world, mallory, hoarders) = hoarded(SlowReader::Spill);
    // Their sockets take a little again and again, and they acknowledge nothing of it.
    for hoarder in &hoarders {
        world.receive(mallory, message_of("mallory", "hoarder0", 100));
        world.write(*hoarder, 1);
    }
    for _ in 0..12 {
        world.now = world.now + millis(250);
        world.tick();
        for hoarder in &hoarders {
            let conn = *hoarder;
            world.give(Input::Blocked {
                conn,
                progressed: true,
            });
        }
        world.settle_store();
    }
    let (alice, bob) = (joined(&mut world, "alice"), joined(&mut world, "bob"));
    for _ in 0..4 {
        world.receive(alice, message_of("alice", "bob", 10_000));
        world.write(bob, PLENTY);
    }
    assert!(world.stats().memory_closes > 0);
}

#[test]
fn what_closed_connections_give_back_counts_until_the_store_has_it() {
    let config = queued().total_outbox_bytes(400_000);
    let config = config.queue(QueueConfig::new().unanswered_bytes(100_000));
    let mut world = World::new(config.envelope_bytes(12_000).outbox_bytes(100_000));
    let mallory = joined(&mut world, "mallory");
    let names: Vec<_> = (0..6).map(|number| format!("hoarder{number}")).collect();
    let hoarders: Vec<_> = names.iter().map(|name| joined(&mut world, name)).collect();
    // From here on the store answers nothing.
    for (name, hoarder) in names.iter().zip(hoarders) {
        for _ in 0..7 {
            world.receive(mallory, message_of("mallory", name, 11_600));
        }
        world.give(Input::Closed {
            conn: hoarder,
            clean: false,
        });
    }
    let stats = world.stats();
    assert!(stats.storing > 20, "{stats:?}");
    assert!(stats.unstored_bytes + 100_000 >= stats.storing * 11_600);
    assert_eq!(stats.held_bytes, 0);
    assert!(stats.is_memory_short());
    while let Some(request) = world.store.asked.pop_front() {
        let outcome = world.store.queue.execute(request.operation);
        let ticket = request.ticket;
        world.give(Input::Stored { ticket, outcome });
    }
    assert_eq!(world.stats().unstored_bytes, 0);
}
