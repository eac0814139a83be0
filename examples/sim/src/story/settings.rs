//! The settings of a hub in a story: numbers so small that a few steps reach every limit.
//!
//! Each setting has a table of the values it takes, from one that is met at once to one that is
//! never met. The hub gets them as a [`Config`]; the model reads them as they are.

use core::fmt;
use core::num::NonZeroU16;
use core::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use pinch_proto::Host;
use pinch_proto::hub::{
    AckOnClose, Addressing, Config, Delivery, ENVELOPE_OVERHEAD, OnDuplicate, QueueConfig,
    RateLimit, Shard, ShardId, Shards, SlowReader,
};
use pinch_proto::queue::Limits;

/// More than a story uses of anything.
pub const PLENTY: usize = 1 << 20;

/// The relay's host in every story.
pub const HOST: &str = "r";

/// How often a connection may send: so many envelopes per second, so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In the long run.
    pub per_second: u32,
    /// At once.
    pub burst: u32,
}

/// The settings of the hub in a story. Times are in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Arbitrary)]
#[allow(
    missing_docs,
    reason = "each field is the setting of the hub that has the same name, and that is documented"
)]
pub struct Settings {
    /// How many agents have joined, by name, and have answered, when the story begins.
    #[arbitrary(with = from(&Self::PRESENT))]
    pub present: usize,
    #[arbitrary(with = from(&Self::ADDRESSING))]
    pub addressing: Addressing,
    #[arbitrary(with = from(&Self::ON_DUPLICATE))]
    pub on_duplicate: OnDuplicate,
    #[arbitrary(with = from(&Self::SLOW_READER))]
    pub slow_reader: SlowReader,
    #[arbitrary(with = from(&Self::DELIVERY))]
    pub delivery: Delivery,
    #[arbitrary(with = from(&Self::ACK_ON_CLOSE))]
    pub ack_on_close: AckOnClose,
    #[arbitrary(with = from(&Self::ENVELOPE_BYTES))]
    pub envelope_bytes: usize,
    #[arbitrary(with = from(&Self::OUTBOX_BYTES))]
    pub outbox_bytes: usize,
    #[arbitrary(with = from(&Self::OUTBOX_COUNT))]
    pub outbox_count: usize,
    #[arbitrary(with = from(&Self::TOTAL_OUTBOX_BYTES))]
    pub total_outbox_bytes: usize,
    #[arbitrary(with = from(&Self::UNCONFIRMED_BYTES))]
    pub unconfirmed_bytes: usize,
    #[arbitrary(with = from(&Self::UNCONFIRMED_COUNT))]
    pub unconfirmed_count: usize,
    #[arbitrary(with = from(&Self::REFUSAL_BYTES))]
    pub refusal_bytes: usize,
    #[arbitrary(with = from(&Self::MAX_CONNECTIONS))]
    pub max_connections: usize,
    #[arbitrary(with = from(&Self::MAX_PARKED_BUCKETS))]
    pub max_parked_buckets: usize,
    #[arbitrary(with = from(&Self::MAX_BLOCKS))]
    pub max_blocks: (usize, usize),
    #[arbitrary(with = from(&Self::PONG_TIMEOUT))]
    pub pong_timeout: u64,
    #[arbitrary(with = from(&Self::STALL_TIMEOUT))]
    pub stall_timeout: u64,
    #[arbitrary(with = from(&Self::RATE_LIMIT))]
    pub rate_limit: Option<Rate>,
    pub queue: Option<Queue>,
    /// How many shards the relay has. The other settings are those of all of them together.
    #[arbitrary(value = 1)]
    pub shards: u16,
    /// The bus between the shards may lose, repeat and reorder what it carries.
    #[arbitrary(default)]
    pub bus_loses: bool,
    /// How much may be on its way to another shard: what [`of_shard`](Self::of_shard) says.
    #[arbitrary(default)]
    pub link_bytes: usize,
}

/// The settings of the queue in a story. Times are in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Arbitrary)]
#[allow(
    missing_docs,
    reason = "each field is the setting of the queue that has the same name, and that is documented"
)]
pub struct Queue {
    #[arbitrary(with = from(&Self::RECIPIENT_COUNT))]
    pub recipient_count: u64,
    #[arbitrary(with = from(&Self::SENDER_BYTES))]
    pub sender_bytes: u64,
    #[arbitrary(with = from(&Self::TOTAL_BYTES))]
    pub total_bytes: u64,
    #[arbitrary(with = from(&Self::TTL))]
    pub ttl: u64,
    #[arbitrary(with = from(&Self::ANSWER_TIMEOUT))]
    pub answer_timeout: u64,
    #[arbitrary(with = from(&Self::UNANSWERED_BYTES))]
    pub unanswered_bytes: usize,
    #[arbitrary(with = from(&Self::READ_BYTES))]
    pub read_bytes: usize,
}

