//! What one connection was given and has not confirmed.
//!
//! The protocol has no acknowledgement, but every peer answers pings, and TCP keeps order: so a
//! ping is a probe, and its pong says that everything before it has arrived. Envelopes are kept
//! here until then. When to mark is decided by the connection; this keeps the books.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use super::outbox::{Queued, shrink};
use super::spares::Spares;
use crate::queue::Seq;

/// What a pong has confirmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Acked {
    pub(super) count: u64,
    pub(super) bytes: usize,
    /// The last of them that the store can forget, and with it all before.
    pub(super) stored: Option<Seq>,
}

impl Acked {
    fn add(&mut self, queued: &Queued) {
        self.count += 1;
        self.bytes += queued.message.len();
        if queued.stored {
            self.stored = Some(queued.seq);
        }
    }
}

/// A ping, and how many envelopes went before it.
#[derive(Clone, Copy, Debug)]
struct AckProbe {
    number: u64,
    before: u64,
}

/// The books, while there is something in them.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    envelopes: VecDeque<Queued>,
    bytes: usize,
    probes: VecDeque<AckProbe>,
    /// How many were confirmed since the ledger was opened.
    confirmed: u64,
    /// How many, from the first on, lie before a probe.
    probed: u64,
    /// Bytes behind the last probe.
    unprobed_bytes: usize,
}

impl Ledger {
    /// How many envelopes it has memory for, or probes.
    pub(super) fn room(&self) -> usize {
        self.envelopes.capacity().max(self.probes.capacity())
    }

    /// Makes an empty ledger ready for others.
    pub(super) fn reopen(&mut self) {
        self.envelopes.clear();
        self.probes.clear();
        (self.bytes, self.unprobed_bytes) = (0, 0);
        (self.confirmed, self.probed) = (0, 0);
    }
}

/// Envelopes that were handed out, in order. If there are none, it owns no memory.
#[derive(Debug, Default)]
pub(super) struct Unacked(Option<Box<Ledger>>);

impl Unacked {
    /// Keeps an envelope that is handed out.
    pub(super) fn push(&mut self, queued: Queued, spares: &mut Spares) {
        let ledger = self.0.get_or_insert_with(|| spares.take_ledger());
        ledger.bytes += queued.message.len();
        ledger.unprobed_bytes += queued.message.len();
        ledger.envelopes.push_back(queued);
    }

    /// The ping `number` is handed out: it marks what was handed out before.
    pub(super) fn probe(&mut self, number: u64) {
        if let Some(ledger) = &mut self.0 {
            let before = ledger.confirmed + ledger.envelopes.len() as u64;
            if before > ledger.probed {
                ledger.probes.push_back(AckProbe { number, before });
                ledger.probed = before;
                ledger.unprobed_bytes = 0;
            }
        }
    }

    /// The pong of the ping `number` came, probe or not. `release` gets each envelope that it
    /// confirms.
    pub(super) fn ack(
        &mut self,
        number: u64,
        spares: &mut Spares,
        mut release: impl FnMut(&Queued),
    ) -> Acked {
        let Some(ledger) = &mut self.0 else {
            return Acked::default();
        };
        // A peer may answer the last of several pings only (RFC 6455, section 5.5.3).
        let answered = ledger
            .probes
            .partition_point(|probe| probe.number <= number);
        let probe = ledger.probes.drain(..answered).next_back();
        let count = probe.map_or(0, |probe| probe.before - ledger.confirmed);
        let mut confirmed = Acked::default();
        for queued in (0..count).map_while(|_| ledger.envelopes.pop_front()) {
            confirmed.add(&queued);
            release(&queued);
        }
        shrink(&mut ledger.envelopes);
        ledger.confirmed += confirmed.count;
        ledger.bytes -= confirmed.bytes;
        if let Some(ledger) = self.0.take_if(|ledger| ledger.envelopes.is_empty()) {
            spares.keep_ledger(ledger);
        }
        confirmed
    }

    /// All of them are acknowledged, ping or not. `release` gets each of them.
    pub(super) fn ack_all(
        &mut self,
        spares: &mut Spares,
        mut release: impl FnMut(&Queued),
    ) -> Acked {
        let mut confirmed = Acked::default();
        if let Some(mut ledger) = self.0.take() {
            for queued in ledger.envelopes.drain(..) {
                confirmed.add(&queued);
                release(&queued);
            }
            spares.keep_ledger(ledger);
        }
        confirmed
    }

    /// Takes all of them, in order.
    pub(super) fn take(&mut self) -> VecDeque<Queued> {
        self.0
            .take()
            .map(|ledger| ledger.envelopes)
            .unwrap_or_default()
    }

