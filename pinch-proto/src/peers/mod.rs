//! Source addresses: how much of a relay one of them may use before and after its connections join.
//!
//! [`Peers`] is a pure state machine. A driver hands it each connection that is accepted, with the
//! address it comes from, and each step of its handshake:
//!
//! ```text
//!   accept ──► pending ──► upgrade ──► pending, counts as a connection ──► join ──► joined ──► leave
//!                 │           │ Err: a limit of its address                 │
//!                 └───────────┴── remove, or evicted by a newcomer ◄────────┘
//! ```
//! A newcomer is always admitted, so that a request for the relay's health gets an answer. At a limit
//! it evicts a handshake without progress: at the limit of its address, the oldest of that address;
//! at the limit of all, the oldest of the address that has most, or of all if none has many. So a
//! flood from one address evicts its own handshakes, and those of that address that make progress
//! before as many newcomers have come as the limit allows survive it, too.
//!
//! Everything is O(1), and memory is bounded by the connections there are and
//! [`Limits::retained_sources`].

mod limits;
mod list;
mod source;

use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use hashbrown::HashMap;
/// A network, such as `192.0.2.0/24`.
pub use ipnet::IpNet;

pub use self::limits::{Limits, contains};
use self::list::{Links, List};
pub use self::source::Source;
use crate::Time;
use crate::hub::{Key, RateLimit, Seeded, Slab, TokenBucket};

/// Number of pending handshakes up to which all addresses are treated alike; beyond it, the one with
/// most gives way first.
const FEW: usize = 16;

/// How many full buckets are forgotten with each newcomer: more than one, so that their number falls.
const FORGOTTEN: usize = 2;

/// Names a pending handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PendingId(Key);

impl PendingId {
    /// A small number that no other pending handshake has: an index for what a driver keeps of each.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0.index as usize
    }
}

/// The place of a joined connection among those of its address. It is given back with
/// [`Peers::leave`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a place that is not given back is taken for ever"]
pub struct Place(Key);

impl Place {
    const fn into_key(self) -> Key {
        self.0
    }
}

/// A connection that was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Accepted {
    /// Its name until it joins or ends.
    pub id: PendingId,
    /// The handshake that gave way to it: its stream must be closed.
    pub evicted: Option<PendingId>,
}

/// Why a connection may not be upgraded.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Rejection {
    /// Its address has as many connections as may be.
    #[error("too many connections from {from}: at most {limit}")]
    Connections {
        /// The address.
        from: Source,
        /// How many it may have.
        limit: usize,
    },
    /// Too many connections of its address were upgraded lately.
    #[error("too many joins from {from}: at most {limit}")]
    JoinRate {
        /// The address.
        from: Source,
        /// How many it may have.
        limit: RateLimit,
        /// When the next one may come.
        retry_after: Duration,
    },
    /// It was evicted before.
    #[error("too many pending handshakes")]
    Evicted,
}

/// What [`Peers`] hold now, and have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerStats {
    /// Pending handshakes now.
    pub pending: usize,
    /// Addresses that are known now: with a connection, or with joins that still count.
    pub sources: usize,
    /// Handshakes that gave way to newcomers.
    pub evicted: u64,
}

/// One source address.
#[derive(Debug)]
struct Known {
    source: Source,
    is_exempt: bool,
    pending: usize,
    connections: usize,
    joins: TokenBucket,
    /// Its pending handshakes, by their last progress.
    handshakes: List,
    /// When its last connection ended.
    unused_since: Time,
}

#[derive(Debug)]
struct Pending {
    known: Key,
    /// It was upgraded, and counts among the connections of its address.
    has_place: bool,
}

/// The source addresses of a relay's connections: see the [module](self).
#[derive(Debug)]
pub struct Peers {
    limits: Limits,
    known: Slab<Known>,
    /// An exempt address may lie in the same /64 as others.
    by_source: HashMap<(Source, bool), Key, Seeded>,
    pending: Slab<Pending>,
    /// All pending handshakes, by their last progress.
    oldest: List,
    ages: Links,
    ages_of_source: Links,
    /// Addresses by how many pending handshakes they have, from 1 on.
    by_pending: Vec<List>,
    /// Addresses without a connection whose joins still count.
    unused: List,
    unused_count: usize,
    /// The links of `by_pending` and `unused`: an address is in one of these lists at most.
    known_links: Links,
    /// The latest time that was given; it does not run backwards.
    now: Time,
    evicted: u64,
}

impl Peers {
    /// Starts without connections. `seed` makes the table's hashes unpredictable.
    #[must_use]
    pub fn new(limits: Limits, seed: [u8; 16]) -> Self {
        Self {
            limits,
            known: Slab::new(),
            by_source: HashMap::with_hasher(Seeded::new(seed)),
            pending: Slab::new(),
            oldest: List::EMPTY,
            ages: Links::default(),
            ages_of_source: Links::default(),
            by_pending: Vec::new(),
            unused: List::EMPTY,
            unused_count: 0,
            known_links: Links::default(),
            now: Time::ZERO,
            evicted: 0,
        }
    }

