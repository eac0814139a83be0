//! How much of the limits of the queue is in use: what is stored, and what may yet have to be.
//!
//! An envelope that is accepted for a connection may come back when that is cut. So its place in the
//! queue is reserved when it is accepted: in the count of its recipient, the bytes of its sender, and
//! the bytes of all. Where the queue of the recipient or of all is full, an envelope of a sender with
//! a share left is delivered without a place. How much is stored is what the store said last; until it has said so, nothing
//! can be reserved, and an envelope goes through the store.

use alloc::collections::VecDeque;

use hashbrown::HashMap;

use super::outbox::Queued;
use super::seeded::Seeded;
use super::slab::Slab;
use crate::Address;
use crate::queue::{Limits, Usage};

/// The place of no agent: nothing is reserved, and nothing is counted.
pub(super) const NO_PLACE: u32 = u32::MAX;

/// Whether an envelope for a connection can have a place in the queue, should it come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// It can.
    Granted,
    /// The queue of the recipient is full, or that of all. The connection is alive nevertheless: the
    /// envelope is delivered without a place, and if it comes back, the limits count.
    Full,
    /// It is not known, or the sender's share is used up: the store has to decide.
    Unknown,
}

/// How much of one limit is in use.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    /// At most so much is stored, or on its way there when the store said so; `None` if unknown.
    stored: Option<u64>,
    /// What is held in memory and may be appended later.
    held: u64,
    /// What the store was asked to append and has not answered for.
    pending: u64,
    /// What it has appended since this share was begun.
    appended: u64,
}

impl Share {
    /// Whether `more` can be reserved within `limit`, of which one of `shards` may use its part of what
    /// is left; `None` if that is not known.
    fn admits(&self, more: u64, limit: u64, shards: u64) -> Option<bool> {
        let stored = self.stored?;
        Some(stored + shards * (self.pending + self.held + more) <= limit)
    }

    /// The store has answered for so much, which it has appended or not.
    const fn end(&mut self, amount: u64, is_stored: bool) {
        self.pending -= amount;
        if is_stored {
            self.appended += amount;
        }
    }

    /// The store says how much it had when it executed a request, which left when so much was
    /// `appended`. What it has appended since then may be missing in that.
    const fn report(&mut self, stored: u64, appended: u64) {
        self.stored = Some(stored.saturating_add(self.appended - appended));
    }

    const fn is_idle(&self) -> bool {
        self.held == 0 && self.pending == 0
    }
}

/// The marks of the three shares that a request is about.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks {
    recipient: u64,
    sender: u64,
    total: u64,
}

/// Somebody who has a connection, or for whom or of whom something is held.
#[derive(Debug)]
struct Agent {
    address: Address,
    connections: u32,
    /// It is among the strangers.
    is_stranger: bool,
    /// The bytes of what it has sent.
    sent: Share,
    /// The number of envelopes for it.
    received: Share,
}

/// The shares of all agents, and of all of them together.
#[derive(Debug)]
pub(super) struct Shares {
    places: HashMap<Address, u32, Seeded>,
    agents: Slab<Agent>,
    total: Share,
    /// The number of shards that reserve within the same limit of all.
    shards: u64,
    /// Agents of other shards that sent something, the first one first. What is known of them is kept
    /// for a while: else each could pass its limit again and again.
    strangers: VecDeque<u32>,
    max_strangers: usize,
}

impl Shares {
    /// The shares of one of `shards`.
    pub(super) fn new(seeded: Seeded, shards: u64, max_strangers: usize) -> Self {
        Self {
            places: HashMap::with_hasher(seeded),
            agents: Slab::new(),
            total: Share::default(),
            shards,
            strangers: VecDeque::new(),
            max_strangers,
        }
    }

    /// A connection of `address` begins, which `receives` or not. Returns the place of the agent.
    pub(super) fn join(&mut self, address: &Address, receives: bool) -> u32 {
        let place = self.enter(address);
        if let Some(agent) = self.agents.at_mut(place) {
            agent.connections += 1;
            // What was appended while it was not there is not counted here.
            agent.received.stored = agent.received.stored.filter(|_| !receives);
        }
        place
    }

    /// It has ended.
    pub(super) fn leave(&mut self, place: u32) {
        if let Some(agent) = self.agents.at_mut(place) {
            agent.connections -= 1;
        }
        self.forget_if_idle(place);
    }

