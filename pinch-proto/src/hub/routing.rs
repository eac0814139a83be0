//! What becomes of a message: rejected, consumed, dropped for a block, sent to another shard, or
//! delivered.

use prost::Message as _;

use super::blocks::Inserted;
use super::connection::Connection;
use super::core::Core;
use super::delivery::is_confirmable;
use super::io::{CloseCause, ConnId, Violation};
use super::links::ItemId;
use super::rejection::{NotAnAddress, RejectReason};
use super::send_only::SendOnly;
use super::shares::NO_PLACE;
use super::{Addressing, Hub, rate};
use crate::message::SealedEnvelope;
use crate::queue::Operation;
use crate::wire::{Envelope, MessageType, Payload, RateLimited};
use crate::{Address, AddressRef, EnvelopeView, Message};

/// Who has sent an envelope.
#[derive(Clone, Copy, Debug)]
pub(super) enum Author {
    /// A connection of this shard, whose agent has a place among the shares if there is a queue.
    Conn { conn: ConnId, place: u32 },
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
    Rejected(RejectReason),
}

impl Hub {
    pub(super) fn receive(&mut self, conn: ConnId, message: Message) {
        let Self { connections, core } = self;
        let Some((sender, send_only)) = connections.sender_mut(conn) else {
            core.stats.late += 1;
            return;
        };
        if sender.begun > 0 {
            core.forget_begun(sender);
        }
        core.stats.received += 1;
        core.on_activity(sender);
        let mut envelope = match core.check(sender, message) {
            Ok(envelope) => envelope,
            Err(violation) => return self.violation(conn, violation),
        };
        let view = envelope.view();
        if !core.take_token(sender, send_only, &view) {
            return;
        }
        let (bytes, limit) = (envelope.bytes.len(), core.config.envelope_bytes);
        if bytes > limit {
            core.stats.refused_size += 1;
            return core.reject(sender, &view, RejectReason::TooLarge { bytes, limit });
        }
        match view.message_type() {
            Some(change @ (MessageType::BlockNotification | MessageType::UnblockNotification)) => {
                if let Err(violation) = core.change_block(sender, change, &envelope) {
                    self.violation(conn, violation);
                }
            }
            // Without a recipient it is for the relay: a sign of life, and nothing else.
            Some(MessageType::Heartbeat) if view.to_address().is_empty() => {
                core.stats.consumed += 1;
            }
            _ => {
                // Most write to whom they wrote before: then nothing is looked up.
                let (place, last) = (sender.place, sender.last_recipient);
                let author = Author::Conn { conn, place };
                let fate = match connections.still_at(last, view.recipient_bytes()) {
                    Some(recipient) => self.route(author, Some(recipient), &mut envelope),
                    None => self.route_anew(conn, author, &mut envelope),
                };
                if let Fate::Rejected(reason) = fate
                    && let Some(sender) = self.connections.get_mut(conn)
                {
                    self.core.reject(sender, &envelope.view(), reason);
                }
            }
        }
    }

    fn violation(&mut self, conn: ConnId, violation: Violation) {
        self.core.stats.violations += 1;
        self.close(conn, CloseCause::Violation(violation));
    }

    /// Looks up where the recipient of an envelope of `conn` lives.
    fn route_anew(&mut self, conn: ConnId, author: Author, envelope: &mut SealedEnvelope) -> Fate {
        let Self { connections, core } = self;
        let view = envelope.view();
        let to = Address::normalized_bytes(view.recipient_bytes());
        let hash = core.seeded.hash(&to);
        let shard = core.links.other(hash);
        let recipient = match shard {
            Some(_) => None,
            None => connections.find_hashed(&to, hash.lower()),
        };
        let Some(sender) = connections.get_mut(conn) else {
            return Fate::Done;
        };
        if let Some(shard) = shard {
            return core.forward(shard, sender, envelope, hash.lower());
        }
        if let Some(recipient) = recipient {
            sender.last_recipient = recipient.slot();
        }
        self.route(author, recipient, envelope)
    }

    /// Accepts an envelope for an agent of this shard, connected as `recipient` or not at all, or
    /// rejects it.
    pub(super) fn route(
        &mut self,
        author: Author,
        recipient: Option<ConnId>,
        envelope: &mut SealedEnvelope,
    ) -> Fate {
        let core = &self.core;
        let view = envelope.view();
        // What a blocked sender hears is what any other would.
        let discard = !core.blocks.is_empty() && {
            let from = Address::normalized(view.from_address());
            let to = Address::normalized(view.to_address());
            core.blocks.contains(&to, &from)
        };
        if let Some(recipient) = recipient {
            return self.deliver(author, recipient, envelope, discard);
        }
        if let Err(fault) = core.check_address(view.to_address()) {
            self.core.stats.refused_address += 1;
            return Fate::Rejected(RejectReason::NotAnAddress(fault));
        }
        self.take_for_offline(author, envelope, discard)
    }
}

