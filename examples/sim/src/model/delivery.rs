//! Where an envelope waits that was accepted, and what becomes of it when its recipient leaves.

use core::cmp::Reverse;
use core::time::Duration;

use bytes::Bytes;
use pinch_proto::hub::{CloseCause, ConnId, ENVELOPE_OVERHEAD, SlowReader};
use pinch_proto::queue::{Operation, Seq};
use pinch_proto::{Address, EnvelopeView};

use super::Model;
use super::alarms::Kind;
use super::connection::{Connection, Given, Letter};
use super::fates::Fate;
use super::queue::Backlog;
use super::routing::{Author, Decision, sender_of};

impl Model {
    /// An envelope for somebody who is connected.
    pub(super) fn deliver(
        &mut self,
        author: Author,
        recipient: ConnId,
        view: &EnvelopeView<'_>,
        message: &Bytes,
        discard: bool,
    ) -> Decision {
        let (bytes, settings) = (message.len(), self.settings);
        let Some(connection) = self.get(recipient) else {
            return Decision::Accepted;
        };
        let held = connection.held_bytes();
        let has_memory = self.make_room(bytes + ENVELOPE_OVERHEAD, held);
        let Some(connection) = self.get(recipient) else {
            return Decision::Accepted;
        };
        if !connection.is_open() {
            return self.take_for_offline(author, view, message, discard);
        }
        let has_room = connection.waiting_bytes() + bytes <= settings.outbox_bytes
            && connection.waiting_count() < settings.outbox_count;
        let is_held = connection.backlog.as_ref().map(Backlog::holds);
        let sender = sender_of(view);
        if matches!(author, Author::Item(_)) {
            self.enter_stranger(&sender);
        }
        let claim = self.claim(&sender, recipient, message);
        match is_held {
            None if !has_memory || !has_room => {
                return self.overflow(author, recipient, view, message, (has_room, discard));
            }
            None if claim.is_none() => {
                return self.overtake(author, recipient, view, message, discard);
            }
            Some(holds) if !has_memory || !has_room || claim != Some(true) || !holds => {
                // What comes goes behind what is stored, and so does what waits for a read.
                if !discard {
                    self.spill(recipient);
                }
                return self.enqueue(author, Some(recipient), view, message, discard);
            }
            None | Some(_) => {}
        }
        if discard {
            self.happened.blocked += 1;
            return Decision::Accepted;
        }
        self.happened.accepted += 1;
        let letter = Letter {
            fate: self.fates.begin(Fate::Queued),
            seq: self.take_seq(),
            reserved: claim == Some(true),
            stored: false,
            message: message.clone(),
        };
        if let Some(connection) = self.get_mut(recipient) {
            match &mut connection.backlog {
                None => connection.data.push(letter),
                Some(backlog) => backlog.held.push(letter),
            }
        }
        self.wake(recipient);
        Decision::Accepted
    }

    /// An envelope for somebody who reads too slowly.
    fn overflow(
        &mut self,
        author: Author,
        recipient: ConnId,
        view: &EnvelopeView<'_>,
        message: &Bytes,
        (has_room, discard): (bool, bool),
    ) -> Decision {
        let settings = self.settings;
        if settings.slow_reader == SlowReader::Spill && settings.queue.is_some() {
            self.overtake(author, recipient, view, message, discard)
        } else if has_room {
            // It is the hub that is full, for which nobody is to blame.
            self.happened.refused_memory += 1;
            let held = self.get(recipient).map(Connection::held_bytes);
            let limit = self.memory_limit(held.unwrap_or_default());
            let reason =
                format!("relay is out of memory for envelopes: at most {limit} bytes wait in all");
            Decision::Rejected(reason)
        } else if settings.slow_reader == SlowReader::Disconnect {
            if !discard {
                self.happened.stalls += 1;
                self.close(recipient, CloseCause::TooSlow);
            }
            self.take_for_offline(author, view, message, discard)
        } else {
            self.happened.refused_full += 1;
            let (bytes, count) = (settings.outbox_bytes, settings.outbox_count);
            let reason = format!(
                "recipient's outbox is full: at most {bytes} bytes or {count} envelopes wait for a connection"
            );
            Decision::Rejected(reason)
        }
    }

    /// From here on a recipient has something in its queue that it was not given.
    fn overtake(
        &mut self,
        author: Author,
        recipient: ConnId,
        view: &EnvelopeView<'_>,
        message: &Bytes,
        discard: bool,
    ) -> Decision {
        if discard {
            return self.enqueue(author, Some(recipient), view, message, discard);
        }
        let after = self.next_seq.checked_sub(1).map(Seq);
        if let Some(connection) = self.get_mut(recipient) {
            connection.backlog = Some(Backlog::behind(after));
        }
        let verdict = self.enqueue(author, Some(recipient), view, message, discard);
        self.read_on(recipient);
        verdict
    }

    pub(super) fn take_for_offline(
        &mut self,
        author: Author,
        view: &EnvelopeView<'_>,
        message: &Bytes,
        discard: bool,
    ) -> Decision {
        if self.settings.queue.is_some() {
            self.enqueue(author, None, view, message, discard)
        } else {
            self.happened.refused_offline += 1;
            Decision::Rejected("recipient is offline and no queue is configured".into())
        }
    }

