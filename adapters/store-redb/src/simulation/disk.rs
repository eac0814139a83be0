//! A disk in memory that fails as disks do.

use core::mem;
use std::io;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use crate::medium::{self, Medium};

/// So little that redb reads and writes in the middle of transactions, too.
pub(super) const CACHE_BYTES: usize = 32 * 1024;

/// The size of what a disk writes as a whole or not at all.
const SECTOR: usize = 512;

/// A disk with one file. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<State>>);

/// How a disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is written any more, not even in part: who writes is dead.
    Dead,
    /// From that operation on, nothing is written any more.
    From(u64, Cause),
    /// That operation fails, and no other.
    Once(u64, Cause),
    /// The file cannot become longer than that.
    FullAt(u64),
    /// Nothing can be read any more.
    Reads(Cause),
}

/// What a disk says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// There is no room. What has its place already can be made durable.
    Full,
    /// It may not be written to.
    ReadOnly,
    /// It does not answer.
    Defect,
    /// Nothing, and redb does not get along with what it finds. It panics then.
    Chaos,
}

#[derive(Debug, Default)]
struct State {
    /// What is found as long as the power does not fail.
    file: Vec<u8>,
    /// What is found when it has.
    durable: Vec<u8>,
    /// What was done since the last flush.
    changes: Vec<Change>,
    fault: Option<Fault>,
    /// How many writes, truncations and flushes there were.
    operations: u64,
    /// How many flushes of these.
    flushes: u64,
    /// How often it has failed.
    failures: u64,
    /// How many flushes of these.
    failed_flushes: u64,
}

#[derive(Debug)]
enum Change {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

impl Change {
    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Self::Write(offset, data) => {
                let end = offset + data.len();
                if file.len() < end {
                    file.resize(end, 0);
                }
                file[*offset..end].copy_from_slice(data);
            }
            Self::SetLen(len) => file.resize(*len, 0),
        }
    }
}

impl Disk {
    /// A disk with an empty queue.
    ///
    /// # Panics
    /// If the schema contradicts itself.
    #[must_use]
    pub fn with_queue() -> Self {
        let disk = Self::default();
        let open = || -> io::Result<Box<dyn StorageBackend>> { Ok(Box::new(disk.clone())) };
        let created = medium::write_new(open, CACHE_BYTES);
        created.expect("a disk in memory has room for a queue");
        disk
    }

    /// A disk with a file in which that stands.
    #[must_use]
    pub fn with_bytes(bytes: Vec<u8>) -> Self {
        let disk = Self::default();
        let mut state = disk.state();
        state.durable.clone_from(&bytes);
        state.file = bytes;
        drop(state);
        disk
    }

    /// What stands in the file.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.state().file.clone()
    }

    /// Fails from now on, and counts its operations anew for that.
    pub fn fail(&self, fault: Fault) {
        let mut state = self.state();
        state.operations = 0;
        state.fault = Some(fault);
    }

    /// Makes room, or whatever it takes.
    pub fn repair(&self) {
        self.state().fault = None;
    }

    /// How many writes, truncations and flushes there were since it was last told to fail.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// How many flushes there were.
    #[must_use]
    pub fn flushes(&self) -> u64 {
        self.state().flushes
    }

    /// How many of its operations have failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.state().failures
    }

    /// How many flushes have failed.
    #[must_use]
    pub fn failed_flushes(&self) -> u64 {
        self.state().failed_flushes
    }

    /// Replaces what stands in the file.
    pub fn replace(&self, bytes: Vec<u8>) {
        let mut state = self.state();
        state.durable.clone_from(&bytes);
        state.changes.clear();
        state.file = bytes;
    }

    /// How long the file is.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a queue is never empty")]
    pub fn len(&self) -> u64 {
        self.state().file.len() as u64
    }

    /// Cuts the power: of what was not flushed, that part is on the disk for which `coin` says so.
    pub fn cut_power(&self, mut coin: impl FnMut() -> bool) {
        let mut state = self.state();
        let mut durable = mem::take(&mut state.durable);
        for change in mem::take(&mut state.changes) {
            match change {
                Change::SetLen(_) => {
                    if coin() {
                        change.apply(&mut durable);
                    }
                }
                Change::Write(offset, data) => {
                    let is_there = coin();
                    let is_torn = coin() && !coin();
                    for (at, sector) in (offset..).step_by(SECTOR).zip(data.chunks(SECTOR)) {
                        if if is_torn { coin() } else { is_there } {
                            Change::Write(at, sector.to_vec()).apply(&mut durable);
                        }
                    }
                }
            }
        }
        state.file.clone_from(&durable);
        state.durable = durable;
        state.fault = None;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Some of the faults are panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something that may fail, half of it if it does.
    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = self.state();
        let state = &mut *state;
        state.operations += 1;
        let done = state.done(&change);
        state.failures += u64::from(done.is_err());
        if state.fault == Some(Fault::Dead) {
            return done;
        }
        let change = match (change, &done) {
            (Change::Write(offset, mut data), Err(_)) => {
                data.truncate(data.len() / 2);
                Change::Write(offset, data)
            }
            (Change::SetLen(_), Err(_)) => return done,
            (change, Ok(())) => change,
        };
        change.apply(&mut state.file);
        state.changes.push(change);
        done
    }
}

