//! All connections of a hub, and which of them an address names.
//!
//! They lie in a [`Slab`], and everything that knows one by a number (routing table, deadlines, the
//! recipient of the last envelope) knows it by its slot.

use super::connection::Connection;
use super::io::ConnId;
use super::seeded::Seeded;
use super::send_only::SendOnly;
use super::slab::{Key, Slab};
use super::table::RoutingTable;
use crate::Address;

#[derive(Debug)]
pub(super) struct Connections {
    slots: Slab<Connection>,
    /// The connections that receive, by address.
    routes: RoutingTable,
    /// Connections whose peer has closed, and may acknowledge what is in flight by how it ends. Nothing
    /// is read from the queue of such an address. At most one of each address.
    unresolved: RoutingTable,
    pub(super) send_only: SendOnly,
    /// The slot at which the next search for memory begins.
    sweep: u32,
}

impl Connections {
    pub(super) fn new(seeded: &Seeded) -> Self {
        Self {
            slots: Slab::new(),
            routes: RoutingTable::new(seeded.clone()),
            unresolved: RoutingTable::new(seeded.clone()),
            send_only: SendOnly::new(seeded.clone()),
            sweep: 0,
        }
    }

    /// The number of all, closing ones included.
    pub(super) const fn len(&self) -> usize {
        self.slots.len()
    }

    /// The number of those that are open.
    pub(super) fn open_len(&self) -> usize {
        self.routes.len() + self.send_only.len()
    }

    /// Whether there is a slot for one more.
    pub(super) fn has_room(&self) -> bool {
        self.slots.has_room()
    }

    pub(super) fn get(&self, conn: ConnId) -> Option<&Connection> {
        self.slots.get(conn.0)
    }

    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Connection> {
        self.slots.get_mut(conn.0)
    }

    /// The connection, unless it has ended or is closing.
    pub(super) fn open_mut(&mut self, conn: ConnId) -> Option<&mut Connection> {
        self.get_mut(conn)
            .filter(|connection| !connection.is_closing())
    }

    /// The connection, unless it has ended or is closing, and the buckets that it may share.
    pub(super) fn sender_mut(&mut self, conn: ConnId) -> Option<(&mut Connection, &mut SendOnly)> {
        let sender = self.slots.get_mut(conn.0);
        let sender = sender.filter(|sender| !sender.is_closing())?;
        Some((sender, &mut self.send_only))
    }

    /// The connection in a slot.
    pub(super) fn at_mut(&mut self, index: u32) -> Option<&mut Connection> {
        self.slots.at_mut(index)
    }

    /// The name of the connection in a slot.
    pub(super) fn id_at(&self, index: u32) -> Option<ConnId> {
        self.slots.key_at(index).map(ConnId)
    }

    /// The names of all, in the order of their slots.
    pub(super) fn ids(&self) -> impl Iterator<Item = ConnId> + use<> {
        self.slots.keys().into_iter().map(ConnId)
    }

    /// Adds the connection that `begin` makes of its name; there must be [room](Self::has_room).
    pub(super) fn insert(&mut self, begin: impl FnOnce(ConnId) -> Connection) -> ConnId {
        ConnId(self.slots.insert_with(|key| begin(ConnId(key))))
    }

    pub(super) fn remove(&mut self, conn: ConnId) -> Option<Connection> {
        self.slots.remove(conn.0)
    }

    /// Makes `conn` the one that `address`, which names no other, names from now on.
    pub(super) fn add_route(&mut self, address: &Address, conn: ConnId) {
        self.routes.insert(address.as_bytes(), conn);
    }

    pub(super) fn remove_route(&mut self, address: &Address, conn: ConnId) {
        self.routes.remove(address.as_bytes(), conn);
    }

    /// The connection that is reachable under `address`, which is normalized.
    pub(super) fn find(&self, address: &str) -> Option<ConnId> {
        self.routes.find(address.as_bytes(), &self.slots)
    }

    /// The same, where the lower half of its hash is known.
    pub(super) fn find_hashed(&self, address: &[u8], hash: u32) -> Option<ConnId> {
        self.routes.find_hashed(address, hash, &self.slots)
    }

    /// The slot of that connection if it is still the one in slot `index`.
    pub(super) fn still_at(&self, index: u32, address: &[u8]) -> Option<ConnId> {
        let connection = self.slots.at(index)?;
        let is_still = !connection.is_closing()
            && !connection.options.send_only
            && connection.address.as_bytes() == address;
        is_still.then_some(connection.id)
    }

    /// The connection that is told what becomes of an envelope: its author if that still listens, else
    /// another one of `sender`.
    pub(super) fn listener(
        &mut self,
        author: Option<ConnId>,
        sender: &str,
    ) -> Option<&mut Connection> {
        let author = author.filter(|author| {
            let author = self.get(*author);
            author.is_some_and(Connection::hears_rejections)
        });
        let conn = author.or_else(|| {
            let address = Address::normalized(sender);
            self.find(&address)
                .or_else(|| self.send_only.last_of(&address))
        });
        self.get_mut(conn?)
    }

    /// Notes that how `conn` ends may acknowledge what is in flight to it.
    pub(super) fn add_unresolved(&mut self, address: &Address, conn: ConnId) {
        self.unresolved.insert(address.as_bytes(), conn);
    }

    /// It is known now, or makes no difference any more: returns whether that was noted.
    pub(super) fn remove_unresolved(&mut self, conn: ConnId) -> bool {
        if self.unresolved.is_empty() {
            return false;
        }
        let Some(connection) = self.slots.get(conn.0) else {
            return false;
        };
        self.unresolved.remove(connection.address.as_bytes(), conn)
    }

    /// The earlier connection of `address` that may still acknowledge what is in flight.
    pub(super) fn predecessor(&self, address: &Address) -> Option<ConnId> {
        if self.unresolved.is_empty() {
            return None;
        }
        self.unresolved.find(address.as_bytes(), &self.slots)
    }

    /// Some connections, in turn: at most `most` slots are looked at, and the next call goes on behind
    /// them.
    pub(super) fn sample(&mut self, most: usize) -> impl Iterator<Item = &Connection> {
        let slots = self.slots.slots();
        let count = u32::try_from(most).unwrap_or(u32::MAX).min(slots);
        let first = self.sweep;
        self.sweep = (first + count) % slots.max(1);
        let slots_of = &self.slots;
        (0..count).filter_map(move |number| slots_of.at((first + number) % slots))
    }
}

impl ConnId {
    /// Its slot, for tables beside the connections.
    pub(super) const fn slot(self) -> u32 {
        let Key { index, .. } = self.0;
        index
    }
}
