//! A store that answers when its own task gets to it, or never.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt as _, pending};
use pinch_driver::proto::queue::{MemoryQueue, Operation, Outcome, Restored};
use pinch_driver::{MemoryStore, Store};

#[derive(Clone, Default)]
pub(crate) struct Disk {
    memory: Arc<MemoryStore>,
    is_silent: bool,
}

impl Disk {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A store that does not answer.
    pub(crate) fn silent() -> Self {
        Self {
            is_silent: true,
            ..Self::default()
        }
    }

    /// How many envelopes it holds.
    pub(crate) fn len(&self) -> usize {
        self.memory.with_queue(MemoryQueue::len)
    }
}

impl Store for Disk {
    fn name(&self) -> &str {
        "disk"
    }

    fn restored(&self) -> Restored {
        self.memory.restored()
    }

    fn execute(&self, batch: Vec<Operation>) -> BoxFuture<'_, Vec<Outcome>> {
        if self.is_silent {
            return pending().boxed();
        }
        let memory = Arc::clone(&self.memory);
        let work = shuttle::future::spawn(async move { memory.execute(batch).await });
        async move { work.await.expect("nobody aborts it") }.boxed()
    }
}
