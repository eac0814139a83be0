//! Who has the most envelopes in the queues that were full.
//!
//! The file has no table for that: it would be written to with every envelope, and is asked for in
//! full queues only. So the index of a recipient is read when its queue is full, and what it comes to
//! is kept and changed with the queue from then on, for as many envelopes as [`MAX_LEN`].

use std::collections::BTreeMap;

use pinch_proto::queue::{Ranking, Seq};

/// Number of envelopes that are kept in rankings, unless one queue alone has more.
const MAX_LEN: usize = 65_536;

/// The rankings of some recipients, by the numbers of agents.
#[derive(Debug, Default)]
pub(crate) struct Rankings {
    of: BTreeMap<u64, Ranking<u64>>,
    len: usize,
}

impl Rankings {
    /// Counts an envelope in.
    pub(crate) fn insert(&mut self, recipient: u64, sender: u64, seq: u64) {
        self.change(recipient, |ranking| ranking.insert(sender, Seq(seq)));
    }

    /// Counts an envelope out.
    pub(crate) fn remove(&mut self, recipient: u64, sender: u64, seq: u64) {
        self.change(recipient, |ranking| ranking.remove(&sender, Seq(seq)));
    }

    /// Returns the ranking of `recipient`; `count` makes it if it is not kept.
    pub(crate) fn of(
        &mut self,
        recipient: u64,
        count: impl FnOnce() -> Result<Ranking<u64>, redb::Error>,
    ) -> Result<&Ranking<u64>, redb::Error> {
        if !self.of.contains_key(&recipient) {
            let ranking = count()?;
            if self.len + ranking.len() > MAX_LEN {
                *self = Self::default();
            }
            self.len += ranking.len();
            self.of.insert(recipient, ranking);
        }
        Ok(self.of.entry(recipient).or_default())
    }

    fn change(&mut self, recipient: u64, change: impl FnOnce(&mut Ranking<u64>)) {
        if let Some(ranking) = self.of.get_mut(&recipient) {
            self.len -= ranking.len();
            change(ranking);
            self.len += ranking.len();
            if ranking.is_empty() {
                self.of.remove(&recipient);
            }
        }
    }
}
