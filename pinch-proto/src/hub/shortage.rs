//! Which connections give way when memory is short.
//!
//! A peer that never acknowledges holds what it was sent for the whole stall timeout. Where memory is
//! short, that is too long for everybody else: the largest holder that has acknowledged nothing for a
//! part of the timeout is closed, and its data returns to the queue. A connection that holds no more
//! than an even share of the memory is never closed for this.

use super::Hub;
use super::connection::Connection;
use super::io::{CloseCause, ConnId};

/// Maximum number of connections that are compared at once, so that the cost is constant. The next
/// search goes on behind them.
const SAMPLE: usize = 64;

/// Maximum number of connections that are closed for one envelope.
const MAX_CLOSED: usize = 4;

/// The part of the stall timeout after which a peer that acknowledges nothing may have to give way:
/// 2 s of 30.
const PATIENCE: u32 = 15;

impl Hub {
    /// Makes room for `needed` bytes more of a connection for which `held` are held already, if
    /// closing some connection does; returns whether there is room.
    pub(super) fn make_room(&mut self, needed: usize, held: usize) -> bool {
        for _ in 0..MAX_CLOSED {
            if self.memory_left(held) >= needed {
                return true;
            }
            // What a closed connection gives back is held until the store has it.
            if self.unstored_bytes() > 0 {
                return false;
            }
            let Some(conn) = self.largest_unresponsive() else {
                return false;
            };
            self.stats.memory_closes += 1;
            self.close(conn, CloseCause::TooSlow);
        }
        self.memory_left(held) >= needed
    }

    /// Returns the connection of a sample that holds most, of those that have acknowledged nothing
    /// for some time and hold more than an even share.
    fn largest_unresponsive(&mut self) -> Option<ConnId> {
        let slots = self.connections.slots();
        let share = self.shared_memory() / self.connections.len().max(1);
        let patience = self.config.stall_timeout / PATIENCE;
        let now = self.attended.now();
        let mut largest: Option<(usize, u32)> = None;
        for _ in 0..SAMPLE.min(slots as usize) {
            let index = self.sweep % slots;
            self.sweep = (index + 1) % slots;
            let Some(connection) = self.connections.at(index) else {
                continue;
            };
            let is_silent = self.deadlines.ack.has_waited(index, patience, now)
                || self.deadlines.stall.has_waited(index, patience, now);
            let weight = connection.weight();
            let least = largest.map_or(share, |(weight, _)| weight);
            if is_silent && !connection.is_closing() && weight > least {
                largest = Some((weight, index));
            }
        }
        let (_, index) = largest?;
        self.connections.key_at(index).map(ConnId)
    }

    /// A peer has acknowledged something: from here on it has the stall timeout for the rest.
    pub(super) fn acked(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn.0) else {
            return;
        };
        connection.ack_overdue = false;
        self.deadlines.ack.disarm(conn.0.index);
        self.expect_ack(conn);
    }

    /// Nothing was acknowledged for the stall timeout. While the socket has not taken the probe, the
    /// deadline of the socket counts instead.
    pub(super) fn ack_due(&mut self, conn: ConnId) {
        if self
            .connections
            .get(conn.0)
            .is_some_and(|connection| connection.writing)
        {
            let now = self.attended.now();
            return self.deadlines.ack.arm(conn.0.index, now);
        }
        self.suspect(conn, |connection| connection.ack_overdue = true);
    }

    /// Starts the time in which a peer has to answer an ack probe, if one was handed out. It runs while
    /// the socket still takes bytes: a peer that reads drop by drop acknowledges nothing.
    pub(super) fn expect_ack(&mut self, conn: ConnId) {
        let awaited = |connection: &Connection| {
            let has_probe = connection.unconfirmed.last_marker().is_some();
            has_probe && !connection.is_closing()
        };
        if self.connections.get(conn.0).is_some_and(awaited) {
            let now = self.attended.now();
            self.deadlines.ack.arm_if_idle(conn.0.index, now);
        }
    }
}
