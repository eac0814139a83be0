//! How many locks a message takes: what threads of a relay meet at.

use core::num::NonZero;

use futures_util::FutureExt as _;
use pinch_driver::locks_taken;

use crate::agent::{Agent, Heard};
use crate::explore::take_turns;
use crate::pipe::WIDE;
use crate::runtime::Interleaved;
use crate::scene::{cut, relay};
use crate::task::block_on;

/// Turns in which all tasks come to rest.
const REST: usize = 2_000;

fn rest() {
    (0..REST).for_each(|_| shuttle::thread::yield_now());
}

/// The locks that one envelope from Alice to `name` takes, with its ack, while nothing else happens.
fn locks_of_a_lone_message(shards: NonZero<u16>, name: &str) -> usize {
    let runtime = Interleaved::new();
    let relay = relay(&runtime).shards(shards).detached().unwrap();
    let taken = block_on(async {
        let mut recipient = Agent::join(&relay, name, WIDE).await;
        let mut alice = Agent::join(&relay, "alice", WIDE).await;
        rest();
        let before = locks_taken();
        alice.send(name, 0).await;
        rest();
        assert_eq!(recipient.next().await, Heard::Envelope(0));
        assert_eq!(recipient.next().await, Heard::Ping);
        // The pong leaves with the next read.
        assert!(recipient.next().now_or_never().is_none());
        rest();
        let taken = locks_taken() - before;
        let hub = relay.stats().hub;
        assert_eq!((hub.delivered, hub.in_flight), (1, 0), "it is acknowledged");
        taken
    });
    cut(relay, &runtime);
    taken
}

/// The sender's visit of the hub, the recipient's, and that of the pong; and the timer's, which sleeps
/// until the next deadline from then on.
#[test]
fn a_lone_message_takes_few_locks() {
    take_turns(|| {
        let taken = locks_of_a_lone_message(NonZero::<u16>::MIN, "carol");
        assert!(taken <= 4, "{taken} locks");
    });
}

/// Across shards, each of the two is visited for the other.
#[test]
fn a_lone_message_between_shards_takes_few_locks() {
    take_turns(|| {
        let two = NonZero::new(2).unwrap();
        let taken = locks_of_a_lone_message(two, "carol");
        assert!(taken <= 4, "{taken} locks within a shard");
        let taken = locks_of_a_lone_message(two, "bob");
        assert!(taken <= 10, "{taken} locks between shards");
    });
}
