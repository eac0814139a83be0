//! Connections that have not joined, behind their lock, and their wakers.
//!
//! The lock is another than the hub's: a flood of handshakes does not touch live agents.

use core::net::IpAddr;
use core::task::{Context, Waker};
use std::sync::{Arc, PoisonError};

use pinch_proto::peers::{PendingId, Place, Rejection, Source};

use super::desk::Desk;
use super::reports::Report;
use super::shared::Shared;
use super::sync::MutexGuard;
use crate::Runtime;
use crate::session::Outcome;

/// What the lock protects.
#[derive(Debug)]
pub(super) struct Handshakes {
    pub(super) desk: Desk,
    /// By [`PendingId::index`].
    wakers: Vec<Option<Waker>>,
}

impl Handshakes {
    pub(super) const fn new(desk: Desk) -> Self {
        Self {
            desk,
            wakers: Vec::new(),
        }
    }

    fn take_waker(&mut self, id: Option<PendingId>) -> Option<Waker> {
        self.wakers.get_mut(id?.index())?.take()
    }
}

impl<R: Runtime> Shared<R> {
    pub(super) fn handshakes(&self) -> MutexGuard<'_, Handshakes> {
        self.handshakes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a connection from `ip`, which may evict another handshake.
    pub(super) fn admit(self: &Arc<Self>, ip: Option<IpAddr>) -> Pending<R> {
        let mut handshakes = self.handshakes();
        let accepted = handshakes.desk.accept(ip, self.clock.now());
        let evicted = handshakes.take_waker(accepted.evicted);
        drop(handshakes);
        evicted.into_iter().for_each(Waker::wake);
        Pending {
            shared: Arc::clone(self),
            id: accepted.id,
            source: Source::of(ip),
            outcome: Outcome::Left,
        }
    }

    /// Has the handshake end that gives way first, if there is one.
    pub(super) fn shed(&self) {
        let mut handshakes = self.handshakes();
        let shed = handshakes.desk.shed(self.clock.now());
        let waker = handshakes.take_waker(shed);
        drop(handshakes);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Wakes every connection that has not joined.
    pub(super) fn wake_handshakes(&self) {
        let wakers = core::mem::take(&mut self.handshakes().wakers);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// A connection that had joined has ended.
    pub(super) fn leave(&self, place: Place) {
        self.handshakes().desk.leave(place, self.clock.now());
    }
}

/// One connection that has not joined, in [`RelayStats::pending`](super::RelayStats::pending).
pub(super) struct Pending<R: Runtime> {
    shared: Arc<Shared<R>>,
    id: PendingId,
    source: Source,
    outcome: Outcome,
}

impl<R: Runtime> Pending<R> {
    /// Whether it has not been evicted; if so, its task is woken when it is, or when the relay ends.
    pub(super) fn is_wanted(&self, cx: &Context<'_>) -> bool {
        let mut handshakes = self.shared.handshakes();
        if !handshakes.desk.is_pending(self.id) {
            return false;
        }
        let index = self.id.index();
        if handshakes.wakers.len() <= index {
            handshakes.wakers.resize(index + 1, None);
        }
        if let Some(slot) = handshakes.wakers.get_mut(index) {
            *slot = Some(cx.waker().clone());
        }
        true
    }

    /// The address that it comes from.
    pub(super) const fn source(&self) -> Source {
        self.source
    }

    /// It comes from `ip`, as a proxy says.
    pub(super) fn identify(&mut self, ip: IpAddr) {
        self.source = Source::of(Some(ip));
        let mut handshakes = self.shared.handshakes();
        let now = self.shared.clock.now();
        let evicted = handshakes.desk.identify(self.id, ip, now);
        let evicted = handshakes.take_waker(evicted);
        drop(handshakes);
        evicted.into_iter().for_each(Waker::wake);
    }

    /// It counts as a connection of its address from now on, if there may be one more.
    pub(super) fn upgrade(&self) -> Result<(), Rejection> {
        let now = self.shared.clock.now();
        self.shared.handshakes().desk.upgrade(self.id, now)
    }

    /// It will end without having joined, and why.
    pub(super) fn set_outcome(&mut self, outcome: Outcome) {
        self.outcome = outcome;
        let reason = match outcome {
            Outcome::Rejected(reason) => reason.as_str(),
            Outcome::Evicted => "evicted",
            Outcome::Left | Outcome::Answered => return,
        };
        let from = self.source;
        self.shared.report(Report::Rejected { reason, from });
    }

    /// It has joined; `None` if it was evicted in that moment, and counts for no address.
    pub(super) fn join(&self) -> Option<Place> {
        let mut handshakes = self.shared.handshakes();
        let place = handshakes.desk.join(self.id);
        if place.is_some() {
            handshakes.take_waker(Some(self.id));
        }
        place
    }
}

impl<R: Runtime> Drop for Pending<R> {
    fn drop(&mut self) {
        let mut handshakes = self.shared.handshakes();
        if handshakes.desk.is_pending(self.id) {
            let now = self.shared.clock.now();
            handshakes.desk.end(self.id, self.outcome, now);
            handshakes.take_waker(Some(self.id));
        }
    }
}
