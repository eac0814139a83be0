//! What can be wrong with settings.

/// Why a [`Config`](super::Config) cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A setting is 0 where that would stop the relay from working.
    #[error("{setting} is 0, expected at least 1")]
    Zero {
        /// Which one.
        setting: &'static str,
    },
    /// The sustained rate is no number, or outside of what can be counted.
    #[error("a rate limit of {per_second} per second, expected 0.000001 to 1000000000")]
    RateOutOfRange {
        /// The rate that was given.
        per_second: f64,
    },
    /// The largest envelope would not fit an empty outbox, so that it could never be delivered.
    #[error(
        "an outbox of {outbox_bytes} bytes cannot hold an envelope of {envelope_bytes}; raise the outbox or lower the envelope limit"
    )]
    OutboxTooSmall {
        /// Bytes of data that an outbox may hold.
        outbox_bytes: usize,
        /// Bytes of the largest envelope.
        envelope_bytes: usize,
    },
    /// A relay of so many shards would spend its memory on what is between them.
    #[error("{shards} shards, expected at most {limit}")]
    TooManyShards {
        /// Number of shards.
        shards: u16,
        /// Maximum number of shards.
        limit: u16,
    },
    /// A WebSocket message could not hold the largest envelope.
    #[error(
        "a message limit of {message_bytes} bytes is below the envelope limit of {envelope_bytes}"
    )]
    MessageTooSmall {
        /// Bytes of the largest WebSocket message.
        message_bytes: usize,
        /// Bytes of the largest envelope.
        envelope_bytes: usize,
    },
}
