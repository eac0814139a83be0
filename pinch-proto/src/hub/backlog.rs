//! A connected recipient that has something in the store, or may have.
//!
//! ```text
//!                 outbox full, or a join
//!       (none) ────────────────────────────► Due ◄──────────────────┐
//!         ▲                                   │ room in the outbox   │ more is stored, or was
//!         │                                   ▼                     │ appended meanwhile, or
//!         └────────────────────────────── Reading ───────────────────────┘ the store has failed
//!             that was all
//! ```
//! While a read is under way, what comes is held behind it in memory, so that a queue that is read
//! faster than it grows comes to an end; at any other time, and where it does not fit the outbox
//! behind what was read, it is appended to what is stored. A connection without a backlog gets
//! everything straight into its outbox.

use alloc::collections::VecDeque;

use super::outbox::Queued;
use crate::queue::Seq;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The store is to be read when there is room for what it has.
    Due,
    /// It is being read.
    Reading {
        /// Something was appended since, which that read may not have seen.
        stale: bool,
    },
}

/// What is known about the part of a queue that is not in memory.
#[derive(Debug)]
pub(super) struct Backlog {
    pub(super) step: Step,
    /// The last envelope that was in memory already.
    pub(super) after: Option<Seq>,
    /// The recipient has just joined: it hears how much there is before it gets any of it.
    pub(super) unannounced: bool,
    deferred: VecDeque<Queued>,
    deferred_bytes: usize,
}

impl Backlog {
    /// Of a recipient that joins: there may be anything.
    pub(super) const fn of_join() -> Self {
        Self::new(None, true)
    }

    /// Of a recipient that was given everything up to `after`.
    pub(super) const fn behind(after: Option<Seq>) -> Self {
        Self::new(after, false)
    }

    const fn new(after: Option<Seq>, unannounced: bool) -> Self {
        Self {
            step: Step::Due,
            after,
            unannounced,
            deferred: VecDeque::new(),
            deferred_bytes: 0,
        }
    }

    /// Whether what comes now can wait in memory without overtaking what is stored.
    pub(super) const fn can_defer(&self) -> bool {
        matches!(self.step, Step::Reading { stale: false })
    }

    /// Keeps an envelope until the read is over.
    pub(super) fn defer(&mut self, queued: Queued) {
        self.deferred_bytes += queued.message.len();
        self.deferred.push_back(queued);
    }

    /// How many envelopes are deferred, and their bytes.
    pub(super) fn deferred(&self) -> (usize, usize) {
        (self.deferred.len(), self.deferred_bytes)
    }

    /// Takes them, in order.
    pub(super) fn take_deferred(&mut self) -> VecDeque<Queued> {
        self.deferred_bytes = 0;
        core::mem::take(&mut self.deferred)
    }
}
