//! One thread of several: it runs tasks, and looks at its sockets and timers in between.

use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Waker;
use core::time::Duration;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread;
use std::time::Instant;

use mio::{Events, Poll, Registry};

use crate::queue::{self, Inbox, Kind};
use crate::sources::{NO_SOURCE, Sources};
use crate::threads::Pool;
use crate::timers::Timers;

/// How many tasks that were woken by sockets run before those that they have woken do.
const SENDERS: usize = 64;

/// How many tasks that were woken by sockets run before the sockets are looked at again, and how many
/// that were woken by tasks run behind each [`SENDERS`] of them.
const TASKS_PER_TURN: usize = 256;

/// How many events one look takes.
const EVENTS: usize = 1024;

/// A worker that was busy for this long may have been held up by a task that blocks its thread.
const HELD_UP: Duration = Duration::from_millis(50);

/// What a worker and those who have something for it share.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) registry: Registry,
    alarm: mio::Waker,
    /// It waits, or is about to: who has something for it has to wake it.
    asleep: AtomicBool,
    pub(crate) inbox: Inbox,
    pub(crate) timers: Timers,
    pub(crate) sources: Sources,
    selector: Mutex<Selector>,
}

/// What one needs for a look at the sockets.
#[derive(Debug)]
struct Selector {
    poll: Poll,
    events: Events,
    woken: Vec<Waker>,
}

impl Worker {
    pub(crate) fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let alarm = mio::Waker::new(&registry, NO_SOURCE)?;
        Ok(Self {
            registry,
            alarm,
            asleep: AtomicBool::new(false),
            inbox: Inbox::default(),
            timers: Timers::default(),
            sources: Sources::default(),
            selector: Mutex::new(Selector {
                poll,
                events: Events::with_capacity(EVENTS),
                woken: Vec::new(),
            }),
        })
    }

    /// Has the worker look at what is new, if it would not do so by itself.
    pub(crate) fn wake(&self) {
        if self.asleep.load(Ordering::Acquire) && self.asleep.swap(false, Ordering::AcqRel) {
            self.ring();
        }
    }

    /// Wakes the worker whatever it does.
    pub(crate) fn ring(&self) {
        // It fails only if the system is out of memory, or if the worker has ended.
        let _ = self.alarm.wake();
    }

    /// Waits until something is there for this worker, unless there is already, and wakes those whom
    /// it concerns. `last` is when the last turn ended; returns when this one did.
    fn turn(&self, pool: &Pool, last: Instant) -> Instant {
        let begin = Instant::now();
        // Who was held up does not claim to sleep before it has seen what came meanwhile.
        let held_up = begin.duration_since(last) >= HELD_UP;
        if !self.may_sleep() || held_up {
            self.asleep.store(false, Ordering::Relaxed);
        }
        self.wait(begin, || pool.is_closing());
        let now = Instant::now();
        if self.timers.next().is_some_and(|at| at <= now) {
            self.expire(pool, now);
        }
        now
    }

    /// Waits until something is there, if this worker is to sleep.
    fn wait(&self, begin: Instant, is_closing: impl FnOnce() -> bool) {
        let mut selector = self.selector.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever looks instead of this worker may get the ring that was meant for it. Under the lock
        // nobody looks, so that a ring which comes from here on is heard.
        let timeout = if !self.asleep.load(Ordering::Acquire) || is_closing() {
            Some(Duration::ZERO)
        } else {
            let next = self.timers.next();
            next.map(|at| at.saturating_duration_since(begin))
        };
        self.look(&mut selector, timeout);
    }

    /// Whether there is nothing to do. From the answer on, others wake this worker.
    fn may_sleep(&self) -> bool {
        if has_tasks() {
            self.inbox.fetch();
            return false;
        }
        // Whoever brings something after the inbox, and then the timers, were looked at, sees this.
        self.asleep.store(true, Ordering::Release);
        self.inbox.fetch();
        !has_tasks()
    }

    /// Waits for events for as long as `timeout`, and hands them on. While it hands them on, this
    /// worker is not asleep: whoever has a timer that is due waits for it.
    fn look(&self, selector: &mut Selector, timeout: Option<Duration>) {
        let Selector {
            poll,
            events,
            woken,
        } = selector;
        let polled = poll.poll(events, timeout);
        self.asleep.store(false, Ordering::Release);
        match polled {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return,
            Err(error) => panic!("the system waits for events of any valid selector: {error}"),
        }
        self.sources.notice(events, woken);
        woken.drain(..).for_each(Waker::wake);
    }

    /// Wakes those whose time has come. What came before that, to whatever worker, has been noticed
    /// then: a deadline that passed while a worker was held up finds what it was waiting for.
    fn expire(&self, pool: &Pool, now: Instant) {
        for other in pool.workers() {
            if !core::ptr::eq(other, self) {
                other.look_instead();
            }
        }
        let mut woken = Vec::new();
        self.timers.expire(now, &mut woken);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Looks at the sockets of a worker that is busy. What is woken runs on this thread.
    fn look_instead(&self) {
        while !self.asleep.load(Ordering::Acquire) {
            match self.selector.try_lock() {
                Ok(mut selector) => return self.look(&mut selector, Some(Duration::ZERO)),
                Err(TryLockError::Poisoned(poisoned)) => {
                    return self.look(&mut poisoned.into_inner(), Some(Duration::ZERO));
                }
                // It is looking itself, and not for long: it is not asleep.
                Err(TryLockError::WouldBlock) => thread::yield_now(),
            }
        }
    }
}

