//! Source addresses behind their lock: admission, eviction, and counters of both.
//!
//! Limits are decided by [`Peers`]; here are its lock, the wakers of handshakes that give way, and
//! counters. The lock is another than the hub's: a flood of handshakes does not touch live agents.

use core::future::{Future, poll_fn};
use core::net::IpAddr;
use core::task::{Poll, Waker};
use std::sync::{Arc, PoisonError};

use pinch_proto::peers::{Limits, PeerStats, Peers, PendingId, Place, Rejection, Source};

use super::reports::Report;
use super::switchboard::Shared;
use super::sync::{Mutex, MutexGuard};
use crate::Runtime;
use crate::session::{Outcome, Rejected};

/// What became of connections before they joined.
///
/// `accepted = joined + answered + left + rejected.total() + `[`pending`](super::RelayStats::pending)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandshakeStats {
    /// Connections that were accepted or adopted.
    pub accepted: u64,
    /// Those that joined.
    pub joined: u64,
    /// Those that asked for `/health`.
    pub answered: u64,
    /// Those that ended by themselves, or with the relay.
    pub left: u64,
    /// Those that were rejected, by reason.
    pub rejected: Rejected,
    /// Addresses that are known now: see [`PeerStats::sources`].
    pub sources: usize,
}

/// What the lock protects.
#[derive(Debug)]
pub(super) struct Desk {
    peers: Peers,
    /// Of pending handshakes, by [`PendingId::index`].
    wakers: Vec<Option<Waker>>,
    stats: HandshakeStats,
}

impl Desk {
    pub(super) fn new(limits: Limits, seed: [u8; 16]) -> Mutex<Self> {
        Mutex::new(Self {
            peers: Peers::new(limits, seed),
            wakers: Vec::new(),
            stats: HandshakeStats::default(),
        })
    }

    fn waker_of(&mut self, id: Option<PendingId>) -> Option<Waker> {
        self.wakers.get_mut(id?.index())?.take()
    }

    /// What is held now, and what came of handshakes.
    pub(super) fn stats(&self) -> (usize, HandshakeStats) {
        let PeerStats {
            pending,
            sources,
            evicted,
            ..
        } = self.peers.stats();
        let mut stats = self.stats;
        stats.sources = sources;
        stats.rejected.evicted = evicted;
        (pending, stats)
    }
}

impl<R: Runtime> Shared<R> {
    pub(super) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a connection from `ip`, which may evict another handshake.
    pub(super) fn admit(self: &Arc<Self>, ip: Option<IpAddr>) -> Pending<R> {
        let mut desk = self.desk();
        let accepted = desk.peers.accept(ip, self.clock.now());
        desk.stats.accepted += 1;
        let evicted = desk.waker_of(accepted.evicted);
        drop(desk);
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
        let mut desk = self.desk();
        let shed = desk.peers.shed(self.clock.now());
        let waker = desk.waker_of(shed);
        drop(desk);
        waker.into_iter().for_each(Waker::wake);
    }

    /// A connection that had joined has ended.
    pub(super) fn leave(&self, place: Place) {
        self.desk().peers.leave(place, self.clock.now());
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
    /// Completes when it has to give way to another.
    pub(super) fn evicted(&self) -> impl Future<Output = ()> {
        poll_fn(|cx| {
            let mut desk = self.shared.desk();
            if !desk.peers.is_pending(self.id) {
                return Poll::Ready(());
            }
            let index = self.id.index();
            if desk.wakers.len() <= index {
                desk.wakers.resize(index + 1, None);
            }
            if let Some(slot) = desk.wakers.get_mut(index) {
                *slot = Some(cx.waker().clone());
            }
            Poll::Pending
        })
    }

    /// The address that it comes from.
    pub(super) const fn source(&self) -> Source {
        self.source
    }

    /// It comes from `ip`, as a proxy says.
    pub(super) fn identify(&mut self, ip: IpAddr) {
        self.source = Source::of(Some(ip));
        let mut desk = self.shared.desk();
        let evicted = desk.peers.identify(self.id, ip, self.shared.clock.now());
        let evicted = desk.waker_of(evicted);
        drop(desk);
        evicted.into_iter().for_each(Waker::wake);
    }

    /// It counts as a connection of its address from now on, if there may be one more.
    pub(super) fn upgrade(&self) -> Result<(), Rejection> {
        let now = self.shared.clock.now();
        self.shared.desk().peers.upgrade(self.id, now)
    }

    /// It will end without having joined, and why.
    pub(super) fn set_outcome(&mut self, outcome: Outcome) {
        self.outcome = outcome;
        match outcome {
            Outcome::Rejected(reason) => self.report(reason.as_str()),
            Outcome::Evicted => self.report("evicted"),
            Outcome::Left | Outcome::Answered => {}
        }
    }

    fn report(&self, reason: &'static str) {
        let from = self.source;
        self.shared.report(Report::Rejected { reason, from });
    }

    /// It has joined; `None` if it was evicted in that moment, and counts for no address.
    pub(super) fn join(self) -> Option<Place> {
        let mut desk = self.shared.desk();
        let place = desk.peers.join(self.id);
        drop(place.is_some().then(|| desk.waker_of(Some(self.id))));
        if place.is_some() {
            desk.stats.joined += 1;
        }
        place
    }
}

impl<R: Runtime> Drop for Pending<R> {
    fn drop(&mut self) {
        let mut desk = self.shared.desk();
        // One that gave way is counted by that, and one that has joined is pending no longer.
        if !desk.peers.is_pending(self.id) {
            return;
        }
        desk.peers.remove(self.id, self.shared.clock.now());
        desk.waker_of(Some(self.id));
        match self.outcome {
            Outcome::Left | Outcome::Evicted => desk.stats.left += 1,
            Outcome::Answered => desk.stats.answered += 1,
            Outcome::Rejected(reason) => desk.stats.rejected.count(reason),
        }
    }
}
