//! The two ways in which a relay ends, and who is in between.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::sync::Arc;

use futures_util::{AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _};
use pinch_driver::{Relay, Runtime as _};
use shuttle::thread::JoinHandle;

use crate::agent::Agent;
use crate::disk::Disk;
use crate::explore::explore;
use crate::pipe::{NARROW, WIDE};
use crate::runtime::Interleaved;
use crate::scene::{cut, relay, shut_down};
use crate::task::{block_on, start};

/// In memory, any address is the relay's.
const RELAY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 80);

const REST: &str = "Host: relay\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Two join and write to each other, wherever the relay is by then, and stay until it ends them.
async fn crowd(relay: &Relay<Interleaved>) -> [JoinHandle<()>; 2] {
    let stay = |mut agent: Agent, other: &'static str| {
        start(async move {
            agent.send(other, 0).await;
            agent.read_to_end().await;
        })
    };
    let alice = Agent::connect(relay, "alice", WIDE).await;
    let bob = Agent::connect(relay, "bob", WIDE).await;
    [stay(alice, "bob"), stay(bob, "alice")]
}

fn join(agents: [JoinHandle<()>; 2]) {
    for agent in agents {
        agent.join().unwrap();
    }
}

#[test]
fn a_shutdown_ends_every_task() {
    explore(|| {
        let runtime = Interleaved::new();
        let relay = relay(&runtime).detached().unwrap();
        block_on(async {
            let agents = crowd(&relay).await;
            shut_down(&relay, &runtime).await;
            join(agents);
        });
    });
}

#[test]
fn a_shutdown_ends_every_task_and_the_keeper() {
    explore(|| {
        let runtime = Interleaved::new();
        let relay = relay(&runtime).store(Disk::new()).detached().unwrap();
        block_on(async {
            let agents = crowd(&relay).await;
            shut_down(&relay, &runtime).await;
            join(agents);
        });
    });
}

#[test]
fn a_dropped_relay_ends_every_task() {
    explore(|| {
        let runtime = Interleaved::new();
        let relay = relay(&runtime).detached().unwrap();
        let agents = block_on(crowd(&relay));
        cut(relay, &runtime);
        join(agents);
    });
}

#[test]
fn a_dropped_relay_ends_every_task_and_the_keeper() {
    explore(|| {
        let runtime = Interleaved::new();
        let relay = relay(&runtime).store(Disk::new()).detached().unwrap();
        let agents = block_on(crowd(&relay));
        cut(relay, &runtime);
        join(agents);
    });
}

/// What has just come for bob does not fit his socket, and he does not read.
#[test]
fn a_dropped_relay_ends_who_does_not_read() {
    explore(|| {
        let runtime = Interleaved::new();
        let relay = relay(&runtime).detached().unwrap();
        let _agents = block_on(async {
            let bob = Agent::join(&relay, "bob", NARROW).await;
            let mut alice = Agent::join(&relay, "alice", WIDE).await;
            alice.send("bob", 0).await;
            assert!(alice.is_answered().await);
            (alice, bob)
        });
        cut(relay, &runtime);
    });
}

/// Two wait for the end, and a third no longer does.
#[test]
fn a_shutdown_that_is_awaited_twice_and_cancelled_once_completes() {
    explore(|| {
        let runtime = Interleaved::new();
        let relay = Arc::new(relay(&runtime).detached().unwrap());
        let agents = block_on(crowd(&relay));
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let relay = Arc::clone(&relay);
                start(async move { relay.shutdown().await })
            })
            .collect();
        let _cancelled = relay.shutdown().now_or_never();
        for waiting in waiting {
            waiting.join().unwrap();
            assert_eq!(relay.stats().tasks, 0);
        }
        runtime.join();
        join(agents);
    });
}

#[test]
fn a_relay_that_is_dropped_while_it_shuts_down_ends() {
    explore(|| {
        let runtime = Interleaved::new();
        let relay = relay(&runtime).store(Disk::new()).detached().unwrap();
        let agents = block_on(crowd(&relay));
        let _cancelled = relay.shutdown().now_or_never();
        cut(relay, &runtime);
        join(agents);
    });
}

/// One comes through the listener and joins, one only connects, and hears `last_words` at most.
fn strangers(runtime: &Interleaved, last_words: &'static str) -> [JoinHandle<()>; 2] {
    let (one, other) = (runtime.clone(), runtime.clone());
    let joining = start(async move {
        let Ok(mut stream) = one.connect(RELAY).await else {
            return;
        };
        for part in ["GET /ws?address=pinch:alice@localhost HTTP/1.1\r\n", REST] {
            let _ = stream.write_all(part.as_bytes()).await;
        }
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match stream.read(&mut byte).await {
                Ok(1) => head.extend(byte),
                _ => return,
            }
        }
        Agent::over(stream, "alice").await.read_to_end().await;
    });
    let silent = start(async move {
        if let Ok(mut stream) = other.connect(RELAY).await {
            let mut heard = String::new();
            stream.read_to_string(&mut heard).await.unwrap();
            assert!(heard.is_empty() || heard.starts_with(last_words), "{heard}");
        }
    });
    [joining, silent]
}

#[test]
fn a_shutdown_ends_the_listener_and_whoever_has_not_joined() {
    explore(|| {
        let runtime = Interleaved::new();
        block_on(async {
            let relay = relay(&runtime).bind(([127, 0, 0, 1], 0)).await.unwrap();
            let strangers = strangers(&runtime, "HTTP/1.1 503 ");
            assert!(relay.shutdown().now_or_never().is_none());
            // The listener goes on for a moment.
            runtime.clock.reach(Duration::from_millis(50)).await;
            shut_down(&relay, &runtime).await;
            runtime.stop_listening();
            join(strangers);
        });
    });
}

#[test]
fn a_dropped_relay_ends_the_listener_and_whoever_has_not_joined() {
    explore(|| {
        let runtime = Interleaved::new();
        let relay = block_on(relay(&runtime).bind(([127, 0, 0, 1], 0))).unwrap();
        let strangers = strangers(&runtime, "nothing");
        cut(relay, &runtime);
        runtime.stop_listening();
        join(strangers);
    });
}
