//! The tasks that are ready to run.
//!
//! What is woken by a task of a worker, or by a socket or a timer that it looks at, goes to the queues
//! of its thread: the receiver of a message runs where its sender ran, without a lock and without
//! waking anybody. What comes from another thread goes to the worker's inbox.
//!
//! The tasks that others have woken do not wait behind all those that sockets have woken: what they
//! are to write is still in the processor's cache. Nor do they run at once: what a few senders have
//! for one receiver is written together.

use core::cell::RefCell;
use core::panic::AssertUnwindSafe;
use std::collections::VecDeque;
use std::panic::catch_unwind;
use std::sync::{Arc, Mutex, PoisonError};

use crate::threads::{Handle, Pool};

/// A task that is ready to run. It holds the threads that run it.
pub(crate) type Runnable = async_task::Runnable<Arc<Handle>>;

/// The tasks of the worker that this thread is.
#[derive(Debug)]
struct Local {
    pool: Arc<Pool>,
    worker: usize,
    /// Woken by tasks.
    woken: VecDeque<Runnable>,
    /// Woken by sockets, timers and other threads.
    noticed: VecDeque<Runnable>,
    is_running: bool,
}

thread_local! {
    static LOCAL: RefCell<Option<Local>> = const { RefCell::new(None) };
}

/// Makes this thread a worker of `pool`, until what is returned is dropped.
pub(crate) fn enter(pool: Arc<Pool>, worker: usize) -> Entered {
    let local = Local {
        pool,
        worker,
        woken: VecDeque::new(),
        noticed: VecDeque::new(),
        is_running: false,
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

/// Which of the tasks of this thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Woken by tasks.
    Woken,
    /// Woken by sockets, timers and other threads.
    Noticed,
}

impl Local {
    fn queue(&mut self, kind: Kind) -> &mut VecDeque<Runnable> {
        match kind {
            Kind::Woken => &mut self.woken,
            Kind::Noticed => &mut self.noticed,
        }
    }
}

/// How many tasks of this thread are ready.
pub(crate) fn len(kind: Kind) -> usize {
    LOCAL.with_borrow_mut(|local| local.as_mut().map_or(0, |local| local.queue(kind).len()))
}

/// Runs the next task of this thread.
pub(crate) fn run(kind: Kind) {
    let task = LOCAL.with_borrow_mut(|local| {
        let local = local.as_mut()?;
        local.is_running = true;
        local.queue(kind).pop_front()
    });
    if let Some(task) = task {
        // The panic of a task ends that task; the panic hook has reported it.
        let _ = catch_unwind(AssertUnwindSafe(|| task.run()));
    }
    LOCAL.with_borrow_mut(|local| {
        if let Some(local) = local {
            local.is_running = false;
        }
    });
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
            let kind = if local.is_running {
                Kind::Woken
            } else {
                Kind::Noticed
            };
            local.queue(kind).push_back(own);
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
                    local.noticed.append(&mut tasks);
                }
            });
        }
    }
}
