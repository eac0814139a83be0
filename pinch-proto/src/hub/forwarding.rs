//! What goes to the other shards of the relay and comes from them.
//!
//! An envelope is checked in the shard of its sender, for what concerns that, and goes over a link
//! if its recipient lives in another. There it takes the same way as one of a connection. The
//! sender's replies wait for the verdict as they wait for the store.
//!
//! ```text
//!  sender's shard                                    recipient's shard
//!    receive ── Item::Envelope ─────────────────────► accept ─► outbox
//!    replies ◄─ Verdict ◄──────────────────────────── accepted, or rejected
//!                        ◄───── the store's answer ── enqueue
//!    control ◄─ Item::Rejection ◄───────────────────── came back later
//! ```

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

use super::Hub;
use super::connection::Connection;
use super::core::Core;
use super::deadlines::Timer;
use super::io::{ConnId, Output};
use super::links::{Item, ItemId, Link, Parcel, Receipt, Verdict};
use super::queueing::begin_settling;
use super::rejection::RejectReason;
use super::routing::{Author, Fate};
use super::seeded::AddressHash;
use super::shards::{Shard, ShardId};
use super::unsettled::Origin;
use crate::message::SealedEnvelope;
use crate::{Address, EnvelopeView, Frame};

/// The place of a hub in its relay, and its links to the others.
#[derive(Debug)]
pub(super) struct Links {
    place: Shard,
    /// Most bytes of envelopes without a verdict on all links.
    limit: usize,
    /// Connections that are to send no more until there is room, in order, and how many of them have
    /// ended at least.
    waiting: VecDeque<ConnId>,
    gone: usize,
    /// By the index of the shard at the other end. None where there is one shard.
    links: Vec<Link>,
    bytes: usize,
}

impl Links {
    pub(super) fn new(place: Shard, limit: usize) -> Self {
        let count = usize::from(place.shards.count().get());
        let links = if count > 1 { count } else { 0 };
        Self {
            place,
            limit,
            links: (0..links).map(|_| Link::default()).collect(),
            bytes: 0,
            waiting: VecDeque::new(),
            gone: 0,
        }
    }

    pub(super) const fn place(&self) -> &Shard {
        &self.place
    }

    /// Bytes of envelopes on their way to others, each with an overhead.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The most that envelopes can make of these. Rejections may come on top.
    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// Whether so much is on its way that connections are to send no more.
    const fn is_narrow(&self) -> bool {
        self.bytes > self.limit / 2
    }

    /// Number of items that have no verdict.
    pub(super) fn unanswered(&self) -> usize {
        self.links.iter().map(Link::unanswered).sum()
    }

    fn keeps(&self) -> bool {
        self.place.resend_after.is_some()
    }

    fn link(&mut self, shard: ShardId) -> Option<&mut Link> {
        self.links.get_mut(shard.index())
    }

    /// The shard of an address with this hash, if it is another one.
    pub(super) fn other(&self, hash: AddressHash) -> Option<ShardId> {
        let shard = self.place.shards.of_hash(hash);
        (shard != self.place.id).then_some(shard)
    }

    /// Takes what is to be handed to the hub of `shard`.
    pub(super) fn take_outgoing(&mut self, shard: ShardId) -> Vec<Parcel> {
        let link = self.link(shard);
        link.map_or_else(Vec::new, |link| core::mem::take(&mut link.outgoing))
    }

    /// Changes a link, which then takes less.
    fn relieve<T>(&mut self, shard: ShardId, change: impl FnOnce(&mut Link) -> T) -> Option<T> {
        let link = self.links.get_mut(shard.index())?;
        let before = link.bytes();
        let result = change(link);
        self.bytes -= before - link.bytes();
        Some(result)
    }
}

impl Core {
    /// The shard in which `address` lives, if it is another one.
    pub(super) fn other_shard(&self, address: &str) -> Option<ShardId> {
        // A relay of one shard hashes nothing for this.
        if self.links.links.is_empty() {
            return None;
        }
        let address = Address::normalized(address);
        self.links.other(self.seeded.hash(address.as_bytes()))
    }