    /// The number of the last ping that is unanswered and has something in flight before it.
    pub(super) fn last_probe(&self) -> Option<u64> {
        let probe = self.0.as_ref().and_then(|ledger| ledger.probes.back());
        probe.map(|probe| probe.number)
    }

    /// Whether some lie behind the last probe.
    pub(super) fn has_unprobed(&self) -> bool {
        self.unprobed_count() > 0
    }

    /// How many lie behind the last probe.
    pub(super) fn unprobed_count(&self) -> u64 {
        self.0.as_ref().map_or(0, |ledger| {
            ledger.confirmed + ledger.envelopes.len() as u64 - ledger.probed.max(ledger.confirmed)
        })
    }

    /// The bytes of those.
    pub(super) fn unprobed_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |ledger| ledger.unprobed_bytes)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |ledger| ledger.envelopes.len())
    }

    /// The bytes of all of them.
    pub(super) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |ledger| ledger.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::shares::NO_PLACE;

    fn queued(text: &'static str) -> Queued {
        Queued {
            seq: Seq(text.len() as u64),
            stored: false,
            reserved: false,
            sender: NO_PLACE,
            confirmable: true,
            message: text.into(),
        }
    }

    fn filled(messages: &[&'static str]) -> Unacked {
        let mut unacked = Unacked::default();
        for message in messages {
            unacked.push(queued(message), &mut Spares::default());
        }
        unacked
    }

    #[test]
    fn a_pong_confirms_what_went_before_its_ping_and_nothing_else() {
        let mut unacked = filled(&["1", "22"]);
        unacked.probe(7);
        unacked.push(queued("333"), &mut Spares::default());
        assert_eq!((unacked.bytes(), unacked.unprobed_bytes()), (6, 3));
        assert_eq!(
            unacked.ack(6, &mut Spares::default(), |_| ()).count,
            0,
            "that ping went before"
        );
        let confirmed = Acked {
            count: 2,
            bytes: 3,
            stored: None,
        };
        assert_eq!(unacked.ack(7, &mut Spares::default(), |_| ()), confirmed);
        assert_eq!(
            unacked.ack(7, &mut Spares::default(), |_| ()).count,
            0,
            "it was confirmed"
        );
        assert!(unacked.has_unprobed());
        assert_eq!(unacked.take(), [queued("333")]);
    }

    #[test]
    fn a_later_pong_speaks_for_the_earlier_ones() {
        let mut unacked = filled(&["1"]);
        unacked.probe(1);
        unacked.push(queued("2"), &mut Spares::default());
        unacked.probe(2);
        unacked.push(queued("3"), &mut Spares::default());
        unacked.probe(5);
        assert_eq!(unacked.ack(2, &mut Spares::default(), |_| ()).count, 2);
        assert_eq!(unacked.ack(1, &mut Spares::default(), |_| ()).count, 0);
        assert_eq!(unacked.ack(5, &mut Spares::default(), |_| ()).count, 1);
        assert_eq!(unacked.bytes(), 0);
    }

    #[test]
    fn a_ping_with_nothing_new_before_it_needs_no_marker() {
        let mut unacked = filled(&["1"]);
        unacked.probe(1);
        unacked.probe(2);
        assert!(!unacked.has_unprobed());
        assert_eq!(unacked.0.as_ref().unwrap().probes.len(), 1);
        assert_eq!(unacked.ack(2, &mut Spares::default(), |_| ()).count, 1);
    }

    #[test]
    fn the_last_stored_one_among_the_confirmed_is_named() {
        let stored = |text| Queued {
            stored: true,
            ..queued(text)
        };
        let mut unacked = Unacked::default();
        unacked.push(stored("1"), &mut Spares::default());
        unacked.push(stored("22"), &mut Spares::default());
        unacked.push(queued("333"), &mut Spares::default());
        unacked.probe(1);
        unacked.push(stored("4444"), &mut Spares::default());
        assert_eq!(
            unacked.ack(1, &mut Spares::default(), |_| ()).stored,
            Some(Seq(2))
        );
        unacked.probe(2);
        assert_eq!(
            unacked.ack(2, &mut Spares::default(), |_| ()).stored,
            Some(Seq(4))
        );
        assert_eq!(
            unacked.ack(2, &mut Spares::default(), |_| ()),
            Acked::default()
        );
    }

    #[test]
    fn nothing_unconfirmed_owns_no_memory() {
        let mut unacked = filled(&["1"]);
        unacked.probe(1);
        unacked.ack(1, &mut Spares::default(), |_| ());
        assert!(unacked.0.is_none());
        unacked.probe(2);
        assert!(unacked.0.is_none());
    }
}
