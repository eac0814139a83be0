//! What shows only in the process as a whole: its descriptors, its memory, a port when the relay is
//! gone, and the end of the runtime. These cases run one after the other.

use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_io::Async;
use futures_lite::future::zip;
use futures_util::future::join_all;
use peak_alloc::PeakAlloc;

use crate::churn::{Agent, Census};
use crate::envelopes::message;
use crate::harness::{Harness, RelayHarness, nothing_is_held, run};
use crate::peer::{Heard, Peer};
use crate::raw::Raw;
use crate::relays::{challenge, config, connect, emptied, open};
use crate::starter::Running as _;
use crate::tracked::Tracked;
use crate::wait::{eventually, soon};

fn one_at_a_time() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Waits until no more descriptors are open than before; a runtime that ended earlier may still have
/// had some then.
async fn only_these_are_open(files: usize) {
    eventually("the descriptors are closed", || open_files() <= files).await;
}

pub(crate) fn two_hundred_that_vanish_leave_no_connection_no_task_and_no_descriptor<
    H: RelayHarness,
>() {
    let _turn = one_at_a_time();
    run::<H>(async |starter| {
        let relay = open(starter, config()).await;
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
            assert_eq!(relay.stats().tasks, relay.idle_tasks() + 200);
            if reset {
                peers.into_iter().for_each(Peer::reset);
            } else {
                drop(peers);
            }
            emptied(&relay).await;
            only_these_are_open(files).await;
        }
    });
}

pub(crate) fn those_that_vanish_before_they_joined_leave_nothing_either<H: RelayHarness>() {
    let _turn = one_at_a_time();
    run::<H>(async |starter| {
        let relay = challenge(starter, config()).await;
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
        only_these_are_open(files).await;
    });
}

pub(crate) fn a_relay_that_has_shut_down_or_was_dropped_leaves_no_descriptor_and_no_listener<
    H: RelayHarness,
>() {
    let _turn = one_at_a_time();
    run::<H>(async |starter| {
        // The first connection may make the runtime or the system open something for good.
        let first = open(starter, config()).await;
        drop((connect(&first).await, first));
        nothing_is_held(starter).await;
        let files = open_files();
        for shuts_down in [true, false] {
            let relay = open(starter, config()).await;
            let addr = relay.local_addr().expect("it listens");
            let mut alice = Peer::named(&relay, "alice").await;
            if shuts_down {
                soon("the end of both", zip(relay.shutdown(), alice.closed())).await;
            }
            drop(relay);
            nothing_is_held(starter).await;
            let refused = soon("an answer", Async::<TcpStream>::connect(addr)).await;
            assert!(refused.is_err(), "somebody listens at {addr}");
            drop((alice, refused));
            only_these_are_open(files).await;
        }
    });
}

pub(crate) fn thousands_of_random_lives_and_deaths_leave_nothing<H: RelayHarness>() {
    const AGENTS: u64 = 32;
    const LIVES: u64 = 64;

    let _turn = one_at_a_time();
    run::<H>(async |starter| {
        let relay = open(starter, config()).await;
        let mut after_each_round = Vec::new();
        for round in 0..8 {
            let agents = (0..AGENTS).map(|n| Agent::new(round * AGENTS + n).live(&relay, LIVES));
            let census: Census = join_all(agents).await.into_iter().sum();
            emptied(&relay).await;
            assert_eq!(census.lives, AGENTS * LIVES);
            assert!(relay.stats().hub.registered >= census.joined, "{census:?}");
            after_each_round.push((open_files(), PeakAlloc.current_usage()));
        }
        // The least of three, for the runtime itself may hold something now and then.
        let least = |rounds: Range<usize>| after_each_round[rounds].iter().copied().min();
        let (early, late) = (least(1..4).expect("three"), least(5..8).expect("three"));
        assert_eq!(early.0, late.0, "descriptors: {after_each_round:?}");
        // What a life leaves would be a task, a buffer, an entry: more than 16 bytes. Less than that
        // is what a thread of the runtime keeps that has done its first work just now.
        let grown = late.1.saturating_sub(early.1) as u64;
        let lives = 4 * AGENTS * LIVES;
        assert!(grown < 16 * lives, "bytes: {after_each_round:?}");
    });
}

pub(crate) fn a_runtime_that_ends_before_its_relay_ends_its_connections_without_a_panic<
    H: Harness,
>() {
    static PANICS: AtomicUsize = AtomicUsize::new(0);

    let _turn = one_at_a_time();
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        report(info);
    }));
    let (relay, mut alice, mut mute) = H::run(async |runtime| {
        let runtime = Tracked::new(runtime);
        let relay = open(&runtime, config()).await;
        let alice = Peer::named(&relay, "alice").await;
        let mute = Raw::connect(&relay).await;
        eventually("both are there", || {
            relay.stats().tasks == relay.idle_tasks() + 2
        })
        .await;
        (relay, alice, mute)
    });
    async_io::block_on(async {
        if !H::ENDS {
            // The runtime is the process's own: they live on, until the relay is dropped.
            let said = message(&alice.address, &alice.address, 1, 9);
            alice.send(said.clone()).await;
            assert_eq!(alice.envelope().await, said);
            assert_eq!(relay.stats().tasks, relay.idle_tasks() + 2);
            drop(relay);
        } else {
            assert_eq!(relay.stats().tasks, 0);
            assert_eq!(relay.stats().hub.connections, 0);
            soon("a shutdown that has nothing to do", relay.shutdown()).await;
        }
        assert_eq!(alice.next().await, Heard::End);
        assert_eq!(mute.hear().await, Heard::End);
    });
    assert_eq!(PANICS.load(Ordering::Relaxed), 0);
}
