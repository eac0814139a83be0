//! What can fail at the front door of an agent.

use pinch_proto::client::{ConfigError, Disconnect, Unsendable};
use pinch_proto::wire::Envelope;

use super::UrlError;

/// Why a client could not connect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The relay's URL cannot be used.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The settings do not fit each other.
    #[error("invalid settings: {0}")]
    Config(#[from] ConfigError),
    /// The system gave no random seed.
    #[error("no randomness from the system: {0}")]
    Random(#[from] getrandom::Error),
    /// The relay could not be joined.
    #[error("cannot join the relay: {0}")]
    Join(Disconnect),
}

/// Why an envelope was not sent.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{reason}")]
pub struct SendError {
    /// The envelope, with the fields filled in that were empty.
    pub envelope: Box<Envelope>,
    /// Why not.
    pub reason: Unsendable,
}

/// The client has ended: [`Client::next_event`](super::Client::next_event) tells why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client has ended before the relay confirmed everything")]
pub struct Ended;

/// Why a [`Sender`](super::Sender) fails as a [`Sink`](futures_util::Sink).
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// An envelope was not sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// What was sent before is not confirmed, and will not be.
    #[error(transparent)]
    Flush(#[from] Ended),
}
