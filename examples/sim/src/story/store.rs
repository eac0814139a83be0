//! The store of a story: it does what it is asked when the story says so, and in the way it says.

use std::collections::VecDeque;

use bytes::Bytes;
use pinch_proto::hub::{Input, ShardId};
use pinch_proto::queue::{Entry, MemoryQueue, Operation, Outcome, Read, Request, Ticket, Usage};
use pinch_proto::{Address, UnixMillis};

use super::run::Run;
use super::step::{Manner, Store};
use super::turn::Broken;

/// What a store reads that nobody has given to it: it is no envelope.
pub(super) const MADE_UP: &[u8] = &[0xff];

/// A store, what it was asked, and what it has done without anybody knowing.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    pub(super) queue: MemoryQueue,
    /// What it is to do, and for which shard.
    pub(super) asked: VecDeque<(ShardId, Request)>,
    /// What was done and not answered.
    pub(super) answers: Vec<(ShardId, Ticket, Outcome)>,
    /// Requests that will never be answered.
    pub(super) lost: Vec<(ShardId, Ticket)>,
    /// Requests that were answered.
    pub(super) answered: Vec<(ShardId, Ticket)>,
}

/// Something that the store has done.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) shard: ShardId,
    pub(super) ticket: Ticket,
    pub(super) operation: Operation,
    pub(super) outcome: Outcome,
    /// It had no effect, or not the one that was wanted.
    pub(super) failed: bool,
}

impl Shelf {
    /// Does the next thing that it was asked.
    pub(super) fn work(&mut self, manner: Manner) -> Option<Done> {
        let (shard, Request { ticket, operation }) = self.asked.pop_front()?;
        let is_append = matches!(operation, Operation::Append(_));
        let outcome = match manner {
            Manner::Fails(failure) => Outcome::Failed {
                failure,
                detail: "so the story goes".into(),
            },
            Manner::Nonsense => nonsense(&operation),
            Manner::MakesUp => self.made_up(&operation),
            Manner::Refuses(refusal) if is_append => Outcome::Refused(refusal),
            Manner::Sparing => self.queue.execute(sparing(operation.clone())),
            Manner::Refuses(_) | Manner::Asked => self.queue.execute(operation.clone()),
        };
        let failed = match manner {
            Manner::Fails(_) | Manner::Nonsense | Manner::MakesUp => true,
            Manner::Asked | Manner::Refuses(_) | Manner::Sparing => {
                is_append && !matches!(outcome, Outcome::Appended { .. })
            }
        };
        Some(Done {
            shard,
            ticket,
            operation,
            outcome,
            failed,
        })
    }

    /// What nobody has stored, where somebody reads on; there is more, so that it reads on again.
    fn made_up(&mut self, operation: &Operation) -> Outcome {
        if let Operation::Read(Read {
            after: Some(after), ..
        }) = operation
            && let Outcome::Entries { usage, .. } = self.queue.execute(operation.clone())
        {
            let (seq, message) = (*after, Bytes::from_static(MADE_UP));
            return Outcome::Entries {
                entries: vec![Entry { seq, message }],
                pending: 2,
                usage,
            };
        }
        nonsense(operation)
    }

    /// What waits for somebody and has not expired.
    pub(super) fn unexpired(&mut self, recipient: Address, now: UnixMillis) -> Vec<Entry> {
        let (after, bytes, count) = (None, usize::MAX, usize::MAX);
        let read = Read {
            recipient,
            after,
            bytes,
            count,
            now,
        };
        match self.queue.execute(Operation::Read(read)) {
            Outcome::Entries { entries, .. } => entries,
            Outcome::Done
            | Outcome::Appended { .. }
            | Outcome::Expired { .. }
            | Outcome::Refused(_)
            | Outcome::Failed { .. } => vec![],
        }
    }

    /// Takes the n-th of the answers that wait, counted around.
    pub(super) fn take_answer(&mut self, nth: u8) -> Option<(ShardId, Ticket, Outcome)> {
        let index = usize::from(nth).checked_rem(self.answers.len())?;
        Some(self.answers.remove(index))
    }
}

impl Run {
    pub(super) fn store(&mut self, store: Store) -> Result<(), Box<Broken>> {
        match store {
            Store::Serve(count) => {
                for _ in 0..count {
                    self.serve()?;
                }
            }
            Store::Do(manner) => self.work(manner),
            Store::Answer(nth) => {
                if let Some((shard, ticket, outcome)) = self.shelf.take_answer(nth) {
                    self.answer(shard, ticket, outcome)?;
                }
            }
            Store::Lose(nth) => {
                if let Some((shard, ticket, _)) = self.shelf.take_answer(nth) {
                    self.shelf.lost.push((shard, ticket));
                }
            }
            Store::Unknown(nth) => {
                let answered = usize::from(nth).checked_rem(self.shelf.answered.len());
                let unknown = (ShardId::default(), Ticket(1_000_000));
                let (shard, ticket) = answered.map_or(unknown, |nth| self.shelf.answered[nth]);
                self.go_to(shard);
                let outcome = Outcome::Done;
                self.give(&Input::Stored { ticket, outcome })?;
            }
        }
        Ok(())
    }

    /// The store does the next thing, and its answer waits.
    pub(super) fn work(&mut self, manner: Manner) {
        if let Some(done) = self.shelf.work(manner) {
            let Done {
                shard,
                ticket,
                operation,
                outcome,
                failed,
            } = done;
            if failed {
                self.ledger.fails(&operation);
            }
            if let Outcome::Appended {
                displaced: Some(entry),
                ..
            } = &outcome
            {
                self.ledger.gives_way(&entry.message);
            }
            self.shelf.answers.push((shard, ticket, outcome));
        }
    }

    /// The store does the next thing, and answers it at once.
    pub(super) fn serve(&mut self) -> Result<(), Box<Broken>> {
        if self.shelf.asked.is_empty() {
            return Ok(());
        }
        self.work(Manner::Asked);
        let done = self.shelf.answers.pop();
        done.map_or(Ok(()), |(shard, ticket, outcome)| {
            self.answer(shard, ticket, outcome)
        })
    }

    /// The store gives all its answers but those that it has lost.
    pub(super) fn settle_store(&mut self) -> Result<(), Box<Broken>> {
        while !self.shelf.answers.is_empty() {
            let (shard, ticket, outcome) = self.shelf.answers.remove(0);
            self.answer(shard, ticket, outcome)?;
        }
        while !self.shelf.asked.is_empty() {
            self.serve()?;
        }
        Ok(())
    }

    fn answer(
        &mut self,
        shard: ShardId,
        ticket: Ticket,
        outcome: Outcome,
    ) -> Result<(), Box<Broken>> {
        self.go_to(shard);
        self.shelf.answered.push((shard, ticket));
        self.give(&Input::Stored { ticket, outcome })
    }

    /// Does what the store was asked, however it was asked.
    pub(super) fn drain_store(&mut self) {
        while !self.shelf.asked.is_empty() {
            self.work(Manner::Asked);
        }
    }
}

/// The same, but only one envelope is read.
fn sparing(operation: Operation) -> Operation {
    if let Operation::Read(mut read) = operation {
        read.count = 1;
        return Operation::Read(read);
    }
    operation
}

/// An answer to another question.
fn nonsense(operation: &Operation) -> Outcome {
    if matches!(operation, Operation::Append(_) | Operation::Read(_)) {
        Outcome::Expired { count: 3 }
    } else {
        Outcome::Entries {
            entries: vec![],
            pending: 3,
            usage: Usage::default(),
        }
    }
}