    /// Admits a connection from `ip`, if it has an address.
    pub fn accept(&mut self, ip: Option<IpAddr>, now: Time) -> Accepted {
        self.set_time(now);
        for _ in 0..FORGOTTEN {
            self.forget_full();
        }
        let known = self.know(ip);
        let id = PendingId(self.pending.insert(Pending {
            known,
            has_place: false,
        }));
        self.link(id);
        let evicted = self.evict_beyond_limits(known);
        Accepted { id, evicted }
    }

    /// The connection `id`, which was not upgraded, comes from `ip`, as a proxy in between says;
    /// counts as progress. Returns the handshake that gives way to it at its own address.
    pub fn identify(&mut self, id: PendingId, ip: IpAddr, now: Time) -> Option<PendingId> {
        self.set_time(now);
        if self.pending.get(id.0)?.has_place {
            return None;
        }
        let known = self.know(Some(ip));
        let before = self.unlink(id)?;
        if let Some(pending) = self.pending.get_mut(id.0) {
            pending.known = known;
        }
        self.link(id);
        self.settle(before);
        self.evict_beyond_limits(known)
    }

    /// The connection `id` has asked for an upgrade: it counts as one of its address from now on.
    ///
    /// # Errors
    /// Its address has too many, or had too many joins lately. It stays pending.
    pub fn upgrade(&mut self, id: PendingId, now: Time) -> Result<(), Rejection> {
        self.set_time(now);
        let now = self.now;
        let pending = self.pending.get_mut(id.0).ok_or(Rejection::Evicted)?;
        if pending.has_place {
            return Ok(());
        }
        let known = self.known.get_mut(pending.known);
        let known = known.ok_or(Rejection::Evicted)?;
        if !known.is_exempt {
            let (from, limit) = (known.source, self.limits.connections);
            if known.connections >= limit {
                return Err(Rejection::Connections { from, limit });
            }
            if let Some(limit) = self.limits.join_rate {
                let taken = known.joins.take(limit, now);
                taken.map_err(|retry_after| Rejection::JoinRate {
                    from,
                    limit,
                    retry_after,
                })?;
            }
        }
        known.connections += 1;
        pending.has_place = true;
        // Progress.
        self.unlink(id);
        self.link(id);
        Ok(())
    }

    /// The connection `id` has joined, and is no longer pending; `None` if it was evicted before, or
    /// never [upgraded](Self::upgrade).
    pub fn join(&mut self, id: PendingId) -> Option<Place> {
        if !self.pending.get(id.0)?.has_place {
            return None;
        }
        let known = self.unlink(id)?;
        self.pending.remove(id.0);
        Some(Place(known))
    }

    /// A joined connection has ended.
    pub fn leave(&mut self, place: Place, now: Time) {
        self.set_time(now);
        let key = place.into_key();
        if let Some(known) = self.known.get_mut(key) {
            known.connections = known.connections.saturating_sub(1);
        }
        self.settle(key);
    }

    /// The connection `id` ended before it joined. Without effect if it was evicted.
    pub fn remove(&mut self, id: PendingId, now: Time) {
        self.set_time(now);
        let Some(known) = self.unlink(id) else {
            return;
        };
        let pending = self.pending.remove(id.0);
        if pending.is_some_and(|pending| pending.has_place)
            && let Some(known) = self.known.get_mut(known)
        {
            known.connections = known.connections.saturating_sub(1);
        }
        self.settle(known);
    }

    /// Evicts a handshake as at the limit of all of them: the system has no descriptor for a
    /// newcomer.
    pub fn shed(&mut self, now: Time) -> Option<PendingId> {
        self.set_time(now);
        let oldest = self.oldest_of_most()?;
        self.evict(oldest)
    }

    /// Whether the connection `id` is still pending: not evicted, joined or removed.
    #[must_use]
    pub fn is_pending(&self, id: PendingId) -> bool {
        self.pending.get(id.0).is_some()
    }

    /// What they hold now, and have done.
    #[must_use]
    pub fn stats(&self) -> PeerStats {
        PeerStats {
            pending: self.pending.len(),
            sources: self.known.len(),
            evicted: self.evicted,
        }
    }

    fn set_time(&mut self, now: Time) {
        self.now = self.now.max(now);
    }

    /// The entry of the address `ip`, made if there is none.
    fn know(&mut self, ip: Option<IpAddr>) -> Key {
        let source = Source::of(ip);
        let is_exempt = ip.is_none_or(|ip| self.limits.is_exempt(ip));
        if let Some(&key) = self.by_source.get(&(source, is_exempt)) {
            self.take_into_use(key);
            return key;
        }
        let key = self.known.insert(Known {
            source,
            is_exempt,
            pending: 0,
            connections: 0,
            joins: TokenBucket::FULL,
            handshakes: List::EMPTY,
            unused_since: Time::ZERO,
        });
        self.by_source.insert((source, is_exempt), key);
        key
    }

