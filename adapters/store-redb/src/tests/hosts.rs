//! Files in which addresses differ by the case of their host.

use std::sync::Arc;

use bytes::Bytes;
use pinch_driver::Store as _;
use pinch_proto::queue::{Append, Operation, Outcome, Read, Seq, Usage};
use pinch_proto::{Address, UnixMillis};

use super::check;
use super::history::execute;
use crate::RedbStore;
use crate::medium::{self, OnDisk};
use crate::room::Room;
use crate::schema::{ADDRESSES, AGENTS, BLOCKS, FORMAT_KEY, META};

fn address(name: &str) -> Address {
    Address::parse(&format!("pinch:{name}@relay")).unwrap()
}

fn append(sender: &str, recipient: &str, seq: u64) -> Operation {
    Operation::Append(Append {
        recipient: address(recipient),
        sender: address(sender),
        seq: Seq(seq),
        message: Bytes::copy_from_slice(&seq.to_be_bytes()),
        now: UnixMillis(0),
        expires_at: UnixMillis(1000),
        limits: None,
        reserved: Usage::default(),
        reached: None,
        discard: false,
    })
}

/// Writes the agent `from` as an older version may have: under the address `to`.
fn rename(transaction: &redb::WriteTransaction, from: &str, to: &str) {
    let from = address(from);
    let mut agents = transaction.open_table(AGENTS).unwrap();
    let agent = agents.remove(from.as_str()).unwrap().unwrap().value();
    agents.insert(to, agent).unwrap();
    let mut addresses = transaction.open_table(ADDRESSES).unwrap();
    addresses.insert(agent, to).unwrap();
}

#[test]
fn what_stands_under_other_spellings_is_found_after_an_upgrade() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("relay.queue");
    let store = RedbStore::open(&path).unwrap();
    let block = |blocker, blocked| Operation::Block {
        blocker: address(blocker),
        blocked: address(blocked),
    };
    let batch = vec![
        append("alice", "bob", 1),
        append("alice2", "bob2", 2),
        append("alice2", "carol", 3),
        append("bob2", "bob", 4),
        append("alice", "bob2", 5),
        block("bob", "eve"),
        block("carol", "eve"),
    ];
    let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed { .. });
    assert!(!execute(&store, batch).iter().any(failed));
    drop(store);

    let database = medium::reopen(&OnDisk::new(path.clone()), &Arc::new(Room::new())).unwrap();
    let transaction = database.begin_write().unwrap();
    rename(&transaction, "alice2", "pinch:alice@RELAY");
    rename(&transaction, "bob2", "pinch:bob@Relay");
    rename(&transaction, "carol", "pinch:carol@RELAY");
    let mut blocks = transaction.open_table(BLOCKS).unwrap();
    blocks
        .remove((address("bob").as_str(), address("eve").as_str()))
        .unwrap();
    blocks
        .insert(("pinch:bob@RELAY", "pinch:eve@Relay"), ())
        .unwrap();
    drop(blocks);
    let mut meta = transaction.open_table(META).unwrap();
    meta.insert(FORMAT_KEY, 1).unwrap();
    drop(meta);
    transaction.commit().unwrap();
    drop(database);

    for _ in 0..2 {
        let store = RedbStore::open(&path).unwrap();
        let blocks = store.restored().blocks;
        let pair = |blocker| (address(blocker), address("eve"));
        assert_eq!(blocks, [pair("bob"), pair("carol")]);
        for (recipient, expected) in [("bob", vec![1, 2, 4, 5]), ("carol", vec![3])] {
            let read = Operation::Read(Read {
                recipient: address(recipient),
                after: None,
                bytes: 1000,
                count: 100,
                now: UnixMillis(0),
            });
            let outcome = execute(&store, vec![read]).remove(0);
            let Outcome::Entries { entries, .. } = outcome else {
                panic!("{outcome:?}")
            };
            let seqs: Vec<_> = entries.iter().map(|entry| entry.seq.0).collect();
            assert_eq!(seqs, expected, "{recipient}");
        }
        drop(store);
        check(&OnDisk::new(path.clone()));
    }

    // And it can be taken away again.
    let store = RedbStore::open(&path).unwrap();
    let remove = |name| Operation::Remove {
        recipient: address(name),
        through: Seq(9),
    };
    let unblock = Operation::Unblock {
        blocker: address("bob"),
        blocked: address("eve"),
    };
    let batch = vec![remove("bob"), remove("carol"), unblock];
    assert_eq!(execute(&store, batch), vec![Outcome::Done; 3]);
    drop(store);
    let inspection = RedbStore::inspect(&path).unwrap();
    assert_eq!((inspection.count, inspection.blocks), (0, 1));
}
