//! Full queues: how large their files are, and how long it takes to open them.

use core::error::Error;
use std::fs::{self, File};
use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use futures_lite::future::block_on;
use pinch_driver::Store as _;
use pinch_driver::proto::UnixMillis;
use pinch_driver::proto::queue::{Append, Limits, Operation, Outcome, Seq, Usage};
use pinch_store_redb::RedbStore;

use super::address;

/// Sizes of messages, in bytes.
const SIZES: [usize; 7] = [65_536, 32_768, 4081, 4000, 2041, 1012, 100];
/// How often a full queue is emptied in part and filled up again.
const ROUNDS: u64 = 40;
/// For so many agents envelopes wait.
const RECIPIENTS: u64 = 5000;
/// Number of envelopes in a batch, and number of bytes that they may have.
const BATCH: (u64, u64) = (1024, 1 << 20);

pub(crate) fn run_all(limit: u64, directory: &Path) -> Result<(), Box<dyn Error>> {
    let path = directory.join("relay.queue");
    let crashed = directory.join("crashed.queue");
    for size in SIZES {
        let store = RedbStore::open(&path)?;
        let began = Instant::now();
        let (count, bytes) = fill(&store, limit, size, 0);
        let elapsed = began.elapsed();
        let ratio = |bytes: u64| bytes as f64 / limit as f64;
        let file = fs::metadata(&path)?.len();
        println!(
            "messages of {size} bytes: {count} in {elapsed:.1?}, {:.2} of the limit; file {:.2}",
            ratio(bytes),
            ratio(file)
        );
        churn(&store, limit, size, count);
        let file = fs::metadata(&path)?.len();
        println!(
            "  after {ROUNDS} rounds of removing 2 % and filling up: file {:.2}",
            ratio(file)
        );
        // What a killed process leaves. It is on the disk, as each commit is.
        fs::copy(&path, &crashed)?;
        File::open(&crashed)?.sync_all()?;
        drop(store);
        for (file, after) in [(&path, "the end"), (&crashed, "a crash")] {
            let began = Instant::now();
            let store = RedbStore::open(file)?;
            store.restored();
            let elapsed = began.elapsed();
            println!("  opened after {after} in {elapsed:.1?}");
            drop(store);
            fs::remove_file(file)?;
        }
    }
    Ok(())
}

/// Removes the envelopes of some recipients, all over the file, and fills it up again.
fn churn(store: &RedbStore, limit: u64, size: usize, mut next: u64) {
    for round in 0..ROUNDS {
        let recipients = (0..RECIPIENTS).filter(|at| at.wrapping_mul(7919) % 50 == round % 50);
        let remove = |at| Operation::Remove {
            recipient: address("recipient", at),
            through: Seq(u64::MAX),
        };
        let outcomes = block_on(store.execute(recipients.map(remove).collect()));
        assert!(
            outcomes.iter().all(|it| *it == Outcome::Done),
            "{outcomes:?}"
        );
        next = fill(store, limit, size, next).0;
    }
}

/// Appends envelopes from that number on until one is refused. Returns the number of that one, and
/// what those that wait cost.
fn fill(store: &RedbStore, limit: u64, size: usize, first: u64) -> (u64, u64) {
    let message = Bytes::from(vec![0x5a; size]);
    let (mut count, mut bytes) = (first, 0);
    let batch = BATCH.0.min(BATCH.1 / size as u64);
    loop {
        let append = |at: u64| {
            Operation::Append(Append {
                recipient: address(
                    "recipient",
                    (count + at).wrapping_mul(2_654_435_761) % RECIPIENTS,
                ),
                sender: address("sender", at % 64),
                seq: Seq(count + at),
                message: message.clone(),
                now: UnixMillis(0),
                expires_at: UnixMillis(604_800_000),
                limits: Some(Limits {
                    recipient_count: u64::MAX,
                    sender_bytes: u64::MAX,
                    total_bytes: limit,
                }),
                reserved: Usage::default(),
                reached: None,
                discard: false,
            })
        };
        let outcomes = block_on(store.execute((0..batch).map(append).collect()));
        for outcome in outcomes {
            let Outcome::Appended { usage, .. } = outcome else {
                assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
                return (count, bytes);
            };
            count += 1;
            bytes = usage.total_bytes;
        }
    }
}
