//! Doubly linked lists through the slots of a slab: O(1) at both ends and in the middle.

use alloc::vec::Vec;

/// The end of a list. No slot has this number: see [`crate::hub::Slab`].
const END: u32 = u32::MAX;

/// The ends of one list.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    head: u32,
    tail: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self {
        head: END,
        tail: END,
    };

    /// The slot that is in the list for longest.
    pub(super) fn front(&self) -> Option<u32> {
        (self.head != END).then_some(self.head)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.head == END
    }
}

#[derive(Clone, Copy, Debug)]
struct Link {
    previous: u32,
    next: u32,
}

/// The links of any number of lists, each slot being in one of them at most.
#[derive(Debug, Default)]
pub(super) struct Links(Vec<Link>);

impl Links {
    /// Appends slot `index`, which is in no list, to `list`.
    pub(super) fn push_back(&mut self, list: &mut List, index: u32) {
        let slot = index as usize;
        if self.0.len() <= slot {
            let unused = Link {
                previous: END,
                next: END,
            };
            self.0.resize(slot + 1, unused);
        }
        let previous = core::mem::replace(&mut list.tail, index);
        *self.link(index) = Link {
            previous,
            next: END,
        };
        if previous == END {
            list.head = index;
        } else {
            self.link(previous).next = index;
        }
    }

    /// Takes slot `index` out of `list`, which has it.
    pub(super) fn remove(&mut self, list: &mut List, index: u32) {
        let Link { previous, next } = *self.link(index);
        if previous == END {
            list.head = next;
        } else {
            self.link(previous).next = next;
        }
        if next == END {
            list.tail = previous;
        } else {
            self.link(next).previous = previous;
        }
    }

    fn link(&mut self, index: u32) -> &mut Link {
        self.0
            .get_mut(index as usize)
            .expect("members of a list lie inside the vector")
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::VecDeque;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_queue(steps in prop::collection::vec(0u32..8, 0..100)) {
            let mut links = Links::default();
            let mut list = List::EMPTY;
            let mut expected = VecDeque::new();
            for index in steps {
                if let Some(at) = expected.iter().position(|&member| member == index) {
                    expected.remove(at);
                    links.remove(&mut list, index);
                } else {
                    expected.push_back(index);
                    links.push_back(&mut list, index);
                }
                prop_assert_eq!(list.front(), expected.front().copied());
                prop_assert_eq!(list.is_empty(), expected.is_empty());
            }
            let mut found = Vec::new();
            while let Some(index) = list.front() {
                found.push(index);
                links.remove(&mut list, index);
            }
            prop_assert_eq!(found, Vec::from(expected));
        }
    }
}
