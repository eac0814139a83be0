//! The highest sequence of each sender, so that no message is read twice.

use std::collections::{BTreeMap, HashMap};

use pinch_proto::PublicKey;

/// How many strangers are remembered: senders to whom this agent has not written.
pub(super) const MAX_STRANGERS: usize = 4096;

/// How many correspondents are remembered: those to whom this agent has written.
pub(super) const MAX_KNOWN: usize = 16_384;

/// What an agent remembers of its senders.
///
/// It is bounded, and nobody is locked out: a new stranger takes the place of the stranger who was
/// heard from longest ago. Keys are free, so strangers never take the place of correspondents, of
/// whom there are only as many as this agent has written to. A replay of a message by a sender who
/// was forgotten is not noticed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    senders: HashMap<PublicKey, Sender>,
    strangers: BTreeMap<u64, PublicKey>,
    known: BTreeMap<u64, PublicKey>,
    /// Counts what was noted, and so orders it.
    turn: u64,
    /// What was noted since [`mark_saved`](Self::mark_saved).
    unsaved: BTreeMap<[u8; PublicKey::LEN], Remembered>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sender {
    remembered: Remembered,
    /// Its key in the order of its kind.
    turn: u64,
}

/// What is remembered of a sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// The highest sequence, if there was a message.
    pub sequence: Option<u64>,
    /// Whether this agent has written to it.
    pub is_known: bool,
}

impl Seen {
    /// Nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The highest sequence of `sender`, if a message is remembered.
    #[must_use]
    pub fn last(&self, sender: &PublicKey) -> Option<u64> {
        self.senders.get(sender)?.remembered.sequence
    }

    /// Whether this agent has written to `peer`.
    #[must_use]
    pub fn knows(&self, peer: &PublicKey) -> bool {
        self.senders
            .get(peer)
            .is_some_and(|sender| sender.remembered.is_known)
    }

    /// A message from `sender` has come.
    pub fn hear(&mut self, sender: &PublicKey, sequence: u64) {
        self.add(
            sender,
            Remembered {
                sequence: Some(sequence),
                is_known: false,
            },
        );
    }

    /// This agent writes to `peer`, which is no stranger from now on.
    pub fn know(&mut self, peer: &PublicKey) {
        self.add(
            peer,
            Remembered {
                sequence: None,
                is_known: true,
            },
        );
    }

    /// Forgets the sequence of `sender`, which then can count anew, and returns it.
    pub fn forget(&mut self, sender: &PublicKey) -> Option<u64> {
        self.unsaved.remove(sender.as_bytes());
        let remembered = &mut self.senders.get_mut(sender)?.remembered;
        remembered.sequence.take()
    }

    /// Adds what is remembered of a sender elsewhere. The higher sequence counts.
    pub fn add(&mut self, key: &PublicKey, remembered: Remembered) {
        let old = self.senders.get(key).copied();
        let merged = old.map_or(remembered, |old| {
            self.order(old.remembered).remove(&old.turn);
            old.remembered.merged(remembered)
        });
        self.turn += 1;
        let turn = self.turn;
        self.order(merged).insert(turn, *key);
        let sender = Sender {
            remembered: merged,
            turn,
        };
        self.senders.insert(*key, sender);
        if old.is_none_or(|old| old.remembered != merged) {
            let unsaved = self.unsaved.entry(*key.as_bytes()).or_default();
            *unsaved = unsaved.merged(remembered);
        }

        let limit = if merged.is_known {
            MAX_KNOWN
        } else {
            MAX_STRANGERS
        };
        if self.order(merged).len() > limit
            && let Some((_, oldest)) = self.order(merged).pop_first()
        {
            self.senders.remove(&oldest);
            self.unsaved.remove(oldest.as_bytes());
        }
    }

    fn order(&mut self, of: Remembered) -> &mut BTreeMap<u64, PublicKey> {
        if of.is_known {
            &mut self.known
        } else {
            &mut self.strangers
        }
    }

