//! A queue in memory: what every store has to do, said once and without I/O.
//!
//! It is the reference that durable stores are compared with, the store of simulators, and what is
//! left of a store in a relay that keeps nothing over restarts. Durability is all that it lacks.
//! Locks, batches and threads are left to whoever wraps it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Bound;

use bytes::Bytes;

use super::{
    Append, Entry, Limits, Operation, Outcome, Ranking, Read, Refusal, Restored, Seq, Usage,
};
use crate::{Address, UnixMillis};

/// Envelopes that wait, and blocks, in memory.
///
/// Nothing fails here: no outcome is [`Outcome::Failed`]. What has expired is forgotten when it is
/// told to be ([`Operation::Expire`]) or when a limit is reached, whichever comes first; the next
/// [`Outcome::Expired`] counts both.
///
/// ```
/// use pinch_proto::queue::{Append, MemoryQueue, Operation, Outcome, Read, Seq, Usage};
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
///     reserved: Usage::default(),
///     reached: None,
///     discard: false,
/// }));
/// assert!(matches!(appended, Outcome::Appended { displaced: None, .. }));
///
/// let all = Read { recipient: bob, after: None, bytes: 65_536, count: 100, now };
/// let Outcome::Entries { entries, pending: 1, .. } = queue.execute(Operation::Read(all)) else {
///     panic!("one envelope waits");
/// };
/// assert_eq!(entries[0].message, "hello");
/// # Ok::<(), pinch_proto::AddressError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryQueue {
    /// A recipient for whom nothing waits is not in it.
    recipients: BTreeMap<Address, Waiting>,
    /// The same envelopes, the first to expire first.
    expiries: BTreeSet<(UnixMillis, Address, Seq)>,
    /// The cost of what waits from each sender. A sender of whom nothing waits is not in it.
    senders: BTreeMap<Address, u64>,
    len: usize,
    bytes: u64,
    last_seq: Option<Seq>,
    /// What expired and was forgotten, and is in no [`Outcome::Expired`] yet.
    expired: u64,
    /// A blocker of nobody is not in it.
    blocks: BTreeMap<Address, BlockList>,
}

/// The queue of one recipient.
#[derive(Clone, Debug, Default)]
struct Waiting {
    entries: BTreeMap<Seq, Stored>,
    ranking: Ranking<Address>,
}

