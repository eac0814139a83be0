//! What the store is asked, and what its answers mean.
//!
//! Somebody who has, or may have, envelopes in the store has a backlog. While it is being read, what
//! comes is held behind the read, as long as nothing had to be appended since; else it is appended.

use core::time::Duration;

use bytes::Bytes;
use pinch_proto::hub::{ConnId, Delivery, ENVELOPE_OVERHEAD, Output, Verdict};
use pinch_proto::queue::{
    Append, Entry, Failure, Operation, Outcome, Read, Request, Seq, Ticket, Usage,
};
use pinch_proto::wire::{Envelope, Payload, QueueStatus};
use pinch_proto::{Address, EnvelopeView, Frame, Time};

use super::Model;
use super::alarms::Kind;
use super::connection::Letter;
use super::fates::Fate;
use super::replies::Awaited;
use super::routing::{Author, Decision, sender_of};
use super::shares::Marks;
use crate::story::{Queue, Settings};

/// What a rejection counts for that may come.
const REJECTION_BYTES: usize = 768;

/// What a request counts for besides its message.
const REQUEST_BYTES: usize = 256;

/// What of a recipient's queue is not in memory.
#[derive(Clone, Debug)]
pub(super) struct Backlog {
    /// The last that it was given, or that waits for it.
    after: Option<Seq>,
    /// It has just joined, and is to hear how much there is.
    announce: bool,
    reading: bool,
    /// Something was appended since the read began.
    overtaken: bool,
    pub(super) held: Vec<Letter>,
}

impl Backlog {
    pub(super) const fn behind(after: Option<Seq>) -> Self {
        Self {
            after,
            announce: false,
            reading: false,
            overtaken: false,
            held: vec![],
        }
    }

    pub(super) const fn after(&self) -> Option<Seq> {
        self.after
    }

    pub(super) const fn is_being_read(&self) -> bool {
        self.reading
    }

    pub(super) const fn holds(&self) -> bool {
        self.reading && !self.overtaken
    }
}

/// What the store was asked and has not answered.
#[derive(Clone, Debug)]
pub(super) struct Owed {
    pub(super) ticket: Ticket,
    /// In attended time.
    pub(super) due: Time,
    /// It takes too long, and whoever waited knows.
    pub(super) overdue: bool,
    about: About,
}

/// What an envelope that the store is asked to keep counts for.
#[derive(Clone, Debug)]
pub(super) struct Charge {
    pub(super) sender: Address,
    pub(super) recipient: Address,
    /// The connection of its recipient, if there is one.
    pub(super) to: Option<ConnId>,
    pub(super) cost: u64,
    marks: Marks,
    /// It is not to be kept.
    discard: bool,
}

#[derive(Clone, Debug)]
enum About {
    /// An envelope, and the connection that sent it, if it did not have its place before.
    Append(Letter, Option<Author>, Charge),
    /// For which connection, for how many bytes there has to be room, and for which address.
    Read(ConnId, usize, Address, Marks),
    /// A block, or its end, that this message of a connection wants.
    Change(Bytes, Author),
    Expire,
    Upkeep,
}

impl About {
    /// Who may hear something about it.
    const fn caused_by(&self) -> Option<Author> {
        match self {
            Self::Append(_, from, _) => *from,
            Self::Change(_, from) => Some(*from),
            Self::Read(..) | Self::Expire | Self::Upkeep => None,
        }
    }
}

