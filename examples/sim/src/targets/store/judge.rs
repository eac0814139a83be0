//! What a queue may hold, as far as anybody can know from outside.
//!
//! Mostly that is one thing. Where a disk has failed in the middle of a flush, there are several,
//! until the queue is looked at.

use pinch_proto::UnixMillis;
use pinch_proto::queue::{Operation, Outcome, Read, Restored};

use super::model::{Model, Waiting};
use super::script::{PARTIES, Told, address};

/// What happened, or the promise that was broken.
pub(super) type Verdict = Result<(), String>;

pub(super) struct Judge {
    /// What the queue may hold.
    now: Vec<Model>,
    /// What it may hold besides when the power has failed.
    unflushed: Vec<Model>,
}

impl Judge {
    /// A queue with nothing in it.
    pub(super) fn new() -> Self {
        Self {
            now: vec![Model::default()],
            unflushed: vec![],
        }
    }

    /// A batch came to that. Where it failed, it may be in effect as a whole if `is_open`.
    pub(super) fn batch(
        &mut self,
        batch: &[Operation],
        outcomes: &[Outcome],
        is_open: bool,
    ) -> Verdict {
        if batch.len() != outcomes.len() {
            return Err(format!("there are {} outcomes", outcomes.len()));
        }
        if batch.iter().all(is_read) {
            return self.keep(|model| reads(model, batch, outcomes));
        }
        let mut changes = batch.iter().zip(outcomes).filter(|(it, _)| !is_read(it));
        if !changes.clone().any(|(_, outcome)| has_failed(outcome)) {
            self.keep(|model| executes(model, batch, outcomes))?;
            // Even if it changed nothing, it confirms what was there before.
            self.unflushed.clear();
            return Ok(());
        }
        if !changes.all(|(_, outcome)| has_failed(outcome)) {
            return Err(format!("a part of the batch has failed: {outcomes:?}"));
        }
        if is_open {
            let before = self.now.clone();
            for model in &before {
                let mut after = model.clone();
                for operation in batch {
                    after.execute(operation);
                }
                self.now.push(after);
            }
            self.unflushed.extend(before);
        }
        self.keep(|model| reads(model, batch, outcomes))
    }

    /// The power fails.
    pub(super) fn cut_power(&mut self) {
        self.now.append(&mut self.unflushed);
    }

    /// That is what a hub hears that begins with the queue.
    pub(super) fn restored(&mut self, restored: &Restored) -> Verdict {
        self.keep(|model| {
            let expected = model.restored();
            (*restored == expected)
                .then_some(())
                .ok_or_else(|| format!("a hub hears {restored:?}, expected {expected:?}"))
        })
    }

    /// That is what an operator sees: what waits, and how many blocks there are.
    pub(super) fn seen(&mut self, waiting: &[Waiting], blocks: u64) -> Verdict {
        self.keep(|model| {
            let expected = (model.waiting(), model.restored().blocks.len() as u64);
            (waiting == expected.0 && blocks == expected.1)
                .then_some(())
                .ok_or_else(|| {
                    format!(
                        "an operator sees {waiting:?} and {blocks} blocks, expected {expected:?}"
                    )
                })
        })
    }

    /// Forgets what cannot be there.
    fn keep(&mut self, mut is_there: impl FnMut(&mut Model) -> Verdict) -> Verdict {
        let mut why_not = vec![];
        self.now
            .retain_mut(|model| is_there(model).map_err(|why| why_not.push(why)).is_ok());
        if self.now.is_empty() {
            return Err(why_not.join("\nor else "));
        }
        Ok(())
    }
}

/// What reads everything, even if it has expired.
pub(super) fn everything() -> Vec<Operation> {
    let everything_of = |party| {
        Operation::Read(Read {
            recipient: address(party),
            after: None,
            bytes: usize::MAX,
            count: usize::MAX,
            now: UnixMillis(i64::MIN),
        })
    };
    PARTIES.map(everything_of).to_vec()
}

/// Whether the outcomes are those of `batch`, executed.
fn executes(model: &mut Model, batch: &[Operation], outcomes: &[Outcome]) -> Verdict {
    for (operation, outcome) in batch.iter().zip(outcomes) {
        expect(operation, outcome, &model.execute(operation))?;
    }
    Ok(())
}

/// Whether what was read is there. What has failed says nothing.
fn reads(model: &mut Model, batch: &[Operation], outcomes: &[Outcome]) -> Verdict {
    for (operation, outcome) in batch.iter().zip(outcomes) {
        if !has_failed(outcome) {
            expect(operation, outcome, &model.execute(operation))?;
        }
    }
    Ok(())
}

fn expect(operation: &Operation, outcome: &Outcome, expected: &Outcome) -> Verdict {
    (outcome == expected).then_some(()).ok_or_else(|| {
        format!(
            "{}\ncame to {outcome:?}\nexpected {expected:?}",
            Told(operation)
        )
    })
}

fn is_read(operation: &Operation) -> bool {
    matches!(operation, Operation::Read(_))
}

fn has_failed(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed { .. })
}
