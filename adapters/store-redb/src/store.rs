//! The store as others see it: what it is asked goes to its thread, and the answers come back.

use std::io;
use std::path::Path;
use std::thread::{self, JoinHandle};

use futures_util::future::{BoxFuture, FutureExt as _};
use pinch_driver::Store;
use pinch_proto::queue::{Failure, Operation, Outcome, Restored};

use crate::error::OpenError;
use crate::inspect::{self, Inspection};
use crate::medium::{self, Medium, OnDisk};
use crate::place::{self, Watch};
use crate::worker::{Job, Worker};

/// A queue in a file.
///
/// A thread of its own does all that waits for the disk, so that a store can be used from any
/// runtime. The limits of what it holds, and so of the file, come with each envelope; the file grows with
/// what waits, and shrinks again.
///
/// # Failures
///
/// A batch that removes more than 500 envelopes takes several commits, and what was done before one
/// fails is in effect. Otherwise, a batch whose commit fails has no effect, with one exception: if the disk fails while it makes
/// the batch durable, and again when it is asked to once more, all operations of the batch are
/// reported as failed, and whether they are in effect is open, as after a crash. When a disk that
/// has failed to make something durable says that it has done so now, it is believed. Systems are
/// known that say so and have given up: replace a disk that reports errors other than being full.
///
/// # The end
///
/// Dropping a store finishes the batch that is being executed, closes the file and ends the thread;
/// it blocks for that long.
#[derive(Debug)]
pub struct RedbStore {
    name: String,
    /// Has room for one job. `None` only while the store is being dropped.
    jobs: Option<async_channel::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// Looks whether the file is still at its place, if it is one.
    watch: Option<Watch>,
}

impl RedbStore {
    /// Opens the queue at `path`, or makes one if there is no such file.
    ///
    /// That takes no longer for a large file than for a small one, after a crash either. Exceptions are
    /// files of less than 32 MiB, and those of an earlier version, if their relay has crashed: they are
    /// read as a whole to undo what was left unfinished. On Unix, nobody but the owner of the file
    /// may read it from then on (mode 0600), for it says who writes to whom.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says what is wrong with the file or its place, and what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        medium::create_if_missing(path)?;
        let medium = OnDisk::new(path.to_owned());
        let identity = medium.identity();
        let mut store = Self::open_on(Box::new(medium))?;
        place::restrict(path);
        if let Some(&identity) = identity.get() {
            let path = path.to_owned();
            let watch = Watch::start(path.clone(), identity);
            store.watch = Some(watch.map_err(|source| OpenError::Io { path, source })?);
        }
        Ok(store)
    }

    /// Says what waits in the queue at `path`, and for whom; never the contents. Every page of the file
    /// is read and checked.
    ///
    /// The file is only read, even if its relay has crashed, and no relay may have it open.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says what is wrong with the file, or that it is in use.
    pub fn inspect(path: impl AsRef<Path>) -> Result<Inspection, OpenError> {
        inspect::inspect(path.as_ref())
    }

    pub(crate) fn open_on(medium: Box<dyn Medium>) -> Result<Self, OpenError> {
        let path = medium.path().to_owned();
        let name = format!("redb at {}", path.display());
        let worker = Worker::open(medium)?;
        let (jobs, received) = async_channel::bounded(1);
        let thread = thread::Builder::new().name("pinch-store".to_owned());
        let thread = thread
            .spawn(move || worker.run(&received))
            .map_err(|source: io::Error| OpenError::Io { path, source })?;
        Ok(Self {
            name,
            jobs: Some(jobs),
            thread: Some(thread),
            watch: None,
        })
    }

    fn jobs(&self) -> &async_channel::Sender<Job> {
        let jobs = self.jobs.as_ref();
        jobs.expect("only a store that is being dropped takes no more jobs")
    }
}

impl Store for RedbStore {
    fn name(&self) -> &str {
        &self.name
    }

    /// Blocks until the batch that is being executed is done.
    fn restored(&self) -> Restored {
        let (reply, replied) = async_channel::bounded(1);
        let asked = self.jobs().send_blocking(Job::Restore(reply));
        let restored = asked.ok().and_then(|()| replied.recv_blocking().ok());
        restored.expect("the thread of a store ends when the store is dropped")
    }

    fn warning(&self) -> Option<&'static str> {
        self.watch.as_ref().and_then(Watch::warning)
    }

    fn execute(&self, batch: Vec<Operation>) -> BoxFuture<'_, Vec<Outcome>> {
        async move {
            let count = batch.len();
            let (reply, replied) = async_channel::bounded(1);
            let asked = self.jobs().send(Job::Execute(batch, reply)).await;
            match asked {
                Ok(()) => replied.recv().await.unwrap_or_else(|_| ended(count)),
                Err(_) => ended(count),
            }
        }
        .boxed()
    }
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It has said on the standard error stream why, if it panicked.
            let _ = thread.join();
        }
    }
}

fn ended(count: usize) -> Vec<Outcome> {
    let failed = Outcome::Failed {
        failure: Failure::Broken,
        detail: "the thread of the store has ended".into(),
    };
    vec![failed; count]
}
