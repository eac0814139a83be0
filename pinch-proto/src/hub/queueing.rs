//! What the hub asks of the store, and what it makes of the answers.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

use super::backlog::{Backlog, Step};
use super::connection::{Connection, Socket};
use super::core::Core;
use super::deadlines::Timer;
use super::delivery::is_confirmable;
use super::io::{ConnId, Output};
use super::links::Verdict;
use super::outbox::{ENVELOPE_OVERHEAD, Queued};
use super::rejection::RejectReason;
use super::routing::{Author, Fate};
use super::shares::NO_PLACE;
use super::tickets::{Charge, RequestKind};
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
    /// or rejects it. With `discard`, nothing comes of it but what its sender hears.
    pub(super) fn enqueue(
        &mut self,
        author: Author,
        to: Option<ConnId>,
        envelope: &mut SealedEnvelope,
        discard: bool,
    ) -> Fate {
        let Self { connections, core } = self;
        let Some(queue) = core.config.queue else {
            return Fate::Done;
        };
        let view = envelope.view();
        if !core.may_ask(envelope.bytes.len()) {
            core.stats.refused_store += 1;
            return Fate::Rejected(core.store_busy());
        }
        let recipient = Address::parse(view.to_address())
            .expect("the recipient's address was checked, or is connected");
        let place = core.place_of(author, &view);
        let sender = core.shares.address(place).cloned();
        let Some(sender) = sender.or_else(|| Address::parse(view.from_address()).ok()) else {
            return Fate::Done;
        };
        let seq = core.next_seq;
        let connected = to.and_then(|to| connections.get(to));
        // The last envelope of the queue that may have been handed to a connection: what is being read
        // may be all there is.
        let reached = if connections.predecessor(&recipient).is_some() {
            Some(seq)
        } else {
            connected.and_then(|connection| match &connection.backlog {
                Some(backlog) if backlog.step == Step::Due => backlog.after,
                Some(_) | None => Some(seq),
            })
        };
        let to = connected.filter(|_| !discard);
        let to = to.map(|to| (to.id, to.place));
        let append = Append {
            now: core.clock.expiry_unix(),
            expires_at: core.clock.unix() + queue.ttl,
            limits: Some(queue.limits),
            reserved: core.shares.held(place, &recipient),
            reached,
            recipient,
            sender,
            seq,
            message: core::mem::take(&mut envelope.bytes),
            discard,
        };
        if discard {
            core.stats.blocked += 1;
        } else {
            core.next_seq = Seq(seq.0 + 1);
            core.stats.accepted += 1;
            core.stats.storing += 1;
        }
        let origin = match author {
            Author::Conn { conn, .. } => connections.get_mut(conn).map(begin_settling),
            Author::Item(id) => Some(Origin::Item(id)),
        };
        core.append(append, place, origin, to);
        Fate::Asked
    }

    /// Reads on in the queue of a connection, if that is due and there is room.
    pub(super) fn read_on(&mut self, conn: ConnId) {
        let Self { connections, core } = self;
        let Some(queue) = core.config.queue else {
            return;
        };
        let Some(connection) = connections.get(conn) else {
            return;
        };
        let Some(backlog) = &connection.backlog else {
            return;
        };
        let slot = conn.slot();
        if backlog.step != Step::Due
            || connection.is_closing()
            || core.deadlines.is_armed(Timer::Read, slot)
            || connections.predecessor(&connection.address).is_some()
            || core.is_read_abandoned(&connection.address)
        {
            return;
        }
        // Half an outbox at least, so that a slow reader costs few reads; and whatever is read
        // first has to fit.
        let (outbox, config) = (&connection.outbox, &core.config);
        let room = config.outbox_bytes.saturating_sub(outbox.waiting_bytes());
        let count = config.outbox_count.saturating_sub(outbox.waiting());
        let enough = config.envelope_bytes.max(config.outbox_bytes / 2);
        if room < enough || count < config.outbox_count.div_ceil(2) {
            return;
        }
        // One envelope is read, whatever its size: so the largest has to fit what is set aside.
        let (held, largest) = (connection.held_bytes(), config.envelope_bytes);
        let needed = largest + ENVELOPE_OVERHEAD;
        let has_memory = self.make_room(needed, held);
        let Self { connections, core } = self;
        let Some(connection) = connections.get_mut(conn) else {
            return;
        };
        let Some(backlog) = &mut connection.backlog else {
            // It had to give way itself.
            return;
        };
        if !has_memory {
            // Who holds something goes on when it has acknowledged it, if only that is in the way.
            if held == 0 || core.memory_left(0) < needed {
                core.arm(Timer::Read, slot);
            }
            return;
        }
        let memory = core.memory_left(held);
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
            now: core.clock.expiry_unix(),
        };
        backlog.step = Step::Reading { stale: false };
        let kind = RequestKind::Read {
            conn,
            recipient: connection.address.clone(),
            room,
            marks: core.shares.marks(connection.place, connection.place),
        };
        core.reading_bytes += room as u64;
        core.ask(kind, Operation::Read(read));
    }

    /// The store has answered.
    pub(super) fn stored(&mut self, ticket: Ticket, outcome: Outcome) {
        let core = &mut self.core;
        let Some(completed) = core.tickets.complete(ticket) else {
            core.stats.late += 1;
            return;
        };
        // What was not answered in time has failed already.
        if matches!(outcome, Outcome::Failed { .. }) && !completed.overdue {
            core.stats.store_failures += 1;
        }
        if let RequestKind::Append { charge, .. } = &completed.kind {
            self.end_append(*charge, &outcome);
        }
        match completed.kind {
            // Its sender was told that its fate is unknown.
            RequestKind::Append { .. } | RequestKind::Change { .. } if completed.overdue => {}
            RequestKind::Append {
                message,
                from,
                charge,
            } => self.appended(&message, from, charge.discard, &outcome),
            RequestKind::Read {
                conn,
                recipient,
                room,
                marks,
            } => {
                let Self { connections, core } = self;
                core.reading_bytes -= room as u64;
                if core.is_read_abandoned(&recipient) {
                    core.abandoned_reads.remove(&recipient);
                    if let Some(successor) = connections.find(recipient.as_str()) {
                        self.read_on(successor);
                    }
                } else if let Some(connection) = connections.get_mut(conn) {
                    if let Outcome::Entries {
                        entries,
                        pending,
                        usage,
                    } = outcome
                    {
                        let place = connection.place;
                        core.shares.report(place, place, usage, marks);
                        if core.entries(connection, entries, pending) {
                            self.read_on(conn);
                            self.wake(conn);
                        }
                    } else {
                        core.read_failed(connection);
                    }
                }
            }
            RequestKind::Expire => {
                if let Outcome::Expired { count } = outcome {
                    self.core.stats.expired += count;
                }
                self.core.schedule_expiry();
            }
            RequestKind::Change { message, from } => {
                let failure = match outcome {
                    Outcome::Done => None,
                    Outcome::Failed { failure, .. } => Some(failure),
                    Outcome::Appended { .. }
                    | Outcome::Refused(_)
                    | Outcome::Entries { .. }
                    | Outcome::Expired { .. } => Some(Failure::Broken),
                };
                let reason = failure.map(RejectReason::ChangeNotStored);
                self.settle_origin(Some(from), &message, reason);
            }
            RequestKind::Upkeep => {}
        }
        self.check_shutdown();
    }

    /// The store has answered for an envelope: it has its place there, or none.
    fn end_append(&mut self, charge: Charge, outcome: &Outcome) {
        let Charge {
            sender, to, cost, ..
        } = charge;
        let shares = &mut self.core.shares;
        let Outcome::Appended { usage, displaced } = outcome else {
            return shares.end(sender, to, cost, false);
        };
        let connections = &self.connections;
        let is_there = charge
            .conn
            .is_some_and(|conn| connections.get(conn).is_some());
        let recipient = if is_there { to } else { NO_PLACE };
        shares.report(sender, recipient, *usage, charge.marks);
        shares.end(sender, to, cost, !charge.discard);
        if let Some(displaced) = displaced {
            self.report_displaced(&displaced.message);
        }
    }

    /// The store takes too long; false if it does not.
    pub(super) fn expire_ticket(&mut self) -> bool {
        let core = &mut self.core;
        let Some(kind) = core.tickets.pop_overdue(core.clock.attended.now()) else {
            return false;
        };
        core.stats.store_failures += 1;
        match kind {
            RequestKind::Append {
                message,
                from,
                charge,
            } => {
                let accepted = u64::from(!charge.discard);
                core.stats.storing -= accepted;
                core.stats.returned += accepted;
                self.settle_origin(from, &message, Some(RejectReason::StoreSilent));
            }
            RequestKind::Change { message, from } => {
                let reason = Some(RejectReason::ChangeUnanswered);
                self.settle_origin(Some(from), &message, reason);
            }
            // What is deferred behind it must not wait for as long as that.
            RequestKind::Read { conn, .. } => {
                if let Some(connection) = self.connections.get_mut(conn) {
                    core.spill(connection);
                }
            }
            RequestKind::Expire | RequestKind::Upkeep => {}
        }
        self.check_shutdown();
        true
    }

    /// The store has answered for an envelope: whoever waits for that is told what it came to.
    fn settle_origin(
        &mut self,
        from: Option<Origin>,
        message: &Bytes,
        rejected: Option<RejectReason>,
    ) {
        if let Some(Origin::Item(id)) = from {
            let rejected = rejected.zip(EnvelopeView::parse(message).ok());
            let verdict = rejected.map_or(Verdict::Accepted, |(reason, view)| {
                Verdict::Rejected(self.core.rejection(&view, reason))
            });
            return self.core.settle_item(id, verdict);
        }
        if let Some(reason) = rejected {
            self.report_rejection(from.and_then(Origin::conn), message, reason);
        }
        self.settled(from);
    }

    /// What a connection waits for is answered, and it was told: replies to it that waited
    /// for that go, and it may send on.
    pub(super) fn settled(&mut self, from: Option<Origin>) {
        if let Some(Origin::Conn { conn, span }) = from
            && let Some(sender) = self.connections.get_mut(conn)
        {
            let replies = sender.unsettled.answer(span);
            if !replies.is_empty() {
                self.core.release_replies(sender, replies);
            }
            self.core.wake_paused(sender);
        }
    }

    fn appended(
        &mut self,
        message: &Bytes,
        from: Option<Origin>,
        discard: bool,
        outcome: &Outcome,
    ) {
        let stats = &mut self.core.stats;
        let accepted = u64::from(!discard);
        stats.storing -= accepted;
        let reason = match outcome {
            Outcome::Appended { .. } => {
                stats.stored += accepted;
                return self.settle_origin(from, message, None);
            }
            Outcome::Refused(refusal) => RejectReason::QueueFull(*refusal),
            Outcome::Failed { failure, .. } => RejectReason::NotStored(*failure),
            Outcome::Done | Outcome::Entries { .. } | Outcome::Expired { .. } => {
                RejectReason::NotStored(Failure::Broken)
            }
        };
        stats.returned += accepted;
        self.settle_origin(from, message, Some(reason));
    }
}

