//! What becomes of a message, and what its sender hears.

use bytes::Bytes;
use pinch_proto::hub::{Addressing, CloseCause, ConnId, Violation};
use pinch_proto::queue::Operation;
use pinch_proto::wire::{Envelope, MessageType, Payload, QueueFull};
use pinch_proto::{Address, EnvelopeView, Frame};
use prost::Message as _;

use super::connection::Connection;
use super::forwarding::ItemId;
use super::{Model, words};
use crate::story::HOST;

/// A longer message id is not repeated in a refusal.
const MAX_ECHOED_ID: usize = 64;
/// A longer `to_address` is cut in a refusal.
const MAX_ECHOED_ADDRESS: usize = 256;

/// A day, in milliseconds.
pub(super) const DAY: i64 = 24 * 60 * 60 * 1000;

/// Who has sent an envelope that was checked.
pub(super) fn sender_of(view: &EnvelopeView<'_>) -> Address {
    Address::parse(view.from_address()).expect("the address of an agent")
}

/// Whether `text` is `address`; the case of hosts does not count.
pub(super) fn is_same(text: &str, address: &Address) -> bool {
    Address::parse(text).is_ok_and(|it| it == *address)
}

/// Who has sent an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Author {
    /// A connection of this hub.
    Conn(ConnId),
    /// An agent of another one.
    Item(ItemId),
}

impl Author {
    /// The connection, if it is one.
    pub(super) const fn conn(self) -> Option<ConnId> {
        match self {
            Self::Conn(conn) => Some(conn),
            Self::Item(_) => None,
        }
    }
}

/// What has become of an envelope.
#[derive(Clone, Debug)]
pub(super) enum Decision {
    Accepted,
    /// The store will say.
    Asked,
    Rejected(String),
}

impl Model {
    pub(super) fn receive(&mut self, conn: ConnId, message: &Bytes) {
        let Some(sender) = self.open(conn) else {
            return;
        };
        let own = sender.address.clone();
        self.message_ended(conn);
        self.happened.received += 1;
        self.alive(conn);
        let limit = self.settings.message_bytes();
        if message.len() > limit {
            return self.violation(conn, Violation::TooBig { limit });
        }
        let view = match EnvelopeView::parse(message) {
            Ok(view) => view,
            Err(error) => return self.violation(conn, Violation::Malformed(error)),
        };
        if !is_same(view.from_address(), &own) {
            return self.violation(conn, Violation::NotYourAddress);
        }
        let relays_own = view
            .message_type()
            .filter(|kind| words::is_for_the_relay_only(*kind));
        if let Some(kind) = relays_own {
            return self.violation(conn, Violation::RelayOnlyType(kind));
        }
        if !self.pays(conn, &view) {
            return;
        }
        let limit = self.settings.envelope_bytes;
        if message.len() > limit {
            self.happened.refused_size += 1;
            let bytes = message.len();
            return self.tell_lost(
                conn,
                &view,
                &format!("envelope of {bytes} bytes over the limit of {limit}"),
            );
        }
        let is = |kind: MessageType| view.message_type() == Some(kind);
        if is(MessageType::BlockNotification) || is(MessageType::UnblockNotification) {
            self.change_blocks(conn, &own, &view, message);
        } else if is(MessageType::Heartbeat) && view.to_address().is_empty() {
            self.happened.consumed += 1;
        } else {
            let decision = match self.other_shard(view.to_address()) {
                Some(shard) => self.forward(shard, conn, message),
                None => self.route(Author::Conn(conn), &view, message),
            };
            if let Decision::Rejected(reason) = decision {
                self.tell_lost(conn, &view, &reason);
            }
        }
    }

    fn violation(&mut self, conn: ConnId, violation: Violation) {
        self.happened.violations += 1;
        self.close(conn, CloseCause::Violation(violation));
    }

    pub(super) fn route(
        &mut self,
        author: Author,
        view: &EnvelopeView<'_>,
        message: &Bytes,
    ) -> Decision {
        let (from, to) = (view.from_address(), view.to_address());
        let blocked = |(blocker, blocked): &(Address, Address)| {
            is_same(to, blocker) && is_same(from, blocked)
        };
        // Then nothing comes of it, but its sender hears what any other would.
        let discard = self.blocks.iter().any(blocked);
        if let Some(recipient) = self.lookup(to) {
            self.deliver(author, recipient, view, message, discard)
        } else if let Err(fault) = self.check_address(to) {
            self.happened.refused_address += 1;
            Decision::Rejected(format!("to_address is no address of this relay: {fault}"))
        } else {
            self.take_for_offline(author, view, message, discard)
        }
    }

