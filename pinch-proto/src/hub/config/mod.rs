//! The settings of a [`Hub`](super::Hub), each with the reason for its default.

mod error;
mod policies;
mod queue;

use core::num::NonZeroU16;
use core::time::Duration;

pub use self::error::ConfigError;
pub use self::policies::{AckOnClose, Addressing, Delivery, OnDuplicate, SlowReader};
pub use self::queue::QueueConfig;
use super::outbox::ENVELOPE_OVERHEAD;
use super::rate::RateLimit;
use crate::Host;

/// The settings of a [`Hub`](super::Hub).
///
/// ```
/// use core::time::Duration;
/// use pinch_proto::Host;
/// use pinch_proto::hub::{Config, OnDuplicate};
///
/// let config = Config::new(Host::parse("relay.example.com")?)
///     .heartbeat_interval(Duration::from_secs(10))
///     .on_duplicate(OnDuplicate::Replace)
///     .build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub(super) host: Host,
    pub(super) addressing: Addressing,
    pub(super) on_duplicate: OnDuplicate,
    pub(super) heartbeat_interval: Duration,
    pub(super) pong_timeout: Duration,
    pub(super) join_timeout: Duration,
    pub(super) stall_timeout: Duration,
    pub(super) message_timeout: Duration,
    pub(super) control_limit: Option<RateLimit>,
    pub(super) close_timeout: Duration,
    pub(super) reply_timeout: Duration,
    pub(super) queue: Option<QueueConfig>,
    pub(super) slow_reader: SlowReader,
    pub(super) delivery: Delivery,
    pub(super) ack_on_close: AckOnClose,
    pub(super) ack_probe_interval: Duration,
    pub(super) unconfirmed_bytes: usize,
    pub(super) unconfirmed_count: usize,
    pub(super) rate_limit: Option<RateLimit>,
    pub(super) join_limit: Option<RateLimit>,
    pub(super) envelope_bytes: usize,
    pub(super) message_bytes: usize,
    pub(super) outbox_bytes: usize,
    pub(super) outbox_count: usize,
    pub(super) refusal_bytes: usize,
    pub(super) total_outbox_bytes: usize,
    pub(super) max_connections: usize,
    pub(super) max_parked_buckets: usize,
    pub(super) max_blocks_per_agent: usize,
    pub(super) max_blocks: usize,
    pub(super) block_ttl: Duration,
    /// How many bytes of envelopes may wait for the verdicts of other shards; 0 where there are none.
    pub(super) link_bytes: usize,
}

impl Config {
    /// The defaults, for a relay that is known as `host`.
    #[must_use]
    pub fn new(host: Host) -> Self {
        Self {
            host,
            addressing: Addressing::default(),
            on_duplicate: OnDuplicate::default(),
            heartbeat_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(7),
            join_timeout: Duration::from_secs(1),
            stall_timeout: Duration::from_secs(30),
            message_timeout: Duration::from_secs(30),
            control_limit: Some(RateLimit::DEFAULT_CONTROL),
            close_timeout: Duration::from_secs(5),
            reply_timeout: Duration::from_secs(5),
            queue: None,
            slow_reader: SlowReader::default(),
            delivery: Delivery::default(),
            ack_on_close: AckOnClose::default(),
            ack_probe_interval: Duration::from_millis(100),
            unconfirmed_bytes: 1 << 20,
            unconfirmed_count: 4096,
            rate_limit: Some(RateLimit::DEFAULT),
            join_limit: Some(RateLimit::DEFAULT_JOINS),
            envelope_bytes: 65_536,
            message_bytes: 131_072,
            outbox_bytes: 1 << 20,
            outbox_count: 4096,
            refusal_bytes: 256 << 10,
            total_outbox_bytes: 256 << 20,
            max_connections: 1 << 20,
            max_parked_buckets: 1 << 16,
            max_blocks_per_agent: 1000,
            max_blocks: 1 << 20,
            block_ttl: Duration::from_secs(180 * 24 * 60 * 60),
            link_bytes: 0,
        }
    }

    /// Who may be a recipient. Default: [`Addressing::Keys`], so that nobody can address what
    /// nobody can own.
    #[must_use]
    pub fn addressing(mut self, addressing: Addressing) -> Self {
        self.addressing = addressing;
        self
    }

    /// What happens when an address joins twice. Default: [`OnDuplicate::Refuse`], because a
    /// takeover lets two clients with one key fight without end.
    #[must_use]
    pub fn on_duplicate(mut self, on_duplicate: OnDuplicate) -> Self {
        self.on_duplicate = on_duplicate;
        self
    }

