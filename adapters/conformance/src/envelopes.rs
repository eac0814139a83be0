//! Addresses, keys and envelopes for tests: named or numbered, so that a case can say which it means.

use bytes::Bytes;
use pinch_driver::proto::wire::{EncryptedPayload, Envelope, MessageType, Payload, QueueFull};
use pinch_driver::proto::{Address, Host, SecretKey};
use prost::Message as _;

use crate::relays::HOST;

pub(crate) fn address(name: &str) -> Address {
    Address::parse(&format!("pinch:{name}@{HOST}")).expect("an address")
}

/// The key number `seed`.
pub(crate) fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

/// The address of the key number `seed`.
pub(crate) fn key_address(seed: u8) -> Address {
    let host = Host::parse(HOST).expect("a host");
    Address::from_public_key(&key(seed).public_key(), &host)
}

/// An envelope without a payload, named by `number`.
pub(crate) fn envelope(from: &Address, to: &Address, kind: MessageType, number: u64) -> Envelope {
    Envelope {
        version: 1,
        from_address: from.as_str().into(),
        to_address: to.as_str().into(),
        r#type: kind.into(),
        message_id: Bytes::copy_from_slice(&number.to_be_bytes()),
        ..Envelope::default()
    }
}

/// A MESSAGE with a ciphertext of `len` bytes.
pub(crate) fn message(from: &Address, to: &Address, number: u64, len: usize) -> Bytes {
    let ciphertext = (0..len).map(|at| at.to_le_bytes()[0]).collect();
    let payload = EncryptedPayload {
        ciphertext,
        ..EncryptedPayload::default()
    };
    Envelope {
        payload: Some(Payload::Encrypted(payload)),
        ..envelope(from, to, MessageType::Message, number)
    }
    .to_bytes()
}

/// A MESSAGE that is `len` bytes long as a whole.
pub(crate) fn message_of(from: &Address, to: &Address, number: u64, len: usize) -> Bytes {
    let mut ciphertext = len;
    loop {
        let message = message(from, to, number, ciphertext);
        match message.len().checked_sub(len) {
            Some(0) => return message,
            over => ciphertext -= over.expect("every length can be had"),
        }
    }
}

pub(crate) fn decode(message: &[u8]) -> Envelope {
    Envelope::decode(message).expect("an envelope")
}

/// The number in the message id.
pub(crate) fn number(envelope: &Envelope) -> u64 {
    let id = envelope.message_id.as_ref().try_into();
    u64::from_be_bytes(id.expect("a number for an id"))
}

/// The refusal that `message` is, if it is one, and the number of the envelope that it is about.
pub(crate) fn refusal(message: &[u8]) -> Option<(u64, QueueFull)> {
    let envelope = decode(message);
    let about = number(&envelope);
    match envelope.payload {
        Some(Payload::QueueFull(refusal)) => Some((about, refusal)),
        _ => None,
    }
}
