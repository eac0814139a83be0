//! What goes to other shards and comes from them.
//!
//! Everything that was ever sent or taken on a link stays in a list; what counts of it is looked
//! up.

use core::time::Duration;

use bytes::Bytes;
use pinch_proto::hub::{ConnId, ENVELOPE_OVERHEAD, Item, Output, Parcel, ShardId, Verdict};
use pinch_proto::{Address, EnvelopeView, Frame, Time};

use super::Model;
use super::replies::Awaited;
use super::routing::{Author, Decision};
use crate::story::Settings;

/// So many items are sent again at once.
const RESENT_AT_ONCE: usize = 256;

/// An item that came from another shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ItemId {
    shard: ShardId,
    number: u64,
}

#[derive(Clone, Debug)]
struct Sent {
    item: Item,
    /// The connection that waits for the verdict.
    conn: Option<ConnId>,
    is_answered: bool,
    /// The other shard counts it, until its store has answered.
    is_taken: bool,
}

impl Sent {
    /// What it takes of the link.
    fn cost(&self) -> usize {
        match &self.item {
            _ if self.is_taken => 0,
            _ if self.is_answered => ENVELOPE_OVERHEAD,
            Item::Envelope { message, .. } => message.bytes().len() + ENVELOPE_OVERHEAD,
            Item::Rejection { message, .. } => message.len() + ENVELOPE_OVERHEAD,
        }
    }
}

/// The link to another shard.
#[derive(Clone, Debug)]
pub(super) struct Link {
    shard: ShardId,
    /// All that was ever sent. An item's number is its place.
    sent: Vec<Sent>,
    /// All that was ever taken, with its verdict if it has one.
    taken: Vec<Option<Verdict>>,
    /// The other side has the verdicts of all before this one.
    known: u64,
    /// When what has no verdict is sent again, and the order in which that was decided.
    resend_at: Option<(Time, u64)>,
}

impl Link {
    pub(super) const fn new(shard: ShardId) -> Self {
        Self {
            shard,
            sent: vec![],
            taken: vec![],
            known: 0,
            resend_at: None,
        }
    }

    /// The first that has no verdict, and was not taken.
    fn oldest(&self) -> usize {
        let is_open = |sent: &Sent| !sent.is_answered && !sent.is_taken;
        let first = self.sent.iter().position(is_open);
        first.unwrap_or(self.sent.len())
    }

    fn bytes(&self) -> usize {
        self.sent[self.oldest()..].iter().map(Sent::cost).sum()
    }

    fn unanswered(&self) -> impl Iterator<Item = (u64, &Sent)> {
        let numbered = (0..).zip(&self.sent);
        numbered.filter(|(_, sent)| !sent.is_answered)
    }

    /// The item with this number, as it goes over the link now.
    fn parcel(&self, number: u64, needs: u64) -> Parcel {
        Parcel::Item {
            instance: 0,
            number,
            oldest: self.oldest() as u64,
            needs,
            item: self.sent[usize::try_from(number).expect("a short list")]
                .item
                .clone(),
        }
    }
}

impl Model {
    /// The shard of an address, if it is another one.
    pub(super) fn other_shard(&self, address: &str) -> Option<ShardId> {
        let shard = self.place.shards.of(address);
        (shard != self.place.id).then_some(shard)
    }

    fn link(&mut self, shard: ShardId) -> &mut Link {
        let mut links = self.links.iter_mut();
        let link = links.find(|link| link.shard == shard);
        link.expect("a shard of this relay")
    }

    /// What is on its way to other shards, in bytes.
    pub(super) fn link_bytes(&self) -> usize {
        self.links.iter().map(Link::bytes).sum()
    }

    /// Whether so much is on its way that nobody is to send more.
    fn is_narrow(&self) -> bool {
        self.link_bytes() > self.settings.link_bytes / 2
    }

    /// The number of items without a verdict.
    pub(super) fn unanswered(&self) -> usize {
        let of_one = |link: &Link| link.unanswered().count();
        self.links.iter().map(of_one).sum()
    }

    /// Those of them for which a connection waits.
    pub(super) fn unanswered_of(&self, conn: ConnId) -> impl Iterator<Item = Awaited> {
        self.links.iter().flat_map(move |link| {
            let own = link.unanswered();
            let own = own.filter(move |(_, sent)| sent.conn == Some(conn));
            own.map(|(number, _)| Awaited::Verdict(link.shard, number))
        })
    }

