//! The store in memory passes the suite of all stores.

use pinch_conformance::store::Place;
use pinch_driver::MemoryStore;

struct Nowhere;

impl Place for Nowhere {
    type Store = MemoryStore;

    fn new() -> Self {
        Self
    }

    fn open(&self) -> MemoryStore {
        MemoryStore::new()
    }
}

pinch_conformance::store_suite!(Nowhere);