fn from<'a, T: Copy>(values: &[T]) -> impl FnOnce(&mut Unstructured<'a>) -> arbitrary::Result<T> {
    |bytes| bytes.choose(values).copied()
}

#[allow(
    missing_docs,
    reason = "each table has the values of the field with its name"
)]
impl Settings {
    pub const PRESENT: [usize; 4] = [3, 2, 1, 0];
    pub const ADDRESSING: [Addressing; 2] = [Addressing::Keys, Addressing::Names];
    pub const ON_DUPLICATE: [OnDuplicate; 2] = [OnDuplicate::Refuse, OnDuplicate::Replace];
    pub const SLOW_READER: [SlowReader; 4] = [
        SlowReader::Spill,
        SlowReader::Spill,
        SlowReader::Refuse,
        SlowReader::Disconnect,
    ];
    pub const DELIVERY: [Delivery; 3] = [
        Delivery::AtLeastOnce,
        Delivery::AtLeastOnce,
        Delivery::AtMostOnce,
    ];
    pub const ACK_ON_CLOSE: [AckOnClose; 3] =
        [AckOnClose::Clean, AckOnClose::Clean, AckOnClose::Never];
    pub const ENVELOPE_BYTES: [usize; 3] = [320, 320, 40_000];
    pub const OUTBOX_BYTES: [usize; 3] = [PLENTY, 700, 400];
    pub const OUTBOX_COUNT: [usize; 4] = [PLENTY, 4, 2, 1];
    pub const TOTAL_OUTBOX_BYTES: [usize; 4] = [PLENTY, PLENTY, 2500, 1000];
    pub const UNCONFIRMED_BYTES: [usize; 4] = [PLENTY, PLENTY, 300, 1];
    pub const UNCONFIRMED_COUNT: [usize; 4] = [PLENTY, 3, 2, 1];
    pub const REFUSAL_BYTES: [usize; 3] = [PLENTY, 700, 250];
    pub const MAX_CONNECTIONS: [usize; 3] = [100, 100, 3];
    pub const MAX_PARKED_BUCKETS: [usize; 3] = [100, 2, 1];
    pub const MAX_BLOCKS: [(usize, usize); 2] = [(100, 100), (1, 2)];
    pub const PONG_TIMEOUT: [u64; 3] = [40, 40, 400];
    pub const STALL_TIMEOUT: [u64; 2] = [300, 60];
    pub const RATE_LIMIT: [Option<Rate>; 4] = [
        None,
        None,
        Some(Rate {
            per_second: 30,
            burst: 5,
        }),
        Some(Rate {
            per_second: 4,
            burst: 2,
        }),
    ];

    pub const SHARDS: [u16; 6] = [1, 1, 1, 2, 3, 4];

    pub const HEARTBEAT_INTERVAL: u64 = 150;
    pub const JOIN_TIMEOUT: u64 = 50;
    pub const CLOSE_TIMEOUT: u64 = 90;
    pub const REPLY_TIMEOUT: u64 = 80;
    pub const MESSAGE_TIMEOUT: u64 = 90;
    pub const ACK_PROBE_INTERVAL: u64 = 20;
    pub const RETRY_INTERVAL: u64 = 30;
    pub const EXPIRY_INTERVAL: u64 = 400;
    pub const RESEND_AFTER: u64 = 35;
}

#[allow(
    missing_docs,
    reason = "each table has the values of the field with its name"
)]
impl Queue {
    pub const RECIPIENT_COUNT: [u64; 3] = [1000, 4, 1];
    pub const SENDER_BYTES: [u64; 3] = [PLENTY as u64, PLENTY as u64, 700];
    pub const TOTAL_BYTES: [u64; 3] = [PLENTY as u64, PLENTY as u64, 1200];
    pub const TTL: [u64; 3] = [31_536_000_000, 31_536_000_000, 200];
    pub const ANSWER_TIMEOUT: [u64; 2] = [3000, 70];
    pub const UNANSWERED_BYTES: [usize; 3] = [PLENTY, 2500, 900];
    pub const READ_BYTES: [usize; 4] = [128 << 10, 700, 300, 1];

    /// What may wait in the store.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        Limits {
            recipient_count: self.recipient_count,
            sender_bytes: self.sender_bytes,
            total_bytes: self.total_bytes,
        }
    }
}

