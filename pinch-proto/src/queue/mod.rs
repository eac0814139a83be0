//! The durable queue, as a hub sees it: operations that a store executes, and their outcomes.
//!
//! A hub keeps what waits for a connection in memory, within bounds; what waits for longer than a
//! connection lives belongs to a store. The hub does no I/O, so it only says what it wants
//! ([`Request`]); whoever drives it has a store do that, and hands the [`Outcome`] back in with the
//! request's [`Ticket`].
//!
//! # What a store promises
//!
//! - **Order.** The operations about one recipient have the effect of being executed one after the
//!   other, in the order in which the hub said them; so do those about one blocker. Others may
//!   overtake each other: a store that lets them may exceed [`Limits::sender_bytes`] and
//!   [`Limits::total_bytes`] by the envelopes that it has not answered for.
//! - **Durability.** What [`Outcome::Done`] confirms is still so after a crash of the process, of
//!   the machine, and of its power.
//! - **Atomicity.** An operation has its whole effect or none; with [`Outcome::Failed`], none.
//! - **An answer.** Every operation gets exactly one outcome. A store that takes long holds up
//!   what waits for its answers, and nothing else.
//! - **Verbatim.** A message that is read is the one that was appended, byte for byte.

mod memory;
mod ranking;

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;

pub use self::memory::MemoryQueue;
pub use self::ranking::Ranking;
use crate::{Address, UnixMillis};

/// Where an envelope stands among those for the same recipient. Given by the hub: it grows with
/// every envelope that it accepts, over restarts, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(pub u64);

/// Ties an outcome to its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Something that a store is to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// For the outcome.
    pub ticket: Ticket,
    /// What to do.
    pub operation: Operation,
}

/// What a store can do.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// Keep an envelope. Comes to [`Outcome::Appended`], [`Outcome::Refused`] or
    /// [`Outcome::Failed`].
    Append(Append),
    /// Read envelopes. Comes to [`Outcome::Entries`] or [`Outcome::Failed`].
    Read(Read),
    /// Forget the envelopes for `recipient` up to `through`: they have arrived. Comes to
    /// [`Outcome::Done`] or [`Outcome::Failed`].
    Remove {
        /// For whom they waited.
        recipient: Address,
        /// The last of them.
        through: Seq,
    },
    /// Forget what has expired. Comes to [`Outcome::Expired`] or [`Outcome::Failed`].
    Expire {
        /// The time.
        now: UnixMillis,
    },
    /// Remember that `blocker` wants nothing from `blocked`. Comes to [`Outcome::Done`] or
    /// [`Outcome::Failed`].
    Block {
        /// Who does not want to hear.
        blocker: Address,
        /// Whom.
        blocked: Address,
    },
    /// Forget that. Comes to [`Outcome::Done`] or [`Outcome::Failed`].
    Unblock {
        /// Who hears again.
        blocker: Address,
        /// Whom.
        blocked: Address,
    },
    /// Remember when `blocker` was seen, if it blocks anybody. Comes to [`Outcome::Done`] or
    /// [`Outcome::Failed`].
    Seen {
        /// The owner of a block list.
        blocker: Address,
        /// The time.
        at: UnixMillis,
    },
    /// Forget all blocks of `blocker`, and when it was seen. Comes to [`Outcome::Done`] or
    /// [`Outcome::Failed`].
    ForgetBlocks {
        /// The owner of the list.
        blocker: Address,
    },
}

/// An envelope to keep. If one with this recipient and number is there already, nothing changes,
/// and that is [`Outcome::Appended`], too.
///
/// # A full queue
///
/// Where [`Limits::recipient_count`] is reached, the sender that has the most envelopes in the
/// recipient's queue gives way to one that has at least two fewer: its newest envelope is forgotten,
/// and the new one takes the place ([`Outcome::Appended::displaced`]). Of several senders with the
/// most, it is the one with the newest envelope. No envelope up to [`reached`](Self::reached) gives
/// way. [`Ranking`] finds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Append {
    /// For whom it waits.
    pub recipient: Address,
    /// Who sent it.
    pub sender: Address,
    /// Its place.
    pub seq: Seq,
    /// The envelope.
    pub message: Bytes,
    /// The time.
    pub now: UnixMillis,
    /// When nobody wants it any more. From that moment on it is neither read nor counted.
    pub expires_at: UnixMillis,
    /// What may not be exceeded; `None` for an envelope whose place is reserved, and which comes
    /// back because a connection ended.
    pub limits: Option<Limits>,
    /// What the hub holds for the same recipient, of the same sender, and in all, and may append
    /// later: it counts in the limits as if it were stored.
    pub reserved: Usage,
    /// The last envelope in the recipient's queue that may have been handed to a connection: none up
    /// to it gives way to another.
    pub reached: Option<Seq>,
    /// Nothing is to be stored and nothing gives way, but the outcome is the same and takes as long:
    /// so that a sender cannot tell that its recipient has blocked it.
    pub discard: bool,
}

impl Append {
    /// What it counts for in the limits that are in bytes: the message and the two addresses, so
    /// that many small envelopes are no way around them.
    #[must_use]
    pub fn cost(&self) -> u64 {
        let addresses = self.recipient.as_str().len() + self.sender.as_str().len();
        (self.message.len() + addresses) as u64
    }
}

