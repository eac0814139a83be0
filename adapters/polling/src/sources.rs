//! The sockets that one worker watches, by their keys, and the few that wait for room.

use core::task::Waker;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mio::{Events, Token};

use crate::readiness::{Readiness, Source};

/// No socket has this token.
pub(crate) const NO_SOURCE: Token = Token(usize::MAX);

/// The sockets of a worker.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    slots: Mutex<Slots>,
    pub(crate) writers: Writers,
}

/// Eight bytes for each: most of what is here is idle.
#[derive(Debug, Default)]
struct Slots {
    sources: Vec<Option<Arc<Source>>>,
    free: Vec<u32>,
}

impl Sources {
    /// Takes `source` in, which `register` makes known to the system. Returns its key.
    pub(crate) fn insert(
        &self,
        source: Arc<Source>,
        register: impl FnOnce(Token) -> io::Result<()>,
    ) -> io::Result<u32> {
        // Held until the source is there: an event may come at once.
        let mut slots = self.slots();
        let key = match slots.free.last() {
            Some(&key) => key,
            None => u32::try_from(slots.sources.len()).map_err(io::Error::other)?,
        };
        register(Token(key as usize))?;
        slots.free.pop();
        match slots.sources.get_mut(key as usize) {
            Some(slot) => *slot = Some(source),
            None => slots.sources.push(Some(source)),
        }
        Ok(key)
    }

    /// Forgets a source, for which nobody waits any longer. Closing its socket takes it from the system's list; an event that is under
    /// way may still reach whoever gets the key next, who then looks once for nothing.
    pub(crate) fn remove(&self, key: u32) {
        let source = {
            let mut slots = self.slots();
            slots.free.push(key);
            slots.sources.get_mut(key as usize).and_then(Option::take)
        };
        drop(source);
    }

    /// Tells the sources of `events`; appends those who waited for them to `woken`.
    pub(crate) fn notice(&self, events: &Events, woken: &mut Vec<Waker>) {
        let slots = self.slots();
        for event in events {
            let Token(index) = event.token();
            if let Some(Some(source)) = slots.sources.get(index)
                && let Ok(key) = u32::try_from(index)
            {
                source.notice(Readiness::of(event), key, &self.writers, woken);
            }
        }
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tasks that wait until a socket takes more, by the key of the socket.
#[derive(Debug, Default)]
pub(crate) struct Writers(Mutex<BTreeMap<u32, Waker>>);

impl Writers {
    pub(crate) fn insert(&self, key: u32, waker: Waker) {
        let before = self.lock().insert(key, waker);
        // Not under the lock: it may be the last that holds a task, which may hold a socket.
        drop(before);
    }

    pub(crate) fn take(&self, key: u32) -> Option<Waker> {
        self.lock().remove(&key)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Waker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
