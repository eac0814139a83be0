//! The thread that owns the database: it executes batches, and goes on after failures.
//!
//! redb refuses everything after the first error of its disk. So the database is closed then, and
//! opened again for the next batch: with that, what was committed is there and nothing else. While
//! it cannot be written to, it is only looked at, so that agents get what waits for them while the
//! disk is full.

use core::mem;
use core::panic::AssertUnwindSafe;
use std::panic;
use std::sync::Arc;

use pinch_proto::queue::{Failure, Operation, Outcome, Restored};
use redb::{Database, ReadableDatabase as _};

use crate::error::{OpenError, failure_of};
use crate::execute::Writer;
use crate::medium::{self, Medium};
use crate::rankings::Rankings;
use crate::room::{Intake, Room};
use crate::{read, schema};

/// Length of a file, in bytes, from which on each commit says what is free in it. That takes another
/// flush; without it, the whole file is read to find out after a crash.
const QUICK_LEN: u64 = if cfg!(test) { 1 } else { 32 } << 20;

/// Part of what waits that has to go before a file without room is tried again, ...
const RETRY_DIVISOR: u64 = 64;
/// ... and when half of the reserve is in use.
const SCARCE_RETRY_DIVISOR: u64 = 8;

/// What the thread is asked for.
#[derive(Debug)]
pub(crate) enum Job {
    /// Execute a batch.
    Execute(Vec<Operation>, async_channel::Sender<Vec<Outcome>>),
    /// Say what a hub has to know.
    Restore(async_channel::Sender<Restored>),
}

/// What the thread has.
pub(crate) struct Worker {
    medium: Box<dyn Medium>,
    database: State,
    /// As of the last commit.
    rankings: Rankings,
    room: Arc<Room>,
    /// The cost of all that waits.
    bytes: u64,
    /// New envelopes may not make that larger, until it has become smaller: the file has no room.
    most_bytes: Option<u64>,
    /// What a hub had to know when that was last asked for.
    restored: Restored,
}

enum State {
    /// Nothing is known to be wrong.
    Open(Database),
    /// It failed, and is open to be read only.
    View(Database),
    /// It failed.
    Closed,
}

impl Worker {
    pub(crate) fn open(medium: Box<dyn Medium>) -> Result<Self, OpenError> {
        let room = Arc::new(Room::new());
        let (database, restored) = medium::open(&*medium, &room)?;
        Ok(Self {
            medium,
            database: State::Open(database),
            rankings: Rankings::default(),
            room,
            bytes: 0,
            most_bytes: None,
            restored,
        })
    }

    /// Does jobs until nobody can send another.
    pub(crate) fn run(mut self, jobs: &async_channel::Receiver<Job>) {
        while let Ok(job) = jobs.recv_blocking() {
            // Whoever has gone away meanwhile does not want to know.
            match job {
                Job::Execute(batch, reply) => drop(reply.try_send(self.execute(&batch))),
                Job::Restore(reply) => drop(reply.try_send(self.restored())),
            }
        }
    }

    pub(crate) fn execute(&mut self, batch: &[Operation]) -> Vec<Outcome> {
        if batch
            .iter()
            .all(|operation| matches!(operation, Operation::Read(_)))
        {
            let read = |operation| self.read(operation);
            return batch.iter().filter_map(read).collect();
        }
        let takes_new = self.room.fit(batch)
            && (!self.room.is_reserve_in_use(3) || self.room.is_ample(self.bytes));
        let mut intake = if takes_new {
            Intake::New
        } else {
            Intake::Returned
        };
        if self.most_bytes.is_some_and(|most| self.bytes <= most) {
            self.most_bytes = None;
        }
        let mut outcomes = Vec::with_capacity(batch.len());
        while let Some(rest) = batch.get(outcomes.len()..).filter(|rest| !rest.is_empty()) {
            self.room.begin(intake);
            let written = self.guarded(|worker| worker.write(rest, intake));
            self.room.end();
            match written {
                Ok(done) => outcomes.extend(done),
                Err(_) if intake == Intake::Returned && self.room.is_exceeded() => {
                    intake = Intake::Nothing;
                }
                Err(_) if intake == Intake::New && self.room.is_exceeded() => {
                    intake = Intake::Returned;
                    let divisor = if self.room.is_reserve_in_use(2) {
                        SCARCE_RETRY_DIVISOR
                    } else {
                        RETRY_DIVISOR
                    };
                    self.most_bytes = Some(self.bytes - self.bytes / divisor);
                }
                Err(failed) => {
                    let read = |operation| self.read(operation).unwrap_or_else(|| failed.clone());
                    outcomes.extend(rest.iter().map(read));
                }
            }
        }
        outcomes
    }

