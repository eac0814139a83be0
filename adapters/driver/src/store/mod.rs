//! What a relay keeps its durable queue in: anything that executes batches of operations.
//!
//! A store says how batches are executed, and nothing about when: whoever drives one gathers what
//! the hub wants into batches and gives the outcomes back. What the operations mean and what a
//! store promises is said where they are defined, in [`pinch_proto::queue`].

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::{BoxFuture, FutureExt as _};
use pinch_proto::queue::{MemoryQueue, Operation, Outcome, Restored};

/// Keeps envelopes for agents that are not there, and who blocks whom.
///
/// # One batch at a time
///
/// A relay awaits the outcomes of one batch before it gives the next, and meanwhile gathers what is
/// wanted next into a batch of its own. So the order that a store promises comes down to the order
/// within a batch, and a store that makes a batch durable at once, with a single commit, pays for
/// one `fsync` where a thousand senders wait for it.
///
/// # Cancel safety
///
/// Dropping the future of [`execute`](Store::execute) must not do harm to the store; whether the
/// batch takes effect is then open, as after a crash, but each of its operations still does as a
/// whole or not at all. A batch that is given afterwards takes effect after it. A relay drops it only
/// at its own end: when it has shut down and the store has not answered within the queue's
/// [answer timeout](pinch_proto::hub::QueueConfig::answer_timeout), or 10 s after the relay was dropped.
///
/// # Your own
///
/// `store_suite!` of the crate `pinch-conformance` makes tests of all that is asked of a store.
///
/// ```
/// use futures_util::future::{BoxFuture, FutureExt as _};
/// use pinch_driver::proto::queue::{Operation, Outcome, Restored};
/// use pinch_driver::{MemoryStore, Store};
///
/// /// Counts what goes through it.
/// struct Counted<S> {
///     store: S,
///     operations: std::sync::atomic::AtomicUsize,
/// }
///
/// impl<S: Store> Store for Counted<S> {
///     fn name(&self) -> &str {
///         self.store.name()
///     }
///
///     fn restored(&self) -> Restored {
///         self.store.restored()
///     }
///
///     fn execute(&self, batch: Vec<Operation>) -> BoxFuture<'_, Vec<Outcome>> {
///         self.operations.fetch_add(batch.len(), std::sync::atomic::Ordering::Relaxed);
///         self.store.execute(batch).boxed()
///     }
/// }
/// # Counted { store: MemoryStore::new(), operations: 0.into() }.execute(Vec::new());
/// ```
pub trait Store: Send + Sync + 'static {
    /// What the store is and where, in a few words, for logs: `redb at ./pinch.db`.
    fn name(&self) -> &str;

    /// What the store holds, for a hub that begins with it. Asked once, before the first batch.
    fn restored(&self) -> Restored;

    /// What an operator has to see to although operations succeed, in a few words: `/health` says it
    /// in place of `ok`. Asked often; it must not block. Default: nothing.
    fn warning(&self) -> Option<&'static str> {
        None
    }

    /// Executes `batch` in its order, and comes to one outcome for each operation, in the same
    /// order. An operation sees the effect of those before it.
    ///
    /// It fails by its outcomes, [`Outcome::Failed`], and never by a panic; a store that cannot tell
    /// which of a batch have failed says so of all of them. The future must not block its thread:
    /// disks belong on threads of their own.
    fn execute(&self, batch: Vec<Operation>) -> BoxFuture<'_, Vec<Outcome>>;
}

/// A store that others look into while a relay has it.
impl<S: Store + ?Sized> Store for Arc<S> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn restored(&self) -> Restored {
        (**self).restored()
    }

    fn warning(&self) -> Option<&'static str> {
        (**self).warning()
    }

    fn execute(&self, batch: Vec<Operation>) -> BoxFuture<'_, Vec<Outcome>> {
        (**self).execute(batch)
    }
}

/// A store in memory: for tests, and for relays that need not keep anything over a restart. What it
/// holds is bounded by the limits that come with each envelope, and by nothing else.
///
/// ```
/// use pinch_driver::proto::queue::{Operation, Outcome};
/// use pinch_driver::proto::Address;
/// use pinch_driver::{MemoryStore, Store};
///
/// # futures_util::FutureExt::now_or_never(async {
/// let store = MemoryStore::new();
/// let (blocker, blocked) = (Address::parse("pinch:bob@relay")?, Address::parse("pinch:eve@relay")?);
/// let block = Operation::Block { blocker: blocker.clone(), blocked: blocked.clone() };
/// assert_eq!(store.execute(vec![block]).await, [Outcome::Done]);
/// assert_eq!(store.restored().blocks, [(blocker, blocked)]);
/// # Ok::<(), pinch_driver::proto::AddressError>(())
/// # }).unwrap().unwrap();
/// ```
#[derive(Debug, Default)]
pub struct MemoryStore {
    queue: Mutex<MemoryQueue>,
}

impl MemoryStore {
    /// A store with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What `inspect` sees in the queue. A batch that is executed meanwhile waits.
    pub fn with_queue<T>(&self, inspect: impl FnOnce(&MemoryQueue) -> T) -> T {
        // No operation leaves the queue half done, so one that panicked does not matter here.
        inspect(&self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl From<MemoryQueue> for MemoryStore {
    fn from(queue: MemoryQueue) -> Self {
        let queue = Mutex::new(queue);
        Self { queue }
    }
}

impl Store for MemoryStore {
    fn name(&self) -> &str {
        "memory"
    }

    fn restored(&self) -> Restored {
        self.with_queue(MemoryQueue::restored)
    }

    fn execute(&self, batch: Vec<Operation>) -> BoxFuture<'_, Vec<Outcome>> {
        async move {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            let execute = |operation| queue.execute(operation);
            batch.into_iter().map(execute).collect()
        }
        .boxed()
    }
}