/// Counts a request that a connection causes: its replies wait for the answer.
pub(super) fn begin_settling(connection: &mut Connection) -> Origin {
    Origin::Conn {
        conn: connection.id,
        span: connection.unsettled.begin(),
    }
}

impl Core {
    /// Whether the store may be given `bytes` more before it answers.
    pub(super) fn may_ask(&self, bytes: usize) -> bool {
        let limit = self.config.queue.map_or(0, |queue| queue.unanswered_bytes);
        self.tickets.bytes() + bytes + REQUEST_BYTES <= limit
    }

    pub(super) fn store_busy(&self) -> RejectReason {
        let limit = self.config.queue.map_or(0, |queue| queue.unanswered_bytes);
        RejectReason::StoreBusy { limit }
    }

    /// Appends what is deferred for a connection to its queue, however busy the store is: it was
    /// accepted, and takes no more memory there than here.
    pub(super) fn spill(&mut self, connection: &mut Connection) {
        let Some(backlog) = &mut connection.backlog else {
            return;
        };
        if let Step::Reading { stale } = &mut backlog.step {
            *stale = true;
        }
        let deferred = backlog.take_deferred();
        self.leave_outbox(&deferred);
        self.requeue(connection, deferred, true);
    }

    /// Puts envelopes into the queue that were on their way to a connection, which `stays` or not.
    /// Where a place is reserved, no limit counts.
    pub(super) fn requeue(
        &mut self,
        connection: &Connection,
        envelopes: VecDeque<Queued>,
        stays: bool,
    ) {
        for queued in envelopes {
            if queued.stored {
                self.stats.kept += 1;
            } else {
                self.requeue_one(connection, &queued, stays);
            }
        }
    }

