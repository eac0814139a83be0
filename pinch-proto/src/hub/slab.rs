//! Storage whose handles cannot be mistaken: a vector of slots, each with a generation.
//!
//! A slot is used again after its value was removed, with a new generation, so that a handle to the
//! old value finds nothing. This is how a late event for a connection that has ended is recognised.
//!
//! Routing table, deadlines and shares name a value by the number of its slot alone, in 4 bytes. The
//! keys of the `slotmap` crate have 8, and it does not say which key a slot has: for each of a million
//! connections, that is 8 bytes more in the routing table, and 8 in each of ten lists of deadlines.
//! After 2³¹ uses of a slot its keys come again; here the slot is retired.

use alloc::vec::Vec;

/// How many slots there can be. The last two numbers of 32 bits name none, so that others can give
/// them a meaning of their own.
pub(super) const MAX_SLOTS: u32 = u32::MAX - 1;

/// Names one value of a [`Slab`] for ever; a later value in the same slot has another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// A vector of values that stay where they are.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    len: usize,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            len: 0,
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Returns the number of slots, empty ones included.
    pub(crate) fn slots(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(MAX_SLOTS)
    }

    /// Whether there is a slot for one more value.
    pub(crate) fn has_room(&self) -> bool {
        !self.free.is_empty() || self.slots.len() < MAX_SLOTS as usize
    }

    /// Stores `value`, for which there must be [room](Self::has_room).
    pub(crate) fn insert(&mut self, value: T) -> Key {
        self.insert_with(|_| value)
    }

    /// Stores the value that `make` makes of its key; there must be [room](Self::has_room).
    pub(crate) fn insert_with(&mut self, make: impl FnOnce(Key) -> T) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                value: None,
            });
            u32::try_from(self.slots.len() - 1).expect("the caller has asked for room")
        });
        let slot = self
            .slots
            .get_mut(index as usize)
            .expect("free slots lie inside the vector");
        let key = Key {
            index,
            generation: slot.generation,
        };
        slot.value = Some(make(key));
        self.len += 1;
        key
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let slot = self.slots.get(key.index as usize)?;
        slot.value
            .as_ref()
            .filter(|_| slot.generation == key.generation)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        slot.value
            .as_mut()
            .filter(|_| slot.generation == key.generation)
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let value = slot.value.take()?;
        self.len -= 1;
        // A slot whose generations are used up stays empty: its next key would be an old one.
        if let Some(next) = slot.generation.checked_add(1) {
            slot.generation = next;
            self.free.push(key.index);
        }
        Some(value)
    }

    /// The value in slot `index`, if there is one.
    pub(crate) fn at(&self, index: u32) -> Option<&T> {
        self.slots.get(index as usize)?.value.as_ref()
    }

    /// The same, to be changed.
    pub(crate) fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        self.slots.get_mut(index as usize)?.value.as_mut()
    }

    /// The key of the value in slot `index`, if there is one.
    pub(crate) fn key_at(&self, index: u32) -> Option<Key> {
        let slot = self.slots.get(index as usize)?;
        slot.value.as_ref().map(|_| Key {
            index,
            generation: slot.generation,
        })
    }

    /// All keys, in the order of their slots.
    pub(crate) fn keys(&self) -> Vec<Key> {
        (0..self.slots.len())
            .filter_map(|index| self.key_at(u32::try_from(index).ok()?))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_key_finds_nothing_in_a_slot_that_is_used_again() {
        let mut slab = Slab::new();
        let old = slab.insert("old");
        assert_eq!(slab.remove(old), Some("old"));
        let new = slab.insert("new");
        assert_eq!(new.index, old.index);
        assert_eq!(slab.get(old), None);
        assert_eq!(slab.remove(old), None);
        assert_eq!(slab.get(new), Some(&"new"));
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn a_slot_is_retired_when_its_generations_are_used_up() {
        let mut slab = Slab::new();
        slab.insert(1);
        slab.slots[0].generation = u32::MAX;
        let last = slab.key_at(0).unwrap();
        assert_eq!(slab.remove(last), Some(1));
        let next = slab.insert(2);
        assert_eq!(next.index, 1);
        assert_eq!(slab.get(last), None);
        assert_eq!(slab.keys(), [next]);
    }
}
