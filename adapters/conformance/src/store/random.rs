//! Random batches, executed by a store and by a queue in memory.

use bytes::Bytes;
use pinch_driver::Store as _;
use pinch_driver::proto::queue::{Append, Limits, MemoryQueue, Operation, Read, Seq, Usage};
use pinch_driver::proto::{Address, UnixMillis};
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof};
use proptest::{option, prop_assert_eq, sample};

use super::Place;
use super::bench::{address, execute_all};

/// How many histories are tried: each of them costs some dozen commits.
const CASES: u32 = 64;

pub fn it_does_what_a_queue_in_memory_does<P: Place>() {
    compare::<P>(Just(false).boxed());
}

pub fn it_does_what_a_queue_in_memory_does_when_it_is_opened_again_and_again<P: Place>() {
    compare::<P>(any::<bool>().boxed());
}

/// Executes batches, and closes and opens the store behind those for which `reopens` says so.
fn compare<P: Place>(reopens: impl Strategy<Value = bool>) {
    let history = vec((vec(operation(), 0..12), reopens), 0..16);
    let config = ProptestConfig {
        cases: CASES,
        // The seed that is printed suffices; there is no one place for files of this macro's users.
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest::test_runner::TestRunner::new(config)
        .run(&history, |history| {
            let place = P::new();
            let mut store = place.open();
            let mut model = MemoryQueue::new();
            for (batch, reopens) in history {
                let expected: Vec<_> = batch
                    .iter()
                    .map(|operation| model.execute(operation.clone()))
                    .collect();
                prop_assert_eq!(execute_all(&store, batch), expected);
                if reopens {
                    drop(store);
                    store = place.open();
                }
                prop_assert_eq!(store.restored(), model.restored());
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

fn party() -> impl Strategy<Value = Address> {
    sample::select(vec!["a", "b", "bob", "caroline"]).prop_map(address)
}

fn operation() -> impl Strategy<Value = Operation> {
    let remove = (party(), 0..30_u64).prop_map(|(recipient, through)| Operation::Remove {
        recipient,
        through: Seq(through),
    });
    let expire = (0..60_i64).prop_map(|now| Operation::Expire {
        now: UnixMillis(now),
    });
    let block = (party(), party(), any::<bool>()).prop_map(|(blocker, blocked, is_on)| {
        if is_on {
            Operation::Block { blocker, blocked }
        } else {
            Operation::Unblock { blocker, blocked }
        }
    });
    let seen = (party(), 0..60_i64).prop_map(|(blocker, at)| Operation::Seen {
        blocker,
        at: UnixMillis(at),
    });
    let forget = party().prop_map(|blocker| Operation::ForgetBlocks { blocker });
    prop_oneof![
        8 => append().prop_map(Operation::Append),
        4 => read().prop_map(Operation::Read),
        2 => remove,
        1 => expire,
        2 => block,
        1 => seen,
        1 => forget,
    ]
}

fn append() -> impl Strategy<Value = Append> {
    let limits = (0..8_u64, 0..2000_u64, 0..4000_u64).prop_map(|(count, sender, total)| Limits {
        recipient_count: count,
        sender_bytes: sender,
        total_bytes: total,
    });
    let message = prop_oneof![
        4 => vec(any::<u8>(), 0..100),
        1 => vec(any::<u8>(), 0..6000),
    ];
    let times = (0..50_i64, -2..30_i64);
    let limits = option::weighted(0.7, limits);
    let reserved = (0..3_u64, 0..200_u64, 0..200_u64).prop_map(|(count, sender, total)| Usage {
        recipient_count: count,
        sender_bytes: sender,
        total_bytes: total,
    });
    let reached = option::weighted(0.3, (0..30_u64).prop_map(Seq));
    let terms = (limits, reserved, reached, proptest::bool::weighted(0.1));
    (party(), party(), 0..30_u64, message, times, terms).prop_map(
        |(recipient, sender, seq, message, (now, lasts), terms)| Append {
            recipient,
            sender,
            seq: Seq(seq),
            message: Bytes::from(message),
            now: UnixMillis(now),
            expires_at: UnixMillis(now + lasts),
            limits: terms.0,
            reserved: terms.1,
            reached: terms.2,
            discard: terms.3,
        },
    )
}

fn read() -> impl Strategy<Value = Read> {
    let after = option::of((0..30_u64).prop_map(Seq));
    (party(), after, 0..8000_usize, 0..6_usize, 0..60_i64).prop_map(
        |(recipient, after, bytes, count, now)| Read {
            recipient,
            after,
            bytes,
            count,
            now: UnixMillis(now),
        },
    )
}
