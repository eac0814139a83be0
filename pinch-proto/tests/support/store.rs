//! A store for one hub: it does what it is asked at once, or when a test says so, or fails.

use std::collections::VecDeque;

use pinch_proto::hub::{Input, Output};
use pinch_proto::queue::{Failure, MemoryQueue, Operation, Outcome, Request};

use super::World;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreManner {
    /// Answers whenever the world settles.
    Prompt,
    /// Answers when it is told to.
    Held,
    /// Answers whenever the world settles, that it can write nothing.
    Failing(Failure),
}

#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) queue: MemoryQueue,
    pub(crate) manner: StoreManner,
    /// What it was asked, and has not answered.
    pub(crate) asked: VecDeque<Request>,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            queue: MemoryQueue::new(),
            manner: StoreManner::Prompt,
            asked: VecDeque::new(),
        }
    }
}

impl World {
    /// Lets the store do what it is asked, if it is prompt; false if there is nothing.
    pub(super) fn serve_store(&mut self) -> bool {
        match self.store.manner {
            StoreManner::Prompt => self.answer(),
            StoreManner::Held => false,
            StoreManner::Failing(failure) => {
                let reads = |request: &Request| matches!(request.operation, Operation::Read(_));
                match self.store.asked.front() {
                    Some(request) if reads(request) => self.answer(),
                    Some(_) => self.fail(failure),
                    None => false,
                }
            }
        }
    }

    /// Lets the store do what it is asked, and no socket anything.
    pub(crate) fn settle_store(&mut self) {
        while self.serve_store() {}
    }

    /// Has the store do the first thing that it was asked; false if there is nothing.
    pub(crate) fn answer(&mut self) -> bool {
        let Some(Request { ticket, operation }) = self.store.asked.pop_front() else {
            return false;
        };
        let outcome = self.store.queue.execute(operation);
        self.give(Input::Stored { ticket, outcome });
        true
    }

    /// Has the store fail in the first thing that it was asked; false if there is nothing.
    pub(crate) fn fail(&mut self, failure: Failure) -> bool {
        let Some(Request { ticket, .. }) = self.store.asked.pop_front() else {
            return false;
        };
        let outcome = Outcome::Failed {
            failure,
            detail: "a test".into(),
        };
        self.give(Input::Stored { ticket, outcome });
        true
    }

    /// What the store was asked and has not answered, as lines of a table.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.store.asked.iter().map(line).collect()
    }

    /// What the store keeps for the agent `name`.
    pub(crate) fn queued_for(&self, name: &str) -> Vec<String> {
        let recipient = super::address(name);
        let entries = self.store.queue.entries(recipient.as_str());
        entries
            .map(|entry| super::line(&pinch_proto::Frame::Message(entry.message)))
            .collect()
    }
}

/// What a hub asks of its store, as lines of a table.
pub(crate) fn requests(outputs: &[Output]) -> Vec<String> {
    let mut requests = vec![];
    for output in outputs {
        if let Output::Store(request) = output {
            requests.push(line(request));
        }
    }
    requests
}

fn line(request: &Request) -> String {
    match &request.operation {
        Operation::Append(append) => {
            let message = super::line(&pinch_proto::Frame::Message(append.message.clone()));
            format!(
                "append for {} {message}",
                super::name(append.recipient.as_str())
            )
        }
        Operation::Read(read) => format!("read for {}", super::name(read.recipient.as_str())),
        Operation::Remove { recipient, .. } => {
            format!("remove for {}", super::name(recipient.as_str()))
        }
        Operation::Expire { .. } => "expire".into(),
        Operation::Block { blocker, blocked } => format!(
            "block {} {}",
            super::name(blocker.as_str()),
            super::name(blocked.as_str())
        ),
        Operation::Seen { blocker, .. } => format!("seen {}", super::name(blocker.as_str())),
        Operation::ForgetBlocks { blocker } => {
            format!("forget blocks of {}", super::name(blocker.as_str()))
        }
        Operation::Unblock { blocker, blocked } => format!(
            "unblock {} {}",
            super::name(blocker.as_str()),
            super::name(blocked.as_str())
        ),
    }
}
