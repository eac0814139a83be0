//! How a file is opened that a relay has left behind that crashed.

use pinch_proto::queue::{Append, Operation, Outcome, Seq, Usage};
use pinch_proto::{Address, UnixMillis};
use redb::{Builder, DatabaseError};

use super::check;
use super::history::execute;
use crate::RedbStore;
use crate::simulation::Disk;

/// A file with `count` envelopes of 60,000 bytes, whose relay has crashed.
fn crashed(count: u64) -> Disk {
    let disk = Disk::with_queue();
    let store = RedbStore::open_on(Box::new(disk.clone())).unwrap();
    for seq in 0..count {
        let append = Operation::Append(Append {
            recipient: Address::parse("pinch:bob@relay").unwrap(),
            sender: Address::parse("pinch:alice@relay").unwrap(),
            seq: Seq(seq),
            message: vec![1; 60_000].into(),
            now: UnixMillis(0),
            expires_at: UnixMillis(1000),
            limits: None,
            reserved: Usage::default(),
            reached: None,
            discard: false,
        });
        let outcomes = execute(&store, vec![append]);
        assert!(matches!(*outcomes, [Outcome::Appended { .. }]));
    }
    Disk::with_bytes(disk.bytes())
}

/// Whether redb has to go through the whole file in order to open it.
fn is_repaired(disk: &Disk) -> bool {
    let mut builder = Builder::new();
    builder.set_repair_callback(redb::RepairSession::abort);
    match builder.create_with_backend(Disk::with_bytes(disk.bytes())) {
        Ok(_) => false,
        Err(DatabaseError::RepairAborted) => true,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_large_file_is_opened_without_a_repair_after_a_crash() {
    let small = crashed(2);
    assert!(is_repaired(&small), "that takes no time");
    let large = crashed(40);
    assert!(!is_repaired(&large), "{} bytes", large.len());
    for disk in [small, large] {
        drop(RedbStore::open_on(Box::new(disk.clone())).unwrap());
        check(&disk);
    }
}
