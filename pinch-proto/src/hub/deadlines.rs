//! Deadlines of one class, in O(1): a FIFO list threaded through the slots of a slab.
//!
//! All members of a class wait equally long, and time does not run backwards, so the order in which
//! they were armed is the order in which they fall due. No heap, no timer per connection: arming,
//! disarming and finding the next one cost the same for ten connections as for a million.

use alloc::vec::Vec;
use core::time::Duration;

use crate::Time;

/// The end of the list, and the neighbour of nobody.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Link {
    previous: u32,
    next: u32,
    /// `None` while this slot is not in the list.
    due: Option<Time>,
}

const UNLINKED: Link = Link {
    previous: NONE,
    next: NONE,
    due: None,
};

/// The deadlines of one class, by slot index.
#[derive(Debug)]
pub(super) struct DeadlineList {
    wait: Duration,
    links: Vec<Link>,
    head: u32,
    tail: u32,
}

impl DeadlineList {
    /// A class whose members fall due `wait` after they were armed.
    pub(super) const fn new(wait: Duration) -> Self {
        Self {
            wait,
            links: Vec::new(),
            head: NONE,
            tail: NONE,
        }
    }

    /// Lets slot `index` fall due one wait from `now`; an earlier deadline of it is forgotten.
    ///
    /// `now` must not lie before the `now` of an earlier call.
    pub(super) fn arm(&mut self, index: u32, now: Time) {
        self.disarm(index);
        let tail = self.tail;
        if self.links.len() <= index as usize {
            self.links.resize(index as usize + 1, UNLINKED);
        }
        *self.link(index) = Link {
            previous: tail,
            next: NONE,
            due: Some(now + self.wait),
        };
        if tail == NONE {
            self.head = index;
        } else {
            self.link(tail).next = index;
        }
        self.tail = index;
    }

    /// As [`arm`](Self::arm), but an earlier deadline stays.
    pub(super) fn arm_if_idle(&mut self, index: u32, now: Time) {
        if !self.is_armed(index) {
            self.arm(index, now);
        }
    }

    /// Whether slot `index` has a deadline.
    pub(super) fn is_armed(&self, index: u32) -> bool {
        let link = self.links.get(index as usize);
        link.is_some_and(|link| link.due.is_some())
    }

    /// Forgets the deadline of slot `index`, if it has one.
    pub(super) fn disarm(&mut self, index: u32) {
        let Some(link) = self.links.get_mut(index as usize) else {
            return;
        };
        if link.due.is_none() {
            return;
        }
        let Link { previous, next, .. } = core::mem::replace(link, UNLINKED);
        if previous == NONE {
            self.head = next;
        } else {
            self.link(previous).next = next;
        }
        if next == NONE {
            self.tail = previous;
        } else {
            self.link(next).previous = previous;
        }
    }

    /// The earliest deadline.
    pub(super) fn next_due(&self) -> Option<Time> {
        self.links.get(self.head as usize)?.due
    }

    /// The slot that waits longest.
    pub(super) fn oldest(&self) -> Option<u32> {
        self.next_due().map(|_| self.head)
    }

    /// Takes the slot out that has been due for longest at `now`.
    pub(super) fn pop_due(&mut self, now: Time) -> Option<u32> {
        let due = self.next_due()?;
        if due > now {
            return None;
        }
        let index = self.head;
        self.disarm(index);
        Some(index)
    }

    fn link(&mut self, index: u32) -> &mut Link {
        self.links
            .get_mut(index as usize)
            .expect("linked slots lie inside the vector")
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const WAIT: Duration = Duration::from_secs(5);

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn falls_due_exactly_then_and_once() {
        let mut list = DeadlineList::new(WAIT);
        list.arm(3, at(0));
        assert_eq!(list.next_due(), Some(at(5)));
        assert_eq!(list.pop_due(Time::from_nanos(at(5).as_nanos() - 1)), None);
        assert_eq!(list.pop_due(at(5)), Some(3));
        assert_eq!(list.pop_due(at(9)), None);
        assert_eq!(list.next_due(), None);
    }

    proptest! {
        /// Against the obvious way to do it: a vector that is searched.
        #[test]
        fn agrees_with_a_sorted_vector(steps in prop::collection::vec((0u32..12, 0u64..3, 0u8..4), 0..200)) {
            let mut list = DeadlineList::new(WAIT);
            let mut naive: Vec<(Time, u32)> = vec![];
            let mut now = Time::ZERO;
            for (index, advance, action) in steps {
                now = now + Duration::from_secs(advance);
                match action {
                    0 => {
                        if naive.iter().all(|entry| entry.1 != index) {
                            naive.push((now + WAIT, index));
                        }
                        list.arm_if_idle(index, now);
                    }
                    1 => {
                        naive.retain(|entry| entry.1 != index);
                        naive.push((now + WAIT, index));
                        list.arm(index, now);
                    }
                    2 => {
                        naive.retain(|entry| entry.1 != index);
                        list.disarm(index);
                    }
                    _ => {
                        let due = naive.first().filter(|entry| entry.0 <= now).copied();
                        naive.retain(|entry| Some(*entry) != due);
                        prop_assert_eq!(list.pop_due(now), due.map(|entry| entry.1));
                    }
                }
                prop_assert_eq!(list.next_due(), naive.first().map(|entry| entry.0));
                prop_assert_eq!(list.oldest(), naive.first().map(|entry| entry.1));
            }
        }
    }
}
