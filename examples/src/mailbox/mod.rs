//! Writing and reading of end-to-end encrypted messages: an agent's side of protocol section 7.
//!
//! A [`Mailbox`] turns text into envelopes and envelopes into what they say, after every check that
//! a reader owes its user: who wrote it, that nobody altered it, that it is no replay. It is a state
//! machine like those of [`pinch_proto`]: the time and random bytes are handed in, and what goes over
//! the network is for others to carry.

mod received;
mod seen;

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use pinch_proto::wire::{self, DeliveryConfirm, EncryptedPayload, Envelope, MessageType, Payload};
use pinch_proto::{Address, PublicKey, SecretKey, Signature, UnixMillis};
use prost::Message as _;

pub use self::received::{
    ConfirmFault, MessageFault, ReadError, Received, Refusal, State, Unconfirmable, WriteError,
};
pub use self::seen::{Remembered, Seen};

use crate::plaintext::{self, Content, PlaintextPayload};
use crate::sealing::{self, RANDOM_LEN};

/// How many messages may wait for their confirmation; the oldest is forgotten first.
const MAX_SENT: usize = 1 << 16;

/// The longest id that is confirmed, in bytes: twice the longest in the field, a UUID as text.
const MAX_CONFIRMED_ID: usize = 64;

/// What the signature that proves a key begins with (protocol section 3).
const AUTH_DOMAIN: &[u8] = b"pinch-auth-v1\0";

/// An agent's messages, in both directions.
///
/// Sequence numbers must grow beyond those of earlier runs, and this keeps no file of them: the
/// number of a message is the Unix time in microseconds, or one more than the last number if that
/// is higher. So they grow across restarts as long as the clock is not set back; they stay below
/// 2⁵³ until the year 2255, for readers who count in floating point.
///
/// Of what was received, the highest sequence of each sender is remembered ([`Seen`]), and of a
/// sender only what follows it is read: a relay that reorders a sender's messages loses the earlier
/// ones, with a word. It keeps for ever if [`Mailbox::seen`] is kept. A sender that has lost its own
/// count and begins anew is refused until it is [forgotten](Seen::forget).
///
/// # What a confirmation proves
///
/// The recipient has signed the id and the time that the confirmation names, and nothing else: a
/// program with its key had an envelope of that id. It does not prove that the text was the one that
/// was sent, since a relay or a stranger can use an id again; nor to whom, nor what became of it: the
/// [`State`] is not signed, and any relay can change it. No confirmation proves nothing: a relay can
/// keep it.
///
/// So that nothing else is signed by confirming, ids of 1 to 64 bytes are confirmed that don't begin
/// as the proof of a key does ([`Unconfirmable`]).
#[derive(Debug)]
pub struct Mailbox {
    secret: SecretKey,
    address: Address,
    sequence: u64,
    seen: Seen,
    /// What may be confirmed, and by whom.
    sent: HashMap<Bytes, PublicKey>,
    /// The same, the oldest first.
    sent_order: VecDeque<Bytes>,
}

/// What each message needs anew: random bytes and the time.
#[derive(Clone, Copy, Debug)]
pub struct Fresh {
    /// For the box.
    pub random: [u8; RANDOM_LEN],
    /// Becomes the message's id.
    pub id: [u8; 16],
    /// The present.
    pub now: UnixMillis,
}

impl Fresh {
    /// Random bytes from the system.
    ///
    /// # Errors
    /// The system has none.
    pub fn draw(now: UnixMillis) -> Result<Self, getrandom::Error> {
        let mut fresh = Self {
            random: [0; RANDOM_LEN],
            id: [0; 16],
            now,
        };
        getrandom::fill(&mut fresh.random)?;
        getrandom::fill(&mut fresh.id)?;
        Ok(fresh)
    }
}

impl Mailbox {
    /// The mailbox of the holder of `secret`, whose address is `address`.
    #[must_use]
    pub fn new(secret: SecretKey, address: Address) -> Self {
        Self {
            secret,
            address,
            sequence: 0,
            seen: Seen::new(),
            sent: HashMap::new(),
            sent_order: VecDeque::new(),
        }
    }

    /// The address has become `address`: a relay may spell its host in another case.
    pub fn set_address(&mut self, address: Address) {
        self.address = address;
    }

