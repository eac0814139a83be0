//! Messages that have begun, which a driver holds and the hub has not seen, and control frames beyond
//! reason: what a peer can cause without ever sending a message.

use super::Hub;
use super::connection::Connection;
use super::core::Core;
use super::deadlines::Timer;
use super::io::{CloseCause, ConnId};

impl Hub {
    /// A part of a message came, or a message that had begun is over.
    pub(super) fn partial(&mut self, conn: ConnId, bytes: usize, short_fragments: u32) {
        let Self { connections, core } = self;
        let Some(connection) = connections.open_mut(conn) else {
            core.stats.late += 1;
            return;
        };
        if !core.take_control(connection, short_fragments) {
            return self.close(conn, CloseCause::ControlFlood);
        }
        core.on_activity(connection);
        if bytes == 0 {
            return core.forget_begun(connection);
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let before = core::mem::replace(&mut connection.begun, bytes);
        core.begun_bytes = core.begun_bytes - u64::from(before) + u64::from(bytes);
        core.arm_if_idle(Timer::Message, conn.slot());
        // A message has to be able to begin in the smallest hub.
        let least = 2 * core.config.message_bytes;
        let limit = (core.config.total_outbox_bytes / 4).max(least) as u64;
        // Those that linger give way to newcomers.
        while self.core.begun_bytes > limit
            && let Some(slot) = self.core.deadlines.oldest(Timer::Message)
            && let Some(oldest) = self.connections.id_at(slot)
        {
            self.core.stats.messages_evicted += 1;
            self.close(oldest, CloseCause::MessageEvicted);
        }
    }

    /// A message did not end in time.
    pub(super) fn message_overdue(&mut self, slot: u32) {
        let Self { connections, core } = self;
        let Some(connection) = connections.at_mut(slot) else {
            return;
        };
        if connection.paused {
            // Its end may have come, and nobody reads.
            return core.arm(Timer::Message, slot);
        }
        let conn = connection.id;
        core.stats.message_timeouts += 1;
        self.close(conn, CloseCause::MessageTimeout);
    }
}

impl Core {
    /// The message is over that had begun, or is given up.
    pub(super) fn forget_begun(&mut self, connection: &mut Connection) {
        self.begun_bytes -= u64::from(core::mem::take(&mut connection.begun));
        self.deadlines.disarm(Timer::Message, connection.id.slot());
    }

    /// Takes tokens for control frames or short fragments. A connection that has none left is to be
    /// closed, and false is returned.
    pub(super) fn take_control(&mut self, connection: &mut Connection, count: u32) -> bool {
        let Some(limit) = self.config.control_limit else {
            return true;
        };
        let bucket = &mut connection.control_bucket;
        if count == 0 || bucket.take_many(limit, count, self.clock.now).is_ok() {
            return true;
        }
        self.stats.control_floods += 1;
        false
    }
}
