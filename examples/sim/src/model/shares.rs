//! How much of the limits of the queue is in use, counted anew whenever somebody asks.
//!
//! What is held for a connection may come back and is counted, and so is what the store has not
//! answered for. What is stored is what the store said last, and what it has appended since.

use bytes::Bytes;
use pinch_proto::hub::ConnId;
use pinch_proto::queue::{Seq, Usage};
use pinch_proto::{Address, EnvelopeView};

use super::Model;
use super::connection::{Connection, Letter};
use super::queue::{Backlog, Charge};

/// What the store has said about one number.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    stored: Option<u64>,
    /// What it has appended since the beginning.
    appended: u64,
}

impl Known {
    fn report(&mut self, stored: u64, appended: u64) {
        self.stored = Some(stored + self.appended - appended);
    }
}

/// What is known about somebody who has a connection, or for whom or of whom something is held.
#[derive(Clone, Debug)]
pub(super) struct Agent {
    address: Address,
    sent: Known,
    received: Known,
}

/// What was known when the store was asked for something.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks {
    sent: u64,
    received: u64,
    total: u64,
}

impl Model {
    /// A connection of `address` begins: what was appended for it meanwhile is not known.
    pub(super) fn join_shares(&mut self, address: &Address, receives: bool) {
        if self.settings.queue.is_none() {
            return;
        }
        self.enter_shares(address);
        if let Some(agent) = self.agent(address).filter(|_| receives) {
            agent.received.stored = None;
        }
    }

    /// From here on somebody is known.
    pub(super) fn enter_shares(&mut self, address: &Address) {
        if self.agent(address).is_none() {
            self.agents.push(Agent {
                address: address.clone(),
                sent: Known::default(),
                received: Known::default(),
            });
        }
    }

    /// Somebody of another shard sends something, and is known for a while. Until the store says what it
    /// has of it, that is nothing.
    pub(super) fn enter_stranger(&mut self, address: &Address) {
        if self.settings.queue.is_none() {
            return;
        }
        self.enter_shares(address);
        if let Some(agent) = self.agent(address) {
            agent.sent.stored.get_or_insert(0);
        }
        if !self.strangers.contains(address) {
            self.strangers.push(address.clone());
            if self.strangers.len() > self.settings.max_parked_buckets {
                self.strangers.remove(0);
                self.leave_shares();
            }
        }
    }

    /// Whoever has no connection, and for whom and of whom nothing is held, is forgotten.
    pub(super) fn leave_shares(&mut self) {
        let is_there = |address: &Address| {
            let is_it = |connection: &Connection| connection.address == *address;
            let held = self.held(address, address);
            let pending = self.pending(address, address);
            self.connections.iter().any(is_it)
                || [held.recipient_count, held.sender_bytes] != [0, 0]
                || [pending.recipient_count, pending.sender_bytes] != [0, 0]
                || self.strangers.contains(address)
        };
        let there: Vec<_> = self
            .agents
            .iter()
            .map(|one| is_there(&one.address))
            .collect();
        let mut there = there.into_iter();
        self.agents.retain(|_| there.next() == Some(true));
    }

    fn agent(&mut self, address: &Address) -> Option<&mut Agent> {
        self.agents.iter_mut().find(|one| one.address == *address)
    }

    /// What is held in memory for a recipient, of a sender, and in all, and is not stored.
    pub(super) fn held(&self, recipient: &Address, sender: &Address) -> Usage {
        let mut held = Usage::default();
        if self.settings.queue.is_none() {
            return held;
        }
        for connection in &self.connections {
            let given = connection.given.iter().map(|given| &given.letter);
            for letter in connection.waiting().chain(given) {
                count(&mut held, letter, &connection.address, recipient, sender);
            }
        }
        let (leaves, letters) = &self.leaving;
        for (letter, leaves) in letters.iter().zip(leaves.iter().cycle()) {
            count(&mut held, letter, leaves, recipient, sender);
        }
        held
    }

    /// The same of what the store has not answered for; for a recipient, what it was asked while that
    /// was connected.
    fn pending(&self, recipient: &Address, sender: &Address) -> Usage {
        let mut pending = Usage::default();
        for charge in self.charges() {
            let to_recipient = charge.to.is_some() && charge.recipient == *recipient;
            let from_sender = charge.sender == *sender;
            add(&mut pending, to_recipient, from_sender, charge.cost);
        }
        pending
    }

