//! Send-only sessions (`receive=0`, protocol section 4): connections of an address beside the one that
//! receives, such as scripts that send while a daemon listens.
//!
//! They are not in the routing table. While an address has some, all its connections share one rate
//! bucket, which is kept here.

use alloc::vec::Vec;

use hashbrown::HashMap;

use super::io::ConnId;
use super::rate::TokenBucket;
use super::seeded::Seeded;
use crate::Address;

/// Maximum number of send-only sessions of one address (protocol section 4).
pub(super) const MAX_PER_ADDRESS: usize = 8;

#[derive(Debug)]
struct Group {
    /// In the order of their joins, at least one.
    conns: Vec<ConnId>,
    bucket: TokenBucket,
}

/// All send-only sessions of a hub.
#[derive(Debug)]
pub(super) struct SendOnly {
    groups: HashMap<Address, Group, Seeded>,
    len: usize,
}

impl SendOnly {
    pub(super) fn new(seeded: Seeded) -> Self {
        Self {
            groups: HashMap::with_hasher(seeded),
            len: 0,
        }
    }

    /// Number of sessions.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Number of sessions of `address`.
    pub(super) fn len_of(&self, address: &str) -> usize {
        self.group(address).map_or(0, |group| group.conns.len())
    }

    /// The session of `address` that joined last.
    pub(super) fn last_of(&self, address: &str) -> Option<ConnId> {
        self.group(address)?.conns.last().copied()
    }

    /// Nearly always there are none, and then no address is hashed.
    fn group(&self, address: &str) -> Option<&Group> {
        if self.len == 0 {
            return None;
        }
        self.groups.get(address)
    }

    /// The bucket that all connections of `address` share, if it has send-only sessions.
    pub(super) fn bucket(&mut self, address: &str) -> Option<&mut TokenBucket> {
        if self.len == 0 {
            return None;
        }
        self.groups.get_mut(address).map(|group| &mut group.bucket)
    }

    /// Adds a session; `bucket` is what its address has left, if it is the first one.
    pub(super) fn insert(
        &mut self,
        address: Address,
        conn: ConnId,
        bucket: impl FnOnce() -> TokenBucket,
    ) {
        let group = self.groups.entry(address).or_insert_with(|| Group {
            conns: Vec::new(),
            bucket: bucket(),
        });
        group.conns.push(conn);
        self.len += 1;
    }

    /// Removes a session; returns the bucket if it was the last one of its address.
    pub(super) fn remove(&mut self, address: &str, conn: ConnId) -> Option<TokenBucket> {
        let group = self.groups.get_mut(address)?;
        let before = group.conns.len();
        group.conns.retain(|known| *known != conn);
        self.len -= before - group.conns.len();
        if !group.conns.is_empty() {
            return None;
        }
        self.groups.remove(address).map(|group| group.bucket)
    }
}
