//! What shows only from outside of a relay: the descriptors of the process, the port when the relay
//! is gone, and the end of the whole runtime. These tests run one after the other.

mod support;

use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pinch_tokio::{Auth, Relay};
use support::raw::Raw;
use support::{
    Heard, IDLE_TASKS, Peer, bind, challenge, config, emptied, eventually, message, open, soon,
};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};

fn one_at_a_time() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `test` in a runtime of its own, once on one thread and once on four.
fn on_both_flavours(test: impl AsyncFn()) {
    let _turn = one_at_a_time();
    for mut builder in [Builder::new_current_thread(), Builder::new_multi_thread()] {
        let runtime = builder.worker_threads(4).enable_all().build();
        runtime.expect("a runtime").block_on(test());
    }
}

#[cfg(target_os = "linux")]
fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd")
        .expect("a proc file system")
        .count()
}

#[cfg(not(target_os = "linux"))]
fn open_files() -> usize {
    0
}

#[test]
fn two_hundred_that_vanish_leave_no_connection_no_task_and_no_descriptor() {
    on_both_flavours(async || {
        let relay = open(config()).await;
        // The first connection may make the runtime or the system open something for good.
        Peer::named(&relay, "first").await.leave().await;
        emptied(&relay).await;
        let files = open_files();
        for reset in [true, false] {
            let mut peers = Vec::new();
            for n in 0..200 {
                peers.push(Peer::named(&relay, &format!("peer{n}")).await);
            }
            for n in 0..199 {
                // What they have sent and not read does not hold them either.
                let to = peers[n + 1].address.clone();
                let said = message(&peers[n].address, &to, 1, 1000);
                peers[n].send(said).await;
            }
            assert_eq!(relay.stats().hub.connections, 200);
            assert_eq!(relay.stats().tasks, IDLE_TASKS + 200);
            if reset {
                peers.into_iter().for_each(Peer::reset);
            } else {
                drop(peers);
            }
            emptied(&relay).await;
            eventually("the descriptors are closed", || open_files() == files).await;
        }
    });
}

#[test]
fn those_that_vanish_before_they_joined_leave_nothing_either() {
    on_both_flavours(async || {
        let relay = challenge(config()).await;
        drop(Raw::challenged(&relay).await);
        emptied(&relay).await;
        let files = open_files();
        for n in 0..100 {
            let (challenged, _) = Raw::challenged(&relay).await;
            let mut mute = Raw::connect(&relay).await;
            mute.write(b"GET /ws HTTP/1.1\r\n").await;
            if n % 2 == 0 {
                challenged.reset();
                mute.reset();
            }
        }
        emptied(&relay).await;
        eventually("the descriptors are closed", || open_files() == files).await;
    });
}

#[test]
fn a_relay_that_has_shut_down_or_was_dropped_leaves_no_descriptor_and_no_listener() {
    on_both_flavours(async || {
        let files = open_files();
        for shuts_down in [true, false] {
            let relay = open(config()).await;
            let addr = relay.local_addr().expect("it listens");
            let mut alice = Peer::named(&relay, "alice").await;
            if shuts_down {
                let end = async { tokio::join!(relay.shutdown(), alice.closed()) };
                soon("the end of both", end).await;
            }
            drop(relay);
            let metrics = Handle::current().metrics();
            eventually("no task is left", || metrics.num_alive_tasks() == 0).await;
            let refused = soon("an answer", TcpStream::connect(addr)).await;
            assert!(refused.is_err(), "somebody listens at {addr}");
            drop(alice);
            eventually("the descriptors are closed", || open_files() == files).await;
        }
    });
}

#[test]
fn a_runtime_that_ends_before_its_relay_ends_its_connections_without_a_panic() {
    static PANICS: AtomicUsize = AtomicUsize::new(0);

    let _turn = one_at_a_time();
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        report(info);
    }));
    let peers = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    for mut builder in [Builder::new_current_thread(), Builder::new_multi_thread()] {
        let runtime = builder
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let relay = runtime.block_on(bind(Relay::builder().hub(config()).auth(Auth::Open)));
        // A runtime on one thread stands still unless somebody drives it.
        let join = async {
            (
                Peer::named(&relay, "alice").await,
                Raw::connect(&relay).await,
            )
        };
        let (alice, mute) = runtime.block_on(async {
            let joined = join.await;
            eventually("both are there", || relay.stats().tasks == IDLE_TASKS + 2).await;
            joined
        });
        let (alice, mute) = (alice.into_std(), mute.stream.into_std().expect("a socket"));
        drop(runtime);
        peers.block_on(async {
            for socket in [alice, mute] {
                let stream = TcpStream::from_std(socket).expect("a socket");
                assert_eq!(Raw::new(stream).hear().await, Heard::End);
            }
        });
        assert_eq!(relay.stats().tasks, 0);
        drop(relay);
    }
    assert_eq!(PANICS.load(Ordering::Relaxed), 0);
}

#[test]
fn a_relay_that_is_dropped_in_the_middle_of_traffic_leaves_no_task() {
    let _turn = one_at_a_time();
    let many = || {
        Builder::new_multi_thread()
            .worker_threads(4)
            .enable_all()
            .build()
    };
    let (relays, peers) = (many().expect("a runtime"), many().expect("a runtime"));
    for _ in 0..40 {
        let relay = relays.block_on(open(config()));
        let mut listening = Vec::new();
        for n in 0..8 {
            let mut peer = peers.block_on(Peer::named(&relay, &format!("peer{n}")));
            // Each writes to itself as fast as it hears itself, and does nothing when it is cut:
            // nothing that it does can wake what has been forgotten.
            listening.push(peers.spawn(async move {
                let said = message(&peer.address, &peer.address, 1, 9);
                while peer.try_send(said.clone()).await.is_ok() {
                    if peer.next().await == Heard::End {
                        break;
                    }
                }
                peer
            }));
        }
        drop(relay);
        let metrics = relays.metrics();
        relays.block_on(eventually("no task is left", || {
            metrics.num_alive_tasks() == 0
        }));
        for peer in listening {
            peers
                .block_on(soon("a peer's end", peer))
                .expect("no panic");
        }
    }
}
