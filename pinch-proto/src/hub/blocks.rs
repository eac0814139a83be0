//! Block lists of agents, connected or not: from whom an agent wants nothing.
//!
//! They are bounded per owner and in all. An address in a list takes 16 bytes: its SipHash-2-4 of 128
//! bits under a key that no peer knows, so that nobody finds another address with the same one.
//!
//! Where all places are taken, a newcomer gets one nevertheless: of the lists that are largest, by powers
//! of two, the one whose owner was not seen for longest is forgotten. So agents that fill the places with
//! long lists lose those first, and not others their short ones. Lists whose owner was not seen for as
//! long as lists are kept are forgotten, too.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::hash::Hasher as _;

use hashbrown::{HashMap, HashTable};
use siphasher::sip128::{Hasher128 as _, SipHasher24};

use super::core::Core;
use super::slab::Slab;
use crate::queue::{Operation, Restored};
use crate::{Address, UnixMillis};

/// How many lists one sweep forgets, and how many owners it has the store remember.
const OWNERS_PER_SWEEP: usize = 1024;

const MILLIS_PER_DAY: i64 = 24 * 60 * 60 * 1000;

/// A day, counted from the Unix epoch: how exactly it is known when an owner was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Day(i64);

impl Day {
    const fn of(at: UnixMillis) -> Self {
        Self(at.0.div_euclid(MILLIS_PER_DAY))
    }
}

#[derive(Debug)]
struct Owner {
    address: Address,
    fingerprint: u128,
    /// Fingerprints of those that it blocks, in order.
    blocked: Vec<u128>,
    place: Place,
    seen: Day,
}

/// In which order lists give way, from the last to the first of the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// The binary logarithm of the length of the list.
    size: u32,
    /// Grows each time that an owner is seen.
    turn: u64,
}

/// What came of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Inserted {
    /// It holds. A list may have given way to it: that of this owner.
    Done {
        /// The owner had no list before, or was not seen on this day before.
        is_first: bool,
        forgotten: Option<Address>,
    },
    /// The owner has too many, or the most of all.
    Full,
}

/// All block lists of a hub.
#[derive(Debug)]
pub(super) struct Blocks {
    owners: Slab<Owner>,
    /// The slots of the owners, by fingerprint.
    places: HashTable<u32>,
    order: BTreeSet<(Place, u32)>,
    key: SipHasher24,
    next_turn: u64,
    len: usize,
    per_owner: usize,
    total: usize,
}

impl Blocks {
    pub(super) fn new(per_owner: usize, total: usize, seed: [u8; 16]) -> Self {
        Self {
            owners: Slab::new(),
            places: HashTable::new(),
            order: BTreeSet::new(),
            key: SipHasher24::new_with_key(&seed),
            next_turn: 0,
            len: 0,
            per_owner,
            total,
        }
    }

    /// Number of blocks.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Number of owners of lists.
    pub(super) const fn owners(&self) -> usize {
        self.owners.len()
    }

    /// Whether nobody has blocked anybody.
    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether `owner` has blocked `sender`; both are normalized.
    pub(super) fn contains(&self, owner: &str, sender: &str) -> bool {
        let list = self.find(self.fingerprint(owner));
        let list = list.and_then(|index| self.owners.at(index));
        list.is_some_and(|list| {
            let sender = self.fingerprint(sender);
            list.blocked.binary_search(&sender).is_ok()
        })
    }

    /// Blocks `blocked` for `owner`, who is seen by that.
    pub(super) fn insert(&mut self, owner: &Address, blocked: &Address, today: Day) -> Inserted {
        let fingerprint = self.fingerprint(owner.as_str());
        let index = self.find(fingerprint);
        let list = index.and_then(|index| self.owners.at(index));
        let entry = self.fingerprint(blocked.as_str());
        let is_known = list.is_some_and(|list| list.blocked.binary_search(&entry).is_ok());
        let listed = list.map_or(0, |list| list.blocked.len());
        let mut forgotten = None;
        if !is_known {
            if listed >= self.per_owner {
                return Inserted::Full;
            }
            if self.len >= self.total {
                match self.first_to_go() {
                    Some(victim) if Some(victim) != index => forgotten = self.forget(victim),
                    Some(_) | None => return Inserted::Full,
                }
            }
            if index.is_none() && !self.owners.has_room() {
                return Inserted::Full;
            }
        }
        let is_first = self.put(owner, blocked, self.next_turn, today);
        Inserted::Done {
            is_first: self.touch_at(fingerprint, today) || is_first,
            forgotten,
        }
    }

