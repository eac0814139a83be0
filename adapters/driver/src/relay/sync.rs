//! What the tasks of a relay meet at: a lock, flags, counters, and an event.
//!
//! They are those of the standard library and of `event-listener`. Only where the compiler is given
//! `--cfg shuttle`, as for `tests/interleavings`, each of them is a crossing: there, shuttle decides
//! which task goes on.

#[cfg(shuttle)]
pub use self::crossings::locks_taken;
#[cfg(shuttle)]
pub(super) use self::crossings::{Event, Mutex, MutexGuard};
#[cfg(not(shuttle))]
pub(super) use core::sync::atomic::{AtomicBool, AtomicUsize};
#[cfg(not(shuttle))]
pub(super) use event_listener::Event;
#[cfg(shuttle)]
pub(super) use shuttle::sync::atomic::{AtomicBool, AtomicUsize};
#[cfg(not(shuttle))]
pub(super) use std::sync::{Mutex, MutexGuard};

#[cfg(shuttle)]
mod crossings {
    use core::cell::Cell;
    use core::ops::{Deref, DerefMut};
    use core::sync::atomic::Ordering;
    use std::sync::{LockResult, PoisonError};

    use event_listener::EventListener;
    use shuttle::sync;

    /// Where another task may go on. Shuttle has such a place in front of each use of an atomic.
    #[derive(Debug)]
    struct Crossing(sync::atomic::AtomicBool);

    impl Crossing {
        const fn new() -> Self {
            Self(sync::atomic::AtomicBool::new(false))
        }

        fn cross(&self) {
            self.0.load(Ordering::SeqCst);
        }
    }

    /// Shuttle lets others go on before a lock is taken and before it is released. Here they also
    /// may afterwards: between the release and the wakers that are called then.
    #[derive(Debug)]
    pub(crate) struct Mutex<T> {
        mutex: sync::Mutex<T>,
        released: Crossing,
    }

    thread_local! {
        // Shuttle runs all tasks of a test on one thread.
        static LOCKS_TAKEN: Cell<usize> = const { Cell::new(0) };
    }

    /// Number of times that this test has taken a lock of a relay.
    #[must_use]
    pub fn locks_taken() -> usize {
        LOCKS_TAKEN.get()
    }

    impl<T> Mutex<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self {
                mutex: sync::Mutex::new(value),
                released: Crossing::new(),
            }
        }

        pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            LOCKS_TAKEN.set(LOCKS_TAKEN.get() + 1);
            Ok(MutexGuard {
                guard: self.mutex.lock().unwrap_or_else(PoisonError::into_inner),
                _released: AtTheEnd(&self.released),
            })
        }
    }

    /// Its fields are dropped in this order.
    #[derive(Debug)]
    pub(crate) struct MutexGuard<'a, T> {
        guard: sync::MutexGuard<'a, T>,
        _released: AtTheEnd<'a>,
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.guard
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.guard
        }
    }

    #[derive(Debug)]
    struct AtTheEnd<'a>(&'a Crossing);

    impl Drop for AtTheEnd<'_> {
        fn drop(&mut self) {
            self.0.cross();
        }
    }

    /// The event itself, with a crossing in front of whatever is done with it, and none inside: it
    /// calls wakers under a lock of the standard library, with which a task must not be left. The
    /// wakers of shuttle only mark a task.
    #[derive(Debug)]
    pub(crate) struct Event {
        event: event_listener::Event,
        before: Crossing,
    }

    impl Event {
        pub(crate) const fn new() -> Self {
            Self {
                event: event_listener::Event::new(),
                before: Crossing::new(),
            }
        }

        pub(crate) fn listen(&self) -> EventListener {
            self.before.cross();
            self.event.listen()
        }

        pub(crate) fn notify(&self, count: usize) -> usize {
            self.before.cross();
            self.event.notify(count)
        }
    }
}
