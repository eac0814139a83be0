//! Timers: who is to be woken when, and the future that waits for it.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::queue;
use crate::threads::Handle;

/// The timers of one worker, the earliest first.
#[derive(Debug, Default)]
pub(crate) struct Timers(Mutex<Waiting>);

/// When, and a number that tells those of the same instant apart.
type Key = (Instant, u64);

#[derive(Debug, Default)]
struct Waiting {
    wakers: BTreeMap<Key, Waker>,
    next_number: u64,
}

impl Timers {
    /// The earliest.
    pub(crate) fn next(&self) -> Option<Instant> {
        let waiting = self.lock();
        let (&(at, _), _) = waiting.wakers.first_key_value()?;
        Some(at)
    }

    /// Takes those that are due at `now` out, and appends whom they wake to `woken`.
    pub(crate) fn expire(&self, now: Instant, woken: &mut Vec<Waker>) {
        let mut waiting = self.lock();
        while let Some(first) = waiting.wakers.first_entry()
            && first.key().0 <= now
        {
            woken.push(first.remove());
        }
    }

    /// Has `waker` called at `at`; returns the number of the timer, and whether it is the earliest.
    fn insert(&self, at: Instant, waker: Waker) -> (u64, bool) {
        let mut waiting = self.lock();
        let number = waiting.next_number;
        waiting.next_number += 1;
        waiting.wakers.insert((at, number), waker);
        let earliest = waiting.wakers.first_key_value();
        (number, earliest.is_some_and(|(key, _)| key.1 == number))
    }

    /// Has `waker` called instead; false if the timer is not there.
    fn update(&self, key: Key, waker: &Waker) -> bool {
        let before = {
            let mut waiting = self.lock();
            let Some(known) = waiting.wakers.get_mut(&key) else {
                return false;
            };
            if known.will_wake(waker) {
                return true;
            }
            core::mem::replace(known, waker.clone())
        };
        // Not under the lock: it may be the last that holds a task, which may hold a timer.
        drop(before);
        true
    }

    fn remove(&self, key: Key) {
        let waker = self.lock().wakers.remove(&key);
        // Not under the lock either.
        drop(waker);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Completes at an instant, or soon after. Dropping it cancels it.
#[derive(Debug)]
pub struct Sleep {
    handle: Arc<Handle>,
    deadline: Instant,
    entry: Option<Entry>,
}

/// Where a timer is.
#[derive(Clone, Copy, Debug)]
struct Entry {
    worker: usize,
    number: u64,
}

impl Sleep {
    pub(crate) const fn new(handle: Arc<Handle>, deadline: Instant) -> Self {
        Self {
            handle,
            deadline,
            entry: None,
        }
    }

    fn cancel(&mut self) {
        if let Some(Entry { worker, number }) = self.entry.take() {
            let timers = &self.handle.pool().worker(worker).timers;
            timers.remove((self.deadline, number));
        }
    }

    /// Has `waker` called at the deadline.
    fn wait(&mut self, waker: &Waker) {
        let pool = self.handle.pool();
        if let Some(Entry { worker, number }) = self.entry
            && pool
                .worker(worker)
                .timers
                .update((self.deadline, number), waker)
        {
            return;
        }
        let current = queue::current(pool);
        let worker = current.unwrap_or_else(|| pool.next_index());
        let timers = &pool.worker(worker).timers;
        let (number, is_earliest) = timers.insert(self.deadline, waker.clone());
        self.entry = Some(Entry { worker, number });
        // The worker that this thread is looks before it sleeps.
        if current.is_none() && is_earliest {
            pool.worker(worker).wake();
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.deadline {
            self.cancel();
            return Poll::Ready(());
        }
        self.wait(cx.waker());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.cancel();
    }
}

#[cfg(test)]
mod tests;
