//! What redb reads from and writes to: a file, or a view of one.
//!
//! A view is there to look at a file without writing to it, even at one whose last writer has
//! crashed: what redb writes in order to repair it stays in memory.

use core::ops::Bound;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{BackendError, StorageBackend};

use crate::room::Room;
use crate::steps;

/// A file that is read and written, as far as there is room for it.
#[derive(Debug)]
pub(crate) struct Writable {
    file: Box<dyn StorageBackend>,
    room: Arc<Room>,
}

impl Writable {
    pub(crate) fn new(file: Box<dyn StorageBackend>, room: Arc<Room>) -> io::Result<Self> {
        room.opened(file.len()?, steps::has_steps(&*file)?);
        Ok(Self { file, room })
    }
}

impl StorageBackend for Writable {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.room.resize(len)?;
        self.file.set_len(len)?;
        self.room.resized(len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.room.reach(offset.saturating_add(data.len() as u64))?;
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
}

/// A file that is read, and never written.
#[derive(Debug)]
pub(crate) struct View {
    file: Box<dyn StorageBackend>,
    changes: Mutex<Changes>,
}

/// What the file would hold besides.
#[derive(Debug, Default)]
struct Changes {
    /// How long it would be; as it is, without.
    len: Option<u64>,
    /// Whole blocks of [`BLOCK`] bytes, by their offset.
    blocks: BTreeMap<u64, Box<[u8]>>,
}

const BLOCK: usize = 4096;

impl View {
    pub(crate) fn new(file: Box<dyn StorageBackend>) -> Self {
        let changes = Mutex::default();
        Self { file, changes }
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What stands at `offset` in the file itself; zeros behind its end.
    fn read_file(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = self.file.len()?.saturating_sub(offset);
        let there = usize::try_from(there).unwrap_or(usize::MAX).min(out.len());
        let (inside, behind) = out.split_at_mut(there);
        behind.fill(0);
        if inside.is_empty() {
            return Ok(());
        }
        self.file.read(offset, inside)
    }
}

/// The blocks that `len` bytes at `offset` touch.
fn blocks(offset: u64, len: usize) -> impl Iterator<Item = u64> {
    let end = offset + len as u64;
    (offset - offset % BLOCK as u64..end).step_by(BLOCK)
}

/// The part that a block and `len` bytes at `offset` have in common: where it begins in the block,
/// where among the bytes, and how long it is.
fn common(block: u64, offset: u64, len: usize) -> (usize, usize, usize) {
    let start = block.max(offset);
    let end = (block + BLOCK as u64).min(offset + len as u64);
    let small = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    (
        small(start - block),
        small(start - offset),
        small(end - start),
    )
}

impl StorageBackend for View {
    fn len(&self) -> io::Result<u64> {
        let changed = self.changes().len;
        changed.map_or_else(|| self.file.len(), Ok)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let len = out.len();
        if offset.saturating_add(len as u64) > self.len()? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read_file(offset, out)?;
        let changes = self.changes();
        for block in blocks(offset, len) {
            if let Some(bytes) = changes.blocks.get(&block) {
                let (in_block, at, len) = common(block, offset, len);
                out[at..at + len].copy_from_slice(&bytes[in_block..in_block + len]);
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.changes().len = Some(len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut changes = self.changes();
        for block in blocks(offset, data.len()) {
            let (in_block, at, len) = common(block, offset, data.len());
            let bytes = match changes.blocks.remove(&block) {
                Some(bytes) => bytes,
                None => {
                    let mut bytes = vec![0; BLOCK].into_boxed_slice();
                    self.read_file(block, &mut bytes)?;
                    bytes
                }
            };
            let bytes = changes.blocks.entry(block).or_insert(bytes);
            bytes[in_block..in_block + len].copy_from_slice(&data[at..at + len]);
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    /// Views do not keep each other away, only those who write.
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
}
