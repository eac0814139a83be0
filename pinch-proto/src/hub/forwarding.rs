//! What goes to the other shards of the relay and comes from them.
//!
//! An envelope is checked in the shard of its sender, for what concerns that, and goes over a link if
//! its recipient lives in another. There it takes the same way as one of a connection. The sender's
//! replies wait for the verdict as they wait for the store.
//!
//! ```text
//!  sender's shard                                    recipient's shard
//!    receive ── Item::Envelope ─────────────────────► accept ─► outbox
//!    replies ◄─ Verdict ◄──────────────────────────── accepted, or rejected
//!                        ◄───── the store's answer ── enqueue
//!    control ◄─ Item::Rejection ◄───────────────────── came back later
//! ```

use alloc::vec::Vec;

use bytes::Bytes;

use super::Hub;
use super::connection::Connection;
use super::core::Core;
use super::io::{ConnId, Output};
use super::links::{Item, ItemId, Link, Parcel, Receipt};
use super::queueing::begin_settling;
use super::rejection::RejectReason;
use super::routing::{Author, Fate};
use super::shards::{Shard, ShardId};
use super::slab::MAX_SLOTS;
use super::unsettled::Origin;
use crate::message::SealedEnvelope;
use crate::{EnvelopeView, Frame};

/// The place of a hub in its relay, and its links to the others.
#[derive(Debug)]
pub(super) struct Links {
    place: Shard,
    /// Most bytes of envelopes without a verdict on each link.
    limit: usize,
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
        }
    }

    pub(super) const fn place(&self) -> &Shard {
        &self.place
    }

    /// Bytes of envelopes on their way to others, each with an overhead.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The most that these can be.
    pub(super) fn limit(&self) -> usize {
        self.limit * self.links.len().saturating_sub(1)
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

    /// The verdict for an item has come: who waits for it, if it is the first one.
    fn answer(&mut self, shard: ShardId, number: u64) -> Option<Option<Origin>> {
        let link = self.links.get_mut(shard.index())?;
        let before = link.bytes();
        let origin = link.answer(number);
        self.bytes -= before - link.bytes();
        origin
    }
}

impl Core {
    /// The shard in which `address` lives, if it is another one.
    pub(super) fn other_shard(&self, address: &str) -> Option<ShardId> {
        // A relay of one shard hashes nothing for this.
        if self.links.links.is_empty() {
            return None;
        }
        let shard = self.links.place.shards.of(address);
        (shard != self.links.place.id).then_some(shard)
    }

    /// Sends an envelope of a connection to the shard of its recipient. From half of what may be on its
    /// way, the connection is to send no more; what was read already may take the other half.
    pub(super) fn forward(
        &mut self,
        shard: ShardId,
        sender: &mut Connection,
        envelope: &SealedEnvelope,
    ) -> Fate {
        let item = Item::Envelope(envelope.to_message());
        let limit = self.links.limit;
        let Some(link) = self.links.link(shard) else {
            return Fate::Done;
        };
        if link.bytes() + Link::cost(&item) > limit {
            self.stats.refused_memory += 1;
            return Fate::Rejected(RejectReason::ShardBusy { limit });
        }
        self.stats.forwarded += 1;
        let origin = begin_settling(sender);
        self.send(shard, item, Some(origin));
        if let Some(link) = self.links.link(shard)
            && link.bytes() > limit / 2
            && !core::mem::replace(&mut sender.awaits_link, true)
        {
            link.waiting.push(sender.id);
        }
        Fate::Done
    }

    fn send(&mut self, shard: ShardId, item: Item, origin: Option<Origin>) {
        let (instance, keeps) = (self.links.place.instance, self.links.keeps());
        self.links.bytes += Link::cost(&item);
        let Some(link) = self.links.link(shard) else {
            return;
        };
        let parcel = link.send(instance, item, origin, keeps);
        self.say(Output::Forward { shard, parcel });
        if keeps {
            let now = self.clock.now;
            self.deadlines.resend.arm_if_idle(shard.0.into(), now);
        }
    }

    /// The fate of an item is settled: tells the hub that sent it, unless it is this one.
    pub(super) fn settle_item(&mut self, id: ItemId, rejection: Option<Bytes>) {
        if self.links.keeps()
            && let Some(link) = self.links.link(ShardId(id.shard))
        {
            link.settle(id.instance, id.number, rejection.as_ref());
        }
        self.send_verdict(id, rejection);
    }

