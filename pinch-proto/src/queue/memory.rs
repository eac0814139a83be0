//! A queue in memory: what every store has to do, said once and without I/O.
//!
//! It is the reference that durable stores are compared with, the store of simulators, and what is
//! left of a store in a relay that keeps nothing over restarts. Durability is all that it lacks.
//! Locks, batches and threads are left to whoever wraps it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Bound;

use bytes::Bytes;

use super::{Append, Entry, Limits, Operation, Outcome, Read, Refusal, Restored, Seq};
use crate::{Address, UnixMillis};

/// Envelopes that wait, and blocks, in memory.
///
/// Nothing fails here: no outcome is [`Outcome::Failed`]. What has expired is forgotten when it is
/// told to be ([`Operation::Expire`]) or when a limit is reached, whichever comes first; the next
/// [`Outcome::Expired`] counts both.
///
/// ```
/// use pinch_proto::queue::{Append, MemoryQueue, Operation, Outcome, Read, Seq};
/// use pinch_proto::{Address, UnixMillis};
///
/// let (alice, bob) = (Address::parse("pinch:alice@relay")?, Address::parse("pinch:bob@relay")?);
/// let now = UnixMillis(0);
/// let mut queue = MemoryQueue::new();
/// let appended = queue.execute(Operation::Append(Append {
///     recipient: bob.clone(),
///     sender: alice,
///     seq: Seq(1),
///     message: b"hello".as_slice().into(),
///     now,
///     expires_at: UnixMillis(60_000),
///     limits: None,
/// }));
/// assert_eq!(appended, Outcome::Done);
///
/// let all = Read { recipient: bob, after: None, bytes: 65_536, count: 100, now };
/// let Outcome::Entries { entries, pending: 1 } = queue.execute(Operation::Read(all)) else {
///     panic!("one envelope waits");
/// };
/// assert_eq!(entries[0].message, "hello");
/// # Ok::<(), pinch_proto::AddressError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryQueue {
    /// A recipient for whom nothing waits is not in it.
    recipients: BTreeMap<Address, BTreeMap<Seq, Stored>>,
    /// The same envelopes, the first to expire first.
    expiries: BTreeSet<(UnixMillis, Address, Seq)>,
    /// The cost of what waits from each sender. A sender of whom nothing waits is not in it.
    senders: BTreeMap<Address, u64>,
    len: usize,
    bytes: u64,
    /// What expired and was forgotten, and is in no [`Outcome::Expired`] yet.
    expired: u64,
    blocks: BTreeSet<(Address, Address)>,
}

/// An envelope that waits.
#[derive(Clone, Debug)]
struct Stored {
    sender: Address,
    message: Bytes,
    expires_at: UnixMillis,
    cost: u64,
}

impl MemoryQueue {
    /// A queue with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Does what `operation` says, and says what it came to.
    pub fn execute(&mut self, operation: Operation) -> Outcome {
        match operation {
            Operation::Append(append) => self.append(append),
            Operation::Read(read) => self.read(&read),
            Operation::Remove { recipient, through } => self.remove_through(&recipient, through),
            Operation::Expire { now } => {
                self.forget_expired(now);
                let count = core::mem::take(&mut self.expired);
                Outcome::Expired { count }
            }
            Operation::Block { blocker, blocked } => {
                self.blocks.insert((blocker, blocked));
                Outcome::Done
            }
            Operation::Unblock { blocker, blocked } => {
                self.blocks.remove(&(blocker, blocked));
                Outcome::Done
            }
        }
    }

    /// What a hub that begins with this queue has to know.
    #[must_use]
    pub fn restored(&self) -> Restored {
        let last = |entries: &BTreeMap<Seq, Stored>| entries.last_key_value().map(|(seq, _)| *seq);
        Restored {
            last_seq: self.recipients.values().filter_map(last).max(),
            blocks: self.blocks.iter().cloned().collect(),
        }
    }

    /// How many envelopes are kept, those included that have expired and are not forgotten yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no envelope is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What all that is kept counts for in the limits ([`Append::cost`]).
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What is kept of `sender` counts for in the limits ([`Append::cost`]).
    #[must_use]
    pub fn sender_bytes(&self, sender: &str) -> u64 {
        self.senders.get(sender).copied().unwrap_or(0)
    }

