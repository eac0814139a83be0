//! The durable queue, as a hub sees it: requests that a store executes, and its replies.
//!
//! A hub keeps what waits for a connection in memory, within bounds; what waits for longer than a
//! connection lives belongs to a store. The hub does no I/O, so it only says what it wants; whoever
//! drives it has the store do that, and hands the reply back in.
//!
//! # What a store promises
//!
//! - **Order.** The requests about one recipient have the effect of being executed one after the
//!   other, in the order in which the hub said them. Those about different recipients may overtake
//!   each other.
//! - **Durability.** What an [`Appended`](Reply::Appended) confirms is there after a crash of the
//!   process, of the machine, and of its power.
//! - **Atomicity.** A request has its whole effect or none.
//! - **An answer.** Every request with a [`Ticket`] gets exactly one reply; a failure is one.
//! - **Verbatim.** A message that is read is the one that was appended, byte for byte.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::{Address, UnixMillis};

/// Where an envelope stands among those for the same recipient. Given by the hub: it grows with
/// every envelope that it accepts, over restarts, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// Ties a reply to its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// How much may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many envelopes may wait for one recipient (protocol section 4: 1,000).
    pub recipient_count: u32,
    /// How many bytes of one sender may wait, for whomever: so that nobody fills the disk with
    /// envelopes for addresses that have no owner.
    pub sender_bytes: u64,
}

/// What a store is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Keep an envelope. An envelope that is there already, by recipient and number, is kept once.
    /// Answered by [`Reply::Appended`] or [`Reply::Refused`].
    Append {
        /// For the reply.
        ticket: Ticket,
        /// For whom it waits.
        recipient: Address,
        /// Who sent it.
        sender: Address,
        /// Its place.
        seq: Seq,
        /// The envelope.
        message: Bytes,
        /// When nobody wants it any more.
        expires_at: UnixMillis,
        /// What may be exceeded by nobody.
        limits: Limits,
    },
    /// Read envelopes in order. Answered by [`Reply::Entries`] or [`Reply::ReadFailed`].
    Read {
        /// For the reply.
        ticket: Ticket,
        /// For whom they wait.
        recipient: Address,
        /// Only those behind this one.
        after: Option<Seq>,
        /// Stop when this many bytes are read; one envelope is read, whatever its size.
        bytes: usize,
        /// Leave out those that have expired at this time.
        now: UnixMillis,
    },
    /// Forget the envelopes for `recipient` up to `through`: they have arrived.
    Remove {
        /// For whom they waited.
        recipient: Address,
        /// The last of them.
        through: Seq,
    },
    /// Forget what has expired at this time. Answered by [`Reply::Expired`].
    Expire {
        /// For the reply.
        ticket: Ticket,
        /// The time.
        now: UnixMillis,
    },
    /// Remember that `blocker` wants nothing from `blocked`.
    Block {
        /// Who does not want to hear.
        blocker: Address,
        /// Whom.
        blocked: Address,
    },
    /// Forget that.
    Unblock {
        /// Who hears again.
        blocker: Address,
        /// Whom.
        blocked: Address,
    },
}

/// What a store has done.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// The envelope is stored.
    Appended {
        /// Of the request.
        ticket: Ticket,
    },
    /// The envelope is not stored.
    Refused {
        /// Of the request.
        ticket: Ticket,
        /// Why.
        refusal: AppendRefusal,
    },
    /// These envelopes wait.
    Entries {
        /// Of the request.
        ticket: Ticket,
        /// In order.
        entries: Vec<Entry>,
        /// How many wait behind the one that was asked for, these included.
        pending: u64,
    },
    /// Nothing can be read.
    ReadFailed {
        /// Of the request.
        ticket: Ticket,
        /// What the store says.
        reason: Box<str>,
    },
    /// So many envelopes have expired.
    Expired {
        /// Of the request.
        ticket: Ticket,
        /// How many.
        count: u64,
    },
}

/// One stored envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub seq: Seq,
    /// The envelope.
    pub message: Bytes,
}

/// Why an envelope was not stored; its sender hears this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendRefusal {
    /// Too many wait for this recipient.
    #[error("at most {limit} envelopes wait for a recipient that is offline")]
    RecipientFull {
        /// How many may.
        limit: u32,
    },
    /// Too many bytes of this sender wait.
    #[error("at most {limit} bytes of a sender wait for recipients that are offline")]
    SenderFull {
        /// How many may.
        limit: u64,
    },
    /// The disk is full, or read-only, or broken.
    #[error("the relay cannot store it: {reason}")]
    Failed {
        /// What the store says.
        reason: Box<str>,
    },
}

/// What a store held when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The highest number that was ever stored.
    pub last_seq: Option<Seq>,
    /// Who blocks whom.
    pub blocks: Vec<(Address, Address)>,
}