    /// Whether anybody could ever join under `text`.
    fn check_address(&self, text: &str) -> Result<(), &'static str> {
        let address = Address::parse(text).map_err(|_| "it does not parse")?;
        if self.settings.addressing == Addressing::Names {
            return Ok(());
        }
        if address.host() != HOST {
            return Err("its host is another");
        }
        let key = address.public_key();
        key.map(drop)
            .map_err(|_| "it is not a key with its checksum")
    }

    /// The sender blocks somebody, or takes that back, whoever it says that the blocker is.
    fn change_blocks(
        &mut self,
        conn: ConnId,
        own: &Address,
        view: &EnvelopeView<'_>,
        message: &Bytes,
    ) {
        if self.settings.queue.is_some() && !self.may_ask(message.len()) {
            let reason = self.refuse_busy();
            return self.tell_lost(conn, view, &reason);
        }
        let payload = Envelope::decode(&message[..])
            .ok()
            .and_then(|envelope| envelope.payload);
        let kind = view.message_type().unwrap_or(MessageType::Unspecified);
        let payload = payload.filter(|payload| payload.message_type() == kind);
        if let Some(Payload::BlockNotification(block)) = payload {
            self.block(conn, own, &block.blocked_address, view, message);
        } else if let Some(Payload::UnblockNotification(unblock)) = payload {
            self.happened.consumed += 1;
            let is_it = |(blocker, blocked): &(Address, Address)| {
                blocker == own && is_same(&unblock.unblocked_address, blocked)
            };
            self.blocks.retain(|block| !is_it(block));
            if self.blocks_of(own) == 0 {
                self.owners.retain(|(owner, _)| owner != own);
            }
            if let Ok(blocked) = Address::parse(&unblock.unblocked_address) {
                let blocker = own.clone();
                self.change(conn, message, Operation::Unblock { blocker, blocked });
            }
        } else {
            self.violation(conn, Violation::MalformedPayload(kind));
        }
    }

    fn block(
        &mut self,
        conn: ConnId,
        own: &Address,
        blocked: &str,
        view: &EnvelopeView<'_>,
        message: &Bytes,
    ) {
        if let Err(fault) = self.check_address(blocked) {
            self.happened.refused_address += 1;
            let reason = format!("blocked_address is no address of this relay: {fault}");
            return self.tell_lost(conn, view, &reason);
        }
        let blocked = Address::parse(blocked).expect("it was checked");
        let block = (own.clone(), blocked);
        let is_new = !self.blocks.contains(&block);
        let (most_of_one, most) = self.settings.max_blocks;
        if is_new {
            let victim = self.largest_and_longest_unseen();
            let is_full = self.blocks.len() >= most;
            if self.blocks_of(own) >= most_of_one || (is_full && victim.as_ref() == Some(own)) {
                self.happened.refused_memory += 1;
                return self.tell_lost(conn, view, "block list is full");
            }
            if let Some(blocker) = victim.filter(|_| is_full) {
                self.blocks.retain(|(owner, _)| *owner != blocker);
                self.owners.retain(|(owner, _)| *owner != blocker);
                self.happened.blocks_forgotten += 1;
                self.upkeep(Operation::ForgetBlocks { blocker });
            }
            self.blocks.push(block.clone());
        }
        self.happened.consumed += 1;
        let (blocker, blocked) = block;
        let owner = blocker.clone();
        self.change(conn, message, Operation::Block { blocker, blocked });
        if self.owners.iter().all(|(known, _)| *known != owner) {
            self.owners.push((owner.clone(), i64::MIN));
        }
        self.see(&owner);
    }

    fn blocks_of(&self, owner: &Address) -> usize {
        self.blocks.iter().filter(|(it, _)| it == owner).count()
    }

    /// Of those with the longest lists, by powers of two, the one that was not seen for longest.
    fn largest_and_longest_unseen(&self) -> Option<Address> {
        let size = |owner: &Address| self.blocks_of(owner).ilog2();
        let largest = self.owners.iter().map(|(owner, _)| size(owner)).max()?;
        let mut all = self.owners.iter();
        let first = all.find(|(owner, _)| size(owner) == largest)?;
        Some(first.0.clone())
    }

    /// An owner of a block list is seen: the store hears of it once a day.
    pub(super) fn see(&mut self, address: &Address) {
        let Some(at) = self.owners.iter().position(|(owner, _)| owner == address) else {
            return;
        };
        let (blocker, day) = self.owners.remove(at);
        let today = self.day();
        self.owners.push((blocker.clone(), day.max(today)));
        if day < today {
            let at = self.unix();
            self.upkeep(Operation::Seen { blocker, at });
        }
    }

    /// Today, in days.
    pub(super) fn day(&self) -> i64 {
        self.unix().0.div_euclid(DAY)
    }

    /// Has the store remember that owners are seen of which it did not know that.
    pub(super) fn tell_unknown_owners(&mut self) {
        let at = self.unix();
        for blocker in core::mem::take(&mut self.unknown_owners) {
            self.upkeep(Operation::Seen { blocker, at });
        }
    }

    /// Tells a sender that an envelope of it will not arrive, and why.
    pub(super) fn tell_lost(&mut self, sender: ConnId, view: &EnvelopeView<'_>, reason: &str) {
        self.tell(sender, queue_full(view, reason), view);
    }

    /// The same, if the sender is there.
    pub(super) fn tell_its_sender(&mut self, message: &Bytes, reason: &str) {
        self.tell_author(None, message, reason);
    }

    /// The same, to the connection that sent it if that is open, else to another one of its address:
    /// the one that receives, or the last that only sends.
    pub(super) fn tell_author(&mut self, from: Option<ConnId>, message: &Bytes, reason: &str) {
        let view = EnvelopeView::parse(message).expect("an envelope that was accepted");
        if let Some(shard) = self.other_shard(view.from_address()) {
            let rejection = self.rejection(message, reason);
            self.send_rejection(shard, rejection, false);
        } else if let Some(sender) = self.listens(from, view.from_address()) {
            self.tell_lost(sender, &view, reason);
        }
    }

    /// What tells the sender of `message` that it is lost.
    pub(super) fn rejection(&self, message: &Bytes, reason: &str) -> Bytes {
        let view = EnvelopeView::parse(message).expect("an envelope that was accepted");
        let payload = queue_full(&view, reason);
        self.about(&view, payload, &sender_of(&view))
    }

    /// Tells a sender that an envelope of it gave way, if it reads what it is told.
    pub(super) fn tell_displaced(&mut self, message: &Bytes) {
        let reason = "recipient's queue is full, and this envelope gave way to one of a sender with \
                      fewer in it";
        let view = EnvelopeView::parse(message).expect("an envelope that was accepted");
        let listens = self.listens(None, view.from_address());
        if let Some(shard) = self.other_shard(view.from_address()) {
            let rejection = self.rejection(message, reason);
            self.send_rejection(shard, rejection, true);
        } else if listens.is_some_and(|sender| !self.is_congested(sender)) {
            self.tell_author(None, message, reason);
        }
    }

    /// Who is told.
    pub(super) fn listens(&self, from: Option<ConnId>, address: &str) -> Option<ConnId> {
        let sends = |connection: &&Connection| {
            connection.is_open() && is_same(address, &connection.address)
        };
        let other = self.connections.iter().rev().find(sends);
        let other = self
            .lookup(address)
            .or(other.map(|connection| connection.conn));
        let hears = |conn: &ConnId| self.get(*conn).is_some_and(Connection::hears_rejections);
        let from = from.filter(hears);
        from.or(other)
    }

    /// Says something about an envelope to its sender.
    pub(super) fn tell(&mut self, sender: ConnId, payload: Payload, about: &EnvelopeView<'_>) {
        let hears =
            |connection: &&Connection| !connection.is_silent() || connection.hears_rejections();
        let Some(connection) = self.get(sender).filter(hears) else {
            return;
        };
        let message = self.about(about, payload, &connection.address);
        if let Some(connection) = self.get_mut(sender) {
            connection.control.push(Frame::Message(message));
        }
        self.wake(sender);
    }

    /// What the relay says to `to` about an envelope.
    fn about(&self, about: &EnvelopeView<'_>, payload: Payload, to: &Address) -> Bytes {
        let mut envelope = Envelope::from_relay(payload, self.unix());
        if about.message_id().len() <= MAX_ECHOED_ID {
            envelope.message_id = about.message_id().to_vec().into();
        }
        envelope.to_address = to.as_str().into();
        envelope.to_bytes()
    }
}

/// What tells that an envelope is lost.
fn queue_full(view: &EnvelopeView<'_>, reason: &str) -> Payload {
    let to = view.to_address();
    let mut end = to.len().min(MAX_ECHOED_ADDRESS);
    while !to.is_char_boundary(end) {
        end -= 1;
    }
    Payload::QueueFull(QueueFull {
        recipient_address: to[..end].into(),
        reason: reason.into(),
    })
}
