//! The timer, and whoever makes it due earlier.

use core::time::Duration;

use futures_util::FutureExt as _;
use pinch_driver::Relay;
use pinch_driver::proto::hub::QueueConfig;

use crate::agent::{Agent, Heard};
use crate::disk::Disk;
use crate::explore::explore;
use crate::pipe::WIDE;
use crate::runtime::Interleaved;
use crate::scene::{SHARDS, cut, hub, relay};
use crate::task::{block_on, start};

const HEARTBEAT: Duration = Duration::from_secs(25);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
const STORE_TIMEOUT: Duration = Duration::from_secs(10);
/// What is added to each timeout, for a process that was paused.
const GRACE: Duration = Duration::from_millis(500);

/// The relay has nothing to wait for until somebody joins.
#[test]
fn a_join_wakes_the_timer() {
    explore(|| {
        let runtime = Interleaved::new();
        let relay = relay(&runtime).detached().unwrap();
        block_on(async {
            let mut alice = Agent::join(&relay, "alice", WIDE).await;
            runtime.clock.reach(HEARTBEAT).await;
            assert_eq!(alice.next().await, Heard::Ping);
        });
        cut(relay, &runtime);
    });
}

/// The timer sleeps until the heartbeat, or is about to. Who does not read ends with the close
/// timeout, which comes before.
#[test]
fn a_shutdown_makes_the_timer_come_earlier() {
    explore(|| {
        let runtime = Interleaved::new();
        let relay = relay(&runtime).detached().unwrap();
        block_on(async {
            let _silent = Agent::join(&relay, "alice", WIDE).await;
            let mut shutdown = Box::pin(relay.shutdown());
            assert!((&mut shutdown).now_or_never().is_none());
            runtime.clock.reach(CLOSE_TIMEOUT + GRACE).await;
            shutdown.await;
        });
        assert_eq!(relay.stats().tasks, 0);
        cut(relay, &runtime);
    });
}

/// Sends an envelope to somebody who is away, and waits until the relay has read it. A pong would
/// wait for the store.
async fn sent(relay: &Relay<Interleaved>, alice: &mut Agent) {
    alice.send("carol", 0).await;
    while relay.stats().hub.received == 0 {
        shuttle::thread::yield_now();
    }
}

/// A shutdown waits for the answers of the store for as long as anybody does.
#[test]
fn a_shutdown_does_not_wait_for_a_silent_store_for_ever() {
    explore(|| {
        let runtime = Interleaved::new();
        let relay = relay(&runtime).store(Disk::silent()).detached().unwrap();
        block_on(async {
            let mut alice = Agent::join(&relay, "alice", WIDE).await;
            sent(&relay, &mut alice).await;
            let alice = start(async move { alice.read_to_end().await });
            let mut shutdown = Box::pin(relay.shutdown());
            assert!((&mut shutdown).now_or_never().is_none());
            runtime.clock.reach(STORE_TIMEOUT + GRACE).await;
            shutdown.await;
            alice.join().unwrap();
        });
        assert_eq!(relay.stats().tasks, 0);
        cut(relay, &runtime);
    });
}

/// Nor does a relay that was dropped. The hub would wait longer, but then its timer has ended.
#[test]
fn a_cut_does_not_wait_for_a_silent_store_for_ever() {
    explore(|| {
        let runtime = Interleaved::new();
        let queue = QueueConfig::new().answer_timeout(2 * STORE_TIMEOUT);
        let builder = relay(&runtime).hub(hub().queue(queue));
        let relay = builder.store(Disk::silent()).detached().unwrap();
        block_on(async {
            let mut alice = Agent::join(&relay, "alice", WIDE).await;
            sent(&relay, &mut alice).await;
            drop(relay);
            // The timers were spawned first.
            for _ in 0..SHARDS.get() {
                runtime.join_next();
            }
            runtime.clock.reach(STORE_TIMEOUT + GRACE).await;
        });
        runtime.join();
    });
}
