//! Messages that have begun.

use pinch_proto::hub::{CloseCause, ConnId};

use super::Model;
use super::alarms::Kind;

impl Model {
    /// A part of a message came, or one that had begun is over: `bytes` are held of it.
    pub(super) fn partial(&mut self, conn: ConnId, bytes: usize, short_fragments: u32) {
        if !self.is_open(conn) || !self.pays_for_control(conn, short_fragments) {
            return;
        }
        self.alive(conn);
        if let Some(connection) = self.open(conn) {
            connection.begun = bytes;
        }
        if bytes == 0 {
            return self.alarms.clear(Kind::Message, conn);
        }
        // The time of a message runs from its beginning.
        if !self.alarms.is_set(Kind::Message, conn) {
            self.alarms.set(Kind::Message, conn, self.now);
        }
        let quarter = self.settings.total_outbox_bytes / 4;
        while self.begun_bytes() > quarter.max(2 * self.settings.message_bytes())
            && let Some(oldest) = self.alarms.first(Kind::Message)
        {
            self.happened.messages_evicted += 1;
            self.close(oldest, CloseCause::MessageEvicted);
        }
    }

    fn begun_bytes(&self) -> usize {
        let begun = self.connections.iter().map(|connection| connection.begun);
        begun.sum()
    }

    /// A message came as a whole, and what had begun with it: another one may have begun behind it.
    pub(super) fn message_ended(&mut self, conn: ConnId) {
        if let Some(connection) = self.open(conn) {
            connection.begun = 0;
        }
        self.alarms.clear(Kind::Message, conn);
    }

    /// A message did not end in time: unless nobody reads it.
    pub(super) fn message_overdue(&mut self, conn: ConnId) {
        if self.is_paused(conn) {
            return self.alarms.set(Kind::Message, conn, self.now);
        }
        self.happened.message_timeouts += 1;
        self.close(conn, CloseCause::MessageTimeout);
    }
}
