//! Why an envelope does not arrive, as its sender hears it: the reasons in QUEUE_FULL (protocol
//! section 4).

use alloc::string::String;

use crate::queue::{Failure, Refusal};

/// Why an envelope will not reach its recipient: the reason in QUEUE_FULL (protocol section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Undeliverable {
    #[error("recipient is offline and no queue is configured")]
    Offline,
    #[error("recipient left before the envelope was sent to it, and no queue is configured")]
    Left,
    #[error("recipient left before it confirmed the envelope, which may have arrived")]
    Unconfirmed,
    #[error(
        "recipient's outbox is full: at most {bytes} bytes or {count} envelopes wait for a connection"
    )]
    OutboxFull { bytes: usize, count: usize },
    #[error("{0}")]
    QueueFull(Refusal),
    #[error(
        "recipient's queue is full, and this envelope gave way to one of a sender with fewer in it"
    )]
    GaveWay,
    #[error("{0}")]
    NotStored(Failure),
    #[error("relay's store is too busy: it owes answers for {limit} bytes")]
    StoreBusy { limit: usize },
    #[error("relay's store does not answer; the envelope may arrive nevertheless")]
    StoreSilent,
    #[error("envelope of {bytes} bytes over the limit of {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("to_address is no address of this relay: {0}")]
    NotAnAddress(NotAnAddress),
    #[error("relay is too busy: {limit} bytes are on their way to the recipient's shard")]
    ShardBusy { limit: usize },
    #[error("relay is out of memory for envelopes: at most {limit} bytes wait in all")]
    OutOfMemory { limit: usize },
    #[error("{0}; the change holds until the relay restarts")]
    ChangeNotStored(Failure),
    #[error("relay's store does not answer; the change may hold only until the relay restarts")]
    ChangeUnanswered,
    #[error("block list is full")]
    BlockListFull,
    #[error("blocked_address is no address of this relay: {0}")]
    BlockedIsNoAddress(NotAnAddress),
}

/// What is wrong with a `to_address`, or with what is to be blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotAnAddress {
    #[error("it does not parse")]
    Malformed,
    #[error("its host is another")]
    OtherHost,
    #[error("it is not a key with its checksum")]
    NotAKey,
}

impl From<Undeliverable> for String {
    fn from(reason: Undeliverable) -> Self {
        alloc::format!("{reason}")
    }
}