impl Model {
    /// An envelope for the queue.
    pub(super) fn enqueue(
        &mut self,
        author: Author,
        to: Option<ConnId>,
        view: &EnvelopeView<'_>,
        message: &Bytes,
        discard: bool,
    ) -> Decision {
        let queue = self.settings.queue.expect("there is a queue");
        let sender = sender_of(view);
        if !self.may_ask(message.len()) {
            return Decision::Rejected(self.refuse_busy());
        }
        if matches!(author, Author::Item(_)) {
            self.enter_stranger(&sender);
        }
        let recipient = Address::parse(view.to_address()).expect("it was checked");
        let now = self.unix();
        let append = Append {
            reserved: self.held(&recipient, &sender),
            reached: self.reached(&recipient, to),
            recipient,
            sender,
            seq: Seq(self.next_seq),
            message: message.clone(),
            now,
            expires_at: now + Duration::from_millis(queue.ttl),
            limits: Some(queue.limits()),
            discard,
        };
        let fate = if discard {
            self.happened.blocked += 1;
            Fate::Discarded
        } else {
            self.happened.accepted += 1;
            self.next_seq += 1;
            Fate::Storing
        };
        let letter = Letter {
            fate: self.fates.begin(fate),
            seq: append.seq,
            reserved: false,
            stored: false,
            message: message.clone(),
        };
        self.append(append, letter, Some(author), to.filter(|_| !discard));
        Decision::Asked
    }

    /// What the store was asked to keep and has not answered for.
    pub(super) fn charges(&self) -> impl Iterator<Item = &Charge> {
        self.owed.iter().filter_map(|owed| match &owed.about {
            About::Append(_, _, charge) => Some(charge),
            About::Read(..) | About::Change(..) | About::Expire | About::Upkeep => None,
        })
    }

    /// Whether the store may be asked for something with `bytes` more.
    pub(super) fn may_ask(&self, bytes: usize) -> bool {
        let limit = self
            .settings
            .queue
            .map_or(0, |queue| queue.unanswered_bytes);
        self.owed_bytes() + bytes + REQUEST_BYTES <= limit
    }

    /// What the store was given and has not answered for.
    fn owed_bytes(&self) -> usize {
        let of_one = |owed: &Owed| match &owed.about {
            About::Append(letter, ..) => letter.message.len() + REQUEST_BYTES,
            About::Change(message, _) => message.len() + REQUEST_BYTES,
            About::Read(..) | About::Expire | About::Upkeep => REQUEST_BYTES,
        };
        self.owed.iter().map(of_one).sum()
    }

    /// How much of that is beyond its limit: it was given back by connections that have ended.
    pub(super) fn unstored_bytes(&self) -> usize {
        let queue = self.settings.queue;
        let limit = queue.map_or(0, |queue| queue.unanswered_bytes);
        self.owed_bytes().saturating_sub(limit)
    }

    pub(super) fn refuse_busy(&mut self) -> String {
        self.happened.refused_store += 1;
        let limit = self
            .settings
            .queue
            .map_or(0, |queue| queue.unanswered_bytes);
        format!("relay's store is too busy: it owes answers for {limit} bytes")
    }

    /// The room that is set aside for what is being read.
    pub(super) fn reading_bytes(&self) -> usize {
        let of_one = |owed: &Owed| match owed.about {
            About::Read(_, room, ..) => room,
            About::Append(..) | About::Change(..) | About::Expire | About::Upkeep => 0,
        };
        self.owed.iter().map(of_one).sum()
    }

    /// An envelope that was on its way to a connection, which goes on as `to` or not at all.
    pub(super) fn requeue(&mut self, recipient: Address, letter: Letter, to: Option<ConnId>) {
        let Some(Queue { ttl, .. }) = self.settings.queue else {
            return;
        };
        let Ok(view) = EnvelopeView::parse(&letter.message) else {
            // The store has made it up: nobody has sent it, and nobody wants it back.
            return self.fates.set(letter.fate, Fate::Returned);
        };
        let sender = Address::parse(view.from_address()).expect("the address of an agent");
        let now = self.unix();
        self.fates.set(letter.fate, Fate::Storing);
        let limits = self.settings.queue.filter(|_| !letter.reserved);
        let limits = limits.map(|queue| queue.limits());
        if limits.is_some() {
            self.enter_shares(&sender);
        }
        let append = Append {
            limits,
            reserved: limits.map_or(Usage::default(), |_| self.held(&recipient, &sender)),
            reached: limits.map(|_| Seq(self.next_seq)),
            recipient,
            sender,
            seq: letter.seq,
            message: letter.message.clone(),
            now,
            expires_at: now + Duration::from_millis(ttl),
            discard: false,
        };
        self.append(append, letter, None, to);
    }

