//! What a socket is ready for, as far as its worker has heard, and who waits for more.
//!
//! The system tells a change once. It is remembered here until somebody finds out that it no longer
//! holds, and each notice has a number: what is found out cannot wipe away a notice that came
//! meanwhile.

use core::sync::atomic::{AtomicU32, Ordering};
use core::task::{Poll, Waker};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mio::event::Event;

use crate::sources::Writers;
use crate::threads::Handle;

/// What a socket may be ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

impl Direction {
    const fn flag(self) -> u32 {
        match self {
            Self::Read => READABLE,
            Self::Write => WRITABLE,
        }
    }
}

const READABLE: u32 = 1;
const WRITABLE: u32 = 2;
/// The end of what can be read, or an error, is there or behind what is there.
const ENDED: u32 = 4;
/// Somebody may wait in the table of writers.
const AWAITED: u32 = 8;
/// The rest counts the notices.
const NOTICE: u32 = 16;

/// Whether a socket that has given or taken less than it might have is told to be ready again when
/// that changes: so epoll and kqueue do. Elsewhere it has to be asked until it would block.
const LESS_MEANS_NO_MORE: bool = cfg!(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly",
));

/// Flags and a count of notices, as they were at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Readiness(u32);

impl Readiness {
    /// Not known to be ready for anything.
    pub(crate) const NONE: Self = Self(0);
    /// There is room for what is written.
    pub(crate) const WRITABLE: Self = Self(WRITABLE);

    pub(crate) fn of(event: &Event) -> Self {
        let ended = event.is_read_closed() || event.is_error();
        let mut flags = 0;
        if ended {
            flags |= ENDED;
        }
        if ended || event.is_readable() {
            flags |= READABLE;
        }
        if event.is_writable() || event.is_write_closed() || event.is_error() {
            flags |= WRITABLE;
        }
        Self(flags)
    }

    const fn is_for(self, direction: Direction) -> bool {
        self.0 & direction.flag() != 0
    }

    /// With one notice more.
    const fn with(self, noticed: Self) -> Self {
        let flags = self.0 | noticed.0;
        let awaited = if noticed.is_for(Direction::Write) {
            AWAITED
        } else {
            0
        };
        Self((flags & !awaited).wrapping_add(NOTICE))
    }

    /// Without `direction`, if nothing was noticed since it was `seen`.
    const fn without(self, direction: Direction, seen: Self) -> Option<Self> {
        if self.0 / NOTICE != seen.0 / NOTICE {
            return None;
        }
        let flags = match direction {
            Direction::Read => READABLE | ENDED,
            Direction::Write => WRITABLE,
        };
        Some(Self(self.0 & !flags))
    }
}

/// What the owner of a socket and its worker share: all that a socket takes besides its descriptor.
/// A reader waits in it; the few that wait for room do so in a [table](Writers) of the worker.
#[derive(Debug)]
pub(crate) struct Source {
    state: AtomicU32,
    /// Which of the threads hears of it.
    worker: u32,
    /// Somebody has to hear of it for as long as it is there.
    handle: Arc<Handle>,
    reader: Mutex<Option<Waker>>,
}

impl Source {
    pub(crate) const fn new(handle: Arc<Handle>, worker: u32, readiness: Readiness) -> Self {
        Self {
            state: AtomicU32::new(readiness.0),
            worker,
            handle,
            reader: Mutex::new(None),
        }
    }

    pub(crate) const fn worker(&self) -> u32 {
        self.worker
    }

    pub(crate) const fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    /// Remembers what the system has told; appends those who waited for it to `woken`. The source is
    /// the one called `key`, and its writers are in `writers`.
    pub(crate) fn notice(
        &self,
        noticed: Readiness,
        key: u32,
        writers: &Writers,
        woken: &mut Vec<Waker>,
    ) {
        let before = self.update(|state| Some(state.with(noticed)));
        if noticed.is_for(Direction::Read) {
            woken.extend(self.reader().take());
        }
        if noticed.is_for(Direction::Write) && before.0 & AWAITED != 0 {
            woken.extend(writers.take(key));
        }
    }

    /// What is known, once it can be read. Of several that wait, the last is woken.
    pub(crate) fn poll_readable(&self, waker: &Waker) -> Poll<Readiness> {
        let readiness = self.load();
        if readiness.is_for(Direction::Read) {
            return Poll::Ready(readiness);
        }
        let mut reader = self.reader();
        // Looked at under the lock: who sets a flag takes it afterwards, and finds this waker.
        let readiness = self.load();
        if readiness.is_for(Direction::Read) {
            return Poll::Ready(readiness);
        }
        if !reader.as_ref().is_some_and(|known| known.will_wake(waker)) {
            let before = reader.replace(waker.clone());
            drop(reader);
            // Not under the lock: it may be the last that holds a task, which may hold a socket.
            drop(before);
        }
        Poll::Pending
    }

    /// What is known, once it can be written. Of several that wait, the last is woken.
    pub(crate) fn poll_writable(
        &self,
        key: u32,
        writers: &Writers,
        waker: &Waker,
    ) -> Poll<Readiness> {
        let readiness = self.load();
        if readiness.is_for(Direction::Write) {
            return Poll::Ready(readiness);
        }
        writers.insert(key, waker.clone());
        let readiness = Readiness(self.state.fetch_or(AWAITED, Ordering::AcqRel));
        if readiness.is_for(Direction::Write) {
            return Poll::Ready(readiness);
        }
        Poll::Pending
    }

    /// The socket would have blocked, although it was `seen` ready for `direction`.
    pub(crate) fn blocked(&self, direction: Direction, seen: Readiness) {
        self.update(|state| state.without(direction, seen));
    }

    /// The socket has given or taken less than it might have, so that it would block now. What
    /// comes later is told again; an end that was told already is not.
    pub(crate) fn exhausted(&self, direction: Direction, seen: Readiness) {
        if LESS_MEANS_NO_MORE {
            self.update(|state| {
                let end_is_ahead = direction == Direction::Read && state.0 & ENDED != 0;
                state.without(direction, seen).filter(|_| !end_is_ahead)
            });
        }
    }

    /// Nobody waits any longer.
    pub(crate) fn forget(&self, key: u32, writers: &Writers) {
        let reader = self.reader().take();
        drop(reader);
        if self.load().0 & AWAITED != 0 {
            drop(writers.take(key));
        }
    }

    fn reader(&self) -> MutexGuard<'_, Option<Waker>> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load(&self) -> Readiness {
        Readiness(self.state.load(Ordering::Acquire))
    }

    /// Changes what is known; returns what it was.
    fn update(&self, change: impl Fn(Readiness) -> Option<Readiness>) -> Readiness {
        let change = |state| Some(change(Readiness(state))?.0);
        let (Ok(before) | Err(before)) =
            self.state
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, change);
        Readiness(before)
    }
}

#[cfg(test)]
mod tests;
