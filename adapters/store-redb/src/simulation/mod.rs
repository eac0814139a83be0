//! A queue on a disk in memory that fails as disks do, for tests and for fuzzers.
//!
//! It is the queue of a [`RedbStore`](crate::RedbStore), without the thread: whoever asks it
//! something waits for the answer, and the same questions get the same answers.

pub(crate) mod consistency;
mod disk;

use core::error::Error;
use core::fmt;

use pinch_proto::queue::{Operation, Outcome, Restored};
use redb::ReadableDatabase as _;

pub use self::disk::{Cause, Disk, Fault};
use crate::inspect::{self, Inspection};
use crate::{OpenError, worker::Worker};

/// A queue that is open.
pub struct Queue(Worker);

impl Queue {
    /// Opens the queue on `disk`. Nobody may have it open.
    ///
    /// # Errors
    /// As those of [`RedbStore::open`](crate::RedbStore::open).
    pub fn open(disk: &Disk) -> Result<Self, OpenError> {
        Worker::open(Box::new(disk.clone())).map(Self)
    }

    /// Executes a batch, as a store does.
    pub fn execute(&mut self, batch: &[Operation]) -> Vec<Outcome> {
        self.0.execute(batch)
    }

    /// What a hub has to know; as it was when that could last be read.
    pub fn restored(&mut self) -> Restored {
        self.0.restored()
    }

    /// Counts everything again.
    ///
    /// # Errors
    /// What in the tables contradicts itself, or cannot be read.
    pub fn check(&mut self) -> Result<(), Box<dyn Error>> {
        consistency::check(&self.0.readable()?.begin_read()?)
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

/// Looks at the queue on `disk`. Nothing is written.
///
/// # Errors
/// As those of [`RedbStore::inspect`](crate::RedbStore::inspect).
pub fn inspect(disk: &Disk) -> Result<Inspection, OpenError> {
    inspect::inspect_on(disk)
}
