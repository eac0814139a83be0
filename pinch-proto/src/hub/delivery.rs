//! Where an envelope goes that was accepted: into the recipient's outbox, behind what is being read
//! from its queue, or into the queue; and what becomes of it when the recipient leaves.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use bytes::Bytes;

use super::backlog::{Backlog, Step};
use super::connection::Connection;
use super::io::{CloseCause, ConnId};
use super::outbox::{ENVELOPE_OVERHEAD, Queued};
use super::routing::{Author, Fate};
use super::shares::Claim;
use super::unconfirmed::Confirmed;
use super::undeliverable::Undeliverable;
use super::{Delivery, Hub, SlowReader};
use crate::message::SealedEnvelope;
use crate::queue::{Operation, Seq};
use crate::wire::MessageType;
use crate::{Address, EnvelopeView};

/// How many of `all` bytes may be in use before nothing more is held for a connection for which the
/// hub holds `held` already: a quarter is for those for which it holds nothing.
const fn memory_limit(all: usize, held: usize) -> usize {
    all - if held > 0 { all / 4 } else { 0 }
}

/// Whether an envelope may be answered by a DELIVERY_CONFIRM: all but those, lest confirmations of
/// confirmations go on for ever without a limit.
pub(super) fn is_confirmable(view: &EnvelopeView<'_>) -> bool {
    view.message_type() != Some(MessageType::DeliveryConfirm)
}

impl Hub {
    /// Accepts an envelope for a connected recipient, or refuses it. With `discard`, nothing comes of
    /// it but what its sender hears.
    pub(super) fn deliver(
        &mut self,
        author: Author,
        recipient: ConnId,
        envelope: &SealedEnvelope,
        discard: bool,
    ) -> Fate {
        let bytes = envelope.bytes.len();
        let held = self
            .connections
            .get(recipient.0)
            .map(Connection::held_bytes);
        let has_memory = self.make_room(bytes + ENVELOPE_OVERHEAD, held.unwrap_or_default());
        let sent_by = self.place_of(author, &envelope.view());
        let Some(connection) = self.connections.get_mut(recipient.0) else {
            return Fate::Done;
        };
        if connection.is_closing() {
            // It had to give way itself.
            return self.take_for_offline(author, envelope, discard);
        }
        let held = connection.backlog.as_ref().map(|backlog| backlog.held());
        let held = held.unwrap_or_default();
        let has_room = connection.outbox.has_room(bytes, held, &self.outbox_limits);
        let fits = has_memory && has_room;
        // It may come back when the connection is cut: for that its place is reserved.
        let (shares, place) = (&mut self.shares, connection.place);
        let queue = self.config.queue;
        let claim = queue.map_or(Claim::Full, |queue| {
            shares.claim(sent_by, place, bytes, &queue.limits)
        });
        match &connection.backlog {
            None if !fits => return self.overflow(author, recipient, envelope, has_room, discard),
            None if claim == Claim::Unknown => {
                return self.overtake(author, recipient, envelope, discard);
            }
            // Behind a read it may yet have to be appended, so it needs a place.
            Some(backlog) if !fits || claim != Claim::Granted || !backlog.holds() => {
                if !discard {
                    self.spill(recipient);
                }
                return self.enqueue(author, Some(recipient), envelope, discard);
            }
            None | Some(_) => {}
        }
        if discard {
            self.stats.blocked += 1;
            return Fate::Done;
        }
        let reserved = claim == Claim::Granted;
        if reserved {
            shares.reserve(sent_by, place, bytes);
        }
        let queued = Queued {
            seq: self.next_seq,
            stored: false,
            reserved,
            sender: sent_by,
            confirmable: is_confirmable(&envelope.view()),
            message: envelope.bytes.clone(),
        };
        match &mut connection.backlog {
            None => connection.outbox.push_data(queued, &mut self.spares),
            Some(backlog) => backlog.hold(queued),
        }
        self.next_seq = Seq(self.next_seq.0 + 1);
        self.stats.accepted += 1;
        self.stats.queued += 1;
        self.stats.queued_bytes += bytes as u64;
        self.wake(recipient);
        Fate::Done
    }

    /// How many bytes may be in use while connections that hold something get more.
    pub(super) const fn shared_memory(&self) -> usize {
        memory_limit(self.config.total_outbox_bytes, 1)
    }

