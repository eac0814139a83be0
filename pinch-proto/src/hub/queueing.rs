//! What the hub asks of the store, and what it makes of the answers.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

use super::backlog::{Backlog, Step};
use super::delivery::is_confirmable;
use super::io::{ConnId, Output};
use super::outbox::{ENVELOPE_OVERHEAD, Queued};
use super::routing::{Author, Fate};
use super::shares::NO_PLACE;
use super::tickets::{Asked, Charge};
use super::undeliverable::Undeliverable;
use super::unsettled::Origin;
use super::{Delivery, Hub};
use crate::message::SealedEnvelope;
use crate::queue::{Append, Entry, Failure, Operation, Outcome, Read, Request, Seq, Ticket, Usage};
use crate::wire::{Envelope, Payload, QueueStatus};
use crate::{Address, EnvelopeView};

/// What a request holds besides its message: addresses and bookkeeping, in bytes.
const REQUEST_BYTES: usize = 256;

impl Hub {
    /// Accepts an envelope into the queue of its recipient, which is connected as `to` or not at all,
    /// or refuses it. With `discard`, nothing comes of it but what its sender hears.
    pub(super) fn enqueue(
        &mut self,
        author: Author,
        to: Option<ConnId>,
        envelope: &SealedEnvelope,
        discard: bool,
    ) -> Fate {
        let Some(queue) = self.config.queue else {
            return Fate::Done;
        };
        let view = envelope.view();
        let place = self.place_of(author, &view);
        if !self.may_ask(envelope.bytes.len()) {
            self.stats.refused_store += 1;
            return Fate::Rejected(self.store_busy());
        }
        let recipient = Address::parse(view.to_address())
            .expect("the recipient's address was checked, or is connected");
        let sender = self.shares.address(place).cloned();
        let Some(sender) = sender.or_else(|| Address::parse(view.from_address()).ok()) else {
            return Fate::Done;
        };
        let seq = self.next_seq;
        let append = Append {
            now: self.expiry_unix(),
            expires_at: self.unix() + queue.ttl,
            limits: Some(queue.limits),
            reserved: self.shares.held(place, &recipient),
            reached: self.reached(to, &recipient, seq),
            recipient,
            sender,
            seq,
            message: envelope.bytes.clone(),
            discard,
        };
        if discard {
            self.stats.blocked += 1;
        } else {
            self.next_seq = Seq(seq.0 + 1);
            self.stats.accepted += 1;
            self.stats.storing += 1;
        }
        let origin = match author {
            Author::Conn(conn) => self.begin_settling(conn),
            Author::Item(id) => Some(Origin::Item(id)),
        };
        self.append(append, place, origin, to.filter(|_| !discard));
        Fate::Asked
    }

    /// The last envelope of a queue that may have been handed to a connection, where the next is
    /// `next`: what is being read may be all there is.
    fn reached(&self, to: Option<ConnId>, recipient: &Address, next: Seq) -> Option<Seq> {
        if self.predecessor(recipient).is_some() {
            return Some(next);
        }
        let connection = self.connections.get(to?.0)?;
        match &connection.backlog {
            Some(backlog) if backlog.step == Step::Due => backlog.after,
            Some(_) | None => Some(next),
        }
    }

    /// Whether the store may be given `bytes` more before it answers.
    pub(super) fn may_ask(&self, bytes: usize) -> bool {
        let limit = self.config.queue.map_or(0, |queue| queue.unanswered_bytes);
        self.tickets.bytes() + bytes + REQUEST_BYTES <= limit
    }

    pub(super) fn store_busy(&self) -> Undeliverable {
        let limit = self.config.queue.map_or(0, |queue| queue.unanswered_bytes);
        Undeliverable::StoreBusy { limit }
    }

