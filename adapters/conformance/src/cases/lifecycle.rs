//! Beginnings and ends: many that join and leave in every way at once, the relay's own shutdown, and
//! what happens when it is dropped.

use core::time::Duration;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use async_io::Async;
use futures_lite::future::zip;
use futures_util::future::join_all;
use pinch_driver::Auth;

use crate::envelopes::{address, decode, key, key_address, message, number};
use crate::harness::nothing_is_held;
use crate::peer::{Heard, Peer};
use crate::raw::{BINARY, PONG, Raw, answer};
use crate::relays::{bind, challenge, config, connect, emptied, open};
use crate::starter::{Running, Starter};
use crate::wait::{LIMIT, eventually, is_pending, millis, soon};

fn going_away() -> Heard {
    Heard::close(1001, "going away")
}

pub(crate) async fn hundreds_join_and_leave_at_once<S: Starter>(starter: &S) {
    let relay = &open(starter, config()).await;
    for round in 0..2 {
        let mut peers = Vec::new();
        for n in 0..300 {
            peers.push(async move {
                let mut peer = Peer::named(relay, &format!("peer{n}")).await;
                let next = address(&format!("peer{}", (n + 1) % 300));
                // The next one may be there or not.
                peer.send(message(&peer.address, &next, 1, 500)).await;
                peer.send(message(&peer.address, &peer.address, 2, 500))
                    .await;
                while decode(&peer.envelope().await).to_address != peer.address.as_str() {}
                match (n + round) % 3 {
                    0 => peer.reset(),
                    1 => drop(peer),
                    _ => peer.say_goodbye().await,
                }
            });
        }
        soon("the end of all", join_all(peers)).await;
        emptied(relay).await;
        assert_eq!(relay.stats().hub.registered, 300 * (round + 1));
    }
}

pub(crate) async fn a_relay_listens_on_a_socket_that_listens_already<S: Starter>(starter: &S) {
    // It blocks, and one connection waits already.
    let listener = TcpListener::bind("127.0.0.1:0").expect("it listens");
    let addr = listener.local_addr().expect("it listens");
    let early = TcpStream::connect(addr).expect("it waits");
    let relay = starter.builder().hub(config()).auth(Auth::Open);
    let relay = starter.listen_on(relay, listener).expect("it listens");
    assert_eq!(relay.local_addr(), Some(addr));
    let mut alice = Peer::named(&relay, "alice").await;
    let mut bob = Peer::named(&relay, "bob").await;
    alice
        .send(message(&alice.address, &bob.address, 1, 500))
        .await;
    assert_eq!(number(&decode(&bob.envelope().await)), 1);
    eventually("all are accepted", || {
        relay.stats().tasks == relay.idle_tasks() + 3
    })
    .await;
    drop((early, alice, bob));
    emptied(&relay).await;
    relay.shutdown().await;
    assert!(TcpStream::connect(addr).is_err(), "nobody listens");
}

pub(crate) async fn a_shutdown_delivers_what_is_buffered_and_says_going_away<S: Starter>(
    starter: &S,
) {
    let relay = challenge(starter, config().join_timeout(LIMIT)).await;
    let mut bob = Peer::proven(&relay, 2).await;
    let (mut alice, challenge) = Raw::challenged(&relay).await;
    alice
        .send(BINARY, &answer(&challenge, &key(1), |_| ()))
        .await;
    alice.envelope().await;
    alice.ping().await;
    for number in 0..50 {
        let to = key_address(1);
        bob.send(message(&bob.address, &to, number, 10_000)).await;
    }
    eventually("they wait", || relay.stats().hub.queued == 50).await;

    let everybody = async {
        for expected in 0..50 {
            assert_eq!(number(&decode(&alice.envelope().await)), expected);
        }
        alice.answer_ping().await;
        assert_eq!(alice.hear().await, going_away());
        alice.answer_close().await;
        assert_eq!(bob.closed().await, going_away());
    };
    let ends = zip(relay.shutdown(), everybody);
    soon("the end of both", ends).await;
    let stats = relay.stats();
    assert_eq!((stats.tasks, stats.pending), (0, 0));
    assert_eq!((stats.hub.connections, stats.hub.closing), (0, 0));
    assert_eq!((stats.hub.delivered, stats.hub.returned), (50, 0));
    nothing_is_held(starter).await;
}

