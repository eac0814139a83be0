//! Stores that behave as a case wants.

use core::future::pending;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use event_listener::Event;
use futures_util::future::{BoxFuture, FutureExt as _};
use pinch_driver::Store;
use pinch_driver::proto::queue::{Failure, Operation, Outcome, Restored};

/// A store that executes nothing while it is closed, and counts batches.
#[derive(Debug)]
pub(crate) struct Gate<S> {
    store: S,
    closed: Mutex<bool>,
    changed: Event,
    batches: AtomicUsize,
}

impl<S> Gate<S> {
    pub(crate) fn new(store: S) -> Self {
        Self {
            store,
            closed: Mutex::new(false),
            changed: Event::new(),
            batches: AtomicUsize::new(0),
        }
    }

    pub(crate) fn close(&self) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    pub(crate) fn open(&self) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.changed.notify(usize::MAX);
    }

    /// How many batches have begun.
    pub(crate) fn batches(&self) -> usize {
        self.batches.load(Ordering::Relaxed)
    }

    fn is_closed(&self) -> bool {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Store> Store for Gate<S> {
    fn name(&self) -> &'static str {
        "a gate"
    }

    fn restored(&self) -> Restored {
        self.store.restored()
    }

    fn execute(&self, batch: Vec<Operation>) -> BoxFuture<'_, Vec<Outcome>> {
        self.batches.fetch_add(1, Ordering::Relaxed);
        async move {
            while self.is_closed() {
                let changed = self.changed.listen();
                if self.is_closed() {
                    changed.await;
                }
            }
            self.store.execute(batch).await
        }
        .boxed()
    }
}

/// What is wrong with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Works,
    /// It can read, and write nothing.
    Fails(Failure),
    /// It never comes to an outcome.
    Silent,
    /// It comes to none of its outcomes.
    Forgets,
    /// It panics.
    Panics,
}

/// A store that has moods.
#[derive(Debug)]
pub(crate) struct Moody<S> {
    store: S,
    mood: Mutex<Mood>,
}

impl<S> Moody<S> {
    pub(crate) fn new(store: S) -> Self {
        let mood = Mutex::new(Mood::Works);
        Self { store, mood }
    }

    pub(crate) fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
    }
}

impl<S: Store> Store for Moody<S> {
    fn name(&self) -> &'static str {
        "a moody one"
    }

    fn restored(&self) -> Restored {
        self.store.restored()
    }

    fn execute(&self, batch: Vec<Operation>) -> BoxFuture<'_, Vec<Outcome>> {
        let mood = *self.mood.lock().unwrap_or_else(PoisonError::into_inner);
        async move {
            match mood {
                Mood::Works => self.store.execute(batch).await,
                Mood::Silent => pending().await,
                Mood::Forgets => Vec::new(),
                Mood::Panics => panic!("a store that panics, for a test"),
                Mood::Fails(failure) => {
                    let mut outcomes = Vec::new();
                    for operation in batch {
                        if matches!(operation, Operation::Read(_)) {
                            outcomes.append(&mut self.store.execute(vec![operation]).await);
                        } else {
                            outcomes.push(Outcome::Failed {
                                failure,
                                detail: "its mood".into(),
                            });
                        }
                    }
                    outcomes
                }
            }
        }
        .boxed()
    }
}
