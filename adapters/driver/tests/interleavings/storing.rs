//! The keeper of the store, and whoever leaves it something to do.

use crate::agent::Agent;
use crate::disk::Disk;
use crate::explore::explore;
use crate::pipe::WIDE;
use crate::runtime::Interleaved;
use crate::scene::{cut, relay, shut_down};
use crate::task::{block_on, start};

/// Whether it comes before, while or after she joins: it is there, once and in order.
#[test]
fn what_is_sent_to_one_who_is_just_joining_arrives() {
    explore(|| {
        let runtime = Interleaved::new();
        let relay = relay(&runtime).store(Disk::new()).detached().unwrap();
        block_on(async {
            let mut alice = Agent::join(&relay, "alice", WIDE).await;
            let alice = start(async move {
                for number in 0..3 {
                    alice.send("carol", number).await;
                }
                alice
            });
            let mut carol = Agent::connect(&relay, "carol", WIDE).await;
            for number in 0..3 {
                assert_eq!(carol.envelope().await, Some(number));
            }
            drop(alice.join().unwrap());
        });
        cut(relay, &runtime);
    });
}

/// The store is read for one who joins and vanishes meanwhile; the next time, everything is there that
/// has not arrived yet, acknowledged or not.
#[test]
fn what_was_read_for_one_who_has_left_is_not_lost() {
    explore(|| {
        let runtime = Interleaved::new();
        let relay = relay(&runtime).store(Disk::new()).detached().unwrap();
        block_on(async {
            let mut alice = Agent::join(&relay, "alice", WIDE).await;
            for number in 0..2 {
                alice.send("carol", number).await;
            }
            assert!(alice.is_answered().await);
            let mut gone = Agent::connect(&relay, "carol", WIDE).await;
            gone.is_answered().await;
            let mut missing = gone.missing_of(0..2);
            drop(gone);
            // The relay may not have noticed: then this one takes the address over.
            let mut carol = Agent::connect(&relay, "carol", WIDE).await;
            while !missing.is_empty() {
                let number = carol.envelope().await.expect("what is missing comes");
                missing.retain(|known| *known != number);
            }
        });
        cut(relay, &runtime);
    });
}

/// One envelope is for somebody who is away, one for somebody who has not read it: both were taken,
/// and nobody has confirmed either of them.
async fn leave_two(
    runtime: &Interleaved,
    disk: &Disk,
) -> (pinch_driver::Relay<Interleaved>, [Agent; 2]) {
    let relay = relay(runtime).store(disk.clone()).detached().unwrap();
    let bob = Agent::join(&relay, "bob", WIDE).await;
    let mut alice = Agent::join(&relay, "alice", WIDE).await;
    alice.send("bob", 0).await;
    alice.send("carol", 1).await;
    assert!(alice.is_answered().await);
    (relay, [alice, bob])
}

#[test]
fn what_was_accepted_is_stored_before_a_dropped_relay_ends() {
    explore(|| {
        let (runtime, disk) = (Interleaved::new(), Disk::new());
        let (relay, _agents) = block_on(leave_two(&runtime, &disk));
        cut(relay, &runtime);
        assert_eq!(disk.len(), 2);
    });
}

#[test]
fn what_was_accepted_is_stored_before_a_shutdown_completes() {
    explore(|| {
        let (runtime, disk) = (Interleaved::new(), Disk::new());
        block_on(async {
            let (relay, [mut alice, bob]) = leave_two(&runtime, &disk).await;
            let alice = start(async move { alice.read_to_end().await });
            let bob = start(async move { drop(bob) });
            shut_down(&relay, &runtime).await;
            assert_eq!(disk.len(), 2);
            alice.join().unwrap();
            bob.join().unwrap();
        });
    });
}
