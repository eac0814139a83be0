//! What a queue should hold: the reference, and what an operator should see of it.

use std::collections::BTreeMap;

use pinch_proto::queue::{MemoryQueue, Operation, Outcome, Restored, Seq};
use pinch_proto::{Address, UnixMillis};

/// What waits for one recipient: how many envelopes, how many bytes, since when, until when.
pub(super) type Waiting = (Address, u64, u64, UnixMillis, UnixMillis);

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    queue: MemoryQueue,
    /// What envelopes cost, and when they were accepted, whether they still wait or not.
    accepted: BTreeMap<(Address, Seq), (u64, UnixMillis)>,
}

impl Model {
    pub(super) fn execute(&mut self, operation: &Operation) -> Outcome {
        let Operation::Append(append) = operation else {
            return self.queue.execute(operation.clone());
        };
        let mut there = self.queue.entries(append.recipient.as_str());
        let is_new = there.all(|entry| entry.seq != append.seq);
        drop(there);
        let outcome = self.queue.execute(operation.clone());
        if is_new && matches!(outcome, Outcome::Appended { .. }) {
            let key = (append.recipient.clone(), append.seq);
            self.accepted.insert(key, (append.cost(), append.now));
        }
        outcome
    }

    pub(super) fn restored(&self) -> Restored {
        self.queue.restored()
    }

    /// What an operator should see.
    pub(super) fn waiting(&self) -> Vec<Waiting> {
        let waiting = |recipient: &Address| {
            let entries = self.queue.entries(recipient.as_str());
            let accepted = entries.map(|entry| self.accepted[&(recipient.clone(), entry.seq)]);
            let accepted: Vec<_> = accepted.collect();
            let times = accepted.iter().map(|&(_, at)| at);
            (
                recipient.clone(),
                accepted.len() as u64,
                accepted.iter().map(|(cost, _)| cost).sum(),
                times.clone().min().unwrap_or_default(),
                times.max().unwrap_or_default(),
            )
        };
        self.queue.recipients().map(waiting).collect()
    }
}
