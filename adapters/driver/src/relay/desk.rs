//! Source addresses: admission and eviction of connections that have not joined, and counters of
//! both.

use core::net::IpAddr;

use pinch_proto::Time;
use pinch_proto::peers::{Accepted, Limits, PeerStats, Peers, PendingId, Place, Rejection};

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

/// The [`Peers`] of a relay, and what became of them.
#[derive(Debug)]
pub struct Desk {
    peers: Peers,
    stats: HandshakeStats,
}

impl Desk {
    /// Starts without connections.
    #[must_use]
    pub fn new(limits: Limits, seed: [u8; 16]) -> Self {
        Self {
            peers: Peers::new(limits, seed),
            stats: HandshakeStats::default(),
        }
    }

    /// Admits a connection from `ip`; see [`Peers::accept`].
    pub fn accept(&mut self, ip: Option<IpAddr>, now: Time) -> Accepted {
        self.stats.accepted += 1;
        self.peers.accept(ip, now)
    }

    /// See [`Peers::identify`].
    pub fn identify(&mut self, id: PendingId, ip: IpAddr, now: Time) -> Option<PendingId> {
        self.peers.identify(id, ip, now)
    }

    /// See [`Peers::upgrade`].
    ///
    /// # Errors
    /// The connection is over a limit of its address.
    pub fn upgrade(&mut self, id: PendingId, now: Time) -> Result<(), Rejection> {
        self.peers.upgrade(id, now)
    }

    /// See [`Peers::shed`].
    pub fn shed(&mut self, now: Time) -> Option<PendingId> {
        self.peers.shed(now)
    }

    /// See [`Peers::is_pending`].
    #[must_use]
    pub fn is_pending(&self, id: PendingId) -> bool {
        self.peers.is_pending(id)
    }

    /// The connection `id` has joined; `None` if it was evicted in that moment, and counts for no
    /// address.
    pub fn join(&mut self, id: PendingId) -> Option<Place> {
        let place = self.peers.join(id);
        self.stats.joined += u64::from(place.is_some());
        place
    }

    /// A connection that had joined has ended.
    pub fn leave(&mut self, place: Place, now: Time) {
        self.peers.leave(place, now);
    }

    /// The connection `id` has ended. One that gave way is counted by that, and one that has joined
    /// is pending no longer.
    pub fn end(&mut self, id: PendingId, outcome: Outcome, now: Time) {
        if !self.peers.is_pending(id) {
            return;
        }
        self.peers.remove(id, now);
        match outcome {
            Outcome::Left | Outcome::Evicted => self.stats.left += 1,
            Outcome::Answered => self.stats.answered += 1,
            Outcome::Rejected(reason) => self.stats.rejected.count(reason),
        }
    }

    /// Returns the number of pending handshakes, and what came of others.
    #[must_use]
    pub fn stats(&self) -> (usize, HandshakeStats) {
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