    /// How many bytes more the hub may hold for a connection for which it holds `held` already.
    pub(super) fn memory_left(&self, held: usize) -> usize {
        memory_limit(self.config.total_outbox_bytes, held).saturating_sub(self.used_memory())
    }

    fn used_memory(&self) -> usize {
        let used = self.counted_bytes() + self.unstored_bytes();
        usize::try_from(used).unwrap_or(usize::MAX)
    }

    /// The bytes that count towards [`Config::total_outbox_bytes`](super::Config::total_outbox_bytes).
    pub(super) fn counted_bytes(&self) -> u64 {
        let stats = &self.stats;
        let kept = match self.config.delivery {
            Delivery::AtLeastOnce => stats.queued + stats.in_flight,
            Delivery::AtMostOnce => stats.queued,
        };
        let overhead = kept * ENVELOPE_OVERHEAD as u64;
        stats.queued_bytes + stats.in_flight_bytes + overhead + self.reading_bytes
    }

    /// The bytes beyond [`QueueConfig::unanswered_bytes`](super::QueueConfig::unanswered_bytes) that
    /// the store has not answered for: what connections that were closed have given back.
    pub(super) fn unstored_bytes(&self) -> u64 {
        let limit = self.config.queue.map_or(0, |queue| queue.unanswered_bytes);
        self.tickets.bytes().saturating_sub(limit) as u64
    }

    /// An envelope comes for a recipient without a backlog for whom there is no room.
    fn overflow(
        &mut self,
        author: Author,
        recipient: ConnId,
        envelope: &SealedEnvelope,
        outbox_has_room: bool,
        discard: bool,
    ) -> Fate {
        let has_queue = self.config.queue.is_some();
        match self.config.slow_reader {
            SlowReader::Spill if has_queue => self.overtake(author, recipient, envelope, discard),
            SlowReader::Disconnect if !outbox_has_room => {
                if !discard {
                    self.stats.stalls += 1;
                    self.close(recipient, CloseCause::TooSlow);
                }
                self.take_for_offline(author, envelope, discard)
            }
            SlowReader::Spill | SlowReader::Refuse | SlowReader::Disconnect if outbox_has_room => {
                self.stats.refused_memory += 1;
                let held = self
                    .connections
                    .get(recipient.0)
                    .map(Connection::held_bytes);
                let limit = memory_limit(self.config.total_outbox_bytes, held.unwrap_or_default());
                let reason = Undeliverable::OutOfMemory { limit };
                Fate::Rejected(reason)
            }
            SlowReader::Spill | SlowReader::Refuse | SlowReader::Disconnect => {
                self.stats.refused_full += 1;
                let (bytes, count) = (self.config.outbox_bytes, self.config.outbox_count);
                let reason = Undeliverable::OutboxFull { bytes, count };
                Fate::Rejected(reason)
            }
        }
    }

    /// Puts an envelope into the queue of a recipient without a backlog, which is read from then on.
    fn overtake(
        &mut self,
        author: Author,
        recipient: ConnId,
        envelope: &SealedEnvelope,
        discard: bool,
    ) -> Fate {
        let after = self.next_seq.0.checked_sub(1).map(Seq);
        if !discard && let Some(connection) = self.connections.get_mut(recipient.0) {
            connection.backlog = Some(Box::new(Backlog::behind(after)));
            self.stats.backlogged += 1;
        }
        let fate = self.enqueue(author, Some(recipient), envelope, discard);
        if !discard {
            self.read_on(recipient);
        }
        fate
    }

    /// Accepts an envelope for a recipient that is not connected, or refuses it.
    pub(super) fn take_for_offline(
        &mut self,
        author: Author,
        envelope: &SealedEnvelope,
        discard: bool,
    ) -> Fate {
        if self.config.queue.is_some() {
            return self.enqueue(author, None, envelope, discard);
        }
        self.stats.refused_offline += 1;
        Fate::Rejected(Undeliverable::Offline)
    }