impl State {
    /// Whether the operation that is going on succeeds.
    fn succeeds(&self) -> io::Result<()> {
        match self.fault {
            Some(Fault::Dead) => Err(Cause::Defect.error()),
            Some(Fault::From(first, cause)) if first <= self.operations => Err(cause.error()),
            Some(Fault::Once(at, cause)) if at == self.operations => Err(cause.error()),
            Some(Fault::From(..) | Fault::Once(..) | Fault::FullAt(_) | Fault::Reads(_)) | None => {
                Ok(())
            }
        }
    }

    fn done(&self, change: &Change) -> io::Result<()> {
        self.succeeds()?;
        let end = match change {
            Change::Write(offset, data) => offset + data.len(),
            Change::SetLen(len) => *len,
        };
        match self.fault {
            Some(Fault::FullAt(limit)) if end as u64 > limit => Err(Cause::Full.error()),
            Some(_) | None => Ok(()),
        }
    }
}

impl Cause {
    /// As the system says it.
    #[must_use]
    pub fn error(self) -> io::Error {
        match self {
            Self::Full => io::ErrorKind::StorageFull.into(),
            Self::ReadOnly => io::ErrorKind::ReadOnlyFilesystem.into(),
            Self::Defect => io::Error::other("the disk does not answer"),
            // It says nothing on the standard error stream, unlike `panic!`.
            Self::Chaos => resume_unwind(Box::new("this makes no sense")),
        }
    }
}

impl Medium for Disk {
    fn path(&self) -> &Path {
        Path::new("a disk in memory")
    }

    fn cache_bytes(&self) -> usize {
        CACHE_BYTES
    }

    fn open(&self, is_writable: bool) -> io::Result<Box<dyn StorageBackend>> {
        if is_writable {
            return Ok(Box::new(self.clone()));
        }
        Ok(Box::new(ReadOnly(self.clone())))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(Self::len(self))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        if let Some(Fault::Reads(cause)) = state.fault {
            state.failures += 1;
            return Err(cause.error());
        }
        let offset = index(offset);
        let found = state.file.get(offset..offset + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::SetLen(index(len)))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        state.operations += 1;
        state.flushes += 1;
        match state.succeeds() {
            // What has its place already can be flushed.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
            Err(error) => {
                state.failures += 1;
                state.failed_flushes += 1;
                return Err(error);
            }
            Ok(()) => {}
        }
        let state = &mut *state;
        for change in state.changes.drain(..) {
            change.apply(&mut state.durable);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = index(offset);
        self.change(Change::Write(offset, data.to_vec()))
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("the disk is in memory")
}

/// A disk as one sees it who may not write to it.
#[derive(Debug)]
struct ReadOnly(Disk);

impl StorageBackend for ReadOnly {
    fn len(&self) -> io::Result<u64> {
        StorageBackend::len(&self.0)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        panic!("a view truncates nothing");
    }

    fn sync_data(&self) -> io::Result<()> {
        panic!("a view flushes nothing");
    }

    fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
        panic!("a view writes nothing");
    }
}
