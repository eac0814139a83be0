//! What one shard of a relay says to another, and one end of the link between two of them.
//!
//! A bus between shards may delay, reorder, lose and duplicate. So what goes over a link is
//! numbered: the receiver takes it in order and once, and answers each number with a verdict when
//! the fate is settled; the sender keeps count of it until then. Where nothing is lost or
//! duplicated, as between threads, neither side keeps more than that
//! ([`Shard::resend_after`](super::Shard::resend_after)).

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::ops::Range;

use bytes::Bytes;

use super::outbox::ENVELOPE_OVERHEAD;
use super::unsettled::Origin;
use crate::Message;

/// Maximum number of items that one timeout sends again.
const RESENT_AT_ONCE: usize = 256;

/// One message from the hub of one shard to that of another: what
/// [`Output::Forward`](super::Output::Forward) carries to
/// [`Input::Forwarded`](super::Input::Forwarded).
#[derive(Clone, Debug, PartialEq)]
pub enum Parcel {
    /// Something that is answered by a [`Verdict`](Self::Verdict).
    Item {
        /// The [instance](super::Shard::instance) of the hub that sends it.
        instance: u64,
        /// Its number on this link.
        number: u64,
        /// The first number that had no verdict when this was sent.
        oldest: u64,
        /// What had no verdict before it has a number below this one. It is not taken before that.
        needs: u64,
        /// What it is.
        item: Item,
    },
    /// The fate of items is settled, as far as their sender waits for it.
    Verdict {
        /// The instance of the hub that sent them.
        instance: u64,
        /// The number of the first of them.
        first: u64,
        /// The number of the last.
        last: u64,
        /// What became of them.
        verdict: Verdict,
    },
}

/// What has become of an item.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It was accepted.
    Accepted,
    /// It waits for the store of the other shard, which counts it among what that has not answered.
    /// Another verdict follows. Only said where nothing has to be sent again.
    Taken,
    /// It was rejected; this envelope tells its sender why.
    Rejected(Bytes),
}

/// What goes over a link under a number.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// An envelope for an agent of the other shard.
    Envelope {
        /// The envelope.
        message: Message,
        /// The lower half of the hash of its recipient's address, under the seed of the shards.
        hash: u32,
    },
    /// An envelope of the relay for an agent of the other shard: one that it sent was accepted, and
    /// does not arrive after all.
    Rejection {
        /// The envelope.
        message: Bytes,
        /// It is dropped if too many rejections wait for that agent.
        droppable: bool,
    },
}

impl Item {
    /// What it counts for in the bytes of all links.
    pub(super) fn cost(&self) -> usize {
        let bytes = match self {
            Self::Envelope { message, .. } => message.bytes().len(),
            Self::Rejection { message, .. } => message.len(),
        };
        bytes + ENVELOPE_OVERHEAD
    }
}

/// Names an item that came over a link, for its verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ItemId {
    /// The index of the shard that has sent it.
    pub(super) shard: u16,
    pub(super) instance: u64,
    pub(super) number: u64,
}

/// What becomes of an item that has come.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Receipt {
    /// It is to be dealt with.
    New,
    /// It came before, and this was the verdict.
    Again(Verdict),
    /// It came before and has no verdict yet, or something before it is missing: the sender will
    /// send it again.
    Ignored,
}

#[derive(Debug)]
struct Sent {
    /// Only where it may have to be sent again.
    item: Option<Item>,
    bytes: usize,
    origin: Option<Origin>,
    is_answered: bool,
}

/// One end of a link to another shard.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// The number of the first of `sent`.
    oldest: u64,
    /// What was sent, from the first on that has no verdict and was not taken.
    sent: VecDeque<Sent>,
    /// Those before and among them that wait for the store of the other shard.
    taken: BTreeMap<u64, Option<Origin>>,
    /// Number of `sent` without a verdict.
    open: usize,
    bytes: usize,
    /// What is to be handed to the other hub.
    pub(super) outgoing: Vec<Parcel>,
    /// The latest instance of the other hub from which something came.
    peer: Option<u64>,
    /// The number of the next item from there.
    expected: u64,
    /// The verdicts of the items before that, where they may be asked for again; `None` while one
    /// is open.
    verdicts: VecDeque<Option<Verdict>>,
}

impl Link {
    /// Bytes of what was sent and has no verdict, with an overhead for each.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of items whose fate is open.
    pub(super) fn unanswered(&self) -> usize {
        self.open + self.taken.len()
    }

