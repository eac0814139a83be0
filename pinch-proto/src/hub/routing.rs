//! What becomes of a message: refused, consumed, dropped for a block, or put into the recipient's
//! outbox, verbatim.

use alloc::borrow::Cow;

use bytes::Bytes;
use prost::Message as _;

use super::blocks::Inserted;
use super::connection::Connection;
use super::delivery::is_confirmable;
use super::io::{CloseCause, ConnId, Violation};
use super::links::ItemId;
use super::shares::NO_PLACE;
use super::undeliverable::{NotAnAddress, Undeliverable};
use super::{Addressing, Hub, rate};
use crate::message::SealedEnvelope;
use crate::queue::Operation;
use crate::wire::{Envelope, MessageType, Payload, QueueFull, RateLimited};
use crate::{Address, AddressRef, EnvelopeView, Frame, Message};

/// The longest message id that a refusal repeats, in bytes: enough for any id, too short to make
/// refusals expensive.
const MAX_ECHOED_ID: usize = 64;

/// The longest `to_address` that a refusal repeats, in bytes.
const MAX_ECHOED_ADDRESS: usize = 256;

/// Who has sent an envelope.
#[derive(Clone, Copy, Debug)]
pub(super) enum Author {
    /// A connection of this shard.
    Conn(ConnId),
    /// An agent of another one.
    Item(ItemId),
}

/// What has become of an envelope.
#[derive(Debug)]
pub(super) enum Fate {
    /// It was accepted.
    Done,
    /// The store decides, and its author waits for that.
    Asked,
    /// It was not.
    Rejected(Undeliverable),
}

impl Hub {
    pub(super) fn receive(&mut self, conn: ConnId, message: Message) {
        let Some(sender) = self.living(conn) else {
            return;
        };
        if sender.begun > 0 {
            self.forget_begun(conn);
        }
        self.stats.received += 1;
        self.alive(conn);
        let bytes = message.bytes().len();
        let limit = self.config.message_bytes;
        if bytes > limit {
            return self.violation(conn, Violation::TooBig { limit });
        }
        let envelope = match message.into_envelope() {
            Ok(envelope) => envelope,
            Err(error) => return self.violation(conn, Violation::Malformed(error)),
        };
        let view = envelope.view();
        let sender = self.connections.get(conn.0);
        if sender.is_none_or(|sender| !sender.address.is_written(view.sender_bytes())) {
            return self.violation(conn, Violation::NotYourAddress);
        }
        let message_type = view.message_type();
        if let Some(relay_only) = message_type.filter(|message_type| message_type.is_relay_only()) {
            return self.violation(conn, Violation::RelayOnlyType(relay_only));
        }
        if !self.take_token(conn, &view) {
            return;
        }
        let limit = self.config.envelope_bytes;
        if bytes > limit {
            self.stats.refused_size += 1;
            return self.tell_undeliverable(conn, &view, Undeliverable::TooLarge { bytes, limit });
        }
        match message_type {
            Some(change @ (MessageType::BlockNotification | MessageType::UnblockNotification)) => {
                self.change_block(conn, change, &envelope);
            }
            // Without a recipient it is for the relay: a sign of life, and nothing else.
            Some(MessageType::Heartbeat) if view.to_address().is_empty() => {
                self.stats.consumed += 1;
            }
            _ => {
                let fate = match self.other_shard(view.to_address()) {
                    Some(shard) => self.forward(shard, conn, &envelope),
                    None => self.route(Author::Conn(conn), &envelope),
                };
                if let Fate::Rejected(reason) = fate {
                    self.tell_undeliverable(conn, &view, reason);
                }
            }
        }
    }

    fn violation(&mut self, conn: ConnId, violation: Violation) {
        self.stats.violations += 1;
        self.close(conn, CloseCause::Violation(violation));
    }

    /// Takes a token from the sender's bucket, or tells it when there will be one.
    fn take_token(&mut self, conn: ConnId, view: &EnvelopeView<'_>) -> bool {
        let now = self.now;
        let Some(limit) = self.config.rate_limit else {
            return true;
        };
        let Some(sender) = self.connections.get_mut(conn.0) else {
            return false;
        };
        if !is_confirmable(view) && sender.confirm_credits > 0 {
            sender.confirm_credits -= 1;
            return true;
        }
        let shared = self.send_only.bucket(sender.address.as_str());
        let Err(wait) = shared.unwrap_or(&mut sender.bucket).take(limit, now) else {
            return true;
        };
        self.stats.refused_rate += 1;
        let payload = Payload::RateLimited(RateLimited {
            retry_after_ms: rate::retry_after_ms(wait),
            reason: alloc::format!("rate limit of {limit}"),
        });
        self.tell(conn, payload, view);
        false
    }