    /// A peer has confirmed envelopes: the store can forget those that it has.
    pub(super) fn settle(&mut self, conn: ConnId, confirmed: Confirmed) {
        self.stats.delivered += confirmed.count;
        self.stats.in_flight -= confirmed.count;
        self.stats.in_flight_bytes -= confirmed.bytes as u64;
        if let Some(through) = confirmed.stored
            && let Some(connection) = self.connections.get(conn.0)
        {
            let recipient = connection.address.clone();
            self.upkeep(Operation::Remove { recipient, through });
        }
    }

    /// Parts with what waits for a connection: it goes to the recipient's queue; without one, its
    /// senders are told.
    pub(super) fn let_go_waiting(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn.0) else {
            return;
        };
        let mut waiting = connection.outbox.take_data();
        if let Some(mut backlog) = connection.backlog.take() {
            waiting.append(&mut backlog.take_held());
            self.stats.backlogged -= 1;
            if matches!(backlog.step, Step::Asked { .. }) {
                self.abandoned_reads.insert(connection.address.clone());
            }
        }
        self.leave_outbox(&waiting);
        if self.config.queue.is_some() {
            self.give_back(conn, waiting, None);
        } else {
            self.stats.returned += waiting.len() as u64;
            self.tell_senders(&waiting, Undeliverable::Left);
        }
    }

    /// Parts with what a connection was given and has not confirmed, in the same way.
    pub(super) fn let_go_unconfirmed(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn.0) else {
            return;
        };
        self.stats.in_flight_bytes -= connection.unconfirmed.bytes() as u64;
        let unconfirmed = connection.unconfirmed.take();
        let forgotten = u64::from(core::mem::take(&mut connection.in_flight));
        self.stats.in_flight -= forgotten + unconfirmed.len() as u64;
        self.stats.unconfirmed += forgotten;
        if self.config.queue.is_some() {
            self.give_back(conn, unconfirmed, None);
        } else {
            self.stats.unconfirmed += unconfirmed.len() as u64;
            self.tell_senders(&unconfirmed, Undeliverable::Unconfirmed);
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

    /// Tells the senders of `envelopes`, those of them who are there, what became of them.
    fn tell_senders(&mut self, envelopes: &VecDeque<Queued>, reason: Undeliverable) {
        for queued in envelopes {
            self.tell_sender(&queued.message, reason);
        }
    }

    /// Tells the sender of `message`, if it is there, what became of it.
    fn tell_sender(&mut self, message: &Bytes, reason: Undeliverable) {
        self.tell_author(None, message, reason);
    }

    /// The same: to the connection that sent it, if that is known and still listens, else to another one of
    /// its address.
    pub(super) fn tell_author(
        &mut self,
        author: Option<ConnId>,
        message: &Bytes,
        reason: Undeliverable,
    ) {
        let Ok(view) = EnvelopeView::parse(message) else {
            return;
        };
        if let Some(shard) = self.other_shard(view.from_address()) {
            let rejection = self.rejection(&view, reason);
            self.send_rejection(shard, rejection, false);
        } else if let Some(sender) = self.listens(author, view.from_address()) {
            self.tell_undeliverable(sender, &view, reason);
        }
    }

    /// Tells the sender of `message` that the envelope gave way to another, if it is there and reads
    /// what it is told.
    pub(super) fn tell_displaced(&mut self, message: &Bytes) {
        self.stats.displaced += 1;
        let Ok(view) = EnvelopeView::parse(message) else {
            return;
        };
        if let Some(shard) = self.other_shard(view.from_address()) {
            let rejection = self.rejection(&view, Undeliverable::GaveWay);
            self.send_rejection(shard, rejection, true);
        } else if let Some(sender) = self.listens(None, view.from_address())
            && let Some(connection) = self.connections.get(sender.0)
            && !connection.is_congested(&self.outbox_limits)
        {
            self.tell_undeliverable(sender, &view, Undeliverable::GaveWay);
        }
    }

    /// The connection that is told what becomes of an envelope: its author if that is open, else
    /// another one of its sender.
    pub(super) fn listens(&self, author: Option<ConnId>, sender: &str) -> Option<ConnId> {
        let author = author.filter(|author| {
            let author = self.connections.get(author.0);
            author.is_some_and(Connection::hears_rejections)
        });
        let address = Address::normalized(sender);
        let other = || {
            self.lookup(&address)
                .or_else(|| self.send_only.last_of(&address))
        };
        author.or_else(other)
    }
}
