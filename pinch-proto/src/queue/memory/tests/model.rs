//! The queue in memory against the vocabulary as one would write it down if speed did not matter.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

/// A list of what waits.
#[derive(Default)]
struct Model {
    list: Vec<Append>,
    last_seq: Option<Seq>,
    blocks: Vec<(Address, Address)>,
    owners: alloc::collections::BTreeMap<Address, UnixMillis>,
    expired: u64,
}

impl Model {
    fn sum(&self, matches: impl Fn(&Append) -> bool) -> u64 {
        self.list
            .iter()
            .filter(|kept| matches(kept))
            .map(Append::cost)
            .sum()
    }

    fn forget_expired(&mut self, now: UnixMillis) {
        let before = self.list.len();
        self.list.retain(|kept| kept.expires_at > now);
        self.expired += (before - self.list.len()) as u64;
    }

    fn usage(&self, recipient: &Address, sender: &Address) -> Usage {
        let for_it = |kept: &&Append| kept.recipient == *recipient;
        Usage {
            recipient_count: self.list.iter().filter(for_it).count() as u64,
            sender_bytes: self.sum(|kept| kept.sender == *sender),
            total_bytes: self.sum(|_| true),
        }
    }

    fn refusal(&self, new: &Append, limits: Limits) -> Option<Refusal> {
        let usage = self.usage(&new.recipient, &new.sender);
        let (stored, reserved) = (usage, new.reserved);
        if stored.recipient_count + reserved.recipient_count + 1 > limits.recipient_count {
            return Some(Refusal::RecipientFull {
                limit: limits.recipient_count,
            });
        }
        if stored.sender_bytes + reserved.sender_bytes + new.cost() > limits.sender_bytes {
            return Some(Refusal::SenderFull {
                limit: limits.sender_bytes,
            });
        }
        if stored.total_bytes + reserved.total_bytes + new.cost() > limits.total_bytes {
            return Some(Refusal::StoreFull {
                limit: limits.total_bytes,
            });
        }
        None
    }

    /// The envelope that gives way to `new`, if there is one.
    fn gives_way(&self, new: &Append) -> Option<Append> {
        let here = || {
            let here = |kept: &&Append| kept.recipient == new.recipient;
            self.list.iter().filter(here)
        };
        let count = |sender: &Address| here().filter(|kept| kept.sender == *sender).count();
        let most = here().map(|kept| count(&kept.sender)).max()?;
        let largest = here().filter(|kept| count(&kept.sender) == most);
        let newest = largest.max_by_key(|kept| kept.seq)?;
        let is_free = new.reached.is_none_or(|reached| newest.seq > reached);
        (is_free && most >= count(&new.sender) + 2).then(|| newest.clone())
    }

    fn append(&mut self, new: Append) -> Outcome {
        let same = |kept: &Append| (&kept.recipient, kept.seq) == (&new.recipient, new.seq);
        let (recipient, sender) = (new.recipient.clone(), new.sender.clone());
        let mut displaced = None;
        if !self.list.iter().any(same) {
            if let Some(limits) = new.limits {
                if self.refusal(&new, limits).is_some() {
                    self.forget_expired(new.now);
                }
                if let Some(refusal) = self.refusal(&new, limits) {
                    let is_full = matches!(refusal, Refusal::RecipientFull { .. });
                    let Some(gives_way) = self.gives_way(&new).filter(|_| is_full) else {
                        return Outcome::Refused(refusal);
                    };
                    let before = self.list.clone();
                    self.list.retain(|kept| *kept != gives_way);
                    if let Some(refusal) = self.refusal(&new, limits) {
                        self.list = before;
                        return Outcome::Refused(refusal);
                    }
                    if new.discard {
                        self.list = before;
                    } else {
                        let (seq, message) = (gives_way.seq, gives_way.message);
                        displaced = Some(Entry { seq, message });
                    }
                }
            }
            if !new.discard {
                self.last_seq = self.last_seq.max(Some(new.seq));
                self.list.push(new);
            }
            self.list.sort_by_key(|kept| kept.seq);
        }
        let usage = self.usage(&recipient, &sender);
        Outcome::Appended { usage, displaced }
    }