    /// Sends an envelope of a connection to the shard of its recipient. From half of what may be on
    /// its way, the connection is to send no more; what was read already may take the other half.
    pub(super) fn forward(
        &mut self,
        shard: ShardId,
        sender: &mut Connection,
        envelope: &SealedEnvelope,
        hash: u32,
    ) -> Fate {
        let message = envelope.to_message();
        let item = Item::Envelope { message, hash };
        let limit = self.links.limit;
        if self.links.bytes + item.cost() > limit {
            self.stats.refused_memory += 1;
            return Fate::Rejected(RejectReason::ShardBusy { limit });
        }
        self.stats.forwarded += 1;
        let origin = begin_settling(sender);
        sender.open_items += 1;
        self.send(shard, item, Some(origin));
        if self.links.is_narrow() && !core::mem::replace(&mut sender.awaits_links, true) {
            self.links.waiting.push_back(sender.id);
        }
        // The verdict of the other shard is what its replies wait for.
        Fate::Asked
    }

    fn send(&mut self, shard: ShardId, item: Item, origin: Option<Origin>) {
        let (instance, keeps) = (self.links.place.instance, self.links.keeps());
        self.links.bytes += item.cost();
        let Some(link) = self.links.link(shard) else {
            return;
        };
        if link.send(instance, item, origin, keeps) {
            self.announce(shard);
        }
        if keeps {
            self.arm_if_idle(Timer::Resend, shard.0.into());
        }
    }

    /// The fate of an item is settled: tells the hub that sent it, unless it is this one.
    pub(super) fn settle_item(&mut self, id: ItemId, verdict: Verdict) {
        if self.links.keeps()
            && let Some(link) = self.links.link(ShardId(id.shard))
        {
            link.settle(id.instance, id.number, &verdict);
        }
        self.send_verdict(id, verdict);
    }

    fn send_verdict(&mut self, id: ItemId, verdict: Verdict) {
        let ItemId {
            shard,
            instance,
            number,
        } = id;
        let shard = ShardId(shard);
        // Of a batch, most are accepted at once: they have one verdict.
        let link = self.links.link(shard);
        if let Some(Parcel::Verdict {
            instance: of,
            last,
            verdict: before,
            ..
        }) = link.and_then(|link| link.outgoing.last_mut())
            && (*of, *last + 1) == (instance, number)
            && *before == verdict
            && !matches!(verdict, Verdict::Rejected(_))
        {
            *last = number;
            return;
        }
        let parcel = Parcel::Verdict {
            instance,
            first: number,
            last: number,
            verdict,
        };
        self.hand_over(shard, parcel);
    }

    /// Hands something to another hub, together with what waits for that already.
    fn hand_over(&mut self, shard: ShardId, parcel: Parcel) {
        let link = self.links.link(shard);
        if link.is_some_and(|link| link.hand_over(parcel)) {
            self.announce(shard);
        }
    }

    /// There is something for another hub. What it is, is taken when the output is.
    fn announce(&mut self, shard: ShardId) {
        let parcels = Vec::new();
        self.say(Output::Forward { shard, parcels });
    }

    /// Sends everything again that has waited for its verdict for too long.
    pub(super) fn resend(&mut self, index: u32) {
        let shard = ShardId(u16::try_from(index).unwrap_or(u16::MAX));
        let instance = self.links.place.instance;
        if let Some(link) = self.links.link(shard) {
            let parcels: Vec<_> = link.resend(instance).collect();
            for parcel in parcels {
                self.hand_over(shard, parcel);
            }
            self.arm(Timer::Resend, index);
        }
    }

    /// Tells the author of an envelope in another shard, if it is there, that it does not arrive
    /// after all.
    pub(super) fn send_rejection(&mut self, shard: ShardId, message: Bytes, droppable: bool) {
        if droppable && self.links.is_narrow() {
            return;
        }
        let item = Item::Rejection { message, droppable };
        self.send(shard, item, None);
    }
}

impl Hub {
    /// Something has come from the hub of another shard.
    pub(super) fn forwarded(&mut self, from: ShardId, parcel: Parcel) {
        match parcel {
            Parcel::Item {
                instance,
                number,
                oldest,
                needs,
                item,
            } => {
                let keeps = self.core.links.keeps();
                let Some(link) = self.core.links.link(from) else {
                    return;
                };
                let shard = from.0;
                let id = ItemId {
                    shard,
                    instance,
                    number,
                };
                match link.receive(instance, number, oldest, needs, keeps) {
                    Receipt::New => self.take_item(id, item),
                    Receipt::Again(verdict) => self.core.send_verdict(id, verdict),
                    Receipt::Ignored => {}
                }
            }
            Parcel::Verdict {
                instance,
                first,
                last,
                verdict,
            } if instance == self.core.links.place.instance => {
                self.take_verdicts(from, first, last, &verdict);
            }
            Parcel::Verdict { .. } => {}
        }
    }

