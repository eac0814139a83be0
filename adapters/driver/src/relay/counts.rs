//! What is counted for as long as somebody keeps it: the tasks of a relay.

use core::ops::Deref;
use core::sync::atomic::Ordering;
use std::sync::Arc;

use super::shared::Shared;
use crate::Runtime;

impl<R: Runtime> Shared<R> {
    /// Counts a task for as long as it keeps what this returns.
    pub(super) fn count_task(self: &Arc<Self>) -> TaskCount<R> {
        self.tasks.fetch_add(1, Ordering::Relaxed);
        TaskCount(Arc::clone(self))
    }
}

/// One task, in [`RelayStats::tasks`](super::RelayStats::tasks), and its way to what all share.
pub(super) struct TaskCount<R: Runtime>(Arc<Shared<R>>);

impl<R: Runtime> Deref for TaskCount<R> {
    type Target = Shared<R>;

    fn deref(&self) -> &Shared<R> {
        &self.0
    }
}

impl<R: Runtime> Drop for TaskCount<R> {
    fn drop(&mut self) {
        let before = self.0.tasks.fetch_sub(1, Ordering::AcqRel);
        self.0.task_ended(before == 1);
    }
}

/// A task without which a relay is none. If it panics, `/health` says so.
pub(super) struct VitalTask<'a, R: Runtime> {
    shared: &'a Shared<R>,
    name: &'static str,
}

impl<'a, R: Runtime> VitalTask<'a, R> {
    pub(super) const fn new(shared: &'a Shared<R>, name: &'static str) -> Self {
        Self { shared, name }
    }
}

impl<R: Runtime> Drop for VitalTask<'_, R> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.task_died(self.name);
        }
    }
}