    /// Puts a block back that stood before, whatever the limits are now. Its owner is the `turn`th in the
    /// order in which they were seen.
    fn restore(&mut self, owner: &Address, blocked: &Address, turn: u64, seen: Day) {
        self.next_turn = self.next_turn.max(turn + 1);
        self.put(owner, blocked, turn, seen);
    }

    /// Puts a block into a list; true if it is the first one of its owner.
    fn put(&mut self, owner: &Address, blocked: &Address, turn: u64, seen: Day) -> bool {
        let fingerprint = self.fingerprint(owner.as_str());
        let entry = self.fingerprint(blocked.as_str());
        let found = self.find(fingerprint);
        if found.is_none() && !self.owners.has_room() {
            return false;
        }
        let index = found.unwrap_or_else(|| self.add(owner.clone(), fingerprint, turn, seen));
        let Some(list) = self.list(index) else {
            return false;
        };
        if let Err(at) = list.blocked.binary_search(&entry) {
            list.blocked.insert(at, entry);
            self.len += 1;
        }
        self.reorder(index, None);
        found.is_none()
    }

    /// Takes a block back; nothing happens if there is none.
    pub(super) fn remove(&mut self, owner: &str, blocked: &str) {
        let entry = self.fingerprint(blocked);
        let Some(index) = self.find(self.fingerprint(owner)) else {
            return;
        };
        let Some(list) = self.list(index) else {
            return;
        };
        let Ok(at) = list.blocked.binary_search(&entry) else {
            return;
        };
        list.blocked.remove(at);
        self.len -= 1;
        self.reorder(index, None);
    }

    /// The owner is seen: true if it has a list, and was not seen on this day before.
    pub(super) fn touch(&mut self, owner: &str, today: Day) -> bool {
        !self.is_empty() && self.touch_at(self.fingerprint(owner), today)
    }

    /// Forgets a list whose owner was not seen since before `oldest`, and returns the owner.
    pub(super) fn forget_stale(&mut self, oldest: Day) -> Option<Address> {
        // The first of each size is the stalest one of it.
        let mut size = 0;
        loop {
            let from = Place { size, turn: 0 };
            let (place, index) = *self.order.range((from, 0)..).next()?;
            if self.owners.at(index)?.seen < oldest {
                return self.forget(index);
            }
            size = place.size + 1;
        }
    }

    fn fingerprint(&self, address: &str) -> u128 {
        let mut hasher = self.key;
        hasher.write(address.as_bytes());
        hasher.finish128().into()
    }

    fn find(&self, fingerprint: u128) -> Option<u32> {
        let is_it = |index: &u32| {
            let owner = self.owners.at(*index);
            owner.is_some_and(|owner| owner.fingerprint == fingerprint)
        };
        self.places.find(bucket_of(fingerprint), is_it).copied()
    }

    fn list(&mut self, index: u32) -> Option<&mut Owner> {
        let key = self.owners.key_at(index)?;
        self.owners.get_mut(key)
    }

    fn add(&mut self, address: Address, fingerprint: u128, turn: u64, seen: Day) -> u32 {
        let place = Place { size: 0, turn };
        let key = self.owners.insert(Owner {
            address,
            fingerprint,
            blocked: Vec::new(),
            place,
            seen,
        });
        let owners = &self.owners;
        self.places
            .insert_unique(bucket_of(fingerprint), key.index, |index| {
                owners
                    .at(*index)
                    .map_or(0, |owner| bucket_of(owner.fingerprint))
            });
        self.order.insert((place, key.index));
        key.index
    }

    fn touch_at(&mut self, fingerprint: u128, today: Day) -> bool {
        let Some(index) = self.find(fingerprint) else {
            return false;
        };
        let turn = self.next_turn;
        self.next_turn += 1;
        self.reorder(index, Some(turn));
        let Some(list) = self.list(index) else {
            return false;
        };
        let is_later = list.seen < today;
        list.seen = list.seen.max(today);
        is_later
    }