/// Whom an agent blocks, and when it was seen.
#[derive(Clone, Debug, Default)]
struct BlockList {
    blocked: BTreeSet<Address>,
    seen: Option<UnixMillis>,
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
                let list = self.blocks.entry(blocker).or_default();
                list.blocked.insert(blocked);
                Outcome::Done
            }
            Operation::Unblock { blocker, blocked } => {
                if let Some(list) = self.blocks.get_mut(&blocker) {
                    list.blocked.remove(&blocked);
                    if list.blocked.is_empty() {
                        self.blocks.remove(&blocker);
                    }
                }
                Outcome::Done
            }
            Operation::Seen { blocker, at } => {
                if let Some(list) = self.blocks.get_mut(&blocker) {
                    list.seen = Some(at);
                }
                Outcome::Done
            }
            Operation::ForgetBlocks { blocker } => {
                self.blocks.remove(&blocker);
                Outcome::Done
            }
        }
    }

    /// What a hub that begins with this queue has to know.
    #[must_use]
    pub fn restored(&self) -> Restored {
        let pairs = |(owner, list): (&Address, &BlockList)| {
            let pair = |blocked: &Address| (owner.clone(), blocked.clone());
            list.blocked.iter().map(pair).collect::<Vec<_>>()
        };
        let seen = |(owner, list): (&Address, &BlockList)| Some((owner.clone(), list.seen?));
        Restored {
            last_seq: self.last_seq,
            blocks: self.blocks.iter().flat_map(pairs).collect(),
            owners: self.blocks.iter().filter_map(seen).collect(),
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
        let waiting = self.recipients.get(recipient).into_iter();
        let entries = waiting.flat_map(|waiting| &waiting.entries);
        entries.map(|(&seq, stored)| Entry {
            seq,
            message: stored.message.clone(),
        })
    }

    fn append(&mut self, append: Append) -> Outcome {
        let (recipient, sender) = (append.recipient.clone(), append.sender.clone());
        let waiting = self.recipients.get(&recipient);
        if waiting.is_some_and(|waiting| waiting.entries.contains_key(&append.seq)) {
            let (usage, displaced) = (self.usage(&recipient, &sender), None);
            return Outcome::Appended { usage, displaced };
        }
        let mut displaced = None;
        if let Some(limits) = append.limits {
            if self.refusal(&append, limits).is_some() {
                self.forget_expired(append.now);
            }
            match self.admit(&append, limits) {
                Ok(gives_way) => displaced = gives_way,
                Err(refusal) => return Outcome::Refused(refusal),
            }
        }
        if append.discard {
            displaced = None;
        } else {
            if let Some(entry) = &displaced {
                self.forget(&recipient, entry.seq);
            }
            self.insert(append);
        }
        let usage = self.usage(&recipient, &sender);
        Outcome::Appended { usage, displaced }
    }

    fn usage(&self, recipient: &Address, sender: &Address) -> Usage {
        let waiting = self.recipients.get(recipient);
        Usage {
            recipient_count: waiting.map_or(0, |waiting| waiting.entries.len() as u64),
            sender_bytes: self.sender_bytes(sender.as_str()),
            total_bytes: self.bytes,
        }
    }

    /// Which limit `append` would exceed, with all that is kept.
    fn refusal(&self, append: &Append, limits: Limits) -> Option<Refusal> {
        limits.refusal(append, self.usage(&append.recipient, &append.sender))
    }

    /// The envelope that gives way to `append`, if one has to; or why there is no room.
    fn admit(&self, append: &Append, limits: Limits) -> Result<Option<Entry>, Refusal> {
        let Some(refusal) = self.refusal(append, limits) else {
            return Ok(None);
        };
        let Refusal::RecipientFull { .. } = refusal else {
            return Err(refusal);
        };
        let waiting = self.recipients.get(&append.recipient);
        let gives_way = waiting.and_then(|waiting| {
            let ranking = &waiting.ranking;
            let (_, seq) = ranking.gives_way_to(&append.sender, append.reached)?;
            Some((seq, waiting.entries.get(&seq)?))
        });
        let Some((seq, stored)) = gives_way else {
            return Err(refusal);
        };
        let usage = self.usage(&append.recipient, &append.sender);
        match limits.refusal(append, usage.without(stored.cost)) {
            Some(refusal) => Err(refusal),
            None => Ok(Some(Entry {
                seq,
                message: stored.message.clone(),
            })),
        }
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
            reserved: _,
            reached: _,
            discard: _,
        } = append;
        *self.senders.entry(sender.clone()).or_default() += cost;
        self.bytes += cost;
        self.len += 1;
        self.last_seq = self.last_seq.max(Some(seq));
        self.expiries.insert((expires_at, recipient.clone(), seq));
        let stored = Stored {
            sender,
            message,
            expires_at,
            cost,
        };
        let waiting = self.recipients.entry(recipient).or_default();
        waiting.ranking.insert(stored.sender.clone(), seq);
        waiting.entries.insert(seq, stored);
    }

    fn read(&self, read: &Read) -> Outcome {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut is_full = false;
        let mut pending = 0;
        let after = read.after.map_or(Bound::Unbounded, Bound::Excluded);
        let waiting = self.recipients.get(&read.recipient).into_iter();
        let waiting = waiting.map(|waiting| &waiting.entries);
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
        let usage = self.usage(&read.recipient, &read.recipient);
        Outcome::Entries {
            entries,
            pending,
            usage,
        }
    }

    fn remove_through(&mut self, recipient: &Address, through: Seq) -> Outcome {
        while let Some((&seq, _)) = self
            .recipients
            .get(recipient)
            .and_then(|waiting| waiting.entries.first_key_value())
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
        let Some(waiting) = self.recipients.get_mut(recipient) else {
            return;
        };
        let Some(stored) = waiting.entries.remove(&seq) else {
            return;
        };
        waiting.ranking.remove(&stored.sender, seq);
        if waiting.entries.is_empty() {
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