    fn take_into_use(&mut self, key: Key) {
        let known = self.known.get(key);
        if known.is_some_and(|known| known.pending + known.connections == 0) {
            self.known_links.remove(&mut self.unused, key.index);
            self.unused_count -= 1;
        }
    }

    /// Keeps an address without connections for as long as its joins count, and forgets it then.
    fn settle(&mut self, key: Key) {
        let now = self.now;
        let Some(known) = self.known.get_mut(key) else {
            return;
        };
        if known.pending + known.connections > 0 {
            return;
        }
        if known.joins.is_full(now) {
            self.forget(key);
            return;
        }
        known.unused_since = now;
        self.known_links.push_back(&mut self.unused, key.index);
        self.unused_count += 1;
        if self.unused_count > self.limits.retained_sources {
            self.forget_oldest();
        }
    }

    /// Forgets the address that is unused for longest, if its joins count no longer.
    fn forget_full(&mut self) {
        let fill = self
            .limits
            .join_rate
            .map_or(Duration::ZERO, RateLimit::fill);
        let oldest = self.unused.front().and_then(|index| self.known.at(index));
        if oldest.is_some_and(|known| known.unused_since + fill <= self.now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self.unused.front();
        let Some(key) = oldest.and_then(|index| self.known.key_at(index)) else {
            return;
        };
        self.known_links.remove(&mut self.unused, key.index);
        self.unused_count -= 1;
        self.forget(key);
    }

    fn forget(&mut self, key: Key) {
        if let Some(known) = self.known.remove(key) {
            self.by_source.remove(&(known.source, known.is_exempt));
        }
    }

    /// Enters a pending handshake, as the one with the latest progress, into the lists of its
    /// address and of all.
    fn link(&mut self, id: PendingId) {
        let index = id.0.index;
        let Some(key) = self.pending.get(id.0).map(|pending| pending.known) else {
            return;
        };
        self.ages.push_back(&mut self.oldest, index);
        if let Some(known) = self.known.get_mut(key) {
            self.ages_of_source.push_back(&mut known.handshakes, index);
            let count = known.pending;
            known.pending += 1;
            self.move_to(key.index, count, count + 1);
        }
    }

    /// Undoes [`link`](Self::link); returns the address.
    fn unlink(&mut self, id: PendingId) -> Option<Key> {
        let index = id.0.index;
        let key = self.pending.get(id.0)?.known;
        self.ages.remove(&mut self.oldest, index);
        if let Some(known) = self.known.get_mut(key) {
            self.ages_of_source.remove(&mut known.handshakes, index);
            let count = known.pending;
            known.pending -= 1;
            self.move_to(key.index, count, count - 1);
        }
        Some(key)
    }

    /// An address has `after` pending handshakes instead of `before`, one more or one less.
    fn move_to(&mut self, index: u32, before: usize, after: usize) {
        if let Some(list) = before
            .checked_sub(1)
            .and_then(|at| self.by_pending.get_mut(at))
        {
            self.known_links.remove(list, index);
        }
        let Some(at) = after.checked_sub(1) else {
            self.drop_empty();
            return;
        };
        if self.by_pending.len() <= at {
            self.by_pending.push(List::EMPTY);
        }
        if let Some(list) = self.by_pending.get_mut(at) {
            self.known_links.push_back(list, index);
        }
        self.drop_empty();
    }

    /// The last list is of the address that has most: not an empty one.
    fn drop_empty(&mut self) {
        while self.by_pending.last().is_some_and(List::is_empty) {
            self.by_pending.pop();
        }
    }

    /// After `key` has got one more pending handshake: one that gives way to it.
    fn evict_beyond_limits(&mut self, key: Key) -> Option<PendingId> {
        let known = self.known.get(key)?;
        let oldest = if !known.is_exempt && known.pending > self.limits.pending {
            known.handshakes.front()
        } else if self.pending.len() > self.limits.total_pending {
            self.oldest_of_most()
        } else {
            None
        };
        self.evict(oldest?)
    }

    /// The oldest handshake of the address that has most; of all, if none has many.
    fn oldest_of_most(&self) -> Option<u32> {
        let most = self.by_pending.get(FEW..).and_then(<[List]>::last);
        let most = most.and_then(List::front);
        let of_most = most.and_then(|index| self.known.at(index)?.handshakes.front());
        of_most.or_else(|| self.oldest.front())
    }

    fn evict(&mut self, index: u32) -> Option<PendingId> {
        let id = PendingId(self.pending.key_at(index)?);
        self.remove(id, self.now);
        self.evicted += 1;
        Some(id)
    }
}
