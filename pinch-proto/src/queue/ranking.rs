//! Which sender has the most envelopes in one recipient's queue.

use alloc::collections::{BTreeMap, BTreeSet};

use super::Seq;

/// The senders of the envelopes in one recipient's queue, by how many each has. For stores: it
/// finds the envelope that gives way in a full queue ([`Append`](super::Append)).
///
/// Every operation takes O(log n). A store names senders as it likes.
///
/// ```
/// use pinch_proto::queue::{Ranking, Seq};
///
/// let mut ranking = Ranking::default();
/// for seq in 1..=3 {
///     ranking.insert("mallory", Seq(seq));
/// }
/// ranking.insert("alice", Seq(4));
/// assert_eq!(ranking.gives_way_to(&"alice", None), Some(("mallory", Seq(3))));
/// assert_eq!(ranking.gives_way_to(&"alice", Some(Seq(3))), None, "it was handed out");
/// ranking.remove(&"mallory", Seq(1));
/// assert_eq!(ranking.gives_way_to(&"alice", None), None, "2 are not two more than 1");
/// ```
#[derive(Clone, Debug)]
pub struct Ranking<S> {
    /// A sender without envelopes is not in it.
    senders: BTreeMap<S, BTreeSet<Seq>>,
    /// How many a sender has, its newest, and the sender.
    ranks: BTreeSet<(usize, Seq, S)>,
    len: usize,
}

impl<S> Default for Ranking<S> {
    fn default() -> Self {
        Self {
            senders: BTreeMap::new(),
            ranks: BTreeSet::new(),
            len: 0,
        }
    }
}

impl<S: Clone + Ord> Ranking<S> {
    /// Number of envelopes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Counts an envelope in.
    pub fn insert(&mut self, sender: S, seq: Seq) {
        self.change(sender, |seqs| {
            seqs.insert(seq);
        });
    }

    /// Counts an envelope out.
    pub fn remove(&mut self, sender: &S, seq: Seq) {
        self.change(sender.clone(), |seqs| {
            seqs.remove(&seq);
        });
    }

    /// Returns the envelope that gives way to one of `sender`, and who sent it: the newest of the
    /// sender with the most envelopes, if these are at least two more than `sender` has, and it is
    /// behind `reached`.
    #[must_use]
    pub fn gives_way_to(&self, sender: &S, reached: Option<Seq>) -> Option<(S, Seq)> {
        let (count, newest, largest) = self.ranks.last()?;
        let own = self.senders.get(sender).map_or(0, BTreeSet::len);
        let gives_way = *count >= own + 2 && reached.is_none_or(|reached| *newest > reached);
        gives_way.then(|| (largest.clone(), *newest))
    }

    fn change(&mut self, sender: S, change: impl FnOnce(&mut BTreeSet<Seq>)) {
        let mut seqs = self.senders.remove(&sender).unwrap_or_default();
        if let Some(newest) = seqs.last() {
            self.ranks.remove(&(seqs.len(), *newest, sender.clone()));
        }
        self.len -= seqs.len();
        change(&mut seqs);
        self.len += seqs.len();
        if let Some(newest) = seqs.last() {
            self.ranks.insert((seqs.len(), *newest, sender.clone()));
            self.senders.insert(sender, seqs);
        }
    }
}