impl Default for Settings {
    /// No limit is met, and nobody has joined.
    fn default() -> Self {
        Self {
            present: 0,
            addressing: Self::ADDRESSING[0],
            on_duplicate: Self::ON_DUPLICATE[0],
            slow_reader: Self::SLOW_READER[0],
            delivery: Self::DELIVERY[0],
            ack_on_close: Self::ACK_ON_CLOSE[0],
            envelope_bytes: Self::ENVELOPE_BYTES[0],
            outbox_bytes: Self::OUTBOX_BYTES[0],
            outbox_count: Self::OUTBOX_COUNT[0],
            total_outbox_bytes: Self::TOTAL_OUTBOX_BYTES[0],
            unconfirmed_bytes: Self::UNCONFIRMED_BYTES[0],
            unconfirmed_count: Self::UNCONFIRMED_COUNT[0],
            refusal_bytes: Self::REFUSAL_BYTES[0],
            max_connections: Self::MAX_CONNECTIONS[0],
            max_parked_buckets: Self::MAX_PARKED_BUCKETS[0],
            max_blocks: Self::MAX_BLOCKS[0],
            pong_timeout: Self::PONG_TIMEOUT[0],
            stall_timeout: Self::STALL_TIMEOUT[0],
            rate_limit: Self::RATE_LIMIT[0],
            queue: None,
            shards: 1,
            bus_loses: false,
            link_bytes: 0,
        }
    }
}

impl Settings {
    /// The largest WebSocket message.
    #[must_use]
    pub const fn message_bytes(&self) -> usize {
        self.envelope_bytes + 100
    }

    /// How often an address may join: limited where few buckets are remembered.
    #[must_use]
    pub fn join_limit(&self) -> Option<Rate> {
        let rate = Rate {
            per_second: 10,
            burst: 2,
        };
        let most = Self::MAX_PARKED_BUCKETS[0].div_ceil(self.shards.into());
        (self.max_parked_buckets < most).then_some(rate)
    }

    /// How many control frames a connection may send: limited where few rejections may wait for it.
    #[must_use]
    pub fn control_limit(&self) -> Option<Rate> {
        let rate = Rate {
            per_second: 20,
            burst: 4,
        };
        (self.refusal_bytes < Self::REFUSAL_BYTES[0]).then_some(rate)
    }

    /// How the addresses of all agents are spread.
    #[must_use]
    pub fn spread(&self, seed: [u8; 16]) -> Shards {
        let count = NonZeroU16::new(self.shards).unwrap_or(NonZeroU16::MIN);
        Shards::new(count, seed)
    }

    /// The place of the hub with this number.
    #[must_use]
    pub fn place(&self, shards: &Shards, id: ShardId) -> Shard {
        let resend_after = Duration::from_millis(Self::RESEND_AFTER);
        Shard {
            resend_after: self.bus_loses.then_some(resend_after),
            ..Shard::new(shards.clone(), id)
        }
    }

    /// What one shard has of these settings: the same part of each limit of the whole, but room for one
    /// envelope. An eighth of its memory is for the links to the others.
    #[must_use]
    pub fn of_shard(mut self) -> Self {
        if self.shards > 1 {
            let count = usize::from(self.shards);
            let one = self.envelope_bytes + ENVELOPE_OVERHEAD;
            let memory = self.total_outbox_bytes.div_ceil(count);
            self.total_outbox_bytes = (memory - memory / 8).max(one);
            self.max_parked_buckets = self.max_parked_buckets.div_ceil(count);
            self.max_blocks.1 = self.max_blocks.1.div_ceil(count);
            self.link_bytes = (memory / 8).max(2 * one);
            if let Some(queue) = &mut self.queue {
                let bytes = queue.unanswered_bytes.div_ceil(count);
                queue.unanswered_bytes = bytes.max(one);
            }
        }
        self
    }

    /// These settings, or the nearest that a hub takes: an envelope has to fit everywhere.
    #[must_use]
    pub fn fitted(mut self) -> Self {
        self.outbox_bytes = self.outbox_bytes.max(self.envelope_bytes);
        let one = self.envelope_bytes + ENVELOPE_OVERHEAD;
        self.total_outbox_bytes = self.total_outbox_bytes.max(one);
        self
    }

