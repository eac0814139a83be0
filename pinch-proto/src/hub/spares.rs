//! Lists that have become empty, for those who need one next.
//!
//! A connection that has nothing to send and nothing to be confirmed owns no memory. So that a
//! connection to which envelopes come one by one does not ask for memory and give it back with each
//! of them, a hub keeps a few lists that were emptied.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::outbox::Waiting;
use super::unacked::Ledger;

/// How many lists of each kind are kept.
const MAX_KEPT: usize = 64;

/// The most envelopes that a list which is kept has room for; a longer one gives its memory back.
const MAX_ROOM: usize = 256;

/// The lists that are kept, boxed as the connections have them, so that they change hands without being
/// moved.
#[allow(clippy::vec_box, reason = "see above")]
#[derive(Debug, Default)]
pub(super) struct Spares {
    waiting: Vec<Box<Waiting>>,
    ledgers: Vec<Box<Ledger>>,
}

impl Spares {
    /// An empty list of what waits.
    pub(super) fn take_waiting(&mut self) -> Box<Waiting> {
        self.waiting.pop().unwrap_or_default()
    }

    /// Keeps `waiting`, which is empty, or gives its memory back.
    pub(super) fn keep_waiting(&mut self, waiting: Box<Waiting>) {
        if self.waiting.len() < MAX_KEPT && waiting.room() <= MAX_ROOM {
            self.waiting.push(waiting);
        }
    }

    /// An empty ledger.
    pub(super) fn take_ledger(&mut self) -> Box<Ledger> {
        self.ledgers.pop().unwrap_or_default()
    }

    /// Keeps `ledger`, in which nothing is left, or gives its memory back.
    pub(super) fn keep_ledger(&mut self, mut ledger: Box<Ledger>) {
        if self.ledgers.len() < MAX_KEPT && ledger.room() <= MAX_ROOM {
            ledger.reopen();
            self.ledgers.push(ledger);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::hub::outbox::{Outbox, Queued};
    use crate::hub::shares::NO_PLACE;
    use crate::queue::Seq;

    /// Puts `count` envelopes into each of `outboxes`, and takes them out again.
    fn fill_and_empty(outboxes: &mut [Outbox], count: usize, spares: &mut Spares) {
        for outbox in &mut *outboxes {
            for _ in 0..count {
                let queued = Queued {
                    seq: Seq(0),
                    stored: false,
                    reserved: false,
                    sender: NO_PLACE,
                    confirmable: true,
                    message: Bytes::new(),
                };
                outbox.push_data(queued, spares);
            }
        }
        for outbox in outboxes {
            while outbox.pop_data(spares).is_some() {}
        }
    }

    #[test]
    fn few_lists_are_kept_and_none_that_is_long() {
        let mut spares = Spares::default();
        let mut outboxes = [(); MAX_KEPT + 1].map(|()| Outbox::default());
        fill_and_empty(&mut outboxes, 1, &mut spares);
        assert_eq!(spares.waiting.len(), MAX_KEPT);
        fill_and_empty(&mut outboxes[..1], 10 * MAX_ROOM, &mut spares);
        let mut rooms = spares.waiting.iter().map(|waiting| waiting.room());
        assert!(rooms.all(|room| (1..=MAX_ROOM).contains(&room)));

        for _ in 0..=MAX_KEPT {
            spares.keep_ledger(Box::default());
        }
        assert_eq!(spares.ledgers.len(), MAX_KEPT);
    }
}