    /// Accepts an envelope for an agent of this shard, or rejects it.
    pub(super) fn route(&mut self, author: Author, envelope: &SealedEnvelope) -> Fate {
        let view = envelope.view();
        let conn = author.conn();
        // Most write to whom they wrote before, so that is where it looks first.
        let before = conn.and_then(|conn| self.recipient_before(conn, view.recipient_bytes()));
        let to = match before {
            Some(_) => Cow::Borrowed(view.to_address()),
            None => Address::normalized(view.to_address()),
        };
        // What a blocked sender hears is what any other would.
        let discard = !self.blocks.is_empty() && {
            let from = Address::normalized(view.from_address());
            self.blocks.contains(&to, &from)
        };
        if let Some(recipient) = before.or_else(|| self.find_recipient(conn, &to)) {
            return self.deliver(author, recipient, envelope, discard);
        }
        if let Err(fault) = self.check_address(view.to_address()) {
            self.stats.refused_address += 1;
            return Fate::Rejected(Undeliverable::NotAnAddress(fault));
        }
        self.take_for_offline(author, envelope, discard)
    }

    /// The place of an author among the shares.
    pub(super) fn place_of(&mut self, author: Author, view: &EnvelopeView<'_>) -> u32 {
        match author {
            Author::Conn(conn) => {
                let connection = self.connections.get(conn.0);
                connection.map_or(NO_PLACE, |connection| connection.place)
            }
            Author::Item(_) if self.config.queue.is_none() => NO_PLACE,
            Author::Item(_) => {
                let address = Address::normalized(view.from_address());
                self.shares.enter_stranger(&address)
            }
        }
    }

    /// The connection that `sender` wrote to before, if its address is exactly `to`.
    fn recipient_before(&self, sender: ConnId, to: &[u8]) -> Option<ConnId> {
        let before = self.connections.get(sender.0)?.last_recipient;
        let is_still = |connection: &Connection| {
            !connection.is_closing()
                && !connection.options.send_only
                && connection.address.as_bytes() == to
        };
        let is_still = self.connections.at(before).is_some_and(is_still);
        let key = is_still.then(|| self.connections.key_at(before))?;
        key.map(ConnId)
    }

    /// Looks a recipient up, and remembers it for the next envelope of `sender`.
    fn find_recipient(&mut self, sender: Option<ConnId>, to: &str) -> Option<ConnId> {
        let found = self.table.find(to.as_bytes(), &self.connections)?;
        let sender = sender.and_then(|sender| self.connections.get_mut(sender.0));
        if let Some(sender) = sender {
            sender.last_recipient = found.0.index;
        }
        Some(found)
    }