    /// How many bytes more the hub may hold for a connection: what waits, what is unconfirmed, and
    /// what is being read count. Who has something leaves a quarter to those who have not.
    pub(super) fn memory_left(&self, held: usize) -> usize {
        let used = self.counted_bytes() + self.unstored_bytes();
        self.memory_limit(held).saturating_sub(used)
    }

    fn memory_limit(&self, held: usize) -> usize {
        let limit = self.settings.total_outbox_bytes;
        limit - if held > 0 { limit / 4 } else { 0 }
    }

    /// What counts of the hub's memory.
    pub(super) fn counted_bytes(&self) -> usize {
        let held: usize = self.connections.iter().map(Connection::held_bytes).sum();
        let count: usize = self.connections.iter().map(Connection::held_count).sum();
        held + count * ENVELOPE_OVERHEAD + self.reading_bytes()
    }

    /// Closes those that hold most of the memory and have acknowledged nothing for some time, one
    /// after the other and four at most, until there is room for somebody who has `held` bytes.
    pub(super) fn make_room(&mut self, needed: usize, held: usize) -> bool {
        for _ in 0..4 {
            if self.memory_left(held) >= needed {
                return true;
            }
            if self.unstored_bytes() > 0 {
                return false;
            }
            let share = self.memory_limit(1) / self.connections.len().max(1);
            let patience = Duration::from_millis(self.settings.stall_timeout) / 15;
            let gives_way = |connection: &&Connection| {
                let waits = |kind| self.alarms.has_waited(kind, connection.conn, patience);
                connection.is_open()
                    && connection.weight() > share
                    && (waits(Kind::Ack) || waits(Kind::Stall))
            };
            let all = self.connections.iter().filter(gives_way);
            let first = |connection: &&Connection| Reverse(connection.conn.index());
            let Some(largest) = all.max_by_key(|it| (it.weight(), first(it))) else {
                return false;
            };
            let conn = largest.conn;
            self.happened.memory_closes += 1;
            self.close(conn, CloseCause::TooSlow);
        }
        self.memory_left(held) >= needed
    }

    /// A peer has confirmed these: the store can forget them.
    pub(super) fn confirmed(&mut self, conn: ConnId, confirmed: Vec<Given>) {
        let mut through = None;
        for Given { letter, .. } in confirmed {
            self.fates.set(letter.fate, Fate::Delivered);
            through = Some(letter.seq).filter(|_| letter.stored).or(through);
        }
        let recipient = self.get(conn).map(|connection| connection.address.clone());
        if let (Some(through), Some(recipient)) = (through, recipient) {
            self.upkeep(Operation::Remove { recipient, through });
        }
    }

    /// What waits goes to the queue; without one, its senders are told.
    pub(super) fn part_with_waiting(&mut self, conn: ConnId) {
        let Some(connection) = self.get_mut(conn) else {
            return;
        };
        let mut waiting = core::mem::take(&mut connection.data);
        waiting.extend(
            connection
                .backlog
                .take()
                .into_iter()
                .flat_map(|backlog| backlog.held),
        );
        if self.settings.queue.is_some() {
            return self.give_back(conn, waiting);
        }
        for letter in &waiting {
            self.fates.set(letter.fate, Fate::Returned);
        }
        for letter in waiting {
            let reason =
                "recipient left before the envelope was sent to it, and no queue is configured";
            self.tell_its_sender(&letter.message, reason);
        }
    }

    /// What a peer was given and has not confirmed goes the same way.
    pub(super) fn part_with_given(&mut self, conn: ConnId) {
        let Some(connection) = self.get_mut(conn) else {
            return;
        };
        let given = core::mem::take(&mut connection.given).into_iter();
        let given: Vec<_> = given.map(|given| given.letter).collect();
        if self.settings.queue.is_some() {
            return self.give_back(conn, given);
        }
        for letter in &given {
            self.fates.set(letter.fate, Fate::Unconfirmed);
        }
        for letter in given {
            let reason = "recipient left before it confirmed the envelope, which may have arrived";
            self.tell_its_sender(&letter.message, reason);
        }
    }

    /// What is in the store stays there; the rest goes there, whatever the limits if its place is
    /// reserved.
    fn give_back(&mut self, conn: ConnId, letters: Vec<Letter>) {
        let recipient = self.get(conn).map(|connection| connection.address.clone());
        let Some(recipient) = recipient else { return };
        self.requeue_all(&recipient, letters, None);
    }

    /// Those that have to wait until an earlier one was appended keep their places meanwhile.
    pub(super) fn requeue_all(
        &mut self,
        recipient: &Address,
        letters: Vec<Letter>,
        to: Option<ConnId>,
    ) {
        self.leaving = (Some(recipient.clone()), letters);
        while !self.leaving.1.is_empty() {
            let letter = self.leaving.1.remove(0);
            if letter.stored {
                self.fates.set(letter.fate, Fate::Kept);
            } else {
                self.requeue(recipient.clone(), letter, to);
            }
        }
    }
}