    /// Those for whom an envelope is kept, in the order of their addresses.
    pub fn recipients(&self) -> impl Iterator<Item = &Address> {
        self.recipients.keys()
    }

    /// What is kept for `recipient`, in the order of its numbers.
    pub fn entries(&self, recipient: &str) -> impl Iterator<Item = Entry> {
        let entries = self.recipients.get(recipient);
        entries.into_iter().flatten().map(|(&seq, stored)| Entry {
            seq,
            message: stored.message.clone(),
        })
    }

    fn append(&mut self, append: Append) -> Outcome {
        let entries = self.recipients.get(&append.recipient);
        if entries.is_some_and(|entries| entries.contains_key(&append.seq)) {
            return Outcome::Done;
        }
        if let Some(limits) = append.limits {
            if self.refusal(&append, limits).is_some() {
                self.forget_expired(append.now);
            }
            if let Some(refusal) = self.refusal(&append, limits) {
                return Outcome::Refused(refusal);
            }
        }
        self.insert(append);
        Outcome::Done
    }

    /// Which limit `append` would exceed, with all that is kept.
    fn refusal(&self, append: &Append, limits: Limits) -> Option<Refusal> {
        let waiting = self.recipients.get(&append.recipient);
        let waiting = waiting.map_or(0, |entries| entries.len() as u64);
        let of_sender = self.sender_bytes(append.sender.as_str());
        limits.refusal(append, waiting, of_sender, self.bytes)
    }

    fn insert(&mut self, append: Append) {
        let cost = append.cost();
        let Append {
            recipient,
            sender,
            seq,
            message,
            expires_at,
            now: _,
            limits: _,
        } = append;
        *self.senders.entry(sender.clone()).or_default() += cost;
        self.bytes += cost;
        self.len += 1;
        self.expiries.insert((expires_at, recipient.clone(), seq));
        let stored = Stored {
            sender,
            message,
            expires_at,
            cost,
        };
        let entries = self.recipients.entry(recipient).or_default();
        entries.insert(seq, stored);
    }

    fn read(&self, read: &Read) -> Outcome {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut is_full = false;
        let mut pending = 0;
        let after = read.after.map_or(Bound::Unbounded, Bound::Excluded);
        let waiting = self.recipients.get(&read.recipient).into_iter();
        for (&seq, stored) in waiting.flat_map(|all| all.range((after, Bound::Unbounded))) {
            if stored.expires_at <= read.now {
                continue;
            }
            pending += 1;
            bytes += stored.message.len();
            is_full |= !entries.is_empty() && (bytes > read.bytes || entries.len() >= read.count);
            if !is_full {
                let message = stored.message.clone();
                entries.push(Entry { seq, message });
            }
        }
        Outcome::Entries { entries, pending }
    }

    fn remove_through(&mut self, recipient: &Address, through: Seq) -> Outcome {
        while let Some((&seq, _)) = self
            .recipients
            .get(recipient)
            .and_then(BTreeMap::first_key_value)
            && seq <= through
        {
            self.forget(recipient, seq);
        }
        Outcome::Done
    }

    fn forget_expired(&mut self, now: UnixMillis) {
        while let Some((expires_at, _, _)) = self.expiries.first()
            && *expires_at <= now
            && let Some((_, recipient, seq)) = self.expiries.pop_first()
        {
            self.forget(&recipient, seq);
            self.expired += 1;
        }
    }

    /// Takes an envelope out of everything that knows it.
    fn forget(&mut self, recipient: &Address, seq: Seq) {
        let Some(entries) = self.recipients.get_mut(recipient) else {
            return;
        };
        let Some(stored) = entries.remove(&seq) else {
            return;
        };
        if entries.is_empty() {
            self.recipients.remove(recipient);
        }
        let expiry = (stored.expires_at, recipient.clone(), seq);
        self.expiries.remove(&expiry);
        self.len -= 1;
        self.bytes -= stored.cost;
        if let Some(bytes) = self.senders.get_mut(&stored.sender) {
            *bytes -= stored.cost;
            if *bytes == 0 {
                self.senders.remove(&stored.sender);
            }
        }
    }
}

#[cfg(test)]
mod tests;
