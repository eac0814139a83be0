//! What is counted for as long as somebody keeps it: the tasks of a relay, and the connections that
//! have not joined, of which there are only so many.

use core::sync::atomic::Ordering;
use std::sync::Arc;

use super::switchboard::Shared;
use crate::Runtime;

impl<R: Runtime> Shared<R> {
    /// Counts a task for as long as it keeps what this returns.
    pub(super) fn count_task(self: &Arc<Self>) -> TaskCount<R> {
        self.tasks.fetch_add(1, Ordering::Relaxed);
        TaskCount(Arc::clone(self))
    }

    /// A place among the connections that have not joined, unless all are taken.
    pub(super) fn pend(self: &Arc<Self>) -> Option<Pending<R>> {
        let limit = self.settings.max_pending;
        let taken = self
            .pending
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |pending| {
                (pending < limit).then_some(pending + 1)
            });
        taken.ok().map(|_| Pending(Arc::clone(self)))
    }
}

/// One task, in [`RelayStats::tasks`](super::RelayStats::tasks).
pub(super) struct TaskCount<R: Runtime>(Arc<Shared<R>>);

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

/// One connection that has not joined, in [`RelayStats::pending`](super::RelayStats::pending).
pub(super) struct Pending<R: Runtime>(Arc<Shared<R>>);

impl<R: Runtime> Drop for Pending<R> {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::AcqRel);
    }
}