impl Core {
    /// Finds what is wrong with a message, if it ends the connection of its sender.
    fn check(&self, sender: &Connection, message: Message) -> Result<SealedEnvelope, Violation> {
        let limit = self.config.message_bytes;
        if message.bytes().len() > limit {
            return Err(Violation::TooBig { limit });
        }
        let envelope = message.into_envelope().map_err(Violation::Malformed)?;
        let view = envelope.view();
        if !sender.address.is_written(view.sender_bytes()) {
            return Err(Violation::NotYourAddress);
        }
        match view.message_type() {
            Some(kind) if kind.is_relay_only() => Err(Violation::RelayOnlyType(kind)),
            Some(_) | None => Ok(envelope),
        }
    }

    /// Takes a token from the sender's bucket, or tells it when there will be one.
    fn take_token(
        &mut self,
        sender: &mut Connection,
        send_only: &mut SendOnly,
        view: &EnvelopeView<'_>,
    ) -> bool {
        let Some(limit) = self.config.rate_limit else {
            return true;
        };
        if sender.confirm_credits > 0 && !is_confirmable(view) {
            sender.confirm_credits -= 1;
            return true;
        }
        let shared = send_only.bucket(sender.address.as_str());
        let bucket = shared.unwrap_or(&mut sender.bucket);
        let Err(wait) = bucket.take(limit, self.clock.now) else {
            return true;
        };
        self.stats.refused_rate += 1;
        let payload = Payload::RateLimited(RateLimited {
            retry_after_ms: rate::retry_after_ms(wait),
            reason: alloc::format!("rate limit of {limit}"),
        });
        self.notify(sender, payload, view);
        false
    }

    /// The place of an author among the shares of the queue.
    pub(super) fn place_of(&mut self, author: Author, view: &EnvelopeView<'_>) -> u32 {
        match author {
            Author::Conn { place, .. } => place,
            Author::Item(_) if self.config.queue.is_none() => NO_PLACE,
            Author::Item(_) => {
                let address = Address::normalized(view.from_address());
                self.shares.enter_stranger(&address)
            }
        }
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
    fn change_block(
        &mut self,
        sender: &mut Connection,
        change: MessageType,
        envelope: &SealedEnvelope,
    ) -> Result<(), Violation> {
        let view = &envelope.view();
        if self.config.queue.is_some() && !self.may_ask(envelope.bytes.len()) {
            self.stats.refused_store += 1;
            let reason = self.store_busy();
            self.reject(sender, view, reason);
            return Ok(());
        }
        let payload = Envelope::decode(&envelope.bytes[..])
            .ok()
            .and_then(|envelope| envelope.payload);
        let done = match payload {
            Some(Payload::BlockNotification(block)) if change == MessageType::BlockNotification => {
                let blocked = self.check_address(&block.blocked_address);
                blocked.map(|blocked| self.block(sender, blocked, envelope))
            }
            Some(Payload::UnblockNotification(unblock))
                if change == MessageType::UnblockNotification =>
            {
                // What is no address is not blocked.
                if let Ok(unblocked) = Address::parse(&unblock.unblocked_address) {
                    self.unblock(sender, unblocked, envelope);
                }
                Ok(true)
            }
            _ => return Err(Violation::MalformedPayload(change)),
        };
        match done {
            Ok(true) => self.stats.consumed += 1,
            Ok(false) => {
                self.stats.refused_memory += 1;
                self.reject(sender, view, RejectReason::BlockListFull);
            }
            Err(fault) => {
                self.stats.refused_address += 1;
                self.reject(sender, view, RejectReason::BlockedIsNoAddress(fault));
            }
        }
        Ok(())
    }

    /// Blocks `blocked` for the sender, as `change` says, and for good if there is a store; false if
    /// that would pass a limit. What is blocked already is stored again: it may have failed before.
    fn block(
        &mut self,
        sender: &mut Connection,
        blocked: AddressRef<'_>,
        change: &SealedEnvelope,
    ) -> bool {
        let (blocker, blocked) = (sender.address.clone(), blocked.to_address());
        let today = self.today();
        let Inserted::Done {
            is_first,
            forgotten,
        } = self.blocks.insert(&blocker, &blocked, today)
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
        self.persist_change(sender, change.bytes.clone(), operation);
        if is_first {
            self.keep_seen(blocker);
        }
        true
    }

    /// Takes that back.
    fn unblock(&mut self, sender: &mut Connection, unblocked: Address, change: &SealedEnvelope) {
        let blocker = sender.address.clone();
        self.blocks.remove(blocker.as_str(), unblocked.as_str());
        let operation = Operation::Unblock {
            blocker,
            blocked: unblocked,
        };
        self.persist_change(sender, change.bytes.clone(), operation);
    }
}
