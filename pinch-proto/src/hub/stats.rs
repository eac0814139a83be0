//! Counters of a hub that add up.

use core::ops::AddAssign;

macro_rules! counters {
    ($(#[$attribute:meta])* pub struct HubStats { $($(#[$doc:meta])* pub $field:ident: u64,)* }) => {
        $(#[$attribute])*
        pub struct HubStats {
            $($(#[$doc])* pub $field: u64,)*
        }

        /// Adds the counters of another hub of the same relay.
        impl AddAssign for HubStats {
            fn add_assign(&mut self, other: Self) {
                $(self.$field += other.$field;)*
            }
        }
    };
}

counters! {
/// What a [`Hub`](super::Hub) has done and holds.
///
/// Three equations hold after every turn whose outputs were drained:
///
/// - `received + arrived = accepted + consumed + blocked + refused() + violations + forwarded`
/// - `accepted + read = delivered + returned + unconfirmed + stored + kept + queued + in_flight +
///   storing`
/// - `registered = connections + closing + closed`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HubStats {
    /// Connections that are open now.
    pub connections: u64,
    /// Send-only sessions among them.
    pub send_only: u64,
    /// Connections that are being closed now.
    pub closing: u64,
    /// Connections that were ever registered.
    pub registered: u64,
    /// Connections that ended.
    pub closed: u64,
    /// Joins that were refused: the address was connected already.
    pub joins_refused_duplicate: u64,
    /// Joins that were refused: the address had joined too often.
    pub joins_refused_rate: u64,
    /// Joins that were refused: the relay was full or shutting down.
    pub joins_refused_capacity: u64,
    /// Connections that were closed because they showed no life after a ping.
    pub heartbeat_timeouts: u64,
    /// Connections that were closed because their socket took nothing for too long, or, with
    /// [`SlowReader::Disconnect`](super::SlowReader::Disconnect), too little.
    pub stalls: u64,
    /// Connections that were closed because they acknowledged nothing for as long as the stall timeout.
    pub ack_timeouts: u64,
    /// Connections that were closed because memory was short: of those that had acknowledged nothing
    /// for some time, they held most.
    pub memory_closes: u64,
    /// Connections that were closed for too many control frames or short fragments.
    pub control_floods: u64,
    /// Connections that were closed because a message took too long.
    pub message_timeouts: u64,
    /// Connections that were closed because messages that had begun took too much memory.
    pub messages_evicted: u64,
    /// Connections that were closed because another took their address over.
    pub replaced: u64,

    /// Messages from live connections.
    pub received: u64,
    /// Envelopes that were put into a recipient's outbox or queue.
    pub accepted: u64,
    /// Envelopes that were handed to the recipient's shard.
    pub forwarded: u64,
    /// Envelopes that came from other shards.
    pub arrived: u64,
    /// Envelopes for the relay itself.
    pub consumed: u64,
    /// Envelopes dropped because the recipient blocks the sender; it may be told later that one was not
    /// stored, as any other sender would.
    pub blocked: u64,
    /// Messages that ended their connection.
    pub violations: u64,
    /// Refused: over the rate limit.
    pub refused_rate: u64,
    /// Refused: larger than an envelope may be.
    pub refused_size: u64,
    /// Refused: `to_address`, or what is to be blocked, is no address of this relay.
    pub refused_address: u64,
    /// Refused: the recipient is offline, and there is no queue.
    pub refused_offline: u64,
    /// Refused: the recipient's outbox is full.
    pub refused_full: u64,
    /// Refused: the memory of the whole hub, or a list of blocks, is full.
    pub refused_memory: u64,
    /// Refused: the store owes too many answers.
    pub refused_store: u64,

    /// Envelopes that the recipient has confirmed; with
    /// [`Delivery::AtMostOnce`](super::Delivery::AtMostOnce), that were transmitted to it.
    pub delivered: u64,
    /// Envelopes that went back: the store did not take them, or, where there is no queue, the
    /// recipient left before its socket was given them. The sender was told if it was still there.
    pub returned: u64,
    /// Envelopes whose recipient ended before it confirmed them, where there is no queue that they
    /// could go back to. The sender was told if it was still there.
    pub unconfirmed: u64,
    /// Envelopes in outboxes now.
    pub queued: u64,
    /// Their bytes.
    pub queued_bytes: u64,
    /// Envelopes that were given to a socket, and are neither delivered nor unconfirmed yet.
    pub in_flight: u64,
    /// The bytes of those of them that are kept until they are confirmed.
    pub in_flight_bytes: u64,
    /// Bytes that count towards [`Config::total_outbox_bytes`](super::Config::total_outbox_bytes): those
    /// of envelopes that wait or are in flight, [`ENVELOPE_OVERHEAD`](super::ENVELOPE_OVERHEAD) for each of
    /// them, what was set aside for reads of the store, and what is on its way to other shards.
    pub held_bytes: u64,
    /// Bytes beyond [`QueueConfig::unanswered_bytes`](super::QueueConfig::unanswered_bytes) that the
    /// store was given by connections that were closed, and has not answered for. While there are some,
    /// less is held for connections.
    pub unstored_bytes: u64,
    /// Maximum of [`held_bytes`](Self::held_bytes), as configured.
    pub memory_bytes: u64,
    /// Bytes that drivers hold for messages which have begun.
    pub begun_bytes: u64,

    /// Envelopes that the store took.
    pub stored: u64,
    /// Envelopes that the store gave up for those of senders with fewer in a full queue. The sender
    /// was told if it was there and read what it was told.
    pub displaced: u64,
    /// Envelopes that were read from the store for a recipient.
    pub read: u64,
    /// Those of them that were not confirmed, and so are still in the store.
    pub kept: u64,
    /// Envelopes that the store was given and has not answered for in time.
    pub storing: u64,
    /// Envelopes that the store forgot because their time was over.
    pub expired: u64,
    /// Requests to the store that failed, or were not answered in time.
    pub store_failures: u64,
    /// Requests that the store has not answered now.
    pub store_unanswered: u64,
    /// Items for other shards now that have no verdict.
    pub unanswered: u64,
    /// Connections now whose queue is not empty, or not known to be.
    pub backlogged: u64,

    /// Pings that were given to sockets.
    pub pings: u64,
    /// Pongs that came back.
    pub pongs: u64,
    /// Inputs for connections that had ended, or were being closed and may only confirm, and answers
    /// that were not owed.
    pub late: u64,
    /// Turns whose time lay before that of an earlier one; it was clamped.
    pub clock_regressions: u64,
    /// Rate buckets that outlive their connection now.
    pub parked_buckets: u64,
    /// Addresses now that have not got all their joins back.
    pub join_buckets: u64,
    /// Addresses now whose shares of the [limits of the queue](super::QueueConfig) are counted: those
    /// that are connected, and those that have sent or are to get what the hub holds.
    pub shares: u64,
    /// Agents now that have blocked others.
    pub block_owners: u64,
    /// Block lists that were forgotten: their owner was not seen any more, or they gave way to others.
    pub blocks_forgotten: u64,
    /// Blocks that stand now.
    pub blocks: u64,
}
}

impl HubStats {
    /// Whether so much memory is in use that connections which hold something get no more of it.
    #[must_use]
    pub const fn is_memory_short(&self) -> bool {
        let used = self.held_bytes + self.unstored_bytes;
        used >= self.memory_bytes - self.memory_bytes / 4
    }

    /// Envelopes that were refused to their sender, for whatever reason.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused_rate
            + self.refused_size
            + self.refused_address
            + self.refused_offline
            + self.refused_full
            + self.refused_memory
            + self.refused_store
    }
}
