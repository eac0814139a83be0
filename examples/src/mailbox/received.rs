//! What comes out of a mailbox: what an envelope says, or why it cannot be believed.

use bytes::Bytes;
use pinch_proto::wire::{Envelope, MessageType};
use pinch_proto::{Address, AddressError, UnixMillis};
use prost::DecodeError;
use thiserror::Error;

use super::MAX_CONFIRMED_ID;
use crate::plaintext::{self, Content, ContentError};
use crate::sealing::{OpenError, UnusableKey};

/// Why nothing can be written to an address.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// It names no key.
    #[error("cannot encrypt for {to}: {source}")]
    NoKey {
        /// The address.
        to: Address,
        /// Why it names none.
        source: AddressError,
    },
    /// Its key is none.
    #[error("cannot encrypt for {to}: {source}")]
    UnusableKey {
        /// The address.
        to: Address,
        /// Its key.
        source: UnusableKey,
    },
}

/// What an envelope says.
#[derive(Debug, PartialEq)]
pub enum Received {
    /// A message, which nobody but its sender can have written.
    Text {
        /// Its sender.
        from: Address,
        /// What its sender calls it.
        message_id: Bytes,
        /// When it was written, by its sender's clock.
        written: UnixMillis,
        /// What it says.
        content: Content,
        /// The confirmation that its sender waits for, or why there is none.
        confirm: Result<Box<Envelope>, Unconfirmable>,
    },
    /// The recipient has signed that it has a message of this agent.
    Confirmed {
        /// The recipient.
        by: Address,
        /// Which message.
        message_id: Bytes,
        /// What became of it, as somebody says: the signature does not cover this.
        state: State,
    },
    /// The relay did not take an envelope of this agent, or cannot deliver it.
    Refused(Refusal),
    /// The relay has kept so many envelopes for this agent.
    Waiting {
        /// How many.
        count: i32,
    },
    /// Something that this agent has no use for.
    Other {
        /// Who sent it.
        from: String,
        /// What it is.
        message_type: i32,
    },
}

/// What a confirmation calls a message that has arrived.
pub(super) const DELIVERED: &str = "delivered";

/// What became of a message, by a word that is not signed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It has arrived.
    Delivered,
    /// No word that is known here. The relay can have written it: don't show it as the peer's.
    Other(String),
}

impl From<&str> for State {
    fn from(word: &str) -> Self {
        match word {
            DELIVERED => Self::Delivered,
            other => Self::Other(other.into()),
        }
    }
}

/// Why a message is not confirmed: the signature could serve for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Unconfirmable {
    /// Its id is empty, or longer than ids are.
    #[error("its id has {len} bytes, expected 1 to {MAX_CONFIRMED_ID}")]
    Length {
        /// How many bytes it has.
        len: usize,
    },
    /// Its id begins as the proof of a key.
    #[error("its id begins as the proof of a key does, which is signed for a relay alone")]
    Proof,
}

/// What the relay says about an envelope that it did not take, or cannot deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which one. If it was a confirmation, the message that it confirmed.
    pub message_id: Bytes,
    /// Whether it was the confirmation of a message, and not a message.
    pub is_confirmation: bool,
    /// Whom it was for, if the relay says so.
    pub to: Option<String>,
    /// Why.
    pub reason: String,
    /// In how many milliseconds it would be taken, if it came too soon.
    pub retry_after_ms: Option<i64>,
}

/// Why an envelope cannot be believed, or understood.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It is none.
    #[error("the envelope cannot be decoded: {0}")]
    Envelope(DecodeError),
    /// Its payload is not what its type says.
    #[error("the envelope from {from} is a {message_type:?} without its payload")]
    WrongPayload {
        /// Who sent it.
        from: String,
        /// What it should be.
        message_type: MessageType,
    },
    /// Its sender has no key.
    #[error("the sender {from:?} names no key: {source}")]
    NoKey {
        /// The sender.
        from: String,
        /// Why it names none.
        source: AddressError,
    },
    /// A message breaks a rule.
    #[error("the message from {from} is refused: {fault}")]
    Message {
        /// Who sent it.
        from: Address,
        /// What its sender calls it.
        message_id: Bytes,
        /// Which rule.
        #[source]
        fault: MessageFault,
    },
    /// A confirmation breaks a rule.
    #[error("the confirmation from {by} is refused: {fault}")]
    Confirm {
        /// Who sent it.
        by: Address,
        /// Which rule.
        #[source]
        fault: ConfirmFault,
    },
}

/// Why a message is refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MessageFault {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What was in the box is no message.
    #[error("it opens, but holds no message: {0}")]
    Decode(#[from] DecodeError),
    /// It was written by a later program.
    #[error("its version is {0}, expected {version}", version = plaintext::VERSION)]
    UnknownVersion(u32),
    /// It came before, or a later one did, or its sender counts anew.
    #[error(
        "its sequence {sequence} does not follow {last}: a replay, a duplicate, or a sender that has lost count; forget the sender to accept it"
    )]
    Replayed {
        /// Its sequence.
        sequence: u64,
        /// The highest that was received from its sender.
        last: u64,
    },
    /// Its content cannot be read.
    #[error(transparent)]
    Content(#[from] ContentError),
}

/// Why a confirmation is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfirmFault {
    /// It confirms what this agent has not sent there, or has forgotten.
    #[error("it confirms a message that this agent has not sent there, or no longer remembers")]
    UnknownMessage,
    /// Its signature does not hold.
    #[error("its signature is not the recipient's")]
    WrongSignature,
}