    fn take_item(&mut self, id: ItemId, item: Item) {
        match item {
            Item::Envelope { message, hash } => {
                self.core.stats.arrived += 1;
                // It was read by the other hub, and is an envelope.
                let Ok(mut envelope) = message.into_envelope() else {
                    return;
                };
                let author = Author::Item(id);
                let view = envelope.view();
                let to = Address::normalized_bytes(view.recipient_bytes());
                let recipient = self.connections.find_hashed(&to, hash);
                match self.route(author, recipient, &mut envelope) {
                    Fate::Done => self.core.settle_item(id, Verdict::Accepted),
                    Fate::Asked if self.core.links.keeps() => {}
                    Fate::Asked => self.core.send_verdict(id, Verdict::Taken),
                    Fate::Rejected(reason) => {
                        let rejection = self.core.rejection(&envelope.view(), reason);
                        self.core.settle_item(id, Verdict::Rejected(rejection));
                    }
                }
            }
            Item::Rejection { message, droppable } => {
                self.tell_rejected(None, &message, droppable);
                self.core.settle_item(id, Verdict::Accepted);
            }
        }
    }

    fn take_verdicts(&mut self, from: ShardId, first: u64, last: u64, verdict: &Verdict) {
        let links = &mut self.core.links;
        let Some(link) = links.link(from) else {
            return;
        };
        let mut has_moved = false;
        for number in link.numbers(first, last) {
            let links = &mut self.core.links;
            let known = links.relieve(from, |link| match verdict {
                Verdict::Taken => link.take(number).map(|origin| (origin, false)),
                Verdict::Accepted | Verdict::Rejected(_) => link.answer(number),
            });
            let Some((origin, was_taken)) = known.flatten() else {
                continue;
            };
            has_moved = true;
            let conn = origin.and_then(Origin::conn);
            if let Verdict::Rejected(rejection) = verdict {
                self.tell_rejected(conn, rejection, false);
            }
            if *verdict != Verdict::Taken {
                self.settled(origin);
            }
            if !was_taken {
                self.close_item(conn);
            }
        }
        if has_moved {
            self.reopen_links(from);
            self.check_shutdown();
        }
    }

    /// Another shard has decided about an item of a connection, or its store will.
    fn close_item(&mut self, conn: Option<ConnId>) {
        let Self { connections, core } = self;
        if let Some(connection) = conn.and_then(|conn| connections.get_mut(conn)) {
            connection.open_items -= 1;
            if connection.open_items == 0 {
                core.release_close(connection);
            }
        }
    }

    /// A connection that waits for room on the links has ended.
    pub(super) fn leave_links(&mut self) {
        let Self { connections, core } = self;
        let links = &mut core.links;
        links.gone += 1;
        if links.gone > links.waiting.len() / 2 {
            links.gone = 0;
            let is_there = |conn: &ConnId| connections.get(*conn).is_some();
            links.waiting.retain(is_there);
        }
    }

    /// Lets connections go on that wait for room on the links, if there is some.
    fn reopen_links(&mut self, shard: ShardId) {
        let keeps = self.core.links.keeps();
        let link = self.core.links.link(shard);
        let is_awaited = keeps && link.is_some_and(|link| link.unanswered() > 0);
        let index = u32::from(shard.0);
        self.core.deadlines.disarm(Timer::Resend, index);
        if is_awaited {
            self.core.arm(Timer::Resend, index);
        }
        if self.core.links.is_narrow() {
            return;
        }
        self.core.links.gone = 0;
        for conn in core::mem::take(&mut self.core.links.waiting) {
            if let Some(connection) = self.connections.get_mut(conn) {
                connection.awaits_links = false;
                self.core.wake_paused(connection);
            }
        }
    }

    /// Gives a rejection to the connection that sent the envelope, if that still listens, else to
    /// another one of its address.
    fn tell_rejected(&mut self, conn: Option<ConnId>, rejection: &Bytes, droppable: bool) {
        let Ok(view) = EnvelopeView::parse(rejection) else {
            return;
        };
        let Self { connections, core } = self;
        if let Some(sender) = connections.listener(conn, view.to_address())
            && !(droppable && sender.is_congested(&core.outbox_limits))
        {
            core.send_control(sender, Frame::Message(rejection.clone()));
        }
    }
}