    fn append(&mut self, append: Append, letter: Letter, from: Option<Author>, to: Option<ConnId>) {
        let charge = Charge {
            sender: append.sender.clone(),
            recipient: append.recipient.clone(),
            to,
            cost: append.cost(),
            marks: self.marks(&append.sender, &append.recipient),
            discard: append.discard,
        };
        self.ask(
            About::Append(letter, from, charge),
            Operation::Append(append),
        );
    }

    /// The store has answered for an envelope, and says what it has and what gave way.
    fn end_append(&mut self, charge: &Charge, outcome: &Outcome) {
        let Outcome::Appended { usage, displaced } = outcome else {
            return;
        };
        let is_there = charge.to.is_some_and(|to| self.holds(to));
        let recipient = is_there.then_some(&charge.recipient);
        self.report(&charge.sender, recipient, *usage, charge.marks);
        if !charge.discard {
            self.count_appended(charge);
        }
        if let Some(entry) = displaced {
            self.happened.displaced += 1;
            self.tell_displaced(&entry.message);
        }
    }

    /// Asks for something that nobody waits for.
    pub(super) fn upkeep(&mut self, operation: Operation) {
        if self.settings.queue.is_some() {
            self.ask(About::Upkeep, operation);
        }
    }

    /// Asks for what `message` wants, whose sender is told if it fails.
    pub(super) fn change(&mut self, from: ConnId, message: &Bytes, operation: Operation) {
        if self.settings.queue.is_some() {
            self.ask(
                About::Change(message.clone(), Author::Conn(from)),
                operation,
            );
        }
    }

    fn ask(&mut self, about: About, operation: Operation) {
        let Some(Queue { answer_timeout, .. }) = self.settings.queue else {
            return;
        };
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.owed.push(Owed {
            ticket,
            due: self.alarms.patience.deadline(answer_timeout),
            overdue: false,
            about,
        });
        self.outputs
            .push(Output::Store(Request { ticket, operation }));
    }

    /// A recipient joins: it may have a queue.
    pub(super) fn begin_drain(&mut self, conn: ConnId) {
        if self.settings.queue.is_some()
            && let Some(connection) = self.get_mut(conn)
        {
            let announce = true;
            connection.backlog = Some(Backlog {
                announce,
                ..Backlog::behind(None)
            });
            self.read_on(conn);
        }
    }