    fn execute(&mut self, operation: Operation) -> Outcome {
        match operation {
            Operation::Append(new) => return self.append(new),
            Operation::Read(read) => {
                let is_asked_for = |kept: &&Append| {
                    kept.recipient == read.recipient
                        && read.after.is_none_or(|after| kept.seq > after)
                        && kept.expires_at > read.now
                };
                let waiting: Vec<_> = self.list.iter().filter(is_asked_for).collect();
                let mut count = waiting.len().min(read.count.max(1));
                let bytes = |count| waiting[..count].iter().map(|kept| kept.message.len()).sum();
                while count > 1 && read.bytes < bytes(count) {
                    count -= 1;
                }
                let entry = |kept: &&Append| Entry {
                    seq: kept.seq,
                    message: kept.message.clone(),
                };
                let entries = waiting[..count].iter().map(entry).collect();
                return Outcome::Entries {
                    entries,
                    pending: waiting.len() as u64,
                    usage: self.usage(&read.recipient, &read.recipient),
                };
            }
            Operation::Remove { recipient, through } => {
                self.list
                    .retain(|kept| kept.recipient != recipient || kept.seq > through);
            }
            Operation::Expire { now } => {
                self.forget_expired(now);
                return Outcome::Expired {
                    count: core::mem::take(&mut self.expired),
                };
            }
            Operation::Block { blocker, blocked } => {
                self.blocks.push((blocker, blocked));
                self.blocks.sort();
                self.blocks.dedup();
            }
            Operation::Seen { blocker, at } => {
                if self.blocks.iter().any(|(owner, _)| *owner == blocker) {
                    self.owners.insert(blocker, at);
                }
            }
            Operation::ForgetBlocks { blocker } => {
                self.blocks.retain(|(owner, _)| *owner != blocker);
                self.owners.remove(&blocker);
            }
            Operation::Unblock { blocker, blocked } => {
                self.blocks
                    .retain(|block| *block != (blocker.clone(), blocked.clone()));
                if self.blocks.iter().all(|(owner, _)| *owner != blocker) {
                    self.owners.remove(&blocker);
                }
            }
        }
        Outcome::Done
    }
}

fn parties() -> impl Strategy<Value = Address> {
    prop::sample::select(vec!["a", "bob", "caroline"]).prop_map(address)
}

fn operations() -> impl Strategy<Value = Operation> {
    let limits = (0..6_u64, 0..300_u64, 0..600_u64).prop_map(|(count, sender, total)| Limits {
        recipient_count: count,
        sender_bytes: sender,
        total_bytes: total,
    });
    let message = prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    let times = (0..50_i64, -2..30_i64);
    let reserved = (0..2_u64, 0..60_u64, 0..60_u64).prop_map(|(count, sender, total)| Usage {
        recipient_count: count,
        sender_bytes: sender,
        total_bytes: total,
    });
    let reached = prop::option::weighted(0.3, (0..20_u64).prop_map(Seq));
    let terms = (reserved, reached, prop::bool::weighted(0.1));
    let append = (
        parties(),
        parties(),
        0..20_u64,
        message,
        times,
        prop::option::weighted(0.7, limits),
        terms,
    );
    let append = append.prop_map(
        |(recipient, sender, seq, message, (now, lasts), limits, terms)| Append {
            recipient,
            sender,
            seq: Seq(seq),
            message,
            now: UnixMillis(now),
            expires_at: UnixMillis(now + lasts),
            limits,
            reserved: terms.0,
            reached: terms.1,
            discard: terms.2,
        },
    );
    let after = prop::option::of((0..20_u64).prop_map(Seq));
    let read = (parties(), after, 0..100_usize, 0..5_usize, 0..60_i64);
    let read = read.prop_map(|(recipient, after, bytes, count, now)| Read {
        recipient,
        after,
        bytes,
        count,
        now: UnixMillis(now),
    });
    let remove = (parties(), 0..20_u64).prop_map(|(recipient, through)| Operation::Remove {
        recipient,
        through: Seq(through),
    });
    let expire = (0..60_i64).prop_map(|now| Operation::Expire {
        now: UnixMillis(now),
    });
    let block =
        (parties(), parties()).prop_map(|(blocker, blocked)| Operation::Block { blocker, blocked });
    let unblock = (parties(), parties())
        .prop_map(|(blocker, blocked)| Operation::Unblock { blocker, blocked });
    let seen = (parties(), 0..60_i64).prop_map(|(blocker, at)| Operation::Seen {
        blocker,
        at: UnixMillis(at),
    });
    let forget = parties().prop_map(|blocker| Operation::ForgetBlocks { blocker });
    prop_oneof![
        8 => append.prop_map(Operation::Append),
        4 => read.prop_map(Operation::Read),
        2 => remove,
        1 => expire,
        1 => block,
        1 => unblock,
        1 => seen,
        1 => forget,
    ]
}

proptest! {
    #[test]
    fn it_does_what_a_plain_list_does(
        operations in prop::collection::vec(operations(), 0..120)
    ) {
        let mut queue = MemoryQueue::new();
        let mut model = Model::default();
        for operation in operations {
            prop_assert_eq!(queue.execute(operation.clone()), model.execute(operation));
            prop_assert_eq!(queue.len(), model.list.len());
            prop_assert_eq!(queue.bytes(), model.sum(|_| true));
            for kept in &model.list {
                let of_sender = model.sum(|other| other.sender == kept.sender);
                prop_assert_eq!(queue.sender_bytes(kept.sender.as_str()), of_sender);
            }
            let owners = model.owners.clone().into_iter().collect();
            let restored = Restored { last_seq: model.last_seq, blocks: model.blocks.clone(), owners };
            prop_assert_eq!(queue.restored(), restored);
        }
        let emptied: Box<[_]> = queue.recipients().cloned().collect();
        for recipient in emptied {
            queue.execute(Operation::Remove { recipient, through: Seq(u64::MAX) });
        }
        prop_assert_eq!((queue.len(), queue.bytes()), (0, 0));
        prop_assert!(queue.senders.is_empty() && queue.expiries.is_empty());
    }
}