    /// Executes an operation that changes nothing on what is committed; `None` if it is another.
    fn read(&mut self, operation: &Operation) -> Option<Outcome> {
        let Operation::Read(wanted) = operation else {
            return None;
        };
        let read = self.guarded(|worker| read::read(wanted, &worker.readable()?.begin_read()?));
        Some(read.unwrap_or_else(|failed| failed))
    }

    pub(crate) fn restored(&mut self) -> Restored {
        let restored = self.guarded(|worker| schema::restored(&worker.readable()?.begin_read()?));
        if let Ok(restored) = restored {
            self.restored = restored;
        }
        self.restored.clone()
    }

    /// Executes a batch, or as much of it as there is an outcome for, in one transaction.
    fn write(&mut self, batch: &[Operation], intake: Intake) -> Result<Vec<Outcome>, redb::Error> {
        let is_large = self.room.len() >= QUICK_LEN;
        let most_bytes = if intake == Intake::New {
            self.most_bytes
        } else {
            Some(0)
        };
        let mut transaction = self.writable()?.begin_write()?;
        transaction.set_quick_repair(is_large);
        // Where the batch fails, they are gone: they may be ahead of the file.
        let mut rankings = mem::take(&mut self.rankings);
        let mut writer = Writer::new(&transaction, &mut rankings, most_bytes)?;
        writer.takes_returned = intake != Intake::Nothing;
        self.bytes = writer.bytes();
        let outcomes = writer.execute_some(batch)?;
        let bytes = writer.bytes();
        match writer.finish()? {
            None => transaction.abort()?,
            Some(commits) => {
                if let Err(error) = transaction.commit()
                    // It may have failed behind the point of no return.
                    && !self.has_committed(commits)
                {
                    return Err(error.into());
                }
                self.bytes = bytes;
            }
        }
        self.rankings = rankings;
        Ok(outcomes)
    }

    /// Whether the commit of that number is in the file, and durable.
    fn has_committed(&mut self, commits: u64) -> bool {
        self.database = State::Closed;
        // What is in the file may be in memory only. If it cannot be flushed now, either, the batch
        // has failed, and whether it is in effect is open, as after a crash.
        let flushed = self.medium.open(true).and_then(|file| file.sync_data());
        let found = flushed
            .map_err(redb::Error::Io)
            .and_then(|()| schema::commits(&self.readable()?.begin_read()?));
        found.is_ok_and(|found| found == commits)
    }

    /// The database, to be written to.
    fn writable(&mut self) -> Result<&Database, redb::Error> {
        if !matches!(self.database, State::Open(_)) {
            // A view has a lock on the file, which has to go first.
            self.database = State::Closed;
            self.database = State::Open(medium::reopen(&*self.medium, &self.room)?);
        }
        self.readable()
    }

    /// The database, to be read.
    pub(crate) fn readable(&mut self) -> Result<&Database, redb::Error> {
        if let State::Closed = self.database {
            self.database = State::View(medium::reopen_view(&*self.medium)?);
        }
        match &self.database {
            State::Open(database) | State::View(database) => Ok(database),
            State::Closed => Err(redb::Error::DatabaseClosed),
        }
    }

    /// Does something, and closes the database if that fails. What comes back then is the outcome
    /// of all that was to be done.
    fn guarded<T>(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<T, redb::Error>,
    ) -> Result<T, Outcome> {
        let error = match panic::catch_unwind(AssertUnwindSafe(|| act(self))) {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => Some(error),
            // What the panic says is on the standard error stream already.
            Err(_) => None,
        };
        let failed = self.failed(error);
        let broken = mem::replace(&mut self.database, State::Closed);
        // Closing a database that is in disorder may panic, too, and would end the thread.
        let _ = panic::catch_unwind(AssertUnwindSafe(|| drop(broken)));
        Err(failed)
    }

    fn failed(&self, error: Option<redb::Error>) -> Outcome {
        let (failure, cause) = match error {
            Some(redb::Error::Io(error)) => (failure_of(&error), error.to_string()),
            Some(other) => (Failure::Broken, other.to_string()),
            None => (
                Failure::Broken,
                "the database contradicts itself".to_owned(),
            ),
        };
        let detail = format!("{}: {cause}", self.medium.path().display()).into();
        Outcome::Failed { failure, detail }
    }
}