    /// Reads on for somebody whose outbox is half empty, so that a slow reader costs few reads, and
    /// has room for any envelope.
    pub(super) fn read_on(&mut self, conn: ConnId) {
        let settings = self.settings;
        let (Some(queue), Some(connection)) = (settings.queue, self.get(conn)) else {
            return;
        };
        let Some(backlog) = &connection.backlog else {
            return;
        };
        let waits = self.alarms.is_set(Kind::Read, conn);
        let waits = waits || self.predecessor(&connection.address).is_some();
        let (after, recipient) = (backlog.after, connection.address.clone());
        let waits = waits || self.is_read_for_another(conn, &recipient);
        if backlog.reading || waits || !connection.is_open() {
            return;
        }
        let room = settings
            .outbox_bytes
            .saturating_sub(connection.waiting_bytes());
        let count = settings
            .outbox_count
            .saturating_sub(connection.waiting_count());
        let is_half_empty = room >= settings.outbox_bytes / 2 && 2 * count >= settings.outbox_count;
        if !is_half_empty || room < settings.envelope_bytes {
            return;
        }
        // One envelope comes, whatever its size: for that there has to be memory, or it waits.
        let held = connection.held_bytes();
        let needed = settings.envelope_bytes + ENVELOPE_OVERHEAD;
        let has_memory = self.make_room(needed, held);
        if !self.is_open(conn) {
            return;
        }
        if !has_memory {
            if held == 0 || self.memory_left(0) < needed {
                self.alarms.set(Kind::Read, conn, self.now);
            }
            return;
        }
        let memory = self.memory_left(held);
        // Half of it is for the bytes of envelopes, half for what they count besides; one fits.
        let half = (memory - ENVELOPE_OVERHEAD) / 2;
        let bytes = room
            .min(queue.read_bytes)
            .min(half.max(settings.envelope_bytes));
        let room = bytes.max(settings.envelope_bytes);
        let count = count
            .min((memory - room).min(room) / ENVELOPE_OVERHEAD)
            .max(1);
        let now = self.unix();
        let read = Read {
            recipient: recipient.clone(),
            after,
            bytes,
            count,
            now,
        };
        let room = room + count * ENVELOPE_OVERHEAD;
        let marks = self.marks(&recipient, &recipient);
        self.ask(
            About::Read(conn, room, recipient, marks),
            Operation::Read(read),
        );
        if let Some(backlog) = self.backlog(conn) {
            backlog.reading = true;
            backlog.overtaken = false;
        }
    }

    /// Whether the store owes an earlier connection of `address` than `conn` a read, whose answer comes
    /// first.
    pub(super) fn is_read_for_another(&self, conn: ConnId, address: &Address) -> bool {
        let is_it = |owed: &Owed| match &owed.about {
            About::Read(of, _, recipient, _) => *of != conn && recipient == address,
            About::Append(..) | About::Change(..) | About::Expire | About::Upkeep => false,
        };
        self.owed.iter().any(is_it)
    }

    fn backlog(&mut self, conn: ConnId) -> Option<&mut Backlog> {
        self.open(conn)?.backlog.as_mut()
    }

    /// What is held behind a read is appended to the queue.
    pub(super) fn spill(&mut self, conn: ConnId) {
        let Some(connection) = self.get_mut(conn) else {
            return;
        };
        let recipient = connection.address.clone();
        let Some(backlog) = &mut connection.backlog else {
            return;
        };
        backlog.overtaken = true;
        let held = core::mem::take(&mut backlog.held);
        self.requeue_all(&recipient, held, Some(conn));
    }

    /// The store has answered.
    pub(super) fn stored(&mut self, ticket: Ticket, outcome: Outcome) {
        let position = self.owed.iter().position(|owed| owed.ticket == ticket);
        let Some(position) = position else { return };
        let Owed { overdue, about, .. } = self.owed.remove(position);
        let failed = matches!(outcome, Outcome::Failed { .. });
        // A request counts as failed once: it may have been too late, too.
        self.happened.store_failures += u64::from(failed && !overdue);
        if let About::Append(_, _, charge) = &about {
            self.end_append(charge, &outcome);
        }
        match about {
            About::Append(letter, from, charge) if !overdue => {
                let rejected = self.appended(&letter, charge.discard, &outcome);
                self.answered(from, ticket, &letter.message, rejected);
            }
            About::Change(message, from) if !overdue => {
                let failure = match outcome {
                    Outcome::Done => None,
                    Outcome::Failed { failure, .. } => Some(failure),
                    Outcome::Appended { .. }
                    | Outcome::Refused(_)
                    | Outcome::Entries { .. }
                    | Outcome::Expired { .. } => Some(Failure::Broken),
                };
                let reason =
                    |failure| format!("{failure}; the change holds until the relay restarts");
                self.answered(Some(from), ticket, &message, failure.map(reason));
            }
            About::Append(..) | About::Change(..) | About::Upkeep => {}
            About::Read(conn, _, recipient, marks) if self.is_open(conn) => {
                if let Outcome::Entries { usage, .. } = &outcome {
                    self.report(&recipient, Some(&recipient), *usage, marks);
                }
                self.was_read(conn, outcome);
            }
            About::Read(_, _, recipient, _) => {
                if let Some(successor) = self.lookup(recipient.as_str()) {
                    self.read_on(successor);
                }
            }
            About::Expire => {
                if let Outcome::Expired { count } = outcome {
                    self.happened.expired += count;
                }
                let interval = Duration::from_millis(Settings::EXPIRY_INTERVAL);
                self.next_expiry = Some(self.now + interval);
            }
        }
        self.check_shutdown();
    }

