//! The store passes the suite of all stores, and that of those which keep what they hold.

use pinch_conformance::store::Place;
use pinch_store_redb::RedbStore;
use tempfile::TempDir;

struct Directory(TempDir);

impl Place for Directory {
    type Store = RedbStore;

    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory can be made"))
    }

    fn open(&self) -> RedbStore {
        RedbStore::open(self.0.path().join("relay.queue")).expect("the queue can be opened")
    }
}

pinch_conformance::store_suite!(Directory);
pinch_conformance::durable_store_suite!(Directory);
