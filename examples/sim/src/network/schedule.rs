//! What happens next, in the order of time, and among events of the same moment in the order in which
//! they were planned.
//!
//! A wheel of short slots holds what is near, so that planning and taking an event costs the same
//! whether a thousand events are planned or a hundred million; a heap holds what is far away.

use core::cmp::{Ordering, Reverse};
use core::mem;
use std::collections::BinaryHeap;

use pinch_proto::Time;

/// A slot is 2²⁰ ns long, about a millisecond.
const SLOT_BITS: u32 = 20;
/// As many slots are near: about a minute.
const SLOTS: u64 = 1 << 16;

/// Events that are planned.
pub(super) struct Schedule<E> {
    /// Those of the slot that time has reached.
    current: BinaryHeap<Reverse<Planned<E>>>,
    /// Which slot that is, counted from the beginning of time.
    slot: u64,
    near: Vec<Vec<Planned<E>>>,
    near_count: usize,
    far: BinaryHeap<Reverse<Planned<E>>>,
    next_number: u64,
}

struct Planned<E> {
    at: u64,
    number: u64,
    event: E,
}

impl<E> Schedule<E> {
    pub(super) fn new() -> Self {
        Self {
            current: BinaryHeap::new(),
            slot: 0,
            near: (0..SLOTS).map(|_| Vec::new()).collect(),
            near_count: 0,
            far: BinaryHeap::new(),
            next_number: 0,
        }
    }

    /// Plans `event` for `at`; for as soon as possible if that is over.
    pub(super) fn push(&mut self, at: Time, event: E) {
        let number = self.next_number;
        self.next_number += 1;
        let planned = Planned {
            at: at.as_nanos(),
            number,
            event,
        };
        self.place(planned);
    }

    fn place(&mut self, planned: Planned<E>) {
        let slot = planned.at >> SLOT_BITS;
        if slot <= self.slot {
            self.current.push(Reverse(planned));
        } else if slot < self.slot + SLOTS {
            self.near_count += 1;
            self.near[Self::index(slot)].push(planned);
        } else {
            self.far.push(Reverse(planned));
        }
    }

    /// The next event, if it is planned for no later than `until`.
    pub(super) fn pop(&mut self, until: Time) -> Option<(Time, E)> {
        let last_slot = until.as_nanos() >> SLOT_BITS;
        while self.current.is_empty() && self.slot < last_slot {
            self.turn(last_slot);
        }
        let Reverse(next) = self.current.peek()?;
        if next.at > until.as_nanos() {
            return None;
        }
        let Reverse(Planned { at, event, .. }) = self.current.pop()?;
        Some((Time::from_nanos(at), event))
    }

    /// Lets time reach the next slot, or where nothing is near, the first of them in which something
    /// happens, but `last` at most.
    fn turn(&mut self, last: u64) {
        self.slot += 1;
        if self.near_count == 0 {
            let next = self
                .far
                .peek()
                .map_or(u64::MAX, |Reverse(next)| next.at >> SLOT_BITS);
            self.slot = self.slot.max(next.min(last));
        }
        while let Some(Reverse(next)) = self.far.peek()
            && next.at >> SLOT_BITS < self.slot + SLOTS
            && let Some(Reverse(planned)) = self.far.pop()
        {
            self.place(planned);
        }
        // The memory goes along: a slot that was busy once need not be so when it comes round.
        let reached = mem::take(&mut self.near[Self::index(self.slot)]);
        self.near_count -= reached.len();
        self.current.extend(reached.into_iter().map(Reverse));
    }

    const fn index(slot: u64) -> usize {
        (slot % SLOTS) as usize
    }
}

impl<E> Planned<E> {
    const fn key(&self) -> (u64, u64) {
        (self.at, self.number)
    }
}

impl<E> PartialEq for Planned<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<E> Eq for Planned<E> {}

impl<E> PartialOrd for Planned<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Planned<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_the_order_of_time_and_then_of_planning() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut schedule = Schedule::new();
        let mut expected = Vec::new();
        let mut now = Time::ZERO;
        let mut taken = Vec::new();
        for number in 0..20_000_u64 {
            let exponent = random.u32(0..40);
            let ahead = random.u64(0..=1 << exponent);
            let at = Time::from_nanos(now.as_nanos() + ahead);
            schedule.push(at, number);
            expected.push((at, number));
            if random.u8(..3) == 0 {
                let until = Time::from_nanos(now.as_nanos() + random.u64(..1 << 34));
                while let Some((at, number)) = schedule.pop(until) {
                    assert!(at <= until);
                    taken.push((at, number));
                }
                now = until;
            }
        }
        while let Some(next) = schedule.pop(Time::from_nanos(u64::MAX >> 1)) {
            taken.push(next);
        }
        expected.sort();
        assert!(taken == expected);
    }
}