    /// The store has answered for what somebody has sent, who waits for that, or is too late.
    fn answered(
        &mut self,
        from: Option<Author>,
        ticket: Ticket,
        message: &Bytes,
        rejected: Option<String>,
    ) {
        if let Some(Author::Item(item)) = from {
            let rejection = |reason: String| self.rejection(message, &reason);
            let verdict = rejected.map(rejection).map(Verdict::Rejected);
            return self.give_verdict(item, verdict.unwrap_or(Verdict::Accepted));
        }
        let conn = from.and_then(Author::conn);
        if let Some(reason) = rejected {
            self.tell_author(conn, message, &reason);
        }
        if let Some(conn) = conn {
            self.settle(conn, Awaited::Answer(ticket));
            self.go_on(conn);
        }
    }

    /// Returns why an envelope is not in the store, if it is not.
    fn appended(&mut self, letter: &Letter, discard: bool, outcome: &Outcome) -> Option<String> {
        let reason = match outcome {
            Outcome::Appended { .. } => {
                if !discard {
                    self.fates.set(letter.fate, Fate::Stored);
                }
                return None;
            }
            Outcome::Refused(refusal) => refusal.to_string(),
            Outcome::Failed { failure, .. } => failure.to_string(),
            Outcome::Done | Outcome::Entries { .. } | Outcome::Expired { .. } => {
                "relay's store does not work".into()
            }
        };
        if !discard {
            self.fates.set(letter.fate, Fate::Returned);
        }
        Some(reason)
    }

    /// A sender that was to send no more may go on, if the store has answered enough.
    pub(super) fn go_on(&mut self, conn: ConnId) {
        let is_congested = self.is_congested(conn);
        if let Some(connection) = self.get_mut(conn)
            && connection.paused
            && (connection.asleep || connection.blocked)
            && !is_congested
        {
            connection.asleep = false;
            self.outputs.push(Output::Wake { conn });
        }
    }

    /// Whether so much was refused to a sender that it has not read, or may still be, that it is to
    /// send no more.
    pub(super) fn is_congested(&self, conn: ConnId) -> bool {
        let Some(connection) = self.get(conn).filter(|connection| connection.is_open()) else {
            return false;
        };
        let may_come = self.unsettled(conn).len() * REJECTION_BYTES;
        let unread: usize = connection.control.iter().map(Frame::len).sum();
        connection.awaits_link || unread + may_come > self.settings.refusal_bytes
    }

    /// What a connection sent for which the store has not answered, and is not too late, or another
    /// shard has not given its verdict.
    pub(super) fn unsettled(&self, conn: ConnId) -> Vec<Awaited> {
        let author = Some(Author::Conn(conn));
        let waits = |owed: &&Owed| !owed.overdue && owed.about.caused_by() == author;
        let all = self.owed.iter().filter(waits);
        let answers = all.map(|owed| Awaited::Answer(owed.ticket));
        answers.chain(self.unanswered_of(conn)).collect()
    }