    /// Hands something to the other hub; returns whether it is the first since that took everything.
    pub(super) fn hand_over(&mut self, parcel: Parcel) -> bool {
        self.outgoing.push(parcel);
        self.outgoing.len() == 1
    }

    /// Sends `item`, which `origin` waits for; it is kept if it may have to be sent again. Returns what
    /// [`hand_over`](Self::hand_over) does.
    pub(super) fn send(
        &mut self,
        instance: u64,
        item: Item,
        origin: Option<Origin>,
        keeps: bool,
    ) -> bool {
        let number = self.oldest + self.sent.len() as u64;
        let bytes = item.cost();
        self.bytes += bytes;
        self.open += 1;
        self.sent.push_back(Sent {
            item: keeps.then(|| item.clone()),
            bytes,
            origin,
            is_answered: false,
        });
        let oldest = self.oldest;
        self.hand_over(Parcel::Item {
            instance,
            number,
            oldest,
            needs: number,
            item,
        })
    }

    /// Sends again what has waited longest for its verdict.
    pub(super) fn resend(&self, instance: u64) -> impl Iterator<Item = Parcel> {
        let mut needs = self.oldest;
        let numbered = (self.oldest..).zip(&self.sent);
        let unanswered = numbered.filter(|(_, sent)| !sent.is_answered);
        unanswered
            .take(RESENT_AT_ONCE)
            .filter_map(move |(number, sent)| {
                let parcel = Parcel::Item {
                    instance,
                    number,
                    oldest: self.oldest,
                    needs: core::mem::replace(&mut needs, number + 1),
                    item: sent.item.clone()?,
                };
                Some(parcel)
            })
    }

    /// The numbers from `first` to `last` of what may be open.
    pub(super) fn numbers(&self, first: u64, last: u64) -> Range<u64> {
        let taken = self.taken.first_key_value().map(|(number, _)| *number);
        let oldest = taken.map_or(self.oldest, |taken| taken.min(self.oldest));
        let end = self.oldest + self.sent.len() as u64;
        first.max(oldest)..last.saturating_add(1).min(end)
    }

    /// An item waits for the store of the other shard: returns who waits for it, if that is news.
    pub(super) fn take(&mut self, number: u64) -> Option<Option<Origin>> {
        let origin = self.close(number, 0)?;
        self.taken.insert(number, origin);
        Some(origin)
    }

    /// The fate of an item is settled: returns who waits for it, and whether it had been taken
    /// before.
    pub(super) fn answer(&mut self, number: u64) -> Option<(Option<Origin>, bool)> {
        if let Some(origin) = self.taken.remove(&number) {
            return Some((origin, true));
        }
        // What lies in the list still counts as much as that takes.
        let origin = self.close(number, ENVELOPE_OVERHEAD)?;
        Some((origin, false))
    }

    /// Closes an item among those that were sent; `kept` bytes count as long as it is in the list.
    fn close(&mut self, number: u64, kept: usize) -> Option<Option<Origin>> {
        let at = usize::try_from(number.checked_sub(self.oldest)?).ok()?;
        let sent = self.sent.get_mut(at).filter(|sent| !sent.is_answered)?;
        sent.is_answered = true;
        sent.item = None;
        let origin = sent.origin.take();
        let kept = kept.min(sent.bytes);
        self.bytes -= core::mem::replace(&mut sent.bytes, kept) - kept;
        self.open -= 1;
        while self.sent.front().is_some_and(|sent| sent.is_answered)
            && let Some(sent) = self.sent.pop_front()
        {
            self.bytes -= sent.bytes;
            self.oldest += 1;
        }
        Some(origin)
    }

    /// An item has come from the other side.
    pub(super) fn receive(
        &mut self,
        instance: u64,
        number: u64,
        oldest: u64,
        needs: u64,
        keeps: bool,
    ) -> Receipt {
        if self.peer < Some(instance) {
            self.peer = Some(instance);
            self.expected = 0;
            self.verdicts.clear();
        } else if self.peer > Some(instance) {
            return Receipt::Ignored;
        }
        // What has a verdict is not asked for any more.
        let first = self.expected - self.verdicts.len() as u64;
        for _ in first..oldest.min(self.expected) {
            self.verdicts.pop_front();
        }
        self.expected = self.expected.max(oldest);
        if number < self.expected {
            let verdict = self.kept_verdict(number).and_then(|kept| kept.clone());
            return verdict.map_or(Receipt::Ignored, Receipt::Again);
        }
        if self.expected < needs {
            return Receipt::Ignored;
        }
        if keeps {
            // Those between have verdicts of an earlier instance of this hub.
            let between = (self.expected..number).map(|_| Some(Verdict::Accepted));
            self.verdicts.extend(between.chain([None]));
        }
        self.expected = number + 1;
        Receipt::New
    }

