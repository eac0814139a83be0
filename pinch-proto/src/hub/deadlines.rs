//! Deadlines in O(1): for each class of them a FIFO list threaded through the slots of a slab.
//!
//! All members of a class wait equally long, and time does not run backwards, so the order in which
//! they were armed is the order in which they fall due. No heap, no timer per connection: arming,
//! disarming and finding the next one cost the same for ten connections as for a million.

use alloc::vec::Vec;
use core::time::Duration;

use super::Config;
use super::core::Clock;
use super::shards::Shard;
use crate::Time;
use crate::attended::AttendedClock;
use crate::time::saturating_nanos;

/// A class of deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    Ping,
    Join,
    /// The gap between two ack probes.
    AckProbe,
    /// A queue that could not be read, and is to be read again.
    Read,
    /// By the index of a shard: items for it that have no verdict.
    Resend,
    // From here on, in attended time.
    Pong,
    /// A socket that takes nothing.
    Stall,
    /// An ack probe that is not answered.
    Ack,
    /// A message that has begun.
    Message,
    /// Replies that wait for the store.
    Reply,
    Close,
}

impl Timer {
    /// Whether the process is to attend while it runs.
    pub(super) const fn is_attended(self) -> bool {
        self as usize >= Self::Pong as usize
    }
}

/// The deadlines of all connections, by class and slot.
#[derive(Debug)]
pub(super) struct Deadlines {
    lists: [DeadlineList; 11],
    /// The next one of a class is another since this was reset.
    pub(super) have_changed: bool,
}

impl Deadlines {
    pub(super) fn new(config: &Config, place: &Shard, attended: &AttendedClock) -> Self {
        let grace = attended.grace();
        // In the order of the timers.
        let waits = [
            config.heartbeat_interval,
            config.join_timeout,
            config.ack_probe_interval,
            config.queue.unwrap_or_default().retry_interval,
            place.resend_after.unwrap_or_default(),
            config.pong_timeout + grace,
            config.stall_timeout + grace,
            config.stall_timeout + grace,
            config.message_timeout + grace,
            config.reply_timeout + grace,
            config.close_timeout + grace,
        ];
        Self {
            lists: waits.map(DeadlineList::new),
            have_changed: true,
        }
    }

    fn list(&self, timer: Timer) -> &DeadlineList {
        let list = self.lists.get(timer as usize);
        list.expect("there is a list for each timer")
    }

    /// Changes a list.
    fn with<T>(&mut self, timer: Timer, change: impl FnOnce(&mut DeadlineList) -> T) -> T {
        let list = self.lists.get_mut(timer as usize);
        let list = list.expect("there is a list for each timer");
        let before = list.next_due;
        let result = change(list);
        self.have_changed |= list.next_due != before;
        result
    }

    pub(super) fn arm(&mut self, timer: Timer, slot: u32, clock: &Clock) {
        self.with(timer, |list| list.arm(slot, clock.now_of(timer)));
    }

    pub(super) fn disarm(&mut self, timer: Timer, slot: u32) {
        self.with(timer, |list| list.disarm(slot));
    }

    /// Takes the slot out that has been due for longest.
    pub(super) fn pop_due(&mut self, timer: Timer, clock: &Clock) -> Option<u32> {
        self.with(timer, |list| list.pop_due(clock.now_of(timer)))
    }

    pub(super) fn is_armed(&self, timer: Timer, slot: u32) -> bool {
        self.list(timer).is_armed(slot)
    }

    /// Whether the deadline of a slot has been running for `time`.
    pub(super) fn has_waited(
        &self,
        timer: Timer,
        slot: u32,
        time: Duration,
        clock: &Clock,
    ) -> bool {
        self.list(timer).has_waited(slot, time, clock.now_of(timer))
    }

    /// The slot that waits longest.
    pub(super) fn oldest(&self, timer: Timer) -> Option<u32> {
        self.list(timer).oldest()
    }

    /// The next deadline, by the clock of the timer.
    pub(super) fn next_due(&self, timer: Timer) -> Option<Time> {
        self.list(timer).next_due()
    }

    /// Forgets a connection that is not open any longer; its close deadline stays, and that of replies.
    pub(super) fn disarm_open(&mut self, slot: u32) {
        for timer in [
            Timer::Ping,
            Timer::Join,
            Timer::AckProbe,
            Timer::Read,
            Timer::Pong,
            Timer::Stall,
            Timer::Ack,
        ] {
            self.disarm(timer, slot);
        }
    }
}

/// The end of the list. No slot has this number: see [`super::slab::MAX_SLOTS`].
const END: u32 = u32::MAX;

/// What stands behind a slot that is not in the list. No slot has this number, either.
const UNLINKED: u32 = u32::MAX - 1;

#[derive(Clone, Copy, Debug)]
struct Link {
    previous: u32,
    next: u32,
    due: Time,
}

impl Link {
    const NONE: Self = Self {
        previous: END,
        next: UNLINKED,
        due: Time::ZERO,
    };
}

/// The deadlines of one class, by slot index.
#[derive(Debug)]
pub(super) struct DeadlineList {
    /// In nanoseconds.
    wait: u64,
    links: Vec<Link>,
    head: u32,
    tail: u32,
    /// When the head is due. It is asked for after every input, and lies here for that.
    next_due: Option<Time>,
}

impl DeadlineList {
    /// A class whose members fall due `wait` after they were armed.
    pub(super) fn new(wait: Duration) -> Self {
        Self {
            wait: saturating_nanos(wait),
            links: Vec::new(),
            head: END,
            tail: END,
            next_due: None,
        }
    }

    /// Lets slot `index` fall due one wait from `now`; an earlier deadline of it is forgotten.
    ///
    /// `now` must not lie before the `now` of an earlier call.
    pub(super) fn arm(&mut self, index: u32, now: Time) {
        self.disarm(index);
        let due = now.after(self.wait);
        let tail = core::mem::replace(&mut self.tail, index);
        if self.links.len() <= index as usize {
            self.links.resize(index as usize + 1, Link::NONE);
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

    /// Whether slot `index` has a deadline.
    pub(super) fn is_armed(&self, index: u32) -> bool {
        let link = self.links.get(index as usize);
        link.is_some_and(|link| link.next != UNLINKED)
    }

    /// Whether the deadline of slot `index` has been running for `time` at `now`.
    pub(super) fn has_waited(&self, index: u32, time: Duration, now: Time) -> bool {
        let link = self.links.get(index as usize);
        let link = link.filter(|link| link.next != UNLINKED);
        link.is_some_and(|link| link.due + time <= now.after(self.wait))
    }

    /// Forgets the deadline of slot `index`, if it has one.
    pub(super) fn disarm(&mut self, index: u32) {
        let Some(link) = self.links.get_mut(index as usize) else {
            return;
        };
        if link.next == UNLINKED {
            return;
        }
        let Link { previous, next, .. } = core::mem::replace(link, Link::NONE);
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
    pub(super) const fn next_due(&self) -> Option<Time> {
        self.next_due
    }

    /// The slot that waits longest.
    pub(super) fn oldest(&self) -> Option<u32> {
        self.next_due.map(|_| self.head)
    }

    /// Takes the slot out that has been due for longest at `now`.
    pub(super) fn pop_due(&mut self, now: Time) -> Option<u32> {
        if self.next_due? > now {
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
                    0 | 1 => {
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