pub(crate) async fn a_shutdown_reaches_hundreds<S: Starter>(starter: &S) {
    let relay = open(starter, config()).await;
    let mut peers = Vec::new();
    for n in 0..300 {
        peers.push(Peer::named(&relay, &format!("peer{n}")).await);
    }
    let told = async {
        for peer in &mut peers {
            assert_eq!(peer.closed().await, going_away());
        }
    };
    soon("the end of both", zip(relay.shutdown(), told)).await;
    assert_eq!(relay.stats().tasks, 0);
}

pub(crate) async fn a_shutdown_waits_for_the_silent_as_long_as_the_close_timeout<S: Starter>(
    starter: &S,
) {
    let relay = open(starter, config().close_timeout(millis(1000))).await;
    let mut silent = Raw::named(&relay, "silent").await;
    let begin = Instant::now();
    soon("the shutdown", relay.shutdown()).await;
    assert!(begin.elapsed() >= millis(1000));
    assert_eq!(relay.stats().tasks, 0);
    assert_eq!(silent.rest().await, [going_away()]);
}

pub(crate) async fn a_shutdown_tells_pending_handshakes<S: Starter>(starter: &S) {
    let relay = challenge(starter, config()).await;
    let mut silent = Raw::connect(&relay).await;
    let mut halfway = Raw::connect(&relay).await;
    halfway.write(b"GET /ws HTTP/1.1\r\nHost: ").await;
    let (mut challenged, _) = Raw::challenged(&relay).await;
    eventually("all are joining", || relay.stats().pending == 3).await;
    let told = async {
        for raw in [&mut silent, &mut halfway] {
            assert_eq!(raw.response().await.status, 503);
        }
        assert_eq!(challenged.hear().await, going_away());
        drop((silent, halfway, challenged));
    };
    soon("the end of both", zip(relay.shutdown(), told)).await;
    let stats = relay.stats();
    assert_eq!((stats.tasks, stats.pending), (0, 0));
}

pub(crate) async fn a_shutdown_does_not_wait_for_pending_handshakes_that_stay<S: Starter>(
    starter: &S,
) {
    let relay = challenge(starter, config()).await;
    let mut silent = Raw::connect(&relay).await;
    let (mut challenged, _) = Raw::challenged(&relay).await;
    eventually("both are joining", || relay.stats().pending == 2).await;
    soon("the shutdown", relay.shutdown()).await;
    assert_eq!(silent.response().await.status, 503);
    assert_eq!(challenged.rest().await, [going_away()]);
}

pub(crate) async fn a_shutdown_tells_connections_that_are_not_accepted_yet<S: Starter>(
    starter: &S,
) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("it listens");
    let addr = listener.local_addr().expect("it listens");
    let mut waiting = Vec::new();
    for _ in 0..20 {
        let stream = Async::<TcpStream>::connect(addr).await.expect("it waits");
        waiting.push(Raw::new(stream));
    }
    let relay = starter.listen_on(starter.builder().hub(config()), listener);
    let relay = relay.expect("it listens");
    let told = async {
        for mut raw in waiting {
            assert_eq!(raw.response().await.status, 503);
        }
    };
    soon("the end of both", zip(relay.shutdown(), told)).await;
}

pub(crate) async fn a_shutdown_that_is_cancelled_goes_on_and_can_be_awaited_again<S: Starter>(
    starter: &S,
) {
    let relay = open(starter, config()).await;
    let mut alice = Raw::named(&relay, "alice").await;
    assert!(is_pending(relay.shutdown()));
    assert!(is_pending(relay.shutdown()));
    assert_eq!(alice.hear().await, going_away());
    assert!(is_pending(relay.shutdown()), "alice has not answered");
    alice.answer_close().await;
    soon("the shutdown", relay.shutdown()).await;
    soon("the shutdown, again", relay.shutdown()).await;
    assert_eq!(relay.stats().tasks, 0);
}

pub(crate) async fn a_shutdown_that_nobody_awaits_goes_on<S: Starter>(starter: &S) {
    let relay = open(starter, config()).await;
    let mut alice = Raw::named(&relay, "alice").await;
    assert!(is_pending(relay.shutdown()));
    assert_eq!(alice.hear().await, going_away());
    alice.answer_close().await;
    eventually("its end", || relay.stats().tasks == 0).await;
}

