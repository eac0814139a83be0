//! What a socket is ready for, as far as its worker has heard, and who waits for more.
//!
//! The system tells a change once. It is remembered here until somebody finds out that it no longer
//! holds, and each notice has a number: what is found out cannot wipe away a notice that came
//! meanwhile.

use core::sync::atomic::{AtomicU32, Ordering};
use core::task::{Context, Poll, Waker};
use std::sync::{Arc, Mutex, PoisonError};

use mio::event::Event;

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
/// The rest counts the notices.
const NOTICE: u32 = 8;

/// Flags and a count of notices, as they were at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Readiness(u32);

impl Readiness {
    /// Not known to be ready for anything.
    pub(crate) const NONE: Self = Self(0);
    /// There is room for what is written.
    pub(crate) const WRITABLE: Self = Self(WRITABLE);

    const fn is_ready(self, direction: Direction) -> bool {
        self.0 & direction.flag() != 0
    }

    const fn with(self, flags: u32) -> Self {
        Self((self.0 | flags).wrapping_add(NOTICE))
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

/// The tasks that wait for a socket.
#[derive(Debug, Default)]
struct Waiting {
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Waiting {
    fn slot(&mut self, direction: Direction) -> &mut Option<Waker> {
        match direction {
            Direction::Read => &mut self.reader,
            Direction::Write => &mut self.writer,
        }
    }
}

/// What the owner of a socket and its worker share: all that a socket takes besides its descriptor.
#[derive(Debug)]
pub(crate) struct Source {
    state: AtomicU32,
    /// Which of the threads hears of it.
    worker: u32,
    /// Somebody has to hear of it for as long as it is there.
    handle: Arc<Handle>,
    waiting: Mutex<Waiting>,
}

impl Source {
    pub(crate) fn new(handle: Arc<Handle>, worker: u32, readiness: Readiness) -> Self {
        Self {
            state: AtomicU32::new(readiness.0),
            worker,
            handle,
            waiting: Mutex::default(),
        }
    }

    pub(crate) const fn worker(&self) -> u32 {
        self.worker
    }

    pub(crate) const fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    /// Remembers what the system has told; appends those who waited for it to `woken`.
    pub(crate) fn notice(&self, event: &Event, woken: &mut Vec<Waker>) {
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
        self.set(flags, woken);
    }

    fn set(&self, flags: u32, woken: &mut Vec<Waker>) {
        let update = |state| Some(Readiness(state).with(flags).0);
        let _ = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, update);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for direction in [Direction::Read, Direction::Write] {
            if flags & direction.flag() != 0 {
                woken.extend(waiting.slot(direction).take());
            }
        }
    }

    /// What is known, once the socket may be ready for `direction`. Of several that wait for the
    /// same, the last is woken.
    pub(crate) fn poll_ready(
        &self,
        direction: Direction,
        cx: &mut Context<'_>,
    ) -> Poll<Readiness> {
        let readiness = self.load();
        if readiness.is_ready(direction) {
            return Poll::Ready(readiness);
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked at under the lock: who sets a flag takes it afterwards, and finds this waker.
        let readiness = self.load();
        let slot = waiting.slot(direction);
        if readiness.is_ready(direction) {
            *slot = None;
            return Poll::Ready(readiness);
        }
        match slot {
            Some(known) => known.clone_from(cx.waker()),
            None => *slot = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// The socket would have blocked, although it was `seen` ready for `direction`.
    pub(crate) fn blocked(&self, direction: Direction, seen: Readiness) {
        let update = |state| Some(Readiness(state).without(direction, seen)?.0);
        let _ = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, update);
    }

    /// The socket has given or taken less than it might have, so that it would block now. What
    /// comes later is told again; an end that was told already is not.
    pub(crate) fn exhausted(&self, direction: Direction, seen: Readiness) {
        let is_end_ahead = direction == Direction::Read && self.load().0 & ENDED != 0;
        if LESS_MEANS_NO_MORE && !is_end_ahead {
            self.blocked(direction, seen);
        }
    }

    /// Nobody waits any longer.
    pub(crate) fn forget(&self) {
        let waiting = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            core::mem::take(&mut *waiting)
        };
        drop(waiting);
    }

    fn load(&self) -> Readiness {
        Readiness(self.state.load(Ordering::Acquire))
    }
}

/// Whether a socket that has given less than was asked for is told to be ready again when there is
/// more: so epoll and kqueue do. Elsewhere it has to be asked until it would block.
const LESS_MEANS_NO_MORE: bool = cfg!(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly",
));