/// Which envelopes to read.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// For whom they wait.
    pub recipient: Address,
    /// Only those behind this one; `None` for all.
    pub after: Option<Seq>,
    /// At most so many bytes of messages; one envelope is read, whatever its size.
    pub bytes: usize,
    /// At most so many envelopes, at least one.
    pub count: usize,
    /// The time: what has expired is left out.
    pub now: UnixMillis,
}

/// How much may be stored. What has expired does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many envelopes may wait for one recipient.
    pub recipient_count: u64,
    /// How many bytes of one sender may wait, for whomever ([`Append::cost`]): so that nobody fills
    /// the disk with envelopes for addresses that have no owner.
    pub sender_bytes: u64,
    /// How many bytes may wait in all ([`Append::cost`]). A store on a disk also refuses with
    /// [`Refusal::StoreFull`] what would make its files larger than that.
    pub total_bytes: u64,
}

impl Limits {
    /// Returns the limit that `append` would exceed where `stored` is kept already. For stores.
    #[must_use]
    pub fn refusal(&self, append: &Append, stored: Usage) -> Option<Refusal> {
        let (cost, reserved) = (append.cost(), append.reserved);
        let sender_bytes = stored.sender_bytes.saturating_add(reserved.sender_bytes);
        let total_bytes = stored.total_bytes.saturating_add(reserved.total_bytes);
        let count = stored
            .recipient_count
            .saturating_add(reserved.recipient_count);
        if count >= self.recipient_count {
            let limit = self.recipient_count;
            Some(Refusal::RecipientFull { limit })
        } else if sender_bytes.saturating_add(cost) > self.sender_bytes {
            let limit = self.sender_bytes;
            Some(Refusal::SenderFull { limit })
        } else if total_bytes.saturating_add(cost) > self.total_bytes {
            let limit = self.total_bytes;
            Some(Refusal::StoreFull { limit })
        } else {
            None
        }
    }
}

/// How much is stored: what [`Limits`] are about. It may include what has expired and is not
/// forgotten yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Number of envelopes that wait for the recipient.
    pub recipient_count: u64,
    /// The [cost](Append::cost) of those that wait of the sender, in bytes.
    pub sender_bytes: u64,
    /// The cost of all of them, in bytes.
    pub total_bytes: u64,
}

impl Usage {
    /// Returns what is stored when another sender's envelope for the recipient has given way, which
    /// has this [cost](Append::cost). For stores.
    #[must_use]
    pub const fn without(self, cost: u64) -> Self {
        Self {
            recipient_count: self.recipient_count.saturating_sub(1),
            sender_bytes: self.sender_bytes,
            total_bytes: self.total_bytes.saturating_sub(cost),
        }
    }
}

/// What an operation came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is done, durably.
    Done,
    /// The envelope is stored, durably; or would be, with [`Append::discard`].
    Appended {
        /// What is stored then: for its recipient, of its sender, and in all.
        usage: Usage,
        /// The envelope for the same recipient that gave way to it.
        displaced: Option<Entry>,
    },
    /// These envelopes wait.
    Entries {
        /// In the order of their numbers.
        entries: Vec<Entry>,
        /// How many wait behind the one that was asked for, these included.
        pending: u64,
        /// What is stored: for the recipient, of the recipient as a sender, and in all.
        usage: Usage,
    },
    /// So many envelopes had expired and are forgotten.
    Expired {
        /// How many.
        count: u64,
    },
    /// The envelope is not stored: a limit was reached.
    Refused(Refusal),
    /// Nothing is done: the store has failed.
    Failed {
        /// How.
        failure: Failure,
        /// What the operator should know besides; agents are not told.
        detail: Box<str>,
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

/// Which of the [`Limits`] an envelope would exceed. Its sender hears this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// [`Limits::recipient_count`].
    #[error("recipient's queue is full: at most {limit} envelopes wait for one recipient")]
    RecipientFull {
        /// The limit.
        limit: u64,
    },
    /// [`Limits::sender_bytes`].
    #[error("too much of yours is queued: at most {limit} bytes of one sender wait")]
    SenderFull {
        /// The limit.
        limit: u64,
    },
    /// [`Limits::total_bytes`].
    #[error("relay's queue is full: at most {limit} bytes wait in all")]
    StoreFull {
        /// The limit.
        limit: u64,
    },
}

/// How a store has failed. The sender of an envelope that is not stored for it hears this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There is no room on the disk.
    #[error("relay is out of disk")]
    DiskFull,
    /// The disk may not be written to.
    #[error("relay's disk is read-only")]
    ReadOnly,
    /// Anything else: what was read makes no sense, the disk does not answer, the store has ended.
    #[error("relay's store does not work")]
    Broken,
}

/// What a store held when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The highest number of an envelope that was ever in it, or a higher one.
    pub last_seq: Option<Seq>,
    /// Who blocks whom: first the blocker, then the blocked. Those of one blocker lie together.
    pub blocks: Vec<(Address, Address)>,
    /// When blockers were seen, as far as that is known.
    pub owners: Vec<(Address, UnixMillis)>,
}