    fn was_read(&mut self, conn: ConnId, outcome: Outcome) {
        let now = self.now;
        let Some(backlog) = self.backlog(conn) else {
            return;
        };
        let held_on = backlog.holds();
        backlog.reading = false;
        let Outcome::Entries {
            entries, pending, ..
        } = outcome
        else {
            self.alarms.set(Kind::Read, conn, now);
            return self.spill(conn);
        };
        let announce = core::mem::take(&mut backlog.announce) && pending > 0;
        let count = entries.len() as u64;
        let through = entries.last().map(|entry| entry.seq);
        backlog.after = through.or(backlog.after);
        let is_all = held_on && (count == 0 || count >= pending);
        if announce {
            self.announce(conn, pending);
        }
        self.happened.read += count;
        for entry in entries {
            self.push_entry(conn, entry);
        }
        let settings = self.settings;
        if is_all
            && let Some(connection) = self.get_mut(conn)
            && connection.waiting_bytes() <= settings.outbox_bytes
            && connection.waiting_count() <= settings.outbox_count
            && let Some(backlog) = connection.backlog.take()
        {
            connection.data.extend(backlog.held);
            connection.drained = !connection.data.is_empty() || connection.has_unmarked();
        }
        // Where nobody confirms anything, the store forgets it now.
        let recipient = self.get(conn).map(|connection| connection.address.clone());
        if let (Delivery::AtMostOnce, Some(through), Some(recipient)) =
            (self.settings.delivery, through, recipient)
        {
            self.upkeep(Operation::Remove { recipient, through });
        }
        self.spill(conn);
        self.read_on(conn);
        self.wake(conn);
    }

    fn push_entry(&mut self, conn: ConnId, Entry { seq, message }: Entry) {
        if self.settings.delivery == Delivery::AtMostOnce
            && let Ok(view) = EnvelopeView::parse(&message)
            && let Ok(author) = Address::parse(view.from_address())
        {
            self.enter_shares(&author);
        }
        let letter = Letter {
            fate: self.fates.begin(Fate::Queued),
            seq,
            reserved: self.settings.delivery == Delivery::AtMostOnce,
            stored: self.settings.delivery == Delivery::AtLeastOnce,
            message,
        };
        if let Some(connection) = self.get_mut(conn) {
            connection.data.push(letter);
        }
    }

    /// Says how much waits, before any of it.
    fn announce(&mut self, conn: ConnId, pending: u64) {
        let pending_count = i32::try_from(pending).unwrap_or(i32::MAX);
        let status = Payload::QueueStatus(QueueStatus { pending_count });
        let mut envelope = Envelope::from_relay(status, self.unix());
        if let Some(connection) = self.get_mut(conn) {
            envelope.to_address = connection.address.as_str().into();
            connection
                .control
                .insert(0, Frame::Message(envelope.to_bytes()));
        }
    }

    /// The store takes too long with something; false if it does not.
    pub(super) fn expire_answer(&mut self) -> bool {
        let now = self.alarms.patience.now();
        let too_late = |owed: &&mut Owed| !owed.overdue && owed.due <= now;
        let Some(owed) = self.owed.iter_mut().find(too_late) else {
            return false;
        };
        owed.overdue = true;
        let (about, ticket) = (owed.about.clone(), owed.ticket);
        self.happened.store_failures += 1;
        match about {
            About::Append(letter, from, charge) => {
                if !charge.discard {
                    self.fates.set(letter.fate, Fate::Returned);
                }
                let reason = "relay's store does not answer; the envelope may arrive nevertheless";
                self.answered(from, ticket, &letter.message, Some(reason.into()));
            }
            About::Change(message, from) => {
                let reason = "relay's store does not answer; the change may hold only until the relay \
                              restarts";
                self.answered(Some(from), ticket, &message, Some(reason.into()));
            }
            About::Read(conn, ..) => self.spill(conn),
            About::Expire | About::Upkeep => {}
        }
        self.check_shutdown();
        true
    }

    /// Has the store forget what has expired; false if that is not due.
    pub(super) fn expire_stored(&mut self) -> bool {
        if self.next_expiry.is_none_or(|due| due > self.now) {
            return false;
        }
        self.next_expiry = None;
        self.tell_unknown_owners();
        let now = self.unix();
        self.ask(About::Expire, Operation::Expire { now });
        true
    }
}