    /// Puts an owner where it belongs after a change, at a new `turn` if it was seen; one without a list
    /// goes.
    fn reorder(&mut self, index: u32, turn: Option<u64>) {
        let Some(list) = self.list(index) else {
            return;
        };
        let before = list.place;
        let Some(size) = list.blocked.len().checked_ilog2() else {
            self.forget(index);
            return;
        };
        let turn = turn.unwrap_or(before.turn);
        let place = Place { size, turn };
        if place != before {
            list.place = place;
            self.order.remove(&(before, index));
            self.order.insert((place, index));
        }
    }

    /// The owner whose list gives way next.
    fn first_to_go(&self) -> Option<u32> {
        let (largest, _) = self.order.last()?;
        let from = Place {
            size: largest.size,
            turn: 0,
        };
        let (_, index) = self.order.range((from, 0)..).next()?;
        Some(*index)
    }

    fn forget(&mut self, index: u32) -> Option<Address> {
        let owner = self.owners.remove(self.owners.key_at(index)?)?;
        self.order.remove(&(owner.place, index));
        let is_it = |place: &u32| *place == index;
        let bucket = bucket_of(owner.fingerprint);
        if let Ok(entry) = self.places.find_entry(bucket, is_it) {
            entry.remove();
        }
        self.len -= owner.blocked.len();
        Some(owner.address)
    }
}

impl Core {
    /// An agent is seen: has the store remember that, if it has a block list.
    pub(super) fn see(&mut self, address: &Address) {
        let today = self.today();
        if self.blocks.touch(address.as_str(), today) {
            self.keep_seen(address.clone());
        }
    }

    pub(super) fn keep_seen(&mut self, blocker: Address) {
        let at = self.clock.expiry_unix();
        self.upkeep(Operation::Seen { blocker, at });
    }

    /// Has the store forget a block list that was forgotten here.
    pub(super) fn forget_blocks(&mut self, blocker: Address) {
        self.stats.blocks_forgotten += 1;
        self.upkeep(Operation::ForgetBlocks { blocker });
    }

    /// Forgets block lists whose owner was not seen for too long.
    pub(super) fn expire_blocks(&mut self) {
        let ttl = i64::try_from(self.config.block_ttl.as_millis()).unwrap_or(i64::MAX);
        let oldest = self.clock.expiry_unix().0.saturating_sub(ttl);
        for _ in 0..OWNERS_PER_SWEEP {
            let Some(owner) = self.blocks.forget_stale(Day::of(UnixMillis(oldest))) else {
                break;
            };
            self.forget_blocks(owner);
        }
        let unknown = self.unknown_owners.len().saturating_sub(OWNERS_PER_SWEEP);
        for owner in self.unknown_owners.split_off(unknown) {
            self.keep_seen(owner);
        }
    }

    /// Puts the block lists back that a store held, of which those of one owner lie together. An owner
    /// of which the store does not know when it was seen, is seen today.
    pub(super) fn restore_blocks(&mut self, restored: Restored) {
        let today = self.today();
        let mut seen = restored.owners;
        seen.sort_by_key(|(_, at)| *at);
        let ranks = seen.into_iter().zip(0..);
        let ranks = ranks.map(|((owner, at), turn)| (owner, (turn, Day::of(at).min(today))));
        let mut known: HashMap<Address, (u64, Day), _> = HashMap::with_hasher(self.seeded.clone());
        known.extend(ranks);
        let mut next = known.len() as u64;
        let mut last: Option<(Address, u64, Day)> = None;
        for (owner, blocked) in restored.blocks {
            let (turn, day) = match &last {
                Some((last, turn, day)) if *last == owner => (*turn, *day),
                Some(_) | None => {
                    let found = known.get(&owner).copied().unwrap_or_else(|| {
                        self.unknown_owners.push(owner.clone());
                        next += 1;
                        (next, today)
                    });
                    last = Some((owner.clone(), found.0, found.1));
                    found
                }
            };
            self.blocks.restore(&owner, &blocked, turn, day);
        }
    }

    /// The day, by the clock that is behind.
    pub(super) fn today(&self) -> Day {
        Day::of(self.clock.expiry_unix())
    }
}