    /// Whether other shards have not decided about something of a connection, and their stores are
    /// not to do so.
    pub(super) fn has_open_items(&self, conn: ConnId) -> bool {
        let mut all = self.links.iter().flat_map(Link::unanswered);
        all.any(|(_, sent)| sent.conn == Some(conn) && !sent.is_taken)
    }

    /// An envelope for an agent of another shard.
    pub(super) fn forward(&mut self, shard: ShardId, conn: ConnId, message: &Bytes) -> Decision {
        let limit = self.settings.link_bytes;
        if self.link_bytes() + message.len() + ENVELOPE_OVERHEAD > limit {
            self.happened.refused_memory += 1;
            return Decision::Rejected(format!(
                "relay is too busy: {limit} bytes are on their way to the recipient's shard"
            ));
        }
        self.happened.forwarded += 1;
        let view = EnvelopeView::parse(message).expect("it was checked");
        let item = Item::Envelope {
            message: message.clone().into(),
            hash: self.place.shards.hash(view.to_address()),
        };
        self.send_item(shard, item, Some(conn));
        if self.is_narrow()
            && let Some(connection) = self.get_mut(conn)
            && !connection.awaits_link
        {
            connection.awaits_link = true;
            self.waiting_for_links.push(conn);
        }
        Decision::Asked
    }

    /// The author of an envelope in another shard is told that it does not arrive after all.
    pub(super) fn send_rejection(&mut self, shard: ShardId, message: Bytes, droppable: bool) {
        if !droppable || !self.is_narrow() {
            self.send_item(shard, Item::Rejection { message, droppable }, None);
        }
    }

    fn send_item(&mut self, shard: ShardId, item: Item, conn: Option<ConnId>) {
        let resend_at = self.resend_at();
        let link = self.link(shard);
        let number = link.sent.len() as u64;
        link.sent.push(Sent {
            item,
            conn,
            is_answered: false,
            is_taken: false,
        });
        link.resend_at = link.resend_at.or(resend_at);
        let parcel = link.parcel(number, number);
        self.hand_over(shard, parcel);
    }

    /// When what is sent now is sent again.
    fn resend_at(&mut self) -> Option<(Time, u64)> {
        let after = Duration::from_millis(Settings::RESEND_AFTER);
        self.next_resend_order += 1;
        let order = self.next_resend_order;
        self.settings.bus_loses.then(|| (self.now + after, order))
    }

    /// The first moment at which something is sent again.
    pub(super) fn next_resend(&self) -> Option<Time> {
        let all = self.links.iter().filter_map(|link| link.resend_at);
        all.map(|(at, _)| at).min()
    }

    /// Sends everything on a link again, if that is due.
    pub(super) fn resend(&mut self) -> bool {
        let (now, again) = (self.now, self.resend_at());
        let is_due = |link: &&mut Link| link.resend_at.is_some_and(|(at, _)| at <= now);
        let due = self.links.iter_mut().filter(is_due);
        let Some(link) = due.min_by_key(|link| link.resend_at) else {
            return false;
        };
        link.resend_at = again;
        let (shard, mut needs) = (link.shard, link.oldest() as u64);
        let mut again = vec![];
        for (number, _) in link.unanswered().take(RESENT_AT_ONCE) {
            again.push(link.parcel(number, needs));
            needs = number + 1;
        }
        for parcel in again {
            self.hand_over(shard, parcel);
        }
        true
    }

    /// What goes to the same shard goes together, in order.
    fn hand_over(&mut self, shard: ShardId, parcel: Parcel) {
        if let Some(parcels) = self.outgoing(shard) {
            return parcels.push(parcel);
        }
        let parcels = vec![parcel];
        self.outputs.push(Output::Forward { shard, parcels });
    }

    /// What is to go to a shard already.
    fn outgoing(&mut self, to: ShardId) -> Option<&mut Vec<Parcel>> {
        let outputs = self.outputs.iter_mut();
        let mut all = outputs.filter_map(|output| {
            let Output::Forward { shard, parcels } = output else {
                return None;
            };
            Some((*shard, parcels))
        });
        let found = all.find(|(shard, _)| *shard == to);
        found.map(|(_, parcels)| parcels)
    }

    /// Something comes from another shard.
    pub(super) fn forwarded(&mut self, shard: ShardId, parcel: Parcel) {
        match parcel {
            Parcel::Item {
                number,
                oldest,
                needs,
                item,
                ..
            } => self.item_came(ItemId { shard, number }, oldest, needs, item),
            Parcel::Verdict {
                first,
                last,
                verdict,
                ..
            } => self.verdict_came(shard, first, last, &verdict),
        }
    }

