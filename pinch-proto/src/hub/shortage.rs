//! Which connections give way when memory is short.
//!
//! A peer that never acknowledges holds what it was sent for the whole stall timeout. Where memory is
//! short, that is too long for everybody else: the largest holder that has acknowledged nothing for a
//! part of the timeout is closed, and its data returns to the queue. A connection that holds no more
//! than an even share of the memory is never closed for this.

use super::Hub;
use super::connection::Connection;
use super::deadlines::Timer;
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
            if self.core.memory_left(held) >= needed {
                return true;
            }
            // What a closed connection gives back is held until the store has it.
            if self.core.unstored_bytes() > 0 {
                return false;
            }
            let Some(conn) = self.largest_unresponsive() else {
                return false;
            };
            self.core.stats.memory_closes += 1;
            self.close(conn, CloseCause::TooSlow);
        }
        self.core.memory_left(held) >= needed
    }

    /// Returns the connection of a sample that holds most, of those that have acknowledged nothing
    /// for some time and hold more than an even share.
    fn largest_unresponsive(&mut self) -> Option<ConnId> {
        let Self { connections, core } = self;
        let share = core.shared_memory() / connections.len().max(1);
        let patience = core.config.stall_timeout / PATIENCE;
        let has_waited = |timer, connection: &Connection| {
            let (deadlines, slot) = (&core.deadlines, connection.id.slot());
            deadlines.has_waited(timer, slot, patience, &core.clock)
        };
        let mut largest: Option<(usize, ConnId)> = None;
        for connection in connections.sample(SAMPLE) {
            let is_silent =
                has_waited(Timer::Ack, connection) || has_waited(Timer::Stall, connection);
            let weight = connection.weight();
            let least = largest.map_or(share, |(weight, _)| weight);
            if is_silent && !connection.is_closing() && weight > least {
                largest = Some((weight, connection.id));
            }
        }
        largest.map(|(_, conn)| conn)
    }
}