    /// Whether an envelope for a connection has a place in the queue; `None` if that is not known, or
    /// its sender has no share left.
    pub(super) fn claim(
        &self,
        sender: &Address,
        recipient: ConnId,
        message: &Bytes,
    ) -> Option<bool> {
        let (Some(queue), Some(recipient)) = (self.settings.queue, self.get(recipient)) else {
            return Some(false);
        };
        let recipient = &recipient.address;
        let find = |address: &Address| self.agents.iter().find(|one| one.address == *address);
        let held = self.held(recipient, sender);
        let pending = self.pending(recipient, sender);
        let limits = queue.limits();
        let cost = cost(message, sender, recipient);
        let fits = |known: Known, held, pending, more, limit| {
            Some(known.stored? + held + pending + more <= limit)
        };
        // What is left of what all shards share is divided among them.
        let shards = u64::from(self.place.shards.count().get());
        let received = fits(
            find(recipient)?.received,
            held.recipient_count,
            pending.recipient_count,
            1,
            limits.recipient_count,
        )?;
        let own = fits(
            find(sender)?.sent,
            held.sender_bytes,
            pending.sender_bytes,
            cost,
            limits.sender_bytes,
        )?;
        let total = fits(
            self.total,
            shards * held.total_bytes,
            shards * pending.total_bytes,
            shards * cost,
            limits.total_bytes,
        )?;
        own.then_some(received && total)
    }

    pub(super) fn marks(&mut self, sender: &Address, recipient: &Address) -> Marks {
        Marks {
            sent: self.agent(sender).map_or(0, |agent| agent.sent.appended),
            received: self
                .agent(recipient)
                .map_or(0, |agent| agent.received.appended),
            total: self.total.appended,
        }
    }

    /// The store says what it has, for a recipient that may have gone.
    pub(super) fn report(
        &mut self,
        sender: &Address,
        recipient: Option<&Address>,
        usage: Usage,
        marks: Marks,
    ) {
        self.total.report(usage.total_bytes, marks.total);
        if let Some(agent) = self.agent(sender) {
            agent.sent.report(usage.sender_bytes, marks.sent);
        }
        if let Some(agent) = recipient.and_then(|recipient| self.agent(recipient)) {
            agent.received.report(usage.recipient_count, marks.received);
        }
    }

    /// The store has appended something.
    pub(super) fn count_appended(&mut self, charge: &Charge) {
        self.total.appended += charge.cost;
        if let Some(agent) = self.agent(&charge.sender) {
            agent.sent.appended += charge.cost;
        }
        if charge.to.is_some()
            && let Some(agent) = self.agent(&charge.recipient)
        {
            agent.received.appended += 1;
        }
    }

    /// The last envelope of a queue that must not give way, for it may be on its way.
    pub(super) fn reached(&self, recipient: &Address, to: Option<ConnId>) -> Option<Seq> {
        let all = Some(Seq(self.next_seq));
        if self.predecessor(recipient).is_some() {
            return all;
        }
        let connection = self.get(to?)?;
        match &connection.backlog {
            Some(backlog) if !backlog.is_being_read() => Backlog::after(backlog),
            Some(_) | None => all,
        }
    }
}

/// Counts a letter for `to`, if its place is reserved.
fn count(held: &mut Usage, letter: &Letter, to: &Address, recipient: &Address, sender: &Address) {
    let is_reserved = letter.reserved && !letter.stored;
    if let Some(author) = author(letter).filter(|_| is_reserved) {
        let cost = cost(&letter.message, &author, to);
        add(held, to == recipient, author == *sender, cost);
    }
}

fn add(usage: &mut Usage, to_recipient: bool, from_sender: bool, cost: u64) {
    usage.recipient_count += u64::from(to_recipient);
    usage.sender_bytes += if from_sender { cost } else { 0 };
    usage.total_bytes += cost;
}

/// Who sent a letter; nobody if the store has made it up.
fn author(letter: &Letter) -> Option<Address> {
    let view = EnvelopeView::parse(&letter.message).ok()?;
    Address::parse(view.from_address()).ok()
}

fn cost(message: &Bytes, sender: &Address, recipient: &Address) -> u64 {
    (message.len() + sender.as_str().len() + recipient.as_str().len()) as u64
}
