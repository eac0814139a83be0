//! What the cases about stores are made of: operations in short, and a store that executes them.

use bytes::Bytes;
use futures_lite::future::block_on;
use pinch_driver::Store;
use pinch_driver::proto::queue::{Append, Limits, Operation, Outcome, Read, Seq, Usage};
use pinch_driver::proto::{Address, UnixMillis};

/// Limits that nobody reaches.
pub(super) const ROOMY: Limits = Limits {
    recipient_count: 1_000_000,
    sender_bytes: 1 << 40,
    total_bytes: 1 << 40,
};

/// Executes a batch of one.
pub(super) fn execute(store: &impl Store, operation: Operation) -> Outcome {
    let outcomes = block_on(store.execute(vec![operation]));
    let [outcome] = <[Outcome; 1]>::try_from(outcomes).expect("one outcome for one operation");
    outcome
}

/// Executes a batch.
pub(super) fn execute_all(store: &impl Store, batch: Vec<Operation>) -> Vec<Outcome> {
    let count = batch.len();
    let outcomes = block_on(store.execute(batch));
    assert_eq!(outcomes.len(), count, "one outcome for each operation");
    outcomes
}

pub(super) fn address(name: &str) -> Address {
    Address::parse(&format!("pinch:{name}@relay.example.com")).expect("a valid address")
}

/// An envelope from `sender` for `recipient`, accepted at 0, that expires at 100.
pub(super) fn envelope(sender: &str, recipient: &str, seq: u64, message: &[u8]) -> Append {
    Append {
        recipient: address(recipient),
        sender: address(sender),
        seq: Seq(seq),
        message: Bytes::copy_from_slice(message),
        now: UnixMillis(0),
        expires_at: UnixMillis(100),
        limits: Some(ROOMY),
        reserved: Usage::default(),
        reached: None,
        discard: false,
    }
}

/// Appends it; `Done` if that is done and nothing gave way.
pub(super) fn append(store: &impl Store, append: Append) -> Outcome {
    done_if_appended(execute(store, Operation::Append(append)))
}

/// `Done` for an append that is done and to which nothing gave way; any other outcome as it is.
pub(super) fn done_if_appended(outcome: Outcome) -> Outcome {
    if let Outcome::Appended {
        displaced: None, ..
    } = outcome
    {
        return Outcome::Done;
    }
    outcome
}

/// Everything that waits for `recipient` at the time 0.
pub(super) fn all_of(recipient: &str) -> Read {
    Read {
        recipient: address(recipient),
        after: None,
        bytes: usize::MAX,
        count: usize::MAX,
        now: UnixMillis(0),
    }
}

/// The numbers of the entries that `read` comes to, and how many wait.
pub(super) fn read(store: &impl Store, read: Read) -> (Vec<u64>, u64) {
    let (entries, pending) = read_messages(store, read);
    (entries.iter().map(|(seq, _)| *seq).collect(), pending)
}

/// The numbers and messages that `read` comes to, and how many wait.
pub(super) fn read_messages(store: &impl Store, read: Read) -> (Vec<(u64, Bytes)>, u64) {
    let outcome = execute(store, Operation::Read(read));
    let Outcome::Entries {
        entries, pending, ..
    } = outcome
    else {
        panic!("expected entries, got {outcome:?}");
    };
    let entries = entries
        .into_iter()
        .map(|entry| (entry.seq.0, entry.message));
    (entries.collect(), pending)
}

pub(super) fn remove(recipient: &str, through: u64) -> Operation {
    Operation::Remove {
        recipient: address(recipient),
        through: Seq(through),
    }
}

pub(super) fn expire(now: i64) -> Operation {
    Operation::Expire {
        now: UnixMillis(now),
    }
}

pub(super) fn block(blocker: &str, blocked: &str) -> Operation {
    Operation::Block {
        blocker: address(blocker),
        blocked: address(blocked),
    }
}

pub(super) fn unblock(blocker: &str, blocked: &str) -> Operation {
    Operation::Unblock {
        blocker: address(blocker),
        blocked: address(blocked),
    }
}
