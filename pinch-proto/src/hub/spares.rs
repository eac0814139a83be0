//! Lists that have become empty, for those who need one next.
//!
//! A connection that has nothing to send and nothing to be confirmed owns no memory. So that a
//! connection to which envelopes come one by one does not ask for memory and give it back with each
//! of them, a hub keeps a few lists that were emptied.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::outbox::Queued;
use super::unconfirmed::Ledger;

/// How many lists of each kind are kept.
const MAX_KEPT: usize = 64;

/// The most envelopes that a list which is kept has room for; a longer one gives its memory back.
const MAX_ROOM: usize = 256;

/// The lists that are kept.
#[derive(Debug, Default)]
pub(super) struct Spares {
    lists: Vec<VecDeque<Queued>>,
    // Boxed as the connections have them, so that they change hands without being moved.
    #[allow(clippy::vec_box, reason = "see above")]
    ledgers: Vec<Box<Ledger>>,
}

impl Spares {
    /// An empty list.
    pub(super) fn take_list(&mut self) -> VecDeque<Queued> {
        self.lists.pop().unwrap_or_default()
    }

    /// Keeps `list`, which is empty, or gives its memory back.
    pub(super) fn keep_list(&mut self, list: VecDeque<Queued>) {
        if self.lists.len() < MAX_KEPT && list.capacity() <= MAX_ROOM {
            self.lists.push(list);
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
    use super::*;

    #[test]
    fn few_lists_are_kept_and_none_that_is_long() {
        let mut spares = Spares::default();
        for _ in 0..=MAX_KEPT {
            spares.keep_list(VecDeque::with_capacity(1));
            spares.keep_ledger(Box::default());
        }
        assert_eq!(
            (spares.lists.len(), spares.ledgers.len()),
            (MAX_KEPT, MAX_KEPT)
        );
        assert!(spares.take_list().capacity() > 0);
        spares.keep_list(VecDeque::with_capacity(MAX_ROOM + 1));
        assert_eq!(spares.lists.len(), MAX_KEPT - 1);
    }
}