/// A fingerprint is a good hash of itself, and half of it is enough for that.
#[allow(clippy::cast_possible_truncation, reason = "that is what it is for")]
const fn bucket_of(fingerprint: u128) -> u64 {
    fingerprint as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(name: &str) -> Address {
        Address::parse(&alloc::format!("pinch:{name}@r")).unwrap()
    }

    /// Blocks, and names the owner whose list gave way; `None` if there was no place.
    fn block(blocks: &mut Blocks, owner: &str, blocked: &str) -> Option<Option<Address>> {
        match blocks.insert(&address(owner), &address(blocked), Day(1)) {
            Inserted::Done { forgotten, .. } => Some(forgotten),
            Inserted::Full => None,
        }
    }

    fn holds(blocks: &Blocks, owner: &str, blocked: &str) -> bool {
        blocks.contains(address(owner).as_str(), address(blocked).as_str())
    }

    #[test]
    fn lists_are_bounded_per_owner_and_in_all_and_leave_nothing_behind() {
        let mut blocks = Blocks::new(2, 3, [1; 16]);
        assert_eq!(block(&mut blocks, "a", "b"), Some(None));
        assert_eq!(block(&mut blocks, "a", "b"), Some(None));
        assert_eq!(blocks.len(), 1, "again is no second entry");
        assert_eq!(block(&mut blocks, "a", "c"), Some(None));
        assert_eq!(block(&mut blocks, "a", "d"), None, "two per owner");
        assert_eq!(block(&mut blocks, "b", "a"), Some(None));
        assert!(holds(&blocks, "a", "b") && !holds(&blocks, "b", "c"));
        for (owner, blocked) in [("a", "b"), ("a", "b"), ("a", "c"), ("b", "a")] {
            blocks.remove(address(owner).as_str(), address(blocked).as_str());
        }
        assert_eq!((blocks.len(), blocks.owners()), (0, 0));
        assert!(blocks.places.is_empty() && blocks.order.is_empty());
    }

    #[test]
    fn long_lists_give_way_first_and_then_the_one_that_was_not_seen_for_longest() {
        let mut blocks = Blocks::new(4, 6, [1; 16]);
        for (owner, blocked) in [
            ("honest", "x"),
            ("long", "1"),
            ("longer", "1"),
            ("long", "2"),
            ("longer", "2"),
            ("longer", "3"),
        ] {
            assert_eq!(block(&mut blocks, owner, blocked), Some(None));
        }
        assert!(!blocks.touch(address("long").as_str(), Day(1)), "same day");
        // Both have a list of two or three; `longer` was not seen since.
        assert_eq!(
            block(&mut blocks, "new", "x"),
            Some(Some(address("longer")))
        );
        assert!(!holds(&blocks, "longer", "1") && holds(&blocks, "long", "1"));
        for (owner, blocked) in [("new", "y"), ("third", "x")] {
            assert_eq!(block(&mut blocks, owner, blocked), Some(None));
        }
        assert_eq!(blocks.len(), 6);
        assert_eq!(
            block(&mut blocks, "fourth", "x"),
            Some(Some(address("long")))
        );
        assert_eq!(block(&mut blocks, "fifth", "x"), Some(None));
        // Its own list is the largest: it takes the place of nobody.
        assert_eq!(block(&mut blocks, "new", "z"), None);
        assert!(holds(&blocks, "honest", "x"));
    }

    #[test]
    fn lists_of_owners_that_are_not_seen_any_more_are_forgotten() {
        let mut blocks = Blocks::new(10, 100, [1; 16]);
        blocks.restore(&address("b"), &address("x"), 1, Day(2));
        blocks.restore(&address("b"), &address("y"), 1, Day(2));
        blocks.restore(&address("a"), &address("x"), 0, Day(1));
        blocks.restore(&address("c"), &address("x"), 2, Day(3));
        assert!(blocks.touch(address("a").as_str(), Day(9)), "another day");
        assert!(!blocks.touch(address("nobody").as_str(), Day(9)));
        assert_eq!(blocks.forget_stale(Day(2)), None);
        let gone = [(); 3].map(|()| blocks.forget_stale(Day(9)));
        assert_eq!(gone, [Some(address("c")), Some(address("b")), None]);
        assert_eq!((blocks.len(), blocks.owners()), (1, 1));
        assert!(holds(&blocks, "a", "x"));
    }
}