pub(crate) async fn a_relay_without_connections_shuts_down_at_once<S: Starter>(starter: &S) {
    let begin = Instant::now();
    let relay = open(starter, config()).await;
    soon("the shutdown", relay.shutdown()).await;
    assert!(begin.elapsed() < Duration::from_secs(5));
    nothing_is_held(starter).await;
}

pub(crate) async fn a_dropped_relay_cuts_everything<S: Starter>(starter: &S) {
    let relay = challenge(starter, config().join_timeout(LIMIT)).await;
    let addr = relay.local_addr().expect("it listens");
    let mut peer = Peer::proven(&relay, 1).await;
    let mut mute = Raw::connect(&relay).await;
    let (mut challenged, challenge) = Raw::challenged(&relay).await;
    let (mut silent, _) = Raw::challenged(&relay).await;
    challenged
        .send(BINARY, &answer(&challenge, &key(2), |_| ()))
        .await;
    challenged.envelope().await;
    challenged.ping().await;
    assert!(relay.stats().tasks >= relay.idle_tasks() + 4);
    drop(relay);
    nothing_is_held(starter).await;
    assert_eq!(peer.next().await, Heard::End);
    for raw in [&mut mute, &mut challenged, &mut silent] {
        assert_eq!(raw.hear().await, Heard::End);
    }
    assert!(
        soon("an answer", Async::<TcpStream>::connect(addr))
            .await
            .is_err()
    );
}

pub(crate) async fn a_relay_can_be_dropped_in_the_middle_of_its_shutdown<S: Starter>(starter: &S) {
    let relay = open(starter, config()).await;
    let mut alice = Raw::named(&relay, "alice").await;
    assert!(is_pending(relay.shutdown()));
    drop(relay);
    nothing_is_held(starter).await;
    let rest = alice.rest().await;
    assert!(rest.is_empty() || rest == [going_away()], "{rest:?}");
}

pub(crate) async fn a_bind_that_fails_or_is_cancelled_leaves_nothing<S: Starter>(starter: &S) {
    let relay = open(starter, config()).await;
    let taken = relay.local_addr().expect("it listens");
    let error = starter.bind(starter.builder(), taken).await;
    let error = error.expect_err("it is taken");
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot listen on {taken}: ")),
        "{error}"
    );
    let free = ([127, 0, 0, 1], 0).into();
    let zero = config().close_timeout(Duration::ZERO);
    let error = starter.bind(starter.builder().hub(zero), free).await;
    let error = error.expect_err("the settings do not fit").to_string();
    assert_eq!(
        error,
        "invalid settings: close timeout is 0, expected at least 1"
    );
    drop(relay);
    nothing_is_held(starter).await;
}

pub(crate) async fn who_comes_while_others_leave_is_served<S: Starter>(starter: &S) {
    let relay = bind(starter, starter.builder().hub(config()).auth_timeout(LIMIT)).await;
    for _ in 0..50 {
        let leaving = Raw::connect(&relay).await;
        let mut coming = Raw::connect(&relay).await;
        leaving.reset();
        coming.upgrade("/ws").await;
        let challenge = coming.challenge().await;
        coming
            .send(BINARY, &answer(&challenge, &key(1), |_| ()))
            .await;
        coming.envelope().await;
        let ping = coming.ping().await;
        coming.send(PONG, &ping).await;
        coming.reset();
        eventually("it is gone", || relay.stats().hub.connections == 0).await;
    }
    drop(connect(&relay).await);
    emptied(&relay).await;
}

pub(crate) async fn a_relay_that_is_dropped_in_the_middle_of_traffic_leaves_nothing<S: Starter>(
    starter: &S,
) {
    for _ in 0..40 {
        let relay = open(starter, config()).await;
        let mut threads = Vec::new();
        for n in 0..8 {
            let mut peer = Peer::named(&relay, &format!("peer{n}")).await;
            // Each writes to itself as fast as it hears itself, and does nothing when it is cut:
            // nothing that it does can wake what has been forgotten.
            let talking = async move {
                let said = message(&peer.address, &peer.address, 1, 9);
                while peer.try_send(said.clone()).await.is_ok() {
                    if peer.next().await == Heard::End {
                        break;
                    }
                }
                peer
            };
            threads.push(thread::spawn(|| async_io::block_on(talking)));
        }
        drop(relay);
        nothing_is_held(starter).await;
        for thread in threads {
            thread.join().expect("no panic");
        }
    }
}