    fn send_verdict(&mut self, id: ItemId, rejection: Option<Bytes>) {
        let ItemId {
            shard,
            instance,
            number,
        } = id;
        // Of a batch, most are accepted at once: they have one verdict.
        if let Some(Output::Forward {
            shard: to,
            parcel:
                Parcel::Verdict {
                    instance: of,
                    last,
                    rejection: None,
                    ..
                },
        }) = self.outputs.back_mut()
            && (to.0, *of, *last + 1) == (shard, instance, number)
            && rejection.is_none()
        {
            *last = number;
            return;
        }
        let parcel = Parcel::Verdict {
            instance,
            first: number,
            last: number,
            rejection,
        };
        let shard = ShardId(shard);
        self.say(Output::Forward { shard, parcel });
    }

    /// Sends everything again that has waited for its verdict for too long.
    pub(super) fn resend(&mut self, index: u32) {
        let shard = ShardId(u16::try_from(index).unwrap_or(u16::MAX));
        let instance = self.links.place.instance;
        if let Some(link) = self.links.link(shard) {
            let parcels = link.resend(instance);
            let outputs = parcels.map(|parcel| Output::Forward { shard, parcel });
            self.outputs.extend(outputs);
            let now = self.clock.now;
            self.deadlines.resend.arm(index, now);
        }
    }

    /// Tells the author of an envelope in another shard, if it is there, that it does not arrive after
    /// all.
    pub(super) fn send_rejection(&mut self, shard: ShardId, message: Bytes, droppable: bool) {
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
                    Receipt::Again(rejection) => self.core.send_verdict(id, rejection),
                    Receipt::Ignored => {}
                }
            }
            Parcel::Verdict {
                instance,
                first,
                last,
                rejection,
            } if instance == self.core.links.place.instance => {
                self.take_verdicts(from, first, last, rejection.as_ref());
            }
            Parcel::Verdict { .. } => {}
        }
    }

    fn take_item(&mut self, id: ItemId, item: Item) {
        match item {
            Item::Envelope(message) => {
                self.core.stats.arrived += 1;
                // It was read by the other hub, and is an envelope.
                let Ok(envelope) = message.into_envelope() else {
                    return;
                };
                let author = Author::Item(id);
                match self.route(author, MAX_SLOTS, &envelope) {
                    Fate::Done => self.core.settle_item(id, None),
                    Fate::Asked => {}
                    Fate::Rejected(reason) => {
                        let rejection = self.core.rejection(&envelope.view(), reason);
                        self.core.settle_item(id, Some(rejection));
                    }
                }
            }
            Item::Rejection { message, droppable } => {
                self.tell_rejected(None, &message, droppable);
                self.core.settle_item(id, None);
            }
        }
    }

    fn take_verdicts(&mut self, from: ShardId, first: u64, last: u64, rejection: Option<&Bytes>) {
        let Some(link) = self.core.links.link(from) else {
            return;
        };
        let mut has_moved = false;
        for number in link.numbers(first, last) {
            let Some(origin) = self.core.links.answer(from, number) else {
                continue;
            };
            has_moved = true;
            let conn = match origin {
                Some(Origin::Conn { conn, .. }) => Some(conn),
                Some(Origin::Item(_)) | None => None,
            };
            if let Some(rejection) = rejection {
                self.tell_rejected(conn, rejection, false);
            }
            self.settled(origin);
        }
        if has_moved {
            self.reopen_link(from);
            self.check_shutdown();
        }
    }

    /// Lets connections go on that wait for room on a link, if there is some.
    fn reopen_link(&mut self, shard: ShardId) {
        let (limit, keeps) = (self.core.links.limit, self.core.links.keeps());
        let Some(link) = self.core.links.link(shard) else {
            return;
        };
        let index = u32::from(shard.0);
        self.core.deadlines.resend.disarm(index);
        if keeps && link.unanswered() > 0 {
            self.core.deadlines.resend.arm(index, self.core.clock.now);
        }
        if link.bytes() > limit / 4 {
            return;
        }
        for conn in core::mem::take(&mut link.waiting) {
            if let Some(connection) = self.connections.get_mut(conn) {
                connection.awaits_link = false;
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