    /// What is remembered of senders, to be kept for a later mailbox and had from an earlier one.
    pub fn seen(&mut self) -> &mut Seen {
        &mut self.seen
    }

    /// An envelope with `text` for `to`, which is no stranger from then on. Its id is text (32 hexadecimal digits), because clients in
    /// the field keep ids as text.
    ///
    /// # Errors
    /// `to` is an address without a key, or with a key that is none.
    pub fn write(
        &mut self,
        to: &Address,
        text: &str,
        fresh: Fresh,
    ) -> Result<Envelope, WriteError> {
        let Fresh { random, id, now } = fresh;
        let key = to.public_key().map_err(|source| WriteError::NoKey {
            to: to.clone(),
            source,
        })?;
        let micros = u64::try_from(now.0).unwrap_or(0).saturating_mul(1000);
        let sequence = self.sequence.saturating_add(1).max(micros);
        let plaintext = PlaintextPayload::text(text, sequence, now.0).encode_to_vec();
        let payload = sealing::seal(&self.secret, &key, random, &plaintext).map_err(|source| {
            WriteError::UnusableKey {
                to: to.clone(),
                source,
            }
        })?;
        self.sequence = sequence;
        self.seen.know(&key);

        let message_id = Bytes::from(format!("{:032x}", u128::from_be_bytes(id)));
        self.remember(message_id.clone(), key);
        Ok(self.envelope(to, message_id, Payload::Encrypted(payload), now))
    }

    /// Notes that the message `message_id` was sent to `to`, by this process or an earlier one, so that
    /// its confirmation is believed.
    pub fn remember(&mut self, message_id: Bytes, to: PublicKey) {
        if self.sent.contains_key(&message_id) {
            return;
        }
        if self.sent_order.len() == MAX_SENT
            && let Some(oldest) = self.sent_order.pop_front()
        {
            self.sent.remove(&oldest);
        }
        self.sent_order.push_back(message_id.clone());
        self.sent.insert(message_id, to);
    }

