//! The settings of the durable queue, each with the reason for its default.

use core::time::Duration;

use crate::queue::Limits;

/// How envelopes are kept for those who cannot take them now. Needs a driver with a store.
///
/// ```
/// use core::time::Duration;
/// use pinch_proto::Host;
/// use pinch_proto::hub::{Config, QueueConfig};
///
/// let queue = QueueConfig::new()
///     .recipient_count(500)
///     .ttl(Duration::from_secs(24 * 60 * 60));
/// let config = Config::new(Host::parse("relay.example.com")?).queue(queue).build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    pub(in crate::hub) limits: Limits,
    pub(in crate::hub) ttl: Duration,
    pub(in crate::hub) answer_timeout: Duration,
    pub(in crate::hub) retry_interval: Duration,
    pub(in crate::hub) expiry_interval: Duration,
    pub(in crate::hub) unanswered_bytes: usize,
    pub(in crate::hub) read_bytes: usize,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl QueueConfig {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            limits: Limits {
                recipient_count: 1000,
                sender_bytes: 64 << 20,
                total_bytes: 4 << 30,
            },
            ttl: Duration::from_secs(7 * 24 * 60 * 60),
            answer_timeout: Duration::from_secs(10),
            retry_interval: Duration::from_secs(1),
            expiry_interval: Duration::from_secs(10 * 60),
            unanswered_bytes: 64 << 20,
            read_bytes: 128 << 10,
        }
    }

    /// How many envelopes may wait for one recipient, and be on their way to its connection without
    /// being acknowledged. Default: 1,000 (protocol section 4). When they are reached, the sender with
    /// the most gives way to one with at least two fewer.
    #[must_use]
    pub const fn recipient_count(mut self, limit: u64) -> Self {
        self.limits.recipient_count = limit;
        self
    }

    /// How many bytes of one sender may wait or be unacknowledged, for whomever, its envelopes' addresses
    /// included.
    /// Default: 64 MiB, a recipient's whole queue of the largest envelopes; so that no sender
    /// fills the disk with envelopes for addresses that have no owner.
    #[must_use]
    pub const fn sender_bytes(mut self, limit: u64) -> Self {
        self.limits.sender_bytes = limit;
        self
    }

    /// How many bytes may wait or be unacknowledged in all, addresses included, and how large a store's
    /// files may become with them. Default: 4 GiB, which most disks have to spare.
    #[must_use]
    pub const fn total_bytes(mut self, limit: u64) -> Self {
        self.limits.total_bytes = limit;
        self
    }

    /// How long an envelope is kept. Default: 7 days (protocol section 4).
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// How long the store may take to answer before the sender of an envelope is told that its
    /// fate is unknown, and how long a shutdown waits for it. Default: 10 s, more than a healthy
    /// disk takes at its worst.
    #[must_use]
    pub const fn answer_timeout(mut self, timeout: Duration) -> Self {
        self.answer_timeout = timeout;
        self
    }

    /// How long after a failure, or while the hub has no memory to spare, a recipient's queue is
    /// read again. Default: 1 s.
    #[must_use]
    pub const fn retry_interval(mut self, interval: Duration) -> Self {
        self.retry_interval = interval;
        self
    }

    /// The time between two removals of what has expired. Default: 10 minutes: nobody is given it
    /// and no limit counts it before, so this only frees the disk.
    #[must_use]
    pub const fn expiry_interval(mut self, interval: Duration) -> Self {
        self.expiry_interval = interval;
        self
    }

    /// How many bytes the store may owe an answer for; beyond it, senders are refused. What it is
    /// asked counts as its envelope, if there is one, and 256 bytes more. Default: 64 MiB, a second
    /// of a good disk.
    #[must_use]
    pub const fn unanswered_bytes(mut self, limit: usize) -> Self {
        self.unanswered_bytes = limit;
        self
    }

    /// How many bytes of a queue are read at once, at least one envelope. Default: 128 KiB, a
    /// tenth of a second of a good mobile link.
    #[must_use]
    pub const fn read_bytes(mut self, limit: usize) -> Self {
        self.read_bytes = limit;
        self
    }

    /// The settings of one of `count` shards, of which each may ask the store at least for `one`
    /// envelope. The limits are those of the store that all of them have.
    pub(super) fn of_shard(mut self, count: usize, one: usize) -> Self {
        self.unanswered_bytes = self.unanswered_bytes.div_ceil(count).max(one);
        self
    }

    /// A setting that is 0 and must not be. (To read 0 bytes at once is to read one envelope.)
    pub(super) fn zero(&self) -> Option<&'static str> {
        let settings = [
            ("queue of one recipient", self.limits.recipient_count == 0),
            ("queue of one sender", self.limits.sender_bytes == 0),
            ("queue of all", self.limits.total_bytes == 0),
            ("limit of unanswered bytes", self.unanswered_bytes == 0),
            ("time that a queue keeps envelopes", self.ttl.is_zero()),
            ("answer timeout", self.answer_timeout.is_zero()),
            ("retry interval", self.retry_interval.is_zero()),
            ("expiry interval", self.expiry_interval.is_zero()),
        ];
        let zero = settings.iter().find(|(_, is_zero)| *is_zero);
        zero.map(|(setting, _)| *setting)
    }
}
