//! Files that earlier versions wrote, and that every later one reads.
//!
//! There is one file for each format there ever was. Whoever changes the format adds one, and keeps
//! the others: `cargo test -p pinch-store-redb -- --ignored golden` writes the file of the present
//! format, if it is not there.

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use futures_lite::future::block_on;
use pinch_driver::Store as _;
use pinch_proto::queue::{
    Append, Entry, Limits, Operation, Outcome, Read, Refusal, Restored, Seq, Usage,
};
use pinch_proto::{Address, UnixMillis};

use super::check;
use super::history::execute;
use crate::RedbStore;
use crate::medium::OnDisk;
use crate::schema::{FORMAT, LAST_SEQ_OF_FORMAT_1};

const ALICE: &str = "pinch:alice@relay.example.com";
const BOB: &str = "pinch:bob@relay.example.com";
const CAROL: &str = "pinch:carol@relay.example.com";
const EVE: &str = "pinch:eve@relay.example.com";

fn golden(format: u64) -> PathBuf {
    let name = format!("tests/data/format-{format}.redb");
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

/// An envelope that was accepted at ten times its number.
fn envelope(sender: &str, recipient: &str, seq: u64, message: Vec<u8>, expires_at: i64) -> Append {
    Append {
        recipient: address(recipient),
        sender: address(sender),
        seq: Seq(seq),
        message: message.into(),
        now: UnixMillis(i64::try_from(seq).unwrap() * 10),
        expires_at: UnixMillis(expires_at),
        limits: None,
        reserved: Usage::default(),
        reached: None,
        discard: false,
    }
}

fn long() -> Vec<u8> {
    (0..=255).cycle().take(5000).collect()
}

/// What was done to the queues in the files. Never change this: it says what was, not what is.
fn history() -> Vec<Vec<Operation>> {
    let block = |blocker, blocked| Operation::Block {
        blocker: address(blocker),
        blocked: address(blocked),
    };
    vec![
        vec![
            Operation::Append(envelope(ALICE, BOB, 1, b"removed".to_vec(), 1000)),
            Operation::Append(envelope(ALICE, BOB, 2, b"first".to_vec(), 1000)),
            Operation::Append(envelope(CAROL, BOB, 3, b"expired".to_vec(), 100)),
            Operation::Append(envelope(EVE, CAROL, 4, Vec::new(), 2000)),
        ],
        vec![
            block(BOB, EVE),
            block(CAROL, ALICE),
            block(CAROL, EVE),
            Operation::Unblock {
                blocker: address(CAROL),
                blocked: address(ALICE),
            },
        ],
        vec![
            Operation::Remove {
                recipient: address(BOB),
                through: Seq(1),
            },
            Operation::Append(envelope(ALICE, BOB, 6, long(), 3000)),
            Operation::Append(envelope(BOB, CAROL, 7, b"third".to_vec(), -5)),
        ],
        // Forgets what has expired, and leaves it to be told.
        vec![Operation::Append(Append {
            limits: Some(Limits {
                recipient_count: 2,
                sender_bytes: 1000,
                total_bytes: 100_000,
            }),
            now: UnixMillis(0),
            ..envelope(BOB, CAROL, 8, b"second".to_vec(), 2000)
        })],
    ]
}

fn read(store: &RedbStore, recipient: &str, now: i64) -> (Vec<(u64, Bytes)>, u64) {
    let read = Operation::Read(Read {
        recipient: address(recipient),
        after: None,
        bytes: usize::MAX,
        count: usize::MAX,
        now: UnixMillis(now),
    });
    let outcomes = block_on(store.execute(vec![read]));
    let [
        Outcome::Entries {
            entries, pending, ..
        },
    ] = &*outcomes
    else {
        panic!("{outcomes:?}");
    };
    let entry = |entry: &Entry| (entry.seq.0, entry.message.clone());
    (entries.iter().map(entry).collect(), *pending)
}

#[test]
fn a_golden_file_holds_what_was_put_into_it() {
    for format in 1..=FORMAT {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("relay.queue");
        fs::copy(golden(format), &path).expect("there is a file for each format");

        let inspection = RedbStore::inspect(&path).unwrap();
        assert_eq!((inspection.count, inspection.blocks), (5, 2));
        let recipients = inspection.recipients.iter();
        let recipients = recipients.map(|of| (of.recipient.as_str(), of.count, of.oldest.0));
        let expected = [(BOB, 3, 20), (CAROL, 2, 0)];
        assert_eq!(recipients.collect::<Vec<_>>(), expected);

        let store = RedbStore::open(&path).unwrap();
        let blocks = [(BOB, EVE), (CAROL, EVE)];
        let blocks = blocks.map(|(blocker, blocked)| (address(blocker), address(blocked)));
        let restored = Restored {
            last_seq: Some(Seq(if format == 1 { LAST_SEQ_OF_FORMAT_1 } else { 8 })),
            blocks: blocks.to_vec(),
            owners: vec![],
        };
        assert_eq!(store.restored(), restored);

        let expired = (3, Bytes::from_static(b"expired"));
        let for_bob = [(2, Bytes::from_static(b"first")), (6, long().into())];
        let for_carol = [(4, Bytes::new()), (8, Bytes::from_static(b"second"))];
        let before = vec![for_bob[0].clone(), expired, for_bob[1].clone()];
        assert_eq!(read(&store, BOB, 99), (before, 3));
        assert_eq!(read(&store, BOB, 100), (for_bob.to_vec(), 2));
        assert_eq!(read(&store, CAROL, 100), (for_carol.to_vec(), 2));
        assert_eq!(read(&store, CAROL, 2000), (Vec::new(), 0));

        // What waits of a sender counts, and nothing else.
        let next = envelope(ALICE, BOB, 9, b"next".to_vec(), 1000);
        let waits = 5005 + 2 * (ALICE.len() + BOB.len()) as u64;
        let append = |sender_bytes| {
            Operation::Append(Append {
                limits: Some(Limits {
                    recipient_count: 3,
                    sender_bytes,
                    total_bytes: 100_000,
                }),
                ..next.clone()
            })
        };
        let limit = waits + next.cost() - 1;
        let refused = Outcome::Refused(Refusal::SenderFull { limit });
        let full = Outcome::Refused(Refusal::RecipientFull { limit: 3 });
        let expired = |count| Outcome::Expired { count };
        let now = UnixMillis(100);
        let appended = Outcome::Appended {
            usage: Usage {
                recipient_count: 3,
                sender_bytes: limit + 1,
                total_bytes: 5295,
            },
            displaced: None,
        };
        let batch = vec![
            append(limit + 1),
            Operation::Expire { now },
            append(limit),
            append(limit + 1),
            append(limit + 1),
        ];
        assert_eq!(
            execute(&store, batch),
            [full, expired(2), refused, appended.clone(), appended]
        );
        drop(store);
        check(&OnDisk::new(path));
    }
}

#[test]
#[ignore = "it writes a file that is kept"]
fn golden_file_of_the_present_format_is_written() {
    let path = golden(FORMAT);
    if path.exists() {
        return;
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let store = RedbStore::open(&path).unwrap();
    for batch in history() {
        execute(&store, batch);
    }
}
