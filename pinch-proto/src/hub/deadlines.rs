//! Deadlines of one class, in O(1): a FIFO list threaded through the slots of a slab.
//!
//! All members of a class wait equally long, and time does not run backwards, so the order in which
//! they were armed is the order in which they fall due. No heap, no timer per connection: arming,
//! disarming and finding the next one cost the same for ten connections as for a million.

use alloc::vec::Vec;
use core::ops::Add;
use core::time::Duration;

use crate::Time;

/// The end of the list. No slot has this number: see [`super::slab::MAX_SLOTS`].
const END: u32 = u32::MAX;

/// What stands behind a slot that is not in the list. No slot has this number, either.
const UNLINKED: u32 = u32::MAX - 1;

#[derive(Clone, Copy, Debug)]
struct Link<T> {
    previous: u32,
    next: u32,
    due: T,
}

impl<T: Default> Link<T> {
    fn none() -> Self {
        Self {
            previous: END,
            next: UNLINKED,
            due: T::default(),
        }
    }
}

/// The deadlines of one class, by slot index; `T` is the clock by which they fall due.
#[derive(Debug)]
pub(super) struct DeadlineList<T = Time> {
    wait: Duration,
    links: Vec<Link<T>>,
    head: u32,
    tail: u32,
    /// When the head is due. It is asked for after every input, and lies here for that.
    next_due: Option<T>,
}

impl<T: Copy + Default + Ord + Add<Duration, Output = T>> DeadlineList<T> {
    /// A class whose members fall due `wait` after they were armed.
    pub(super) const fn new(wait: Duration) -> Self {
        Self {
            wait,
            links: Vec::new(),
            head: END,
            tail: END,
            next_due: None,
        }
    }

    /// Lets slot `index` fall due one wait from `now`; an earlier deadline of it is forgotten.
    ///
    /// `now` must not lie before the `now` of an earlier call.
    pub(super) fn arm(&mut self, index: u32, now: T) {
        self.disarm(index);
        let due = now + self.wait;
        let tail = core::mem::replace(&mut self.tail, index);
        if self.links.len() <= index as usize {
            self.links.resize(index as usize + 1, Link::none());
        }
        *self.link(index) = Link {
            previous: tail,
            next: END,
            due,
        };
        if tail == END {
            self.head = index;
            self.next_due = Some(due);
        } else {
            self.link(tail).next = index;
        }
    }

    /// As [`arm`](Self::arm), but an earlier deadline stays.
    pub(super) fn arm_if_idle(&mut self, index: u32, now: T) {
        if !self.is_armed(index) {
            self.arm(index, now);
        }
    }

    /// Whether slot `index` has a deadline.
    pub(super) fn is_armed(&self, index: u32) -> bool {
        let link = self.links.get(index as usize);
        link.is_some_and(|link| link.next != UNLINKED)
    }

    /// Whether the deadline of slot `index` has been running for `time` at `now`.
    pub(super) fn has_waited(&self, index: u32, time: Duration, now: T) -> bool {
        let link = self.links.get(index as usize);
        let link = link.filter(|link| link.next != UNLINKED);
        link.is_some_and(|link| link.due + time <= now + self.wait)
    }

    /// Forgets the deadline of slot `index`, if it has one.
    pub(super) fn disarm(&mut self, index: u32) {
        let Some(link) = self.links.get_mut(index as usize) else {
            return;
        };
        if link.next == UNLINKED {
            return;
        }
        let Link { previous, next, .. } = core::mem::replace(link, Link::none());
        if next == END {
            self.tail = previous;
        } else {
            self.link(next).previous = previous;
        }
        if previous == END {
            self.head = next;
            self.next_due = self.links.get(next as usize).map(|link| link.due);
        } else {
            self.link(previous).next = next;
        }
    }

    /// The earliest deadline.
    pub(super) const fn next_due(&self) -> Option<T> {
        self.next_due
    }

    /// The slot that waits longest.
    pub(super) fn oldest(&self) -> Option<u32> {
        self.next_due.map(|_| self.head)
    }

    /// Takes the slot out that has been due for longest at `now`.
    pub(super) fn pop_due(&mut self, now: T) -> Option<u32> {
        if self.next_due? > now {
            return None;
        }
        let index = self.head;
        self.disarm(index);
        Some(index)
    }

    fn link(&mut self, index: u32) -> &mut Link<T> {
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