    /// Reads an envelope that the relay brought.
    ///
    /// # Errors
    /// [`ReadError`] says which check failed. Nothing that the envelope says may be believed then.
    pub fn read(&mut self, envelope: &[u8], now: UnixMillis) -> Result<Received, ReadError> {
        let envelope = Envelope::decode(envelope).map_err(ReadError::Envelope)?;
        let message_type = MessageType::try_from(envelope.r#type);
        match (message_type, &envelope.payload) {
            (Ok(MessageType::Message), Some(Payload::Encrypted(payload))) => {
                self.read_message(&envelope, payload, now)
            }
            (Ok(MessageType::DeliveryConfirm), Some(Payload::DeliveryConfirm(confirm))) => {
                self.read_confirm(&envelope, confirm)
            }
            (Ok(MessageType::QueueFull), Some(Payload::QueueFull(refusal))) => {
                Ok(Received::Refused(Refusal {
                    to: Some(refusal.recipient_address.clone()),
                    ..self.refusal(&envelope, &refusal.reason)
                }))
            }
            (Ok(MessageType::RateLimited), Some(Payload::RateLimited(refusal))) => {
                Ok(Received::Refused(Refusal {
                    retry_after_ms: Some(refusal.retry_after_ms),
                    ..self.refusal(&envelope, &refusal.reason)
                }))
            }
            (Ok(MessageType::QueueStatus), Some(Payload::QueueStatus(status))) => {
                Ok(Received::Waiting {
                    count: status.pending_count,
                })
            }
            (
                Ok(
                    message_type @ (MessageType::Message
                    | MessageType::DeliveryConfirm
                    | MessageType::QueueFull
                    | MessageType::RateLimited
                    | MessageType::QueueStatus),
                ),
                _,
            ) => Err(ReadError::WrongPayload {
                from: envelope.from_address,
                message_type,
            }),
            (_, _) => Ok(Received::Other {
                from: envelope.from_address,
                message_type: envelope.r#type,
            }),
        }
    }

    fn read_message(
        &mut self,
        envelope: &Envelope,
        payload: &EncryptedPayload,
        now: UnixMillis,
    ) -> Result<Received, ReadError> {
        let (from, key) = sender(envelope)?;
        match self.open(&key, payload) {
            Ok((written, content)) => Ok(Received::Text {
                message_id: envelope.message_id.clone(),
                written,
                content,
                confirm: self.confirm(&from, &envelope.message_id, now).map(Box::new),
                from,
            }),
            Err(fault) => Err(ReadError::Message {
                from,
                message_id: envelope.message_id.clone(),
                fault,
            }),
        }
    }

    fn open(
        &mut self,
        from: &PublicKey,
        payload: &EncryptedPayload,
    ) -> Result<(UnixMillis, Content), MessageFault> {
        let plaintext = sealing::open(&self.secret, from, payload)?;
        let plaintext = PlaintextPayload::decode(&plaintext[..])?;
        if plaintext.version != plaintext::VERSION {
            return Err(MessageFault::UnknownVersion(plaintext.version));
        }
        let sequence = plaintext.sequence;
        if let Some(last) = self.seen.last(from).filter(|last| sequence <= *last) {
            return Err(MessageFault::Replayed { sequence, last });
        }
        self.seen.hear(from, sequence);
        Ok((UnixMillis(plaintext.timestamp), plaintext.content()?))
    }

    fn confirm(
        &self,
        to: &Address,
        message_id: &Bytes,
        now: UnixMillis,
    ) -> Result<Envelope, Unconfirmable> {
        if !(1..=MAX_CONFIRMED_ID).contains(&message_id.len()) {
            return Err(Unconfirmable::Length {
                len: message_id.len(),
            });
        }
        if message_id.starts_with(AUTH_DOMAIN) {
            return Err(Unconfirmable::Proof);
        }
        let signature = self.secret.sign(&confirmed_bytes(message_id, now.0));
        let confirm = DeliveryConfirm {
            message_id: message_id.clone(),
            signature: Bytes::copy_from_slice(signature.as_bytes()),
            timestamp: now.0,
            state: received::DELIVERED.into(),
            was_stored: false,
        };
        let payload = Payload::DeliveryConfirm(confirm);
        Ok(self.envelope(to, message_id.clone(), payload, now))
    }

    fn read_confirm(
        &self,
        envelope: &Envelope,
        confirm: &DeliveryConfirm,
    ) -> Result<Received, ReadError> {
        let (by, key) = sender(envelope)?;
        match self.check_confirm(&key, confirm) {
            Ok(()) => Ok(Received::Confirmed {
                by,
                message_id: confirm.message_id.clone(),
                state: State::from(confirm.state.as_str()),
            }),
            Err(fault) => Err(ReadError::Confirm { by, fault }),
        }
    }

    fn check_confirm(&self, by: &PublicKey, confirm: &DeliveryConfirm) -> Result<(), ConfirmFault> {
        let DeliveryConfirm {
            message_id,
            timestamp,
            ..
        } = confirm;
        if self.sent.get(message_id) != Some(by) {
            return Err(ConfirmFault::UnknownMessage);
        }
        match Signature::try_from(&confirm.signature[..]) {
            Ok(signature)
                if by.verify_strict(&confirmed_bytes(message_id, *timestamp), &signature) =>
            {
                Ok(())
            }
            Ok(_) | Err(_) => Err(ConfirmFault::WrongSignature),
        }
    }

    fn refusal(&self, envelope: &Envelope, reason: &str) -> Refusal {
        let message_id = envelope.message_id.clone();
        Refusal {
            is_confirmation: !self.sent.contains_key(&message_id),
            message_id,
            to: None,
            reason: reason.into(),
            retry_after_ms: None,
        }
    }

    fn envelope(
        &self,
        to: &Address,
        message_id: Bytes,
        payload: Payload,
        now: UnixMillis,
    ) -> Envelope {
        Envelope {
            version: wire::VERSION,
            from_address: self.address.as_str().into(),
            to_address: to.as_str().into(),
            r#type: payload.message_type().into(),
            message_id,
            timestamp: now.0,
            payload: Some(payload),
        }
    }
}

/// Who sent `envelope`, and the key in that address.
fn sender(envelope: &Envelope) -> Result<(Address, PublicKey), ReadError> {
    let parsed = Address::parse(&envelope.from_address).and_then(|from| {
        let key = from.public_key()?;
        Ok((from, key))
    });
    parsed.map_err(|source| ReadError::NoKey {
        from: envelope.from_address.clone(),
        source,
    })
}

/// What a confirmation signs.
fn confirmed_bytes(message_id: &[u8], timestamp: i64) -> Vec<u8> {
    [message_id, &timestamp.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests;
