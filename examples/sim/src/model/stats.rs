//! What there is, counted when somebody asks.

use pinch_proto::hub::HubStats;

use super::Model;
use super::connection::Connection;
use super::fates::Fate;

impl Model {
    /// What has happened and what there is.
    #[must_use]
    pub fn stats(&self) -> HubStats {
        let all = &self.connections;
        let open = all.iter().filter(|connection| connection.is_open()).count();
        let backlogged = all.iter().filter(|connection| connection.backlog.is_some());
        let sum = |bytes: fn(&Connection) -> usize| all.iter().map(bytes).sum::<usize>() as u64;
        let mut stats = self.happened;
        let sends = |connection: &&Connection| connection.is_open() && connection.options.send_only;
        stats.connections = open as u64;
        stats.send_only = all.iter().filter(sends).count() as u64;
        stats.closing = (all.len() - open) as u64;
        stats.backlogged = backlogged.count() as u64;
        stats.queued_bytes = sum(Connection::waiting_bytes);
        stats.in_flight_bytes = sum(Connection::given_bytes);
        stats.begun_bytes = sum(|connection| connection.begun);
        stats.held_bytes =
            (self.counted_bytes() + self.link_bytes().min(self.settings.link_bytes)) as u64;
        stats.unanswered = self.unanswered() as u64;
        stats.unstored_bytes = self.unstored_bytes() as u64;
        let settings = &self.settings;
        stats.memory_bytes = (settings.total_outbox_bytes + settings.link_bytes) as u64;
        stats.queued = self.fates.count(Fate::Queued);
        stats.in_flight = self.fates.count(Fate::Given);
        stats.storing = self.fates.count(Fate::Storing);
        stats.delivered = self.fates.count(Fate::Delivered);
        stats.returned = self.fates.count(Fate::Returned);
        stats.unconfirmed = self.fates.count(Fate::Unconfirmed);
        stats.stored = self.fates.count(Fate::Stored);
        stats.kept = self.fates.count(Fate::Kept);
        stats.store_unanswered = self.owed.len() as u64;
        stats.parked_buckets = self.parked.len() as u64;
        stats.join_buckets = self.joins.len() as u64;
        stats.shares = (self.agents.len() - self.strangers.len()) as u64;
        stats.blocks = self.blocks.len() as u64;
        stats.block_owners = self.owners.len() as u64;
        stats
    }
}
