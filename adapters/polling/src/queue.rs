//! The tasks that are ready to run.
//!
//! Each worker has two queues. What is woken by one of its own tasks, or by a socket or a timer that
//! it looks at, goes to the one that belongs to its thread: the receiver of a message runs where its
//! sender ran, without a lock and without waking anybody. What comes from another thread goes to the
//! worker's inbox.

use core::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::threads::{Handle, Pool};

/// A task that is ready to run. It holds the threads that run it.
pub(crate) type Runnable = async_task::Runnable<Arc<Handle>>;

/// The tasks of the worker that this thread is.
#[derive(Debug)]
struct Local {
    pool: Arc<Pool>,
    worker: usize,
    tasks: VecDeque<Runnable>,
}

thread_local! {
    static LOCAL: RefCell<Option<Local>> = const { RefCell::new(None) };
}

/// Makes this thread a worker of `pool`, until what is returned is dropped.
pub(crate) fn enter(pool: Arc<Pool>, worker: usize) -> Entered {
    let local = Local {
        pool,
        worker,
        tasks: VecDeque::new(),
    };
    LOCAL.set(Some(local));
    Entered
}

/// See [`enter`].
pub(crate) struct Entered;

impl Drop for Entered {
    fn drop(&mut self) {
        // What a task drops may wake others, which look here.
        drop(LOCAL.take());
    }
}

/// Which worker of `pool` this thread is.
pub(crate) fn current(pool: &Arc<Pool>) -> Option<usize> {
    let current = LOCAL.try_with(|local| {
        let local = local.borrow();
        let local = local.as_ref()?;
        Arc::ptr_eq(&local.pool, pool).then_some(local.worker)
    });
    current.ok().flatten()
}

/// The next task of this thread.
pub(crate) fn pop() -> Option<Runnable> {
    LOCAL.with_borrow_mut(|local| local.as_mut()?.tasks.pop_front())
}

/// How many tasks of this thread are ready.
pub(crate) fn len() -> usize {
    LOCAL.with_borrow(|local| local.as_ref().map_or(0, |local| local.tasks.len()))
}

/// Has `runnable` run: by this thread if it is one of those that may, by another otherwise.
pub(crate) fn schedule(runnable: Runnable) {
    let mut runnable = Some(runnable);
    // It fails only where the thread is ending.
    let _ = LOCAL.try_with(|local| {
        if let Some(local) = local.borrow_mut().as_mut()
            && let Some(own) =
                runnable.take_if(|task| Arc::ptr_eq(&local.pool, task.metadata().pool()))
        {
            local.tasks.push_back(own);
        }
    });
    if let Some(foreign) = runnable {
        let pool = Arc::clone(foreign.metadata().pool());
        let worker = pool.next_worker();
        worker.inbox.push(foreign);
        worker.wake();
    }
}

/// The tasks that other threads have for a worker.
#[derive(Debug, Default)]
pub(crate) struct Inbox(Mutex<VecDeque<Runnable>>);

impl Inbox {
    fn push(&self, runnable: Runnable) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.push_back(runnable);
    }

    /// Moves all of them to the queue of this thread.
    pub(crate) fn fetch(&self) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !tasks.is_empty() {
            LOCAL.with_borrow_mut(|local| {
                if let Some(local) = local {
                    local.tasks.append(&mut tasks);
                }
            });
        }
    }
}
