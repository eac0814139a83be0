//! What an operator sees of a queue.

use std::fs;

use pinch_driver::Store as _;
use pinch_proto::queue::{Append, Operation, Outcome, Seq, Usage};
use pinch_proto::{Address, UnixMillis};

use super::history::execute;
use crate::{BlockList, Inspection, RedbStore, Waiting};

fn address(name: &str) -> Address {
    Address::parse(&format!("pinch:{name}@relay")).unwrap()
}

fn append(recipient: &str, seq: u64, now: i64, message: &'static [u8]) -> Operation {
    Operation::Append(Append {
        recipient: address(recipient),
        sender: address("alice"),
        seq: Seq(seq),
        message: message.into(),
        now: UnixMillis(now),
        expires_at: UnixMillis(100),
        limits: None,
        reserved: Usage::default(),
        reached: None,
        discard: false,
    })
}

fn waiting(name: &str, count: u64, bytes: u64, oldest: i64, newest: i64) -> Waiting {
    Waiting {
        recipient: address(name),
        count,
        bytes,
        oldest: UnixMillis(oldest),
        newest: UnixMillis(newest),
    }
}

#[test]
fn it_says_who_waits_for_how_much_since_when() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("relay.queue");
    let store = RedbStore::open(&path).unwrap();
    let batch = vec![
        append("carol", 1, 30, b"1"),
        append("bob", 2, 20, b"22"),
        append("carol", 3, 10, b"333"),
        append("carol", 4, 20, b"4444"),
        append("dave", 5, 20, b"arrives"),
        // It has expired, and nobody has said so yet.
        append("bob", 6, 200, b"666666"),
        Operation::Remove {
            recipient: address("dave"),
            through: Seq(5),
        },
        Operation::Block {
            blocker: address("bob"),
            blocked: address("eve"),
        },
    ];
    let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed { .. });
    assert!(!execute(&store, batch).iter().any(failed));
    let restored = store.restored();
    // What a crash would leave.
    let crashed = directory.path().join("crashed.queue");
    fs::copy(&path, &crashed).unwrap();
    drop(store);

    let (to_bob, to_carol) = (
        "pinch:alice@relaypinch:bob@relay".len() as u64,
        "pinch:alice@relaypinch:carol@relay".len() as u64,
    );
    let expected = Inspection {
        recipients: vec![
            waiting("bob", 2, 8 + 2 * to_bob, 20, 200),
            waiting("carol", 3, 8 + 3 * to_carol, 10, 30),
        ],
        count: 5,
        bytes: 16 + 2 * to_bob + 3 * to_carol,
        blocks: 1,
        block_lists: vec![BlockList {
            owner: address("bob"),
            count: 1,
            seen: None,
        }],
    };
    for path in [path, crashed] {
        let before = fs::read(&path).unwrap();
        assert_eq!(RedbStore::inspect(&path).unwrap(), expected);
        assert!(fs::read(&path).unwrap() == before, "it is only looked at");
        assert_eq!(RedbStore::open(&path).unwrap().restored(), restored);
    }
}