    /// The place of an agent, for something that is reserved at once.
    pub(super) fn enter(&mut self, address: &Address) -> u32 {
        if let Some(place) = self.places.get(address) {
            return *place;
        }
        if !self.agents.has_room() {
            return NO_PLACE;
        }
        let agent = Agent {
            address: address.clone(),
            connections: 0,
            is_stranger: false,
            sent: Share::default(),
            received: Share::default(),
        };
        let place = self.agents.insert(agent).index;
        self.places.insert(address.clone(), place);
        place
    }

    /// Number of agents whose shares are counted, without strangers.
    pub(super) fn len(&self) -> usize {
        self.agents.len() - self.strangers.len()
    }

    /// The place of an agent of another shard that sends something; `address` is normalized. Until the
    /// store says what it has of it, that is taken for nothing, so that it reaches those who are live
    /// whatever the store does.
    pub(super) fn enter_stranger(&mut self, address: &str) -> u32 {
        let place = match self.places.get(address) {
            Some(place) => *place,
            None => match Address::parse(address) {
                Ok(address) => self.enter(&address),
                Err(_) => return NO_PLACE,
            },
        };
        if let Some(agent) = self.agents.at_mut(place) {
            agent.sent.stored.get_or_insert(0);
            if !core::mem::replace(&mut agent.is_stranger, true) {
                self.strangers.push_back(place);
                self.forget_stranger();
            }
        }
        place
    }

    /// Forgets the first of too many strangers.
    fn forget_stranger(&mut self) {
        if self.strangers.len() > self.max_strangers
            && let Some(first) = self.strangers.pop_front()
            && let Some(agent) = self.agents.at_mut(first)
        {
            agent.is_stranger = false;
            self.forget_if_idle(first);
        }
    }

    /// Whose place it is.
    pub(super) fn address(&self, place: u32) -> Option<&Address> {
        self.agents.at(place).map(|agent| &agent.address)
    }

    /// What is held in memory for `recipient`, of the sender, and in all.
    pub(super) fn held(&self, sender: u32, recipient: &Address) -> Usage {
        let received = self.places.get(recipient);
        let received = received.and_then(|place| self.agents.at(*place));
        let sent = self.agents.at(sender);
        Usage {
            recipient_count: received.map_or(0, |agent| agent.received.held),
            sender_bytes: sent.map_or(0, |agent| agent.sent.held),
            total_bytes: self.total.held,
        }
    }

    /// Whether an envelope of `bytes` for a connection can have a place in the queue.
    pub(super) fn claim(&self, sender: u32, to: u32, bytes: usize, limits: &Limits) -> Claim {
        let cost = self.cost(sender, to, bytes);
        let admitted = || {
            let (sender, to) = (self.agents.at(sender)?, self.agents.at(to)?);
            let own = sender.sent.admits(cost, limits.sender_bytes, 1)?;
            let received = to.received.admits(1, limits.recipient_count, 1)?;
            let total = self.total.admits(cost, limits.total_bytes, self.shards)?;
            Some((own, received && total))
        };
        match admitted() {
            Some((true, true)) => Claim::Granted,
            Some((true, false)) => Claim::Full,
            Some((false, _)) | None => Claim::Unknown,
        }
    }

    /// Reserves an envelope of `bytes`, if its sender has a place.
    pub(super) fn reserve(&mut self, sender: u32, to: u32, bytes: usize) {
        let cost = self.cost(sender, to, bytes);
        if let Some(agent) = self.agents.at_mut(sender) {
            agent.sent.held += cost;
            self.total.held += cost;
            if let Some(to) = self.agents.at_mut(to) {
                to.received.held += 1;
            }
        }
    }

    /// Releases what is reserved for an envelope, if something is.
    pub(super) fn release(&mut self, queued: &Queued, to: u32) {
        if !queued.reserved {
            return;
        }
        let sender = queued.sender;
        let cost = self.cost(sender, to, queued.message.len());
        if let Some(agent) = self.agents.at_mut(sender) {
            agent.sent.held -= cost;
            self.total.held -= cost;
            if let Some(to) = self.agents.at_mut(to) {
                to.received.held -= 1;
            }
            self.forget_if_idle(sender);
            self.forget_if_idle(to);
        }
    }

    /// The marks for a request about a sender and a recipient.
    pub(super) fn marks(&self, sender: u32, to: u32) -> Marks {
        let (sender, to) = (self.agents.at(sender), self.agents.at(to));
        Marks {
            recipient: to.map_or(0, |to| to.received.appended),
            sender: sender.map_or(0, |sender| sender.sent.appended),
            total: self.total.appended,
        }
    }