    /// All senders: the strangers, then the correspondents, each in the order in which they were
    /// heard from, the oldest first. [Adding](Self::add) them in this order gives the same again.
    pub fn senders(&self) -> impl Iterator<Item = (&PublicKey, Remembered)> {
        let keys = self.strangers.values().chain(self.known.values());
        keys.filter_map(|key| Some((key, self.senders.get(key)?.remembered)))
    }

    /// Whether something was noted since [`mark_saved`](Self::mark_saved).
    #[must_use]
    pub fn has_unsaved(&self) -> bool {
        !self.unsaved.is_empty()
    }

    /// What was noted is safe.
    pub fn mark_saved(&mut self) {
        self.unsaved.clear();
    }

    /// Goes on from `saved`, which another process may have changed; what was noted here since the
    /// last [`mark_saved`](Self::mark_saved) is added to it.
    pub fn rebase(&mut self, mut saved: Self) {
        saved.mark_saved();
        for (key, remembered) in core::mem::take(&mut self.unsaved) {
            saved.add(&PublicKey::from_bytes(key), remembered);
        }
        *self = saved;
    }
}

impl Remembered {
    fn merged(self, other: Self) -> Self {
        Self {
            sequence: self.sequence.max(other.sequence),
            is_known: self.is_known || other.is_known,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> PublicKey {
        let mut bytes = [0; PublicKey::LEN];
        bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
        PublicKey::from_bytes(bytes)
    }

    #[test]
    fn free_keys_lock_nobody_out_and_push_no_correspondent_out() {
        let mut seen = Seen::new();
        seen.know(&key(0));
        seen.hear(&key(0), 7);
        seen.hear(&key(1), 8);
        for number in 2..70_000 {
            seen.hear(&key(number), 1);
        }
        assert_eq!(seen.last(&key(0)), Some(7));
        assert_eq!(seen.last(&key(69_999)), Some(1));
        assert_eq!(seen.last(&key(1)), None, "the oldest stranger goes first");
        let oldest = 70_000 - MAX_STRANGERS;
        assert_eq!(seen.last(&key(oldest - 1)), None);
        assert_eq!(seen.last(&key(oldest)), Some(1));
        assert_eq!(seen.senders().count(), MAX_STRANGERS + 1);
    }

    #[test]
    fn a_stranger_who_is_heard_from_again_stays() {
        let mut seen = Seen::new();
        for number in 0..MAX_STRANGERS {
            seen.hear(&key(number), 1);
        }
        seen.hear(&key(0), 2);
        seen.hear(&key(MAX_STRANGERS), 1);
        assert_eq!(seen.last(&key(0)), Some(2));
        assert_eq!(seen.last(&key(1)), None);
    }

    #[test]
    fn correspondents_are_bounded_too() {
        let mut seen = Seen::new();
        for number in 0..=MAX_KNOWN {
            seen.know(&key(number));
        }
        assert!(!seen.knows(&key(0)));
        assert!(seen.knows(&key(1)));
        assert_eq!(seen.senders().count(), MAX_KNOWN);
    }

    #[test]
    fn two_processes_remember_what_either_has_seen() {
        let (mut first, mut second) = (Seen::new(), Seen::new());
        first.hear(&key(1), 5);
        first.know(&key(2));
        second.hear(&key(1), 4);
        second.hear(&key(2), 6);
        second.rebase(first.clone());
        assert_eq!(second.last(&key(1)), Some(5));
        assert_eq!(second.last(&key(2)), Some(6));
        assert!(second.knows(&key(2)));
        assert!(second.has_unsaved());
    }

    #[test]
    fn what_another_process_forgets_stays_forgotten() {
        let mut mine = Seen::new();
        mine.hear(&key(1), 5);
        let mut other = mine.clone();
        mine.mark_saved();
        assert_eq!(other.forget(&key(1)), Some(5));
        mine.rebase(other);
        assert_eq!(mine.last(&key(1)), None);
    }
}