/// What the thread of a worker does, until nobody has anything for it any longer.
pub(crate) fn work(pool: &Arc<Pool>, index: usize) {
    let worker = pool.worker(index);
    let _entered = queue::enter(Arc::clone(pool), index);
    let mut last = Instant::now();
    while !pool.is_closing() {
        run_tasks();
        last = worker.turn(pool, last);
    }
}

/// Runs tasks that are ready, and the tasks that they wake; what those wake waits, so that a task
/// that wakes itself over and over holds up nobody.
fn run_tasks() {
    let mut noticed = queue::len(Kind::Noticed).min(TASKS_PER_TURN);
    loop {
        let senders = noticed.min(SENDERS);
        for _ in 0..senders {
            queue::run(Kind::Noticed);
        }
        for _ in 0..queue::len(Kind::Woken).min(TASKS_PER_TURN) {
            queue::run(Kind::Woken);
        }
        noticed -= senders;
        if noticed == 0 {
            return;
        }
    }
}

fn has_tasks() -> bool {
    queue::len(Kind::Woken) + queue::len(Kind::Noticed) > 0
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A worker that is about to wait, and whose event somebody else may take first.
    fn about_to_sleep() -> Arc<Worker> {
        let worker = Worker::new().expect("a selector");
        worker.asleep.store(true, Ordering::Release);
        Arc::new(worker)
    }

    /// Whether the worker comes back from its wait.
    fn comes_back(worker: &Arc<Worker>, is_closing: bool) -> bool {
        let (report, reported) = mpsc::channel();
        let waiting = Arc::clone(worker);
        thread::spawn(move || {
            waiting.wait(Instant::now(), || is_closing);
            let _ = report.send(());
        });
        let came = reported.recv_timeout(Duration::from_secs(2)).is_ok();
        // The thread has to end in any case.
        worker.ring();
        came
    }

    #[test]
    fn a_ring_that_somebody_else_hears_wakes_all_the_same() {
        let worker = about_to_sleep();
        worker.wake();
        worker.look_instead();
        assert!(comes_back(&worker, false));
    }

    #[test]
    fn the_end_is_not_slept_through() {
        let worker = about_to_sleep();
        assert!(comes_back(&worker, true));
    }
}