    fn item_came(&mut self, id: ItemId, oldest: u64, needs: u64, item: Item) {
        let keeps = self.settings.bus_loses;
        let ItemId { shard, number } = id;
        let link = self.link(shard);
        link.known = link.known.max(oldest);
        let expected = link.taken.len() as u64;
        if number < expected {
            let place = usize::try_from(number).expect("a short list");
            let verdict = link.taken[place].clone();
            if let Some(verdict) = verdict.filter(|_| keeps && number >= link.known) {
                self.say_verdict(id, verdict);
            }
            return;
        }
        // Every hub of a story lives as long as the others, so there are no gaps.
        if needs > expected || number > expected {
            return;
        }
        link.taken.push(None);
        match item {
            Item::Envelope { message, .. } => {
                self.happened.arrived += 1;
                let view = message.view().expect("it was checked");
                let author = Author::Item(id);
                match self.route(author, &view, message.bytes()) {
                    Decision::Accepted => self.give_verdict(id, Verdict::Accepted),
                    Decision::Asked if keeps => {}
                    Decision::Asked => self.say_verdict(id, Verdict::Taken),
                    Decision::Rejected(reason) => {
                        let rejection = self.rejection(message.bytes(), &reason);
                        self.give_verdict(id, Verdict::Rejected(rejection));
                    }
                }
            }
            Item::Rejection { message, droppable } => {
                self.tell_rejected(None, &message, droppable);
                self.give_verdict(id, Verdict::Accepted);
            }
        }
    }

    /// The fate of an item is settled.
    pub(super) fn give_verdict(&mut self, id: ItemId, verdict: Verdict) {
        let place = usize::try_from(id.number).expect("a short list");
        self.link(id.shard).taken[place] = Some(verdict.clone());
        self.say_verdict(id, verdict);
    }

    /// Verdicts of items that were accepted one after the other go together.
    fn say_verdict(&mut self, id: ItemId, verdict: Verdict) {
        let before = self.outgoing(id.shard);
        if let Some(Parcel::Verdict {
            last,
            verdict: before,
            ..
        }) = before.and_then(|parcels| parcels.last_mut())
            && !matches!(verdict, Verdict::Rejected(_))
            && *before == verdict
            && *last + 1 == id.number
        {
            *last = id.number;
            return;
        }
        let parcel = Parcel::Verdict {
            instance: 0,
            first: id.number,
            last: id.number,
            verdict,
        };
        self.hand_over(id.shard, parcel);
    }

    fn verdict_came(&mut self, shard: ShardId, first: u64, last: u64, verdict: &Verdict) {
        let again = self.resend_at();
        let mut has_moved = false;
        for number in first..=last {
            let place = usize::try_from(number).expect("a short list");
            let sent = &mut self.link(shard).sent[place];
            if sent.is_answered {
                continue;
            }
            has_moved = true;
            let conn = sent.conn;
            if *verdict == Verdict::Taken {
                sent.is_taken = true;
            } else {
                sent.is_answered = true;
                if let Verdict::Rejected(rejection) = verdict {
                    self.tell_rejected(conn, rejection, false);
                }
                if let Some(conn) = conn {
                    self.settle(conn, Awaited::Verdict(shard, number));
                    self.go_on(conn);
                }
            }
            if let Some(conn) = conn.filter(|conn| !self.has_open_items(*conn)) {
                self.stop_waiting(conn);
            }
        }
        if !has_moved {
            return;
        }
        let link = self.link(shard);
        link.resend_at = again.filter(|_| link.unanswered().count() > 0);
        if !self.is_narrow() {
            for conn in core::mem::take(&mut self.waiting_for_links) {
                if let Some(connection) = self.get_mut(conn) {
                    connection.awaits_link = false;
                }
                self.go_on(conn);
            }
        }
        self.check_shutdown();
    }

    /// A rejection is told to the connection that sent the envelope if that listens, else to
    /// another one of its address.
    fn tell_rejected(&mut self, conn: Option<ConnId>, rejection: &Bytes, droppable: bool) {
        let view = EnvelopeView::parse(rejection).expect("an envelope of the relay");
        let address = Address::parse(view.to_address()).expect("the address of an agent");
        let listens = self.listens(conn, address.as_str());
        if let Some(sender) = listens.filter(|sender| !(droppable && self.is_congested(*sender)))
            && let Some(connection) = self.get_mut(sender)
        {
            connection.control.push(Frame::Message(rejection.clone()));
            self.wake(sender);
        }
    }
}