    /// Returns the address that `text` is, if somebody could ever join as that.
    fn check_address<'a>(&self, text: &'a str) -> Result<AddressRef<'a>, NotAnAddress> {
        let address = AddressRef::parse(text).map_err(|_| NotAnAddress::Malformed)?;
        match self.config.addressing {
            Addressing::Names => Ok(address),
            Addressing::Keys if !self.config.host.matches(address.host()) => {
                Err(NotAnAddress::OtherHost)
            }
            Addressing::Keys => address
                .public_key()
                .map(|_| address)
                .map_err(|_| NotAnAddress::NotAKey),
        }
    }

    /// Blocks or unblocks for the sender, whatever address the payload names as the blocker.
    fn change_block(&mut self, conn: ConnId, change: MessageType, envelope: &SealedEnvelope) {
        let view = &envelope.view();
        if self.config.queue.is_some() && !self.may_ask(envelope.bytes.len()) {
            self.stats.refused_store += 1;
            return self.tell_undeliverable(conn, view, self.store_busy());
        }
        let payload = Envelope::decode(&envelope.bytes[..])
            .ok()
            .and_then(|envelope| envelope.payload);
        let done = match payload {
            Some(Payload::BlockNotification(block)) if change == MessageType::BlockNotification => {
                let blocked = self.check_address(&block.blocked_address);
                blocked.map(|blocked| self.block(conn, blocked, envelope))
            }
            Some(Payload::UnblockNotification(unblock))
                if change == MessageType::UnblockNotification =>
            {
                let unblocked = Address::parse(&unblock.unblocked_address);
                // What is no address is not blocked.
                if let Ok(unblocked) = unblocked {
                    self.unblock(conn, unblocked, envelope);
                }
                Ok(true)
            }
            _ => return self.violation(conn, Violation::MalformedPayload(change)),
        };
        match done {
            Ok(true) => self.stats.consumed += 1,
            Ok(false) => {
                self.stats.refused_memory += 1;
                self.tell_undeliverable(conn, view, Undeliverable::BlockListFull);
            }
            Err(fault) => {
                self.stats.refused_address += 1;
                self.tell_undeliverable(conn, view, Undeliverable::BlockedIsNoAddress(fault));
            }
        }
    }

    /// Blocks `blocked` for `conn`, as `change` says, and for good if there is a store; false if that
    /// would pass a limit. What is blocked already is stored again: it may have failed before.
    fn block(&mut self, conn: ConnId, blocked: AddressRef<'_>, change: &SealedEnvelope) -> bool {
        let Some(connection) = self.connections.get(conn.0) else {
            return false;
        };
        let (blocker, blocked) = (connection.address.clone(), blocked.to_address());
        let Inserted::Done {
            is_first,
            forgotten,
        } = self.blocks.insert(&blocker, &blocked, self.today())
        else {
            return false;
        };
        if let Some(owner) = forgotten {
            self.forget_blocks(owner);
        }
        let operation = Operation::Block {
            blocker: blocker.clone(),
            blocked,
        };
        self.keep_change(conn, change.bytes.clone(), operation);
        if is_first {
            self.keep_seen(blocker);
        }
        true
    }

    /// Takes that back.
    fn unblock(&mut self, conn: ConnId, blocked: Address, change: &SealedEnvelope) {
        let Some(connection) = self.connections.get(conn.0) else {
            return;
        };
        let blocker = connection.address.clone();
        self.blocks.remove(blocker.as_str(), blocked.as_str());
        let operation = Operation::Unblock { blocker, blocked };
        self.keep_change(conn, change.bytes.clone(), operation);
    }

    /// Tells a sender that an envelope of it will not arrive, and why.
    pub(super) fn tell_undeliverable(
        &mut self,
        sender: ConnId,
        view: &EnvelopeView<'_>,
        reason: Undeliverable,
    ) {
        self.tell(sender, queue_full(view, reason), view);
    }

    /// The envelope that tells that.
    pub(super) fn rejection(&self, view: &EnvelopeView<'_>, reason: Undeliverable) -> Bytes {
        let to = Address::normalized(view.from_address());
        self.about(view, queue_full(view, reason), &to)
    }

    /// Says something about the envelope `about` to its sender.
    fn tell(&mut self, sender: ConnId, payload: Payload, about: &EnvelopeView<'_>) {
        let Some(connection) = self.connections.get(sender.0) else {
            return;
        };
        let message = self.about(about, payload, connection.address.as_str());
        if let Some(connection) = self.connections.get_mut(sender.0) {
            let frame = Frame::Message(message);
            connection.outbox.push_control(frame, &mut self.spares);
        }
        self.wake(sender);
    }

    /// An envelope of the relay about the envelope `about`.
    fn about(&self, about: &EnvelopeView<'_>, payload: Payload, to: &str) -> Bytes {
        let mut envelope = Envelope::from_relay(payload, self.unix());
        if about.message_id().len() <= MAX_ECHOED_ID {
            envelope.message_id = Bytes::copy_from_slice(about.message_id());
        }
        envelope.to_address = to.into();
        envelope.to_bytes()
    }
}

impl Author {
    /// The connection, if it is one.
    const fn conn(self) -> Option<ConnId> {
        match self {
            Self::Conn(conn) => Some(conn),
            Self::Item(_) => None,
        }
    }
}

/// Tells that an envelope will not arrive, and why.
fn queue_full(view: &EnvelopeView<'_>, reason: Undeliverable) -> Payload {
    let to = view.to_address();
    let end = (0..=to.len().min(MAX_ECHOED_ADDRESS))
        .rev()
        .find(|&at| to.is_char_boundary(at))
        .unwrap_or(0);
    Payload::QueueFull(QueueFull {
        recipient_address: to.get(..end).unwrap_or_default().into(),
        reason: reason.into(),
    })
}