    /// The same for a hub.
    ///
    /// # Panics
    /// If they are not [fitted](Self::fitted).
    #[must_use]
    pub fn config(&self) -> Config {
        let host = Host::parse(HOST).expect("a host");
        let limit =
            |rate: Rate| RateLimit::new(f64::from(rate.per_second), rate.burst).expect("a limit");
        let (rate, joins) = (self.rate_limit.map(limit), self.join_limit().map(limit));
        let config = Config::new(host)
            .addressing(self.addressing)
            .on_duplicate(self.on_duplicate)
            .slow_reader(self.slow_reader)
            .delivery(self.delivery)
            .ack_on_close(self.ack_on_close)
            .envelope_bytes(self.envelope_bytes)
            .message_bytes(self.message_bytes())
            .outbox_bytes(self.outbox_bytes)
            .outbox_count(self.outbox_count)
            .total_outbox_bytes(self.total_outbox_bytes)
            .unconfirmed_bytes(self.unconfirmed_bytes)
            .unconfirmed_count(self.unconfirmed_count)
            .refusal_bytes(self.refusal_bytes)
            .max_connections(self.max_connections)
            .max_parked_buckets(self.max_parked_buckets)
            .max_blocks(self.max_blocks.0, self.max_blocks.1)
            .rate_limit(rate)
            .join_limit(joins)
            .control_limit(self.control_limit().map(limit))
            .heartbeat_interval(Duration::from_millis(Self::HEARTBEAT_INTERVAL))
            .pong_timeout(Duration::from_millis(self.pong_timeout))
            .join_timeout(Duration::from_millis(Self::JOIN_TIMEOUT))
            .stall_timeout(Duration::from_millis(self.stall_timeout))
            .close_timeout(Duration::from_millis(Self::CLOSE_TIMEOUT))
            .reply_timeout(Duration::from_millis(Self::REPLY_TIMEOUT))
            .message_timeout(Duration::from_millis(Self::MESSAGE_TIMEOUT))
            .ack_probe_interval(Duration::from_millis(Self::ACK_PROBE_INTERVAL));
        let config = match self.queue {
            Some(queue) => config.queue(queue.config()),
            None => config,
        };
        config.build().expect("settings that fit each other")
    }
}

impl Queue {
    fn config(&self) -> QueueConfig {
        QueueConfig::new()
            .recipient_count(self.recipient_count)
            .sender_bytes(self.sender_bytes)
            .total_bytes(self.total_bytes)
            .ttl(Duration::from_millis(self.ttl))
            .answer_timeout(Duration::from_millis(self.answer_timeout))
            .retry_interval(Duration::from_millis(Settings::RETRY_INTERVAL))
            .expiry_interval(Duration::from_millis(Settings::EXPIRY_INTERVAL))
            .unanswered_bytes(self.unanswered_bytes)
            .read_bytes(self.read_bytes)
    }
}

impl fmt::Display for Settings {
    /// Only what can be met: a limit that is out of reach is not named.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            addressing,
            on_duplicate,
            slow_reader,
            delivery,
            ack_on_close,
            ..
        } = self;
        write!(
            f,
            "{addressing:?}, {on_duplicate:?}, {slow_reader:?}, {delivery:?}, ack on close {ack_on_close:?}"
        )?;
        let limits = [
            ("envelope bytes", self.envelope_bytes),
            ("outbox bytes", self.outbox_bytes),
            ("outbox count", self.outbox_count),
            ("total outbox bytes", self.total_outbox_bytes),
            ("unconfirmed bytes", self.unconfirmed_bytes),
            ("unconfirmed count", self.unconfirmed_count),
            ("refusal bytes", self.refusal_bytes),
            ("connections", self.max_connections),
            ("parked buckets", self.max_parked_buckets),
            ("blocks of one", self.max_blocks.0),
            ("blocks", self.max_blocks.1),
        ];
        for (name, limit) in limits {
            if limit != 100 && limit != PLENTY {
                write!(f, ", {name} {limit}")?;
            }
        }
        let (pong, stall) = (self.pong_timeout, self.stall_timeout);
        write!(f, ", pong timeout {pong} ms, stall timeout {stall} ms")?;
        if let Some(Rate { per_second, burst }) = self.rate_limit {
            write!(f, ", {per_second} per second and {burst} at once")?;
        }
        if self.shards > 1 {
            let bus = if self.bus_loses { "bad" } else { "good" };
            write!(f, ", {} shards with a {bus} bus", self.shards)?;
        }
        let Some(queue) = self.queue else {
            return f.write_str(", no queue");
        };
        let Queue {
            ttl,
            answer_timeout,
            ..
        } = queue;
        write!(
            f,
            ", a queue: ttl {ttl} ms, answer timeout {answer_timeout} ms"
        )?;
        let limits = [
            ("recipient count", queue.recipient_count),
            ("sender bytes", queue.sender_bytes),
            ("total bytes", queue.total_bytes),
            ("unanswered bytes", queue.unanswered_bytes as u64),
            ("read bytes", queue.read_bytes as u64),
        ];
        for (name, limit) in limits {
            if ![1000, PLENTY as u64, 128 << 10].contains(&limit) {
                write!(f, ", {name} {limit}")?;
            }
        }
        Ok(())
    }
}
