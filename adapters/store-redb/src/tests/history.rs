//! What is executed: batches that grow and shrink the file, and what is there after each.

use futures_lite::future::block_on;
use pinch_driver::Store;
use pinch_proto::queue::{
    Append, Entry, Limits, MemoryQueue, Operation, Outcome, Read, Restored, Seq, Usage,
};
use pinch_proto::{Address, UnixMillis};

use crate::RedbStore;

const AGENTS: [&str; 4] = [
    "pinch:a@r",
    "pinch:b@r",
    "pinch:bob@r",
    "pinch:caroline@relay",
];

/// Some batches. The same seed gives the same ones.
pub(super) fn history(seed: u64, batches: usize) -> Vec<Vec<Operation>> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut next = 1;
    let batch = |batch| {
        let now = UnixMillis(batch);
        (0..random.usize(1..10))
            .map(|_| operation(&mut random, &mut next, now))
            .collect()
    };
    (0..).map(batch).take(batches).collect()
}

fn operation(random: &mut fastrand::Rng, next: &mut u64, now: UnixMillis) -> Operation {
    let mut agent = || Address::parse(random.choice(AGENTS).unwrap()).unwrap();
    let (one, other) = (agent(), agent());
    match random.u8(..16) {
        0..9 => {
            *next += 1;
            let len = *random.choice(&[0, 10, 100, 1000, 5000, 20_000]).unwrap();
            let mut message = vec![0; len];
            random.fill(&mut message);
            Operation::Append(Append {
                recipient: one,
                sender: other,
                seq: Seq(*next),
                message: message.into(),
                now,
                expires_at: UnixMillis(now.0 + random.i64(1..20)),
                limits: random.bool().then_some(Limits {
                    recipient_count: 8,
                    sender_bytes: 60_000,
                    total_bytes: 120_000,
                }),
                reserved: Usage {
                    recipient_count: random.u64(..3),
                    sender_bytes: random.u64(..3000),
                    total_bytes: random.u64(..3000),
                },
                reached: random
                    .bool()
                    .then(|| Seq(next.saturating_sub(random.u64(..9)))),
                discard: random.u8(..10) == 0,
            })
        }
        9..11 => Operation::Read(Read {
            recipient: one,
            after: None,
            bytes: 10_000,
            count: 3,
            now,
        }),
        11..13 => Operation::Remove {
            recipient: one,
            through: Seq(random.u64(..*next)),
        },
        13 => Operation::Expire { now },
        14 => Operation::Block {
            blocker: one,
            blocked: other,
        },
        _ => Operation::Unblock {
            blocker: one,
            blocked: other,
        },
    }
}

/// Everything that can be found out about a queue.
#[derive(Debug, PartialEq)]
pub(super) struct Contents {
    entries: Vec<Vec<Entry>>,
    restored: Restored,
}

pub(super) fn contents(store: &RedbStore) -> Contents {
    let everything = AGENTS.map(everything_of).map(Operation::Read);
    let outcomes = execute(store, everything.to_vec());
    Contents {
        entries: outcomes.into_iter().map(entries).collect(),
        restored: store.restored(),
    }
}

pub(super) fn contents_of_model(model: &MemoryQueue) -> Contents {
    let mut model = model.clone();
    let mut everything = |agent| entries(model.execute(Operation::Read(everything_of(agent))));
    let entries = AGENTS.into_iter().map(&mut everything).collect();
    let restored = model.restored();
    Contents { entries, restored }
}

pub(super) fn execute(store: &RedbStore, batch: Vec<Operation>) -> Vec<Outcome> {
    let count = batch.len();
    let outcomes = block_on(store.execute(batch));
    assert_eq!(outcomes.len(), count, "one outcome for each operation");
    outcomes
}

pub(super) fn execute_on_model(model: &mut MemoryQueue, batch: &[Operation]) -> Vec<Outcome> {
    let execute = |operation: &Operation| model.execute(operation.clone());
    batch.iter().map(execute).collect()
}

/// What is read, even if it has expired.
fn everything_of(agent: &str) -> Read {
    Read {
        recipient: Address::parse(agent).unwrap(),
        after: None,
        bytes: usize::MAX,
        count: usize::MAX,
        now: UnixMillis(i64::MIN),
    }
}

fn entries(outcome: Outcome) -> Vec<Entry> {
    let Outcome::Entries {
        entries, pending, ..
    } = outcome
    else {
        panic!("expected entries, got {outcome:?}");
    };
    assert_eq!(pending, entries.len() as u64);
    entries
}
