//! The threads: how they start, who holds them, how they end.

use core::fmt;
use core::num::NonZero;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use crate::queue;
use crate::worker::{Worker, work};

/// How many threads [`Polling::default`](crate::Polling::default) has, where it is set.
const VARIABLE: &str = "PINCH_POLLING_THREADS";

/// Why threads cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The environment says nonsense.
    #[error("{VARIABLE} is {value:?}, expected a number of threads from 1 to {MAX_THREADS}")]
    Variable {
        /// What it says.
        value: String,
    },
    /// There are more of them than 1,024.
    #[error("{threads} threads are too many, expected at most {MAX_THREADS}")]
    TooMany {
        /// How many were asked for.
        threads: usize,
    },
    /// The system does not give what a thread needs.
    #[error("cannot start a thread that waits for sockets: {0}")]
    System(#[from] io::Error),
}

impl From<StartError> for io::Error {
    fn from(error: StartError) -> Self {
        match error {
            StartError::System(error) => error,
            StartError::Variable { .. } | StartError::TooMany { .. } => {
                Self::new(io::ErrorKind::InvalidInput, error)
            }
        }
    }
}

/// More than any machine has use for.
const MAX_THREADS: usize = 1024;

/// What the threads share.
pub(crate) struct Pool {
    workers: Box<[Worker]>,
    next: AtomicUsize,
    closing: AtomicBool,
}

impl Pool {
    pub(crate) fn workers(&self) -> &[Worker] {
        &self.workers
    }

    /// A worker, by its index.
    pub(crate) fn worker(&self, index: usize) -> &Worker {
        self.workers
            .get(index)
            .expect("an index comes from next_index or from the worker itself")
    }

    /// The index of the one whose turn it is to get something new.
    pub(crate) fn next_index(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed) % self.workers.len()
    }

    pub(crate) fn next_worker(&self) -> &Worker {
        self.worker(self.next_index())
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("threads", &self.workers.len())
            .finish_non_exhaustive()
    }
}

/// Holds the threads. Every task, socket and timer has one, as those have who may make more of them:
/// the threads end when the last is gone.
#[derive(Debug)]
pub(crate) struct Handle {
    pool: Arc<Pool>,
}

impl Handle {
    /// Starts `threads` threads.
    pub(crate) fn start(threads: NonZero<usize>) -> Result<Arc<Self>, StartError> {
        let threads = threads.get();
        if threads > MAX_THREADS {
            return Err(StartError::TooMany { threads });
        }
        let workers = (0..threads).map(|_| Worker::new());
        let pool = Arc::new(Pool {
            workers: workers.collect::<io::Result<_>>()?,
            next: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
        });
        // From here on, those that have started end if another cannot be.
        let handle = Arc::new(Self { pool });
        for index in 0..threads {
            let pool = Arc::clone(&handle.pool);
            thread::Builder::new()
                .name("pinch-polling".to_owned())
                .spawn(move || work(&pool, index))?;
        }
        Ok(handle)
    }

    /// The threads of the process, which start when they are wanted first.
    pub(crate) fn of_process() -> Result<&'static Arc<Self>, StartError> {
        static HANDLE: OnceLock<Arc<Handle>> = OnceLock::new();
        static STARTING: Mutex<()> = Mutex::new(());
        if let Some(handle) = HANDLE.get() {
            return Ok(handle);
        }
        let _one_at_a_time = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = HANDLE.get() {
            return Ok(handle);
        }
        let handle = Self::start(threads_of_process()?)?;
        Ok(HANDLE.get_or_init(|| handle))
    }

    pub(crate) const fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Runs `task` in the background.
    pub(crate) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let (runnable, task) = async_task::Builder::new()
            .metadata(Arc::clone(self))
            .spawn(|_| task, queue::schedule);
        task.detach();
        runnable.schedule();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.pool.closing.store(true, Ordering::Release);
        self.pool.workers.iter().for_each(Worker::ring);
    }
}

/// As many as the environment says, or half of those that can run at the same time: where every byte
/// comes from a socket and goes to one, the system needs the other half.
fn threads_of_process() -> Result<NonZero<usize>, StartError> {
    // One that is set and empty counts as unset.
    let Some(value) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) else {
        let cores = thread::available_parallelism()?;
        return Ok(NonZero::new(cores.get().div_ceil(2)).unwrap_or(cores));
    };
    let value = value.to_string_lossy();
    value
        .parse()
        .ok()
        .filter(|threads: &NonZero<usize>| threads.get() <= MAX_THREADS)
        .ok_or_else(|| StartError::Variable {
            value: value.into_owned(),
        })
}
