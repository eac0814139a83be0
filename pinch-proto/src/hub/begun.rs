//! Messages that have begun, which a driver holds and the hub has not seen, and control frames beyond
//! reason: what a peer can cause without ever sending a message.

use super::Hub;
use super::io::{CloseCause, ConnId};

impl Hub {
    /// A part of a message came, or a message that had begun is over.
    pub(super) fn partial(&mut self, conn: ConnId, bytes: usize, short_fragments: u32) {
        if self.living(conn).is_none() || !self.takes_control(conn, short_fragments) {
            return;
        }
        self.alive(conn);
        if bytes == 0 {
            return self.forget_begun(conn);
        }
        let Some(connection) = self.connections.get_mut(conn.0) else {
            return;
        };
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let before = core::mem::replace(&mut connection.begun, bytes);
        self.begun_bytes = self.begun_bytes - u64::from(before) + u64::from(bytes);
        let now = self.attended.now();
        self.deadlines.message.arm_if_idle(conn.0.index, now);
        // A message has to be able to begin in the smallest hub.
        let least = 2 * self.config.message_bytes;
        let limit = (self.config.total_outbox_bytes / 4).max(least) as u64;
        // Those that linger give way to newcomers.
        while self.begun_bytes > limit
            && let Some(index) = self.deadlines.message.oldest()
            && let Some(oldest) = self.connections.key_at(index)
        {
            self.stats.messages_evicted += 1;
            self.close(ConnId(oldest), CloseCause::MessageEvicted);
        }
    }

    /// The message is over that had begun, or is given up.
    pub(super) fn forget_begun(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(conn.0) {
            self.begun_bytes -= u64::from(core::mem::take(&mut connection.begun));
            self.deadlines.message.disarm(conn.0.index);
        }
    }

    /// A message did not end in time.
    pub(super) fn message_overdue(&mut self, conn: ConnId) {
        let connection = self.connections.get(conn.0);
        if connection.is_some_and(|connection| connection.paused) {
            // Its end may have come, and nobody reads.
            let now = self.attended.now();
            return self.deadlines.message.arm(conn.0.index, now);
        }
        self.stats.message_timeouts += 1;
        self.close(conn, CloseCause::MessageTimeout);
    }

    /// Takes tokens for control frames or short fragments. A connection that has none left is closed,
    /// and false is returned.
    pub(super) fn takes_control(&mut self, conn: ConnId, count: u32) -> bool {
        let (Some(limit), Some(connection)) =
            (self.config.control_limit, self.connections.get_mut(conn.0))
        else {
            return true;
        };
        let bucket = &mut connection.control_bucket;
        if count == 0 || bucket.take_many(limit, count, self.now).is_ok() {
            return true;
        }
        self.stats.control_floods += 1;
        self.close(conn, CloseCause::ControlFlood);
        false
    }
}
