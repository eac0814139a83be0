//! Envelopes from task to task.

use crate::agent::{Agent, Heard};
use crate::disk::Disk;
use crate::explore::explore;
use crate::pipe::{NARROW, WIDE};
use crate::runtime::Interleaved;
use crate::scene::{cut, relay};
use crate::task::{block_on, start};

/// Both are idle, reading or writing when something comes for them.
#[test]
fn two_who_write_to_each_other_hear_each_other() {
    explore(|| {
        let runtime = Interleaved::new();
        let relay = relay(&runtime).detached().unwrap();
        let talk = async |mut agent: Agent, other: &str| {
            for number in 0..2 {
                agent.send(other, number).await;
            }
            for number in 0..2 {
                assert_eq!(agent.envelope().await, Some(number));
            }
            agent
        };
        let (alice, bob) = block_on(async {
            let alice = Agent::join(&relay, "alice", WIDE).await;
            (alice, Agent::join(&relay, "bob", WIDE).await)
        });
        let alice = start(async move { talk(alice, "bob").await });
        let bob = start(async move { talk(bob, "alice").await });
        // Both stay until both have heard everything.
        let _agents = (alice.join().unwrap(), bob.join().unwrap());
        cut(relay, &runtime);
    });
}

/// A pipe that holds less than one envelope: the recipient's task waits for the socket again and
/// again while more comes for it.
#[test]
fn a_recipient_whose_socket_is_full_gets_everything_in_order() {
    explore(|| {
        let runtime = Interleaved::new();
        let relay = relay(&runtime).detached().unwrap();
        block_on(async {
            let mut bob = Agent::join(&relay, "bob", NARROW).await;
            let mut alice = Agent::join(&relay, "alice", WIDE).await;
            let alice = start(async move {
                for number in 0..3 {
                    alice.send("bob", number).await;
                }
                alice
            });
            for number in 0..3 {
                assert_eq!(bob.envelope().await, Some(number));
            }
            drop(alice.join().unwrap());
        });
        cut(relay, &runtime);
    });
}

/// Bob's socket is full, or is about to be, when he says goodbye: the answer has to wait.
#[test]
fn a_goodbye_is_answered_behind_what_the_socket_has_not_taken() {
    explore(|| {
        let runtime = Interleaved::new();
        let relay = relay(&runtime).detached().unwrap();
        block_on(async {
            let mut bob = Agent::join(&relay, "bob", NARROW).await;
            let mut alice = Agent::join(&relay, "alice", WIDE).await;
            alice.send("bob", 0).await;
            assert!(alice.is_answered().await);
            bob.say_goodbye().await;
            loop {
                match bob.next().await {
                    Heard::Close(1000) => break,
                    Heard::Envelope(0) | Heard::Ping => {}
                    other @ (Heard::Envelope(_)
                    | Heard::Refused(_)
                    | Heard::QueueStatus
                    | Heard::Pong
                    | Heard::Close(_)
                    | Heard::End) => panic!("{other:?}"),
                }
            }
        });
        cut(relay, &runtime);
    });
}

/// The first connection sleeps; the second takes its address over while something comes for it.
#[test]
fn who_is_replaced_ends_and_what_came_meanwhile_arrives() {
    explore(|| {
        let runtime = Interleaved::new();
        let disk = Disk::new();
        let relay = relay(&runtime).store(disk).detached().unwrap();
        let (bob, _second) = block_on(async {
            let mut first = Agent::join(&relay, "alice", WIDE).await;
            let mut bob = Agent::join(&relay, "bob", WIDE).await;
            let bob = start(async move {
                bob.send("alice", 7).await;
                bob.read_to_end().await;
            });
            let first = start(async move {
                let mut has_come = false;
                loop {
                    match first.next().await {
                        Heard::Envelope(7) => has_come = true,
                        Heard::Close(4001) => break,
                        Heard::Ping => {}
                        other @ (Heard::Envelope(_)
                        | Heard::Refused(_)
                        | Heard::QueueStatus
                        | Heard::Pong
                        | Heard::Close(_)
                        | Heard::End) => panic!("{other:?}"),
                    }
                }
                first.read_to_end().await;
                has_come
            });
            let mut second = Agent::connect(&relay, "alice", WIDE).await;
            if !first.join().unwrap() {
                assert_eq!(second.envelope().await, Some(7));
            }
            (bob, second)
        });
        cut(relay, &runtime);
        bob.join().unwrap();
    });
}
