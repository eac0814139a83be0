//! The routing table: which connection is reachable under which address.
//!
//! It holds no addresses, only slots of connections and a part of each hash, so that a million entries
//! are small and growing touches nothing else. What an address is, it reads in the connection.

use hashbrown::HashTable;
use hashbrown::hash_table::OccupiedEntry;

use super::connection::Connection;
use super::io::ConnId;
use super::seeded::Seeded;
use super::slab::Slab;

#[derive(Clone, Copy, Debug)]
struct Place {
    hash: u32,
    index: u32,
}

impl Place {
    /// The hash by which the table puts it. One of 32 bits fills its upper bits, too: the table looks
    /// at both ends.
    const fn spread(hash: u32) -> u64 {
        (hash as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// Which connection is reachable under which address.
#[derive(Debug)]
pub(super) struct RoutingTable {
    places: HashTable<Place>,
    seeded: Seeded,
}

impl RoutingTable {
    pub(super) const fn new(seeded: Seeded) -> Self {
        Self {
            places: HashTable::new(),
            seeded,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The connection that was entered with `address`.
    pub(super) fn find(&self, address: &[u8], connections: &Slab<Connection>) -> Option<ConnId> {
        self.find_hashed(address, self.hash(address), connections)
    }

    /// The same, where the lower half of its hash is known.
    pub(super) fn find_hashed(
        &self,
        address: &[u8],
        hash: u32,
        connections: &Slab<Connection>,
    ) -> Option<ConnId> {
        let has_address = |place: &Place| {
            place.hash == hash
                && connections
                    .at(place.index)
                    .is_some_and(|connection| connection.address.as_bytes() == address)
        };
        let place = self.places.find(Place::spread(hash), has_address)?;
        connections.key_at(place.index).map(ConnId)
    }

    /// Enters `conn`, whose `address` nobody has.
    pub(super) fn insert(&mut self, address: &[u8], conn: ConnId) {
        let place = Place {
            hash: self.hash(address),
            index: conn.0.index,
        };
        self.places
            .insert_unique(Place::spread(place.hash), place, |place| {
                Place::spread(place.hash)
            });
    }

    /// Takes `conn` out, which was entered with `address`; false if it was not.
    pub(super) fn remove(&mut self, address: &[u8], conn: ConnId) -> bool {
        let hash = Place::spread(self.hash(address));
        let is_it = |place: &Place| place.index == conn.0.index;
        let entry = self.places.find_entry(hash, is_it);
        entry.map(OccupiedEntry::remove).is_ok()
    }

    /// A part of the hash is enough: whoever has the same is told apart by the address.
    fn hash(&self, address: &[u8]) -> u32 {
        self.seeded.hash(address).lower()
    }
}