    fn requeue_one(&mut self, connection: &Connection, queued: &Queued, stays: bool) {
        let Some(queue) = self.config.queue else {
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
            now: self.clock.expiry_unix(),
            expires_at: self.clock.unix() + queue.ttl,
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
        let to = stays.then_some((connection.id, place));
        self.append(append, sent_by, None, to);
        self.shares.release(queued, place);
    }

    /// Has the store keep an envelope of the sender at `place`, which came `from` somewhere or had its
    /// place before, and is for the connection `to` and its place if there is one.
    fn append(
        &mut self,
        append: Append,
        place: u32,
        from: Option<Origin>,
        to: Option<(ConnId, u32)>,
    ) {
        let to_place = to.map_or(NO_PLACE, |(_, place)| place);
        let charge = Charge {
            sender: place,
            to: to_place,
            conn: to.map(|(conn, _)| conn),
            cost: append.cost(),
            marks: self.shares.marks(place, to_place),
            discard: append.discard,
        };
        self.shares.begin(place, to_place, charge.cost);
        let kind = RequestKind::Append {
            message: append.message.clone(),
            from,
            charge,
        };
        self.ask(kind, Operation::Append(append));
    }

    /// Asks for something whose outcome changes nothing here.
    pub(super) fn upkeep(&mut self, operation: Operation) {
        if self.config.queue.is_some() {
            self.ask(RequestKind::Upkeep, operation);
        }
    }

    /// Has a block kept, or forgotten, as `message` says, whose sender hears of it if that fails.
    pub(super) fn persist_change(
        &mut self,
        from: &mut Connection,
        message: Bytes,
        operation: Operation,
    ) {
        if self.config.queue.is_some() {
            let from = begin_settling(from);
            self.ask(RequestKind::Change { message, from }, operation);
        }
    }

    fn ask(&mut self, kind: RequestKind, operation: Operation) {
        let message = match &kind {
            RequestKind::Append { message, .. } | RequestKind::Change { message, .. } => {
                message.len()
            }
            RequestKind::Read { .. } | RequestKind::Expire | RequestKind::Upkeep => 0,
        };
        let (bytes, now) = (message + REQUEST_BYTES, self.attended());
        let ticket = self.tickets.issue(kind, bytes, now);
        self.say(Output::Store(Request { ticket, operation }));
    }

    /// Has a connection that has just joined get what its queue has, if there are queues.
    pub(super) fn begin_backlog(&mut self, connection: &mut Connection) {
        if self.config.queue.is_some() {
            connection.backlog = Some(Box::new(Backlog::of_join()));
            self.stats.backlogged += 1;
        }
    }

    /// Whether the queue of `address` is being read for a connection that has left.
    fn is_read_abandoned(&self, address: &Address) -> bool {
        // Nearly always there is none, and then no address is hashed.
        !self.abandoned_reads.is_empty() && self.abandoned_reads.contains(address)
    }

    /// Has the store forget what has expired, if that is due; false if it is not.
    pub(super) fn expire_stored(&mut self) -> bool {
        if self.next_expiry.is_none_or(|due| due > self.clock.now) {
            return false;
        }
        self.next_expiry = None;
        self.expire_blocks();
        let now = self.clock.expiry_unix();
        self.ask(RequestKind::Expire, Operation::Expire { now });
        true
    }

    fn schedule_expiry(&mut self) {
        let interval = self.config.queue.map(|queue| queue.expiry_interval);
        self.next_expiry = interval.map(|interval| self.clock.now + interval);
    }

    /// What was read goes behind what is in the outbox, and what is deferred goes behind that. Returns
    /// whether to read on.
    fn entries(&mut self, connection: &mut Connection, entries: Vec<Entry>, pending: u64) -> bool {
        if connection.is_closing() {
            return false;
        }
        let Some(backlog) = &mut connection.backlog else {
            return false;
        };
        // With AtMostOnce it leaves the store before it is given to a socket.
        let stored = self.config.delivery == Delivery::AtLeastOnce;
        let is_rest =
            backlog.can_defer() && (entries.is_empty() || entries.len() as u64 >= pending);
        let last = entries.last().map(|entry| entry.seq);
        backlog.after = last.or(backlog.after);
        backlog.step = Step::Due;
        if core::mem::take(&mut backlog.unannounced) && pending > 0 {
            let status = Payload::QueueStatus(QueueStatus {
                pending_count: i32::try_from(pending).unwrap_or(i32::MAX),
            });
            let mut envelope = Envelope::from_relay(status, self.clock.unix());
            envelope.to_address = connection.address.as_str().into();
            let (outbox, pool) = (&mut connection.outbox, &mut self.pool);
            outbox.push_control_first(envelope.to_bytes(), pool);
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
            if sender != NO_PLACE {
                self.shares.reserve(sender, connection.place, message.len());
            }
            let queued = Queued {
                seq,
                stored,
                reserved: sender != NO_PLACE,
                sender,
                confirmable: view.is_some_and(|view| is_confirmable(&view)),
                message,
            };
            connection.outbox.push(queued, &mut self.pool);
        }
        // What is deferred and does not fit behind it is appended instead, and read when there is room.
        let outbox = &connection.outbox;
        let fits = outbox.has_room(backlog.deferred(), &self.outbox_limits);
        if is_rest && fits {
            for queued in backlog.take_deferred() {
                connection.outbox.push(queued, &mut self.pool);
            }
            connection.backlog = None;
            connection.drained =
                connection.outbox.waiting() > 0 || connection.outbox.unprobed_count() > 0;
            self.stats.backlogged -= 1;
        }
        if let Some(through) = last.filter(|_| !stored) {
            let recipient = connection.address.clone();
            self.upkeep(Operation::Remove { recipient, through });
        }
        self.spill(connection);
        true
    }

    fn read_failed(&mut self, connection: &mut Connection) {
        if connection.is_closing() {
            return;
        }
        if let Some(backlog) = &mut connection.backlog {
            backlog.step = Step::Due;
            self.arm(Timer::Read, connection.id.slot());
            self.spill(connection);
        }
    }

    /// Wakes a connection that is to send on. One whose socket is blocked may be waiting for just that
    /// before it reads.
    pub(super) fn wake_paused(&mut self, connection: &mut Connection) {
        if connection.paused
            && connection.socket != Socket::Awake
            && !connection.is_congested(&self.outbox_limits)
        {
            self.have_looked_at(connection);
        }
    }
}