    /// The fate of an item is settled: keeps the verdict, if it may be asked for again.
    pub(super) fn settle(&mut self, instance: u64, number: u64, verdict: &Verdict) {
        if self.peer == Some(instance)
            && let Some(kept) = self.kept_verdict(number)
        {
            *kept = Some(verdict.clone());
        }
    }

    /// The verdict of an item that has come, as far as it may be asked for again.
    fn kept_verdict(&mut self, number: u64) -> Option<&mut Option<Verdict>> {
        let from_end = usize::try_from(self.expected.checked_sub(number)?).ok()?;
        let at = self.verdicts.len().checked_sub(from_end)?;
        self.verdicts.get_mut(at)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::hub::ConnId;

    fn envelope(number: u64) -> Item {
        let message = Message::from(Bytes::copy_from_slice(&number.to_be_bytes()));
        Item::Envelope { message, hash: 0 }
    }

    fn number_of(item: &Item) -> u64 {
        let Item::Envelope { message, .. } = item else {
            panic!("only envelopes are sent");
        };
        u64::from_be_bytes(message.bytes()[..].try_into().unwrap())
    }

    fn origin(span: u64) -> Origin {
        let key = crate::hub::Key {
            index: 0,
            generation: 0,
        };
        let conn = ConnId(key);
        Origin::Conn { conn, span }
    }

    fn verdict(number: u64) -> Verdict {
        if number.is_multiple_of(3) {
            Verdict::Rejected(Bytes::copy_from_slice(&number.to_be_bytes()))
        } else {
            Verdict::Accepted
        }
    }

    /// Two hubs, of which one sends and the other one receives, and what lies on the bus between
    /// them.
    struct World {
        sender: Link,
        receiver: Link,
        /// The instance of the receiver, whose restarts make it forget.
        sent: u64,
        bus: Vec<Parcel>,
        /// What the receiver has taken and not settled.
        open: Vec<(u64, u64)>,
        /// What it has taken since it began.
        taken: Vec<u64>,
        /// The verdict of each number that the sender has heard.
        heard: Vec<Option<Verdict>>,
    }

    impl World {
        fn new() -> Self {
            Self {
                sender: Link::default(),
                receiver: Link::default(),
                sent: 0,
                bus: vec![],
                open: vec![],
                taken: vec![],
                heard: vec![],
            }
        }

        fn send(&mut self) {
            let origin = Some(origin(self.sent));
            self.sender.send(1, envelope(self.sent), origin, true);
            self.sent += 1;
            self.heard.push(None);
            self.bus.append(&mut self.sender.outgoing);
        }

        fn arrive(&mut self, parcel: Parcel) {
            match parcel {
                Parcel::Item {
                    instance,
                    number,
                    oldest,
                    needs,
                    item,
                } => match self.receiver.receive(instance, number, oldest, needs, true) {
                    Receipt::New => {
                        assert_eq!(number_of(&item), number);
                        self.taken.push(number);
                        self.open.push((instance, number));
                    }
                    Receipt::Again(verdict) => {
                        let (first, last) = (number, number);
                        self.bus.push(Parcel::Verdict {
                            instance,
                            first,
                            last,
                            verdict,
                        });
                    }
                    Receipt::Ignored => {}
                },
                Parcel::Verdict {
                    first,
                    last,
                    verdict,
                    ..
                } => {
                    for number in self.sender.numbers(first, last) {
                        if let Some(waits) = self.sender.answer(number) {
                            assert_eq!(waits, (Some(origin(number)), false));
                            let heard = &mut self.heard[usize::try_from(number).unwrap()];
                            assert_eq!(heard.replace(verdict.clone()), None);
                        }
                    }
                }
            }
        }

        fn settle(&mut self, nth: usize) {
            if self.open.is_empty() {
                return;
            }
            let (instance, number) = self.open.remove(nth % self.open.len());
            let verdict = verdict(number);
            self.receiver.settle(instance, number, &verdict);
            self.bus.push(Parcel::Verdict {
                instance,
                first: number,
                last: number,
                verdict,
            });
        }
    }

    proptest! {
        /// Whatever the bus does, and however often the receiver begins anew, each number gets its
        /// own verdict, and nothing is taken twice or out of order by one that lives.
        #[test]
        fn a_bad_bus_changes_nothing(
            steps in prop::collection::vec((0_u8..12, any::<prop::sample::Index>()), 0..300),
        ) {
            let mut world = World::new();
            for (action, index) in steps {
                let on_bus = world.bus.len();
                match action {
                    0..=2 => world.send(),
                    3..=6 if on_bus > 0 => {
                        let parcel = world.bus.remove(index.index(on_bus));
                        world.arrive(parcel);
                    }
                    7 if on_bus > 0 => {
                        let parcel = world.bus[index.index(on_bus)].clone();
                        world.arrive(parcel);
                    }
                    8 if on_bus > 0 => drop(world.bus.remove(index.index(on_bus))),
                    9 => world.settle(index.index(64)),
                    10 => world.bus.extend(world.sender.resend(1)),
                    11 if index.index(20) == 0 => {
                        world.receiver = Link::default();
                        world.open.clear();
                        world.taken.clear();
                    }
                    _ => {}
                }
                prop_assert!(world.taken.is_sorted_by(|one, other| one < other));
            }
            // From here on the bus is a good one.
            world.bus.clear();
            while world.sender.unanswered() > 0 {
                let again: Vec<_> = world.sender.resend(1).collect();
                again.into_iter().for_each(|parcel| world.arrive(parcel));
                while !world.open.is_empty() {
                    world.settle(0);
                }
                core::mem::take(&mut world.bus).into_iter().for_each(|parcel| world.arrive(parcel));
            }
            for (number, heard) in (0..).zip(&world.heard) {
                prop_assert_eq!(heard, &Some(verdict(number)));
            }
            prop_assert_eq!((world.sender.bytes(), world.sender.sent.len()), (0, 0));
            prop_assert!(world.receiver.verdicts.len() as u64 <= world.sent);
        }
    }

    #[test]
    fn an_answer_out_of_order_frees_the_bytes_and_keeps_the_place() {
        let mut link = Link::default();
        for number in 0..3 {
            link.send(0, envelope(number), Some(origin(number)), false);
        }
        assert_eq!(link.bytes(), 3 * (8 + ENVELOPE_OVERHEAD));
        assert_eq!(link.answer(1), Some((Some(origin(1)), false)));
        assert_eq!(link.bytes(), 3 * ENVELOPE_OVERHEAD + 2 * 8);
        assert_eq!(link.answer(1), None, "it has been answered");
        assert_eq!(link.numbers(0, u64::MAX), 0..3);
        link.answer(0);
        assert_eq!(
            (link.bytes(), link.numbers(0, 9)),
            (8 + ENVELOPE_OVERHEAD, 2..3)
        );
        link.answer(2);
        assert_eq!((link.bytes(), link.unanswered()), (0, 0));
    }

    #[test]
    fn what_waits_for_the_other_store_takes_nothing_of_the_link() {
        let mut link = Link::default();
        for number in 0..3 {
            link.send(0, envelope(number), Some(origin(number)), false);
        }
        assert_eq!(link.take(0), Some(Some(origin(0))));
        assert_eq!(link.take(0), None, "it has been taken");
        link.answer(1);
        assert_eq!(link.bytes(), 8 + ENVELOPE_OVERHEAD);
        assert_eq!((link.unanswered(), link.numbers(0, 9)), (2, 0..3));
        assert_eq!(link.answer(0), Some((Some(origin(0)), true)));
        assert_eq!((link.unanswered(), link.numbers(0, 9)), (1, 2..3));
    }

    #[test]
    fn an_earlier_instance_is_not_heard_any_more() {
        let mut link = Link::default();
        assert_eq!(link.receive(1, 0, 0, 0, true), Receipt::New);
        assert_eq!(link.receive(2, 0, 0, 0, true), Receipt::New);
        assert_eq!(link.receive(1, 1, 0, 1, true), Receipt::Ignored);
        // A verdict for the one before is not one for this.
        link.settle(1, 0, &Verdict::Accepted);
        assert_eq!(link.receive(2, 0, 0, 0, true), Receipt::Ignored);
        link.settle(2, 0, &Verdict::Accepted);
        assert_eq!(
            link.receive(2, 0, 0, 0, true),
            Receipt::Again(Verdict::Accepted)
        );
    }

    #[test]
    fn a_receiver_that_keeps_nothing_takes_each_number_once() {
        let mut link = Link::default();
        assert_eq!(link.receive(1, 0, 0, 0, false), Receipt::New);
        assert_eq!(link.receive(1, 0, 0, 0, false), Receipt::Ignored);
        assert_eq!(link.receive(1, 1, 0, 1, false), Receipt::New);
        assert!(link.verdicts.is_empty());
    }
}
