//! A runtime whose threads are held up by others: nobody is cut for what the relay did not look at.

use core::time::Duration;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use futures_util::future::join_all;
use pinch_driver::Runtime;

use crate::envelopes::{address, message};
use crate::peer::Peer;
use crate::relays::{config, emptied, open};
use crate::starter::Running as _;
use crate::tracked::Tracked;
use crate::wait::{eventually, millis};

const PEERS: usize = 20;

/// So long that a busy machine does not hold up the peers themselves for as long.
const PONG_TIMEOUT: Duration = millis(2500);

/// Longer than a pong may take.
const HELD_UP: Duration = millis(2800);

pub(crate) async fn a_blocked_thread_cuts_nobody_who_answers<R: Runtime>(runtime: &Tracked<R>) {
    held_up(runtime, 1).await;
}

pub(crate) async fn many_blocked_threads_cut_nobody_who_answers<R: Runtime>(runtime: &Tracked<R>) {
    held_up(runtime, 4).await;
}

/// Holds up as many threads of the runtime, or all that it has, while peers answer pings in a thread
/// that is not the runtime's.
async fn held_up<R: Runtime>(runtime: &Tracked<R>, threads: usize) {
    let config = config()
        .heartbeat_interval(millis(20))
        .pong_timeout(PONG_TIMEOUT);
    let relay = Arc::new(open(runtime, config).await);
    let answering = {
        let relay = Arc::clone(&relay);
        thread::spawn(move || {
            // Each answers pings from its join on, until an envelope comes.
            let answer = async |n: usize| {
                let mut peer = Peer::named(&relay, &format!("peer{n}")).await;
                let said = peer.envelope().await;
                (peer, said)
            };
            async_io::block_on(join_all((0..PEERS).map(answer)))
        })
    };
    let joined = || relay.stats().hub.connections == PEERS as u64;
    eventually("all have joined", joined).await;
    // A runtime with fewer threads has others wait no longer than that.
    let until = Instant::now() + HELD_UP;
    for _ in 0..threads {
        runtime.spawn(async move {
            thread::sleep(until.saturating_duration_since(Instant::now()));
        });
    }
    let tasks = || runtime.held().tasks == relay.idle_tasks() + PEERS;
    eventually("the threads go on", tasks).await;

    let mut last = Peer::named(&relay, "last").await;
    for n in 0..PEERS {
        let to = address(&format!("peer{n}"));
        last.send(message(&last.address, &to, 1, 9)).await;
    }
    eventually("all have heard it", || answering.is_finished()).await;
    let answered = answering.join().expect("nobody was cut");
    assert_eq!(relay.stats().hub.heartbeat_timeouts, 0);
    for (peer, said) in &answered {
        assert_eq!(*said, message(&last.address, &peer.address, 1, 9));
    }
    drop((answered, last));
    emptied(&relay).await;
}
