//! The limit of all that waits is one of the disk: the file keeps to it, whatever the envelopes are.

use std::fs;
use std::path::Path;

use futures_lite::future::block_on;
use pinch_driver::Store as _;
use pinch_proto::queue::{Append, Failure, Limits, Operation, Outcome, Read, Refusal, Seq, Usage};
use pinch_proto::{Address, UnixMillis};
use pinch_store_redb::RedbStore;

const MIB: u64 = 1 << 20;
/// What the store promises of the file of a queue with this limit, in bytes.
const LIMIT: u64 = 16 * MIB;
const MOST: u64 = LIMIT + LIMIT / 16 + 33 * MIB;

fn address(name: &str, number: u64) -> Address {
    Address::parse(&format!("pinch:{name}{number}@relay.example.com")).expect("a valid address")
}

fn append(limit: u64, recipient: u64, sender: u64, seq: u64, len: usize) -> Operation {
    Operation::Append(Append {
        recipient: address("bob", recipient),
        sender: address("eve", sender),
        seq: Seq(seq),
        message: vec![0x5a; len].into(),
        now: UnixMillis(0),
        expires_at: UnixMillis(1_000_000),
        limits: Some(Limits {
            recipient_count: u64::MAX,
            sender_bytes: u64::MAX,
            total_bytes: limit,
        }),
        reserved: Usage::default(),
        reached: None,
        discard: false,
    })
}

fn execute(store: &RedbStore, batch: Vec<Operation>) -> Vec<Outcome> {
    block_on(store.execute(batch))
}

/// Appends envelopes of `len` bytes to 50 recipients in turn, until one is refused. Returns how many
/// were taken.
fn fill(store: &RedbStore, limit: u64, next: &mut u64, len: usize) -> u64 {
    let full = Outcome::Refused(Refusal::StoreFull { limit });
    let first = *next;
    loop {
        let batch = (0..64).map(|at| append(limit, (*next + at) % 50, at, *next + at, len));
        let outcomes = execute(store, batch.collect());
        let taken = outcomes
            .iter()
            .take_while(|it| matches!(it, Outcome::Appended { .. }));
        let taken = taken.count();
        *next += 64;
        if taken < outcomes.len() {
            assert_eq!(outcomes.get(taken), Some(&full), "the true limit is said");
            return *next - first;
        }
    }
}

fn remove(store: &RedbStore, recipient: u64, through: u64) {
    let remove = Operation::Remove {
        recipient: address("bob", recipient),
        through: Seq(through),
    };
    assert_eq!(execute(store, vec![remove]), [Outcome::Done]);
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).expect("the file is there").len()
}

#[test]
fn the_file_keeps_to_the_limit_whatever_the_size_of_the_envelopes() {
    // Next to nothing, just above what fills a piece or half a page, and what took two pages for each.
    for len in [100, 1012, 2041, 65_536] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("relay.queue");
        let store = RedbStore::open(&path).unwrap();
        let mut next = 1;
        let taken = fill(&store, LIMIT, &mut next, len);
        assert!(size(&path) <= MOST, "{len}: {} bytes", size(&path));
        // Over the limit, what makes room is done all the same, and what was taken is there.
        let read = Operation::Read(Read {
            recipient: address("bob", 1),
            after: None,
            bytes: usize::MAX,
            count: usize::MAX,
            now: UnixMillis(0),
        });
        let outcomes = execute(&store, vec![read]);
        let [Outcome::Entries { entries, .. }] = &*outcomes else {
            panic!("{outcomes:?}");
        };
        let is_whole =
            |message: &[u8]| message.len() == len && message.iter().all(|it| *it == 0x5a);
        assert!(entries.iter().all(|entry| is_whole(&entry.message)));
        assert!(entries.len() as u64 >= taken / 50 - 2);
        for recipient in 0..50 {
            remove(&store, recipient, u64::MAX);
        }
        let again = fill(&store, LIMIT, &mut next, len);
        assert!(again * 10 > taken * 9, "{len}: {taken} and then {again}");
        assert!(size(&path) <= MOST, "{len}: {} bytes", size(&path));
    }
}

#[test]
fn the_file_keeps_to_the_limit_when_small_and_large_come_and_go() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("relay.queue");
    let store = RedbStore::open(&path).unwrap();
    let mut next = 1;
    for round in 0..6_u64 {
        let len = [100, 65_536, 2041, 5000][usize::try_from(round % 4).unwrap()];
        fill(&store, LIMIT, &mut next, len);
        assert!(size(&path) <= MOST, "round {round}: {} bytes", size(&path));
        // The others keep theirs, all over the file.
        for recipient in (0..50).filter(|it| it % 5 != round % 5) {
            remove(&store, recipient, next);
        }
    }
}

#[test]
fn a_file_that_is_longer_than_a_limit_that_was_lowered_is_used_again_once_it_has_room() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("relay.queue");
    let store = RedbStore::open(&path).unwrap();
    let mut next = 1;
    fill(&store, 4 * LIMIT, &mut next, 65_536);
    drop(store);
    assert!(size(&path) > MOST, "{} bytes", size(&path));
    let store = RedbStore::open(&path).unwrap();
    let mut offer = |store: &RedbStore| {
        next += 1;
        let outcomes = execute(store, vec![append(LIMIT, 50, 0, next, 1000)]);
        matches!(*outcomes, [Outcome::Appended { .. }])
    };
    assert!(!offer(&store), "too much waits");
    // One keeps its envelopes, which are all over the file, the end included.
    for recipient in 1..50 {
        remove(&store, recipient, u64::MAX);
    }
    assert!(offer(&store), "{} bytes", size(&path));
}

#[test]
fn what_connections_give_back_leaves_room_for_removing() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = RedbStore::open(directory.path().join("queue.db")).expect("it opens");
    let mut next = 0;
    fill(&store, LIMIT, &mut next, 8_000);
    // They had their places before, so no limit counts, until the disk does.
    let outcome = loop {
        let batch = (0..64).map(|at| {
            let mut operation = append(LIMIT, (next + at) % 50, at, next + at, 2_000);
            if let Operation::Append(append) = &mut operation {
                append.limits = None;
            }
            operation
        });
        let outcomes = execute(&store, batch.collect());
        next += 64;
        let is_taken = |outcome: &Outcome| matches!(outcome, Outcome::Appended { .. });
        if let Some(outcome) = outcomes.into_iter().find(|it| !is_taken(it)) {
            break outcome;
        }
    };
    let failure = Failure::DiskFull;
    assert!(matches!(outcome, Outcome::Failed { failure: found, .. } if found == failure));
    for number in 0..50 {
        let recipient = address("bob", number);
        let through = Seq(u64::MAX);
        let removed = execute(&store, vec![Operation::Remove { recipient, through }]);
        assert_eq!(removed, [Outcome::Done], "recipient {number}");
    }
    assert!(matches!(
        execute(&store, vec![append(LIMIT, 0, 0, next, 8_000)])[..],
        [Outcome::Appended { .. }]
    ));
}