    /// Appends what is held for a connection to its queue, however busy the store is: it was
    /// accepted, and takes no more memory there than here.
    pub(super) fn spill(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn.0) else {
            return;
        };
        let Some(backlog) = &mut connection.backlog else {
            return;
        };
        if let Step::Asked { overtaken } = &mut backlog.step {
            *overtaken = true;
        }
        let held = backlog.take_held();
        self.leave_outbox(&held);
        self.give_back(conn, held, Some(conn));
    }

    /// Puts envelopes into the queue that were on their way to a connection, which goes on as `to` or
    /// not at all. Where a place is reserved, no limit counts.
    pub(super) fn give_back(
        &mut self,
        conn: ConnId,
        envelopes: VecDeque<Queued>,
        to: Option<ConnId>,
    ) {
        for queued in envelopes {
            if queued.stored {
                self.stats.kept += 1;
            } else {
                self.requeue(conn, &queued, to);
            }
        }
    }

    fn requeue(&mut self, conn: ConnId, queued: &Queued, to: Option<ConnId>) {
        let (Some(queue), Some(connection)) = (self.config.queue, self.connections.get(conn.0))
        else {
            return;
        };
        let place = connection.place;
        let recipient = connection.address.clone();
        let sent_by = if queued.reserved {
            queued.sender
        } else {
            let view = EnvelopeView::parse(&queued.message).ok();
            let sender = view.and_then(|view| Address::parse(view.from_address()).ok());
            sender.map_or(NO_PLACE, |sender| self.shares.enter(&sender))
        };
        let Some(sender) = self.shares.address(sent_by).cloned() else {
            // Only what a store has made up has no sender.
            self.stats.returned += 1;
            return;
        };
        let limits = (!queued.reserved).then_some(queue.limits);
        let append = Append {
            now: self.expiry_unix(),
            expires_at: self.unix() + queue.ttl,
            limits,
            reserved: limits.map_or(Usage::default(), |_| self.shares.held(sent_by, &recipient)),
            reached: limits.map(|_| self.next_seq),
            recipient,
            sender,
            seq: queued.seq,
            message: queued.message.clone(),
            discard: false,
        };
        self.stats.storing += 1;
        self.append(append, sent_by, None, to);
        self.shares.release(queued, place);
    }

    /// Has the store keep an envelope of the sender at `place`, which came `from` a connection or had
    /// its place before.
    fn append(&mut self, append: Append, place: u32, from: Option<Origin>, to: Option<ConnId>) {
        let recipient = to.and_then(|to| self.connections.get(to.0));
        let to_place = recipient.map_or(NO_PLACE, |recipient| recipient.place);
        let charge = Charge {
            sender: place,
            to: to_place,
            conn: to,
            cost: append.cost(),
            marks: self.shares.marks(place, to_place),
            discard: append.discard,
        };
        self.shares.begin(place, to_place, charge.cost);
        let asked = Asked::Append {
            message: append.message.clone(),
            from,
            charge,
        };
        self.ask(asked, Operation::Append(append));
    }

    /// The store has answered for an envelope: it has its place there, or none.
    fn end_append(&mut self, charge: Charge, outcome: &Outcome) {
        let Charge {
            sender, to, cost, ..
        } = charge;
        let Outcome::Appended { usage, displaced } = outcome else {
            return self.shares.end(sender, to, cost, false);
        };
        let is_there = charge.conn.is_some_and(|conn| self.holds(conn));
        let recipient = if is_there { to } else { NO_PLACE };
        self.shares.report(sender, recipient, *usage, charge.marks);
        self.shares.end(sender, to, cost, !charge.discard);
        if let Some(displaced) = displaced {
            self.tell_displaced(&displaced.message);
        }
    }

    /// Asks for something whose outcome changes nothing here.
    pub(super) fn upkeep(&mut self, operation: Operation) {
        if self.config.queue.is_some() {
            self.ask(Asked::Upkeep, operation);
        }
    }

    /// Has a block kept, or forgotten, as `message` says, whose sender hears of it if that fails.
    pub(super) fn keep_change(&mut self, from: ConnId, message: Bytes, operation: Operation) {
        if self.config.queue.is_some()
            && let Some(from) = self.begin_settling(from)
        {
            self.ask(Asked::Change { message, from }, operation);
        }
    }

    /// Counts a request that a connection causes: its replies wait for the answer.
    pub(super) fn begin_settling(&mut self, conn: ConnId) -> Option<Origin> {
        let connection = self.connections.get_mut(conn.0)?;
        let span = connection.unsettled.begin();
        Some(Origin::Conn { conn, span })
    }

    fn ask(&mut self, asked: Asked, operation: Operation) {
        let message = match &asked {
            Asked::Append { message, .. } | Asked::Change { message, .. } => message.len(),
            Asked::Read { .. } | Asked::Expire | Asked::Upkeep => 0,
        };
        let bytes = message + REQUEST_BYTES;
        let ticket = self.tickets.issue(asked, bytes, self.attended.now());
        self.outputs
            .push_back(Output::Store(Request { ticket, operation }));
    }

    /// Lets a connection that has just joined hear what its queue has.
    pub(super) fn begin_drain(&mut self, conn: ConnId) {
        if self.config.queue.is_some()
            && let Some(connection) = self.connections.get_mut(conn.0)
        {
            connection.backlog = Some(Box::new(Backlog::of_join()));
            self.stats.backlogged += 1;
            self.read_on(conn);
        }
    }

    /// Reads on in the queue of a connection, if that is due and there is room.
    pub(super) fn read_on(&mut self, conn: ConnId) {
        let Some(queue) = self.config.queue else {
            return;
        };
        let Some(connection) = self.connections.get(conn.0) else {
            return;
        };
        let Some(backlog) = &connection.backlog else {
            return;
        };
        let index = conn.0.index;
        if backlog.step != Step::Due
            || connection.is_closing()
            || self.deadlines.retry.is_armed(index)
            || self.predecessor(&connection.address).is_some()
            || self.is_read_abandoned(&connection.address)
        {
            return;
        }
        // Half an outbox at least, so that a slow reader costs few reads; and whatever is read
        // first has to fit.
        let outbox = &connection.outbox;
        let room = self.config.outbox_bytes.saturating_sub(outbox.data_bytes());
        let count = self.config.outbox_count.saturating_sub(outbox.data_len());
        let enough = self.config.envelope_bytes.max(self.config.outbox_bytes / 2);
        if room < enough || count < self.config.outbox_count.div_ceil(2) {
            return;
        }
        // One envelope is read, whatever its size: so the largest has to fit what is set aside.
        let (held, largest) = (connection.held_bytes(), self.config.envelope_bytes);
        let needed = largest + ENVELOPE_OVERHEAD;
        let has_memory = self.make_room(needed, held);
        let Some(connection) = self.connections.get(conn.0) else {
            return;
        };
        let Some(backlog) = connection.backlog.as_ref() else {
            // It had to give way itself.
            return;
        };
        if !has_memory {
            // Who holds something goes on when it has confirmed it, if only that is in the way.
            if held == 0 || self.memory_left(0) < needed {
                self.deadlines.retry.arm(index, self.now);
            }
            return;
        }
        let memory = self.memory_left(held);
        // Half of it at most is for the bytes of envelopes, and the rest for what they count besides.
        let half = (memory - ENVELOPE_OVERHEAD) / 2;
        let bytes = room.min(queue.read_bytes).min(half.max(largest));
        let room = bytes.max(largest);
        let count = count
            .min((memory - room).min(room) / ENVELOPE_OVERHEAD)
            .max(1);
        let room = room + count * ENVELOPE_OVERHEAD;
        let read = Read {
            recipient: connection.address.clone(),
            after: backlog.after,
            bytes,
            count,
            now: self.expiry_unix(),
        };
        let marks = self.shares.marks(connection.place, connection.place);
        self.reading_bytes += room as u64;
        let recipient = connection.address.clone();
        let asked = Asked::Read {
            conn,
            recipient,
            room,
            marks,
        };
        self.ask(asked, Operation::Read(read));
        if let Some(connection) = self.connections.get_mut(conn.0)
            && let Some(backlog) = &mut connection.backlog
        {
            backlog.step = Step::Asked { overtaken: false };
        }
    }

    /// Whether the queue of `address` is being read for a connection that has left.
    fn is_read_abandoned(&self, address: &Address) -> bool {
        // Nearly always there is none, and then no address is hashed.
        !self.abandoned_reads.is_empty() && self.abandoned_reads.contains(address)
    }

    /// Has the store forget what has expired, if that is due; false if it is not.
    pub(super) fn expire_stored(&mut self) -> bool {
        if self.next_expiry.is_none_or(|due| due > self.now) {
            return false;
        }
        self.next_expiry = None;
        self.expire_blocks();
        let now = self.expiry_unix();
        self.ask(Asked::Expire, Operation::Expire { now });
        true
    }

    /// The store has answered.
    pub(super) fn stored(&mut self, ticket: Ticket, outcome: Outcome) {
        let Some(redeemed) = self.tickets.redeem(ticket) else {
            self.stats.late += 1;
            return;
        };
        // What was not answered in time has failed already.
        if matches!(outcome, Outcome::Failed { .. }) && !redeemed.overdue {
            self.stats.store_failures += 1;
        }
        if let Asked::Append { charge, .. } = &redeemed.asked {
            self.end_append(*charge, &outcome);
        }
        match redeemed.asked {
            // Its sender was told that its fate is unknown.
            Asked::Append { .. } | Asked::Change { .. } if redeemed.overdue => {}
            Asked::Append {
                message,
                from,
                charge,
            } => self.appended(&message, from, charge.discard, &outcome),
            Asked::Read {
                conn,
                recipient,
                room,
                marks,
            } => {
                self.reading_bytes -= room as u64;
                if self.is_read_abandoned(&recipient) {
                    self.abandoned_reads.remove(&recipient);
                    if let Some(successor) = self.lookup(recipient.as_str()) {
                        self.read_on(successor);
                    }
                } else if let Outcome::Entries {
                    entries,
                    pending,
                    usage,
                } = outcome
                {
                    if let Some(connection) = self.connections.get(conn.0) {
                        let place = connection.place;
                        self.shares.report(place, place, usage, marks);
                    }
                    self.entries(conn, entries, pending);
                } else {
                    self.read_failed(conn);
                }
            }
            Asked::Expire => {
                if let Outcome::Expired { count } = outcome {
                    self.stats.expired += count;
                }
                let interval = self.config.queue.map(|queue| queue.expiry_interval);
                self.next_expiry = interval.map(|interval| self.now + interval);
            }
            Asked::Change { message, from } => {
                let failure = match outcome {
                    Outcome::Done => None,
                    Outcome::Failed { failure, .. } => Some(failure),
                    Outcome::Appended { .. }
                    | Outcome::Refused(_)
                    | Outcome::Entries { .. }
                    | Outcome::Expired { .. } => Some(Failure::Broken),
                };
                let reason = failure.map(Undeliverable::ChangeNotStored);
                self.settle_origin(Some(from), &message, reason);
            }
            Asked::Upkeep => {}
        }
        self.check_shutdown();
    }

    /// The store takes too long; false if it does not.
    pub(super) fn expire_ticket(&mut self) -> bool {
        let Some(asked) = self.tickets.pop_overdue(self.attended.now()) else {
            return false;
        };
        self.stats.store_failures += 1;
        match asked {
            Asked::Append {
                message,
                from,
                charge,
            } => {
                let accepted = u64::from(!charge.discard);
                self.stats.storing -= accepted;
                self.stats.returned += accepted;
                self.settle_origin(from, &message, Some(Undeliverable::StoreSilent));
            }
            Asked::Change { message, from } => {
                let reason = Some(Undeliverable::ChangeUnanswered);
                self.settle_origin(Some(from), &message, reason);
            }
            // What is held behind it must not wait for as long as that.
            Asked::Read { conn, .. } => self.spill(conn),
            Asked::Expire | Asked::Upkeep => {}
        }
        self.check_shutdown();
        true
    }

    /// The store has answered for an envelope: whoever waits for that is told what it came to.
    fn settle_origin(
        &mut self,
        from: Option<Origin>,
        message: &Bytes,
        rejected: Option<Undeliverable>,
    ) {
        if let Some(Origin::Item(id)) = from {
            let view = EnvelopeView::parse(message).ok();
            let rejection = rejected
                .zip(view)
                .map(|(reason, view)| self.rejection(&view, reason));
            return self.settle_item(id, rejection);
        }
        if let Some(reason) = rejected {
            self.tell_author(from.and_then(Origin::conn), message, reason);
        }
        self.settled(from);
    }

    /// What a connection waits for is answered, and it was told: replies to it that waited
    /// for that go, and it may send on.
    pub(super) fn settled(&mut self, from: Option<Origin>) {
        let Some(Origin::Conn { conn, span }) = from else {
            return;
        };
        let sender = self.connections.get_mut(conn.0);
        let replies = sender.map(|sender| sender.unsettled.answer(span));
        if let Some(replies) = replies.filter(|replies| !replies.is_empty()) {
            self.release_replies(conn, replies);
        }
        self.wake_paused(conn);
    }

    /// Wakes a connection that is to send on.
    pub(super) fn wake_paused(&mut self, conn: ConnId) {
        if let Some(sender) = self.connections.get_mut(conn.0)
            && sender.paused
            && sender.asleep
            && !sender.is_congested(&self.outbox_limits)
        {
            sender.asleep = false;
            self.outputs.push_back(Output::Wake { conn });
        }
    }

    fn appended(
        &mut self,
        message: &Bytes,
        from: Option<Origin>,
        discard: bool,
        outcome: &Outcome,
    ) {
        let accepted = u64::from(!discard);
        self.stats.storing -= accepted;
        let reason = match outcome {
            Outcome::Appended { .. } => {
                self.stats.stored += accepted;
                return self.settle_origin(from, message, None);
            }
            Outcome::Refused(refusal) => Undeliverable::QueueFull(*refusal),
            Outcome::Failed { failure, .. } => Undeliverable::NotStored(*failure),
            Outcome::Done | Outcome::Entries { .. } | Outcome::Expired { .. } => {
                Undeliverable::NotStored(Failure::Broken)
            }
        };
        self.stats.returned += accepted;
        self.settle_origin(from, message, Some(reason));
    }

    /// What was read goes behind what is in the outbox, and what is held goes behind that.
    fn entries(&mut self, conn: ConnId, entries: Vec<Entry>, pending: u64) {
        let unix = self.unix();
        let Some(connection) = self.connections.get_mut(conn.0) else {
            return;
        };
        if connection.is_closing() {
            return;
        }
        let Some(backlog) = &mut connection.backlog else {
            return;
        };
        // With AtMostOnce it leaves the store before it is given to a socket.
        let stored = self.config.delivery == Delivery::AtLeastOnce;
        let is_rest = backlog.holds() && (entries.is_empty() || entries.len() as u64 >= pending);
        let last = entries.last().map(|entry| entry.seq);
        backlog.after = last.or(backlog.after);
        backlog.step = Step::Due;
        if core::mem::take(&mut backlog.unannounced) && pending > 0 {
            let status = Payload::QueueStatus(QueueStatus {
                pending_count: i32::try_from(pending).unwrap_or(i32::MAX),
            });
            let mut envelope = Envelope::from_relay(status, unix);
            envelope.to_address = connection.address.as_str().into();
            connection
                .outbox
                .push_control_first(envelope.to_bytes(), &mut self.spares);
        }
        self.stats.read += entries.len() as u64;
        self.stats.queued += entries.len() as u64;
        for Entry { seq, message } in entries {
            self.stats.queued_bytes += message.len() as u64;
            let view = EnvelopeView::parse(&message).ok();
            // What the store forgets now, and may have to take back, keeps its place.
            let author = view.as_ref().filter(|_| !stored);
            let author = author.and_then(|view| Address::parse(view.from_address()).ok());
            let sender = author.map_or(NO_PLACE, |author| self.shares.enter(&author));
            self.shares.reserve(sender, connection.place, message.len());
            let queued = Queued {
                seq,
                stored,
                reserved: sender != NO_PLACE,
                sender,
                confirmable: view.is_some_and(|view| is_confirmable(&view)),
                message,
            };
            connection.outbox.push_data(queued, &mut self.spares);
        }
        // What is held and does not fit behind it is appended instead, and read when there is room.
        let held_fits = connection
            .outbox
            .can_hold(backlog.held(), &self.outbox_limits);
        if is_rest && held_fits {
            for queued in backlog.take_held() {
                connection.outbox.push_data(queued, &mut self.spares);
            }
            connection.backlog = None;
            connection.drained =
                connection.outbox.data_len() > 0 || connection.unconfirmed.is_unmarked();
            self.stats.backlogged -= 1;
        }
        if let Some(through) = last.filter(|_| !stored) {
            let recipient = connection.address.clone();
            self.upkeep(Operation::Remove { recipient, through });
        }
        self.spill(conn);
        self.read_on(conn);
        self.wake(conn);
    }

    fn read_failed(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn.0) else {
            return;
        };
        if connection.is_closing() {
            return;
        }
        if let Some(backlog) = &mut connection.backlog {
            backlog.step = Step::Due;
            self.deadlines.retry.arm(conn.0.index, self.now);
            self.spill(conn);
        }
    }
}
