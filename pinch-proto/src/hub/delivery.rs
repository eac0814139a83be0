//! Where an envelope goes that was accepted: into the recipient's outbox, behind what is being read
//! from its queue, or into the queue; and what becomes of it when the recipient leaves.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use super::backlog::{Backlog, Step};
use super::connection::Connection;
use super::core::Core;
use super::io::{CloseCause, ConnId};
use super::outbox::{Acked, ENVELOPE_OVERHEAD, Queued};
use super::rejection::RejectReason;
use super::routing::{Author, Fate};
use super::shares::Claim;
use super::{Hub, SlowReader};
use crate::EnvelopeView;
use crate::message::SealedEnvelope;
use crate::queue::{Operation, Seq};
use crate::wire::MessageType;

/// Whether an envelope may be answered by a DELIVERY_CONFIRM: all but those, lest confirmations of
/// confirmations go on for ever without a limit.
pub(super) fn is_confirmable(view: &EnvelopeView<'_>) -> bool {
    view.message_type() != Some(MessageType::DeliveryConfirm)
}

impl Hub {
    /// Accepts an envelope for a connected recipient, or rejects it. With `discard`, nothing comes of
    /// it but what its sender hears.
    pub(super) fn deliver(
        &mut self,
        author: Author,
        recipient: ConnId,
        envelope: &mut SealedEnvelope,
        discard: bool,
    ) -> Fate {
        let bytes = envelope.bytes.len();
        let needed = bytes + ENVELOPE_OVERHEAD;
        let Some(mut connection) = self.connections.get_mut(recipient) else {
            return Fate::Done;
        };
        let held = connection.held_bytes();
        let mut has_memory = self.core.memory_left(held) >= needed;
        if !has_memory {
            has_memory = self.make_room(needed, held);
            let Some(same) = self.connections.open_mut(recipient) else {
                // It had to give way itself.
                return self.take_for_offline(author, envelope, discard);
            };
            connection = same;
        }
        let core = &mut self.core;
        let backlog = connection.backlog.as_ref();
        let (count, behind) = backlog.map_or((0, 0), |backlog| backlog.deferred());
        let outbox = &connection.outbox;
        let has_room = outbox.has_room((count + 1, behind + bytes), &core.outbox_limits);
        let fits = has_memory && has_room;
        // It may come back when the connection is cut: for that its place is reserved.
        let place = core.place_of(author, &envelope.view());
        let claim = core.config.queue.map_or(Claim::Full, |queue| {
            let (shares, to) = (&core.shares, connection.place);
            shares.claim(place, to, bytes, &queue.limits)
        });
        match &connection.backlog {
            None if !fits => return self.overflow(author, recipient, envelope, has_room, discard),
            None if claim == Claim::Unknown => {
                return self.overtake(author, recipient, envelope, discard);
            }
            // Behind a read it may yet have to be appended, so it needs a place.
            Some(backlog) if !fits || claim != Claim::Granted || !backlog.can_defer() => {
                if !discard {
                    core.spill(connection);
                }
                return self.enqueue(author, Some(recipient), envelope, discard);
            }
            None | Some(_) => {}
        }
        if discard {
            core.stats.blocked += 1;
            return Fate::Done;
        }
        let reserved = claim == Claim::Granted;
        if reserved {
            core.shares.reserve(place, connection.place, bytes);
        }
        let queued = Queued {
            seq: core.next_seq,
            stored: false,
            reserved,
            sender: place,
            confirmable: is_confirmable(&envelope.view()),
            message: core::mem::take(&mut envelope.bytes),
        };
        match &mut connection.backlog {
            None => connection.outbox.push(queued, &mut core.pool),
            Some(backlog) => backlog.defer(queued),
        }
        core.next_seq = Seq(core.next_seq.0 + 1);
        core.stats.accepted += 1;
        core.stats.queued += 1;
        core.stats.queued_bytes += bytes as u64;
        core.wake(connection);
        Fate::Done
    }