    /// The store is asked to append an envelope.
    pub(super) fn begin(&mut self, sender: u32, to: u32, cost: u64) {
        self.total.pending += cost;
        if let Some(sender) = self.agents.at_mut(sender) {
            sender.sent.pending += cost;
        }
        if let Some(to) = self.agents.at_mut(to) {
            to.received.pending += 1;
        }
    }

    /// It has answered.
    pub(super) fn end(&mut self, sender: u32, to: u32, cost: u64, is_stored: bool) {
        self.total.end(cost, is_stored);
        if let Some(sender) = self.agents.at_mut(sender) {
            sender.sent.end(cost, is_stored);
        }
        if let Some(to) = self.agents.at_mut(to) {
            to.received.end(1, is_stored);
        }
        self.forget_if_idle(sender);
        self.forget_if_idle(to);
    }

    /// The store says how much it has, of a sender and in all; and for a recipient that is connected
    /// since before it was asked, if that is not [`NO_PLACE`].
    pub(super) fn report(&mut self, sender: u32, to: u32, usage: Usage, marks: Marks) {
        self.total.report(usage.total_bytes, marks.total);
        if let Some(sender) = self.agents.at_mut(sender) {
            sender.sent.report(usage.sender_bytes, marks.sender);
        }
        if let Some(to) = self.agents.at_mut(to) {
            to.received.report(usage.recipient_count, marks.recipient);
        }
    }

    /// What an envelope counts for: [`Append::cost`](crate::queue::Append::cost).
    fn cost(&self, sender: u32, to: u32, bytes: usize) -> u64 {
        let len = |place| {
            let address = self.address(place);
            address.map_or(0, |address| address.as_str().len())
        };
        (bytes + len(sender) + len(to)) as u64
    }

    fn forget_if_idle(&mut self, place: u32) {
        let is_idle = |agent: &Agent| {
            let is_used = agent.connections > 0 || agent.is_stranger;
            !is_used && agent.sent.is_idle() && agent.received.is_idle()
        };
        if self.agents.at(place).is_some_and(is_idle)
            && let Some(key) = self.agents.key_at(place)
            && let Some(agent) = self.agents.remove(key)
        {
            self.places.remove(&agent.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Seq;

    #[test]
    fn nothing_is_reserved_before_it_is_known_what_is_stored() {
        let mut share = Share::default();
        assert_eq!(share.admits(1, u64::MAX, 1), None);
        share.report(3, share.appended);
        assert_eq!(
            [2, 3].map(|more| share.admits(more, 5, 1)),
            [Some(true), Some(false)]
        );
        share.held += 1;
        share.pending += 1;
        assert_eq!(share.admits(1, 5, 1), Some(false));
        share.held -= 1;
        share.end(1, false);
        assert_eq!(share.admits(2, 5, 1), Some(true));
    }

    #[test]
    fn an_old_report_does_not_hide_what_was_appended_since() {
        let mut share = Share::default();
        share.report(0, share.appended);
        let mark = share.appended;
        share.pending += 4;
        share.end(4, true);
        share.report(4, mark);
        share.report(0, mark);
        assert_eq!(
            [1, 2].map(|more| share.admits(more, 5, 1)),
            [Some(true), Some(false)]
        );
    }

    #[test]
    fn an_agent_without_connections_and_envelopes_is_forgotten() {
        let address = |name| Address::parse(&alloc::format!("pinch:{name}@r")).unwrap();
        let mut shares = Shares::new(Seeded::new([1; 16]), 1, 1);
        let alice = shares.join(&address("alice"), true);
        let bob = shares.join(&address("bob"), true);
        shares.reserve(alice, bob, 10);
        shares.leave(alice);
        shares.leave(bob);
        assert_eq!(shares.held(alice, &address("bob")).recipient_count, 1);
        let cost = shares.cost(alice, bob, 10);
        shares.begin(alice, NO_PLACE, cost);
        let queued = Queued {
            seq: Seq(0),
            stored: false,
            sender: alice,
            reserved: true,
            confirmable: true,
            message: alloc::vec![0; 10].into(),
        };
        shares.release(&queued, bob);
        assert_eq!((shares.places.len(), shares.total.held), (1, 0));
        shares.end(alice, NO_PLACE, cost, true);
        assert_eq!((shares.places.len(), shares.agents.len()), (0, 0));
    }
}