    /// The time between two pings of a connection. Default: 25 s, below the 30 s after which many
    /// NATs forget an idle flow.
    #[must_use]
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.heartbeat_interval = interval;
        self
    }

    /// The time that a peer has to show life after a ping left, [pauses](super#pauses) of the
    /// process apart. Default: 7 s, two retransmissions of a slow mobile link.
    #[must_use]
    pub fn pong_timeout(mut self, timeout: Duration) -> Self {
        self.pong_timeout = timeout;
        self
    }

    /// How long a new connection is spared envelopes while its first pong is missing (protocol
    /// section 4). Default: 1 s.
    #[must_use]
    pub fn join_timeout(mut self, timeout: Duration) -> Self {
        self.join_timeout = timeout;
        self
    }

    /// How long a socket may take nothing of what it was given, [pauses](super#pauses) of the
    /// process apart. Default: 30 s, longer than any pause of an honest reader, short enough to free
    /// its outbox.
    #[must_use]
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall_timeout = timeout;
        self
    }

    /// Maximum duration of a message, from its first byte to its last, [pauses](super#pauses) of the
    /// process apart, and not while the connection is [paused](super::Hub::is_paused). Default: 30 s,
    /// in which a link of 40 kbit/s carries the largest message.
    #[must_use]
    pub fn message_timeout(mut self, timeout: Duration) -> Self {
        self.message_timeout = timeout;
        self
    }

    /// Limit of the control frames of each connection: pings, pongs that answer no ping, and fragments
    /// of less than 126 bytes that are not the last of their message. A connection beyond it is
    /// closed. `None` for no limit. Default: [`RateLimit::DEFAULT_CONTROL`], a hundred times what a
    /// heartbeat of one second needs, and a message in a thousand pieces.
    #[must_use]
    pub fn control_limit(mut self, limit: Option<RateLimit>) -> Self {
        self.control_limit = limit;
        self
    }

    /// How long a connection that is being closed may take to read what is buffered and to answer
    /// the close frame, [pauses](super#pauses) of the process apart. Default: 5 s, so that a shutdown
    /// ends within what supervisors grant (10 s), unless a store leaves it waiting for
    /// [longer](QueueConfig::answer_timeout).
    #[must_use]
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }

    /// Maximum time that a pong, or the answer to a close frame, waits until the store has answered
    /// for what the peer sent before, [pauses](super#pauses) of the process apart. Where several wait,
    /// it starts anew for the next when one goes. Default: 5 s, below the time in which clients expect
    /// a pong (7 s).
    #[must_use]
    pub fn reply_timeout(mut self, timeout: Duration) -> Self {
        self.reply_timeout = timeout;
        self
    }

    /// Keeps envelopes for those who cannot take them now, in a store that the driver has. Default:
    /// none; their senders are told.
    #[must_use]
    pub fn queue(mut self, queue: QueueConfig) -> Self {
        self.queue = Some(queue);
        self
    }

    /// What happens when a recipient reads too slowly. Default: [`SlowReader::Spill`].
    #[must_use]
    pub fn slow_reader(mut self, slow_reader: SlowReader) -> Self {
        self.slow_reader = slow_reader;
        self
    }

    /// What is done so that an envelope arrives which was given to a socket. Default:
    /// [`Delivery::AtLeastOnce`].
    #[must_use]
    pub fn delivery(mut self, delivery: Delivery) -> Self {
        self.delivery = delivery;
        self
    }

    /// Whether a clean close by the peer acknowledges what it was sent. Default:
    /// [`AckOnClose::Clean`], so that short sessions empty their queue.
    #[must_use]
    pub fn ack_on_close(mut self, policy: AckOnClose) -> Self {
        self.ack_on_close = policy;
        self
    }

    /// Minimum time between two ack probes of a connection: pings behind envelopes, whose pongs
    /// acknowledge them (protocol section 4). A probe follows at once behind the first envelope in
    /// flight and behind the last one of a drained queue; while it is unanswered, no other is sent.
    /// Exempt are probes behind each 64 KiB or 256 envelopes, and behind 32 KiB when nothing more
    /// waits. Default: 100 ms, so that a conversation costs at most ten small frames a second.
    #[must_use]
    pub fn ack_probe_interval(mut self, interval: Duration) -> Self {
        self.ack_probe_interval = interval;
        self
    }

    /// How many bytes of envelopes a peer may have been given and not confirmed before it gets no
    /// more. Default: 1 MiB, which fills a link of 80 Mbit/s over a tenth of a second.
    #[must_use]
    pub fn unconfirmed_bytes(mut self, limit: usize) -> Self {
        self.unconfirmed_bytes = limit;
        self
    }

    /// How many envelopes a peer may have been given and not confirmed before it gets no more.
    /// Default: 4096, so that small ones cannot make the bookkeeping larger than the bytes.
    #[must_use]
    pub fn unconfirmed_count(mut self, limit: usize) -> Self {
        self.unconfirmed_count = limit;
        self
    }

    /// How fast each connection may send; `None` for no limit. Default: [`RateLimit::DEFAULT`].
    #[must_use]
    pub fn rate_limit(mut self, limit: Option<RateLimit>) -> Self {
        self.rate_limit = limit;
        self
    }

    /// How often each address may join, send-only sessions and joins that are refused otherwise
    /// included; `None` for no limit. Default: [`RateLimit::DEFAULT_JOINS`]. A script that runs a tool
    /// five times a second may do so for 20 s; a join reads up to
    /// [`read_bytes`](QueueConfig::read_bytes), so that an address has 256 KiB a second read in the long
    /// run.
    #[must_use]
    pub fn join_limit(mut self, limit: Option<RateLimit>) -> Self {
        self.join_limit = limit;
        self
    }

    /// The largest envelope that is relayed, in bytes. Default: 65,536 (protocol section 4).
    #[must_use]
    pub fn envelope_bytes(mut self, limit: usize) -> Self {
        self.envelope_bytes = limit;
        self
    }

    /// The largest WebSocket message that is read at all, in bytes. Default: 131,072 (protocol
    /// section 4), so that an envelope that is somewhat too large gets an answer instead of a cut.
    #[must_use]
    pub fn message_bytes(mut self, limit: usize) -> Self {
        self.message_bytes = limit;
        self
    }

    /// How many bytes of envelopes may wait for one connection. Default: 1 MiB, a second of a
    /// good mobile link.
    #[must_use]
    pub fn outbox_bytes(mut self, limit: usize) -> Self {
        self.outbox_bytes = limit;
        self
    }

    /// How many envelopes may wait for one connection. Default: 4096, so that small ones cannot
    /// make the bookkeeping larger than the bytes.
    #[must_use]
    pub fn outbox_count(mut self, limit: usize) -> Self {
        self.outbox_count = limit;
        self
    }

    /// Maximum number of bytes of rejections that wait for one sender before the relay stops reading
    /// from it, until it has read them. What was read before may exceed it, and so may the rejections
    /// of many envelopes at once, such as those in flight to a recipient that is cut. Default:
    /// 256 KiB, more than 300 rejections.
    #[must_use]
    pub fn refusal_bytes(mut self, limit: usize) -> Self {
        self.refusal_bytes = limit;
        self
    }

    /// Maximum number of bytes of envelopes that the whole hub holds: those that wait, and those that
    /// were given to sockets and are not confirmed. Each counts
    /// [`ENVELOPE_OVERHEAD`](super::ENVELOPE_OVERHEAD) more than it is long, so that small ones take no more
    /// memory than large ones. A quarter of it is for connections for which it holds nothing yet,
    /// whatever it holds for others. Default: 256 MiB, for a machine of 1 GiB.
    #[must_use]
    pub fn total_outbox_bytes(mut self, limit: usize) -> Self {
        self.total_outbox_bytes = limit;
        self
    }

    /// How many connections may be registered at once, in all shards
    /// ([`Hub::set_other_connections`](super::Hub::set_other_connections)). Default: 1,048,576.
    #[must_use]
    pub fn max_connections(mut self, limit: usize) -> Self {
        self.max_connections = limit;
        self
    }

    /// How many rate buckets of addresses that left are remembered, and as many of addresses that
    /// joined. Default: 65,536, some 10 MB each; beyond it the oldest is forgotten.
    #[must_use]
    pub fn max_parked_buckets(mut self, limit: usize) -> Self {
        self.max_parked_buckets = limit;
        self
    }

    /// How many addresses one agent may block, and how many blocks there may be in all. Where all are
    /// taken, one of the longest lists gives way: the one whose owner was not seen for longest. Default:
    /// 1000 and 1,048,576, some 20 MB in lists of 1000, and some 120 MB in lists of one.
    #[must_use]
    pub fn max_blocks(mut self, per_agent: usize, total: usize) -> Self {
        self.max_blocks_per_agent = per_agent;
        self.max_blocks = total;
        self
    }

    /// How long a block list is kept after its owner joined last, to the day. Default: 180 days. Lists
    /// are looked at every [`expiry_interval`](QueueConfig::expiry_interval), so that without a queue they
    /// are kept until the relay ends.
    #[must_use]
    pub fn block_ttl(mut self, ttl: Duration) -> Self {
        self.block_ttl = ttl;
        self
    }

    /// Whether there is a [queue](Self::queue), and so a store is needed.
    #[must_use]
    pub fn has_queue(&self) -> bool {
        self.queue.is_some()
    }

    /// The relay's public host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The maximum of registered connections.
    #[must_use]
    pub fn connection_limit(&self) -> usize {
        self.max_connections
    }

    /// The largest WebSocket message, in bytes.
    #[must_use]
    pub fn max_message_bytes(&self) -> usize {
        self.message_bytes
    }

    /// Checks that the settings fit each other.
    ///
    /// # Errors
    /// [`ConfigError`] names the setting that does not, and what is accepted.
    pub fn build(self) -> Result<Self, ConfigError> {
        if let Some(setting) = self.zero() {
            return Err(ConfigError::Zero { setting });
        }
        let envelope_bytes = self.envelope_bytes;
        let total = self.total_outbox_bytes.saturating_sub(ENVELOPE_OVERHEAD);
        let outbox_bytes = self.outbox_bytes.min(total);
        if outbox_bytes < envelope_bytes {
            return Err(ConfigError::OutboxTooSmall {
                outbox_bytes,
                envelope_bytes,
            });
        }
        if self.message_bytes < envelope_bytes {
            return Err(ConfigError::MessageTooSmall {
                message_bytes: self.message_bytes,
                envelope_bytes,
            });
        }
        Ok(self)
    }

    /// The settings of one of `count` shards: its part of what the whole relay may hold, but never less
    /// than one envelope takes. An eighth of its memory is for envelopes on their way to other shards.
    pub(super) fn of_shard(mut self, count: NonZeroU16) -> Self {
        let count = usize::from(count.get());
        if count == 1 {
            return self;
        }
        let one = self.envelope_bytes + ENVELOPE_OVERHEAD;
        let memory = self.total_outbox_bytes.div_ceil(count);
        self.link_bytes = (memory / 8).max(2 * one);
        self.total_outbox_bytes = (memory - memory / 8).max(one);
        self.max_parked_buckets = self.max_parked_buckets.div_ceil(count);
        self.max_blocks = self.max_blocks.div_ceil(count);
        self.queue = self.queue.map(|queue| queue.of_shard(count, one));
        self
    }

    /// The shortest of the timeouts that a pause of the process does not use up.
    pub(super) fn shortest_timeout(&self) -> Duration {
        let answer_timeout = self.queue.map(|queue| queue.answer_timeout);
        let timeouts = [
            self.pong_timeout,
            self.stall_timeout,
            self.message_timeout,
            self.close_timeout,
            self.reply_timeout,
        ];
        let timeouts = timeouts.into_iter().chain(answer_timeout);
        timeouts.min().unwrap_or_default()
    }

    /// A setting that is 0 and must not be.
    fn zero(&self) -> Option<&'static str> {
        let settings = [
            ("heartbeat interval", self.heartbeat_interval.is_zero()),
            ("pong timeout", self.pong_timeout.is_zero()),
            ("join timeout", self.join_timeout.is_zero()),
            ("stall timeout", self.stall_timeout.is_zero()),
            ("message timeout", self.message_timeout.is_zero()),
            ("close timeout", self.close_timeout.is_zero()),
            ("reply timeout", self.reply_timeout.is_zero()),
            ("ack probe interval", self.ack_probe_interval.is_zero()),
            ("envelope limit", self.envelope_bytes == 0),
            ("outbox count", self.outbox_count == 0),
            ("refusal limit", self.refusal_bytes == 0),
            ("limit of unconfirmed bytes", self.unconfirmed_bytes == 0),
            (
                "limit of unconfirmed envelopes",
                self.unconfirmed_count == 0,
            ),
            ("connection limit", self.max_connections == 0),
            ("limit of parked buckets", self.max_parked_buckets == 0),
        ];
        let zero = settings.iter().find(|(_, is_zero)| *is_zero);
        let of_queue = || self.queue.and_then(|queue| queue.zero());
        zero.map(|(setting, _)| *setting).or_else(of_queue)
    }
}
