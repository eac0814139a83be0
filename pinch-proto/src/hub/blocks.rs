//! Who wants nothing from whom: the block lists of agents, connected or not.
//!
//! They are bounded per blocker and in all. Where there is a store, the hub tells it what each agent wants.

use alloc::string::String;

use hashbrown::{HashMap, HashSet};

use super::seeded::Seeded;
use crate::Address;

/// All block lists of a hub.
#[derive(Debug)]
pub(super) struct Blocks {
    lists: HashMap<String, HashSet<Address, Seeded>, Seeded>,
    seeded: Seeded,
    len: usize,
    per_blocker: usize,
    total: usize,
}

impl Blocks {
    pub(super) fn new(per_blocker: usize, total: usize, seeded: Seeded) -> Self {
        Self {
            lists: HashMap::with_hasher(seeded.clone()),
            seeded,
            len: 0,
            per_blocker,
            total,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody has blocked anybody.
    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether `blocker` has blocked `sender`.
    pub(super) fn contains(&self, blocker: &str, sender: &str) -> bool {
        let list = self.lists.get(blocker);
        list.is_some_and(|list| list.contains(sender))
    }

    /// Blocks `blocked`; false if that would pass a limit.
    pub(super) fn insert(&mut self, blocker: &str, blocked: Address) -> bool {
        if self.contains(blocker, blocked.as_str()) {
            return true;
        }
        let listed = self.lists.get(blocker).map_or(0, HashSet::len);
        if listed >= self.per_blocker || self.len >= self.total {
            return false;
        }
        self.restore(blocker, blocked);
        true
    }

    /// Puts a block back that stood before, whatever the limits are now.
    pub(super) fn restore(&mut self, blocker: &str, blocked: Address) {
        let seeded = &self.seeded;
        let list = self
            .lists
            .entry_ref(blocker)
            .or_insert_with(|| HashSet::with_hasher(seeded.clone()));
        self.len += usize::from(list.insert(blocked));
    }

    /// Takes a block back; nothing happens if there is none.
    pub(super) fn remove(&mut self, blocker: &str, blocked: &str) {
        let Some(list) = self.lists.get_mut(blocker) else {
            return;
        };
        self.len -= usize::from(list.remove(blocked));
        if list.is_empty() {
            self.lists.remove(blocker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(name: &str) -> Address {
        Address::parse(&alloc::format!("pinch:{name}@r")).unwrap()
    }

    #[test]
    fn lists_are_bounded_per_blocker_and_in_all_and_leave_nothing_behind() {
        let [a, b, c, d] = ["a", "b", "c", "d"].map(address);
        let mut blocks = Blocks::new(2, 3, Seeded::new([1; 16]));
        assert!(blocks.insert(a.as_str(), b.clone()));
        assert!(
            blocks.insert(a.as_str(), b.clone()),
            "again is no second entry"
        );
        assert!(blocks.insert(a.as_str(), c.clone()));
        assert!(!blocks.insert(a.as_str(), d.clone()), "two per blocker");
        assert!(blocks.insert(b.as_str(), a.clone()));
        assert!(!blocks.insert(c.as_str(), a.clone()), "three in all");
        assert!(blocks.contains(a.as_str(), b.as_str()));
        assert!(!blocks.contains(b.as_str(), c.as_str()));

        blocks.remove(a.as_str(), b.as_str());
        blocks.remove(a.as_str(), b.as_str());
        blocks.remove(a.as_str(), c.as_str());
        blocks.remove(b.as_str(), a.as_str());
        assert_eq!((blocks.len(), blocks.lists.len()), (0, 0));
    }
}