    /// An envelope comes for a recipient without a backlog for whom there is no room.
    fn overflow(
        &mut self,
        author: Author,
        recipient: ConnId,
        envelope: &mut SealedEnvelope,
        outbox_has_room: bool,
        discard: bool,
    ) -> Fate {
        let core = &mut self.core;
        let has_queue = core.config.queue.is_some();
        match core.config.slow_reader {
            SlowReader::Spill if has_queue => self.overtake(author, recipient, envelope, discard),
            SlowReader::Disconnect if !outbox_has_room => {
                if !discard {
                    core.stats.stalls += 1;
                    self.close(recipient, CloseCause::TooSlow);
                }
                self.take_for_offline(author, envelope, discard)
            }
            SlowReader::Spill | SlowReader::Refuse | SlowReader::Disconnect if outbox_has_room => {
                core.stats.refused_memory += 1;
                let recipient = self.connections.get(recipient);
                let held = recipient.map_or(0, Connection::held_bytes);
                let limit = core.memory_limit(held);
                Fate::Rejected(RejectReason::OutOfMemory { limit })
            }
            SlowReader::Spill | SlowReader::Refuse | SlowReader::Disconnect => {
                core.stats.refused_full += 1;
                let (bytes, count) = (core.config.outbox_bytes, core.config.outbox_count);
                Fate::Rejected(RejectReason::OutboxFull { bytes, count })
            }
        }
    }

    /// Puts an envelope into the queue of a recipient without a backlog, which is read from then on.
    fn overtake(
        &mut self,
        author: Author,
        recipient: ConnId,
        envelope: &mut SealedEnvelope,
        discard: bool,
    ) -> Fate {
        let Self { connections, core } = self;
        let after = core.next_seq.0.checked_sub(1).map(Seq);
        if !discard && let Some(connection) = connections.get_mut(recipient) {
            connection.backlog = Some(Box::new(Backlog::behind(after)));
            core.stats.backlogged += 1;
        }
        let fate = self.enqueue(author, Some(recipient), envelope, discard);
        if !discard {
            self.read_on(recipient);
        }
        fate
    }

    /// Accepts an envelope for a recipient that is not connected, or rejects it.
    pub(super) fn take_for_offline(
        &mut self,
        author: Author,
        envelope: &mut SealedEnvelope,
        discard: bool,
    ) -> Fate {
        if self.core.config.queue.is_some() {
            return self.enqueue(author, None, envelope, discard);
        }
        self.core.stats.refused_offline += 1;
        Fate::Rejected(RejectReason::Offline)
    }

    /// Gives back what waits for a connection: to the recipient's queue; without one, its senders are
    /// told.
    pub(super) fn requeue_outbox(&mut self, conn: ConnId) {
        let Self { connections, core } = self;
        let Some(connection) = connections.get_mut(conn) else {
            return;
        };
        let mut waiting = connection.outbox.take_waiting();
        if let Some(mut backlog) = connection.backlog.take() {
            waiting.append(&mut backlog.take_deferred());
            core.stats.backlogged -= 1;
            if matches!(backlog.step, Step::Reading { .. }) {
                core.abandoned_reads.insert(connection.address.clone());
            }
        }
        core.leave_outbox(&waiting);
        if core.config.queue.is_some() {
            core.requeue(connection, waiting, false);
        } else {
            core.stats.returned += waiting.len() as u64;
            self.reject_all(&waiting, RejectReason::Left);
        }
    }

    /// Gives back what is in flight to a connection, in the same way.
    pub(super) fn requeue_unacked(&mut self, conn: ConnId) {
        let Self { connections, core } = self;
        let Some(connection) = connections.get_mut(conn) else {
            return;
        };
        core.stats.in_flight_bytes -= connection.outbox.in_flight_bytes() as u64;
        let unacked = connection.outbox.take_in_flight();
        core.stats.in_flight -= unacked.len() as u64;
        if core.config.queue.is_some() {
            core.requeue(connection, unacked, false);
        } else {
            core.stats.unconfirmed += unacked.len() as u64;
            self.reject_all(&unacked, RejectReason::Unacked);
        }
    }

    /// Tells the senders of `envelopes`, those of them who are there, what became of them.
    fn reject_all(&mut self, envelopes: &VecDeque<Queued>, reason: RejectReason) {
        for queued in envelopes {
            self.report_rejection(None, &queued.message, reason);
        }
    }
}

impl Core {
    /// A peer has acknowledged envelopes: the store can forget those that it has.
    pub(super) fn on_acked(&mut self, connection: &Connection, acked: Acked) {
        self.stats.delivered += acked.count;
        self.stats.in_flight -= acked.count;
        self.stats.in_flight_bytes -= acked.bytes as u64;
        if let Some(through) = acked.stored {
            let recipient = connection.address.clone();
            self.upkeep(Operation::Remove { recipient, through });
        }
    }

    /// Takes envelopes out of the books of what waits for connections.
    pub(super) fn leave_outbox(&mut self, waiting: &VecDeque<Queued>) {
        self.stats.queued -= waiting.len() as u64;
        self.stats.queued_bytes -= waiting
            .iter()
            .map(|queued| queued.message.len() as u64)
            .sum::<u64>();
    }
}
