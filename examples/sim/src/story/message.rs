//! The bytes of what agents send.
//!
//! Every message has a number, which is the beginning of its id: so whoever gets it, or hears that it
//! is lost, can be asked for it.

use bytes::Bytes;
use pinch_proto::EnvelopeView;
use pinch_proto::wire::{
    BlockNotification, DeliveryConfirm, EncryptedPayload, Envelope, Heartbeat, MessageType,
    Payload, UnblockNotification,
};
use prost::Message as _;

use super::cast::{Agent, To};
use super::settings::Settings;
use super::step::{Size, What};

/// What `from` sends as its message `number`.
pub(super) fn message(
    from: Agent,
    to: To,
    what: What,
    size: Size,
    number: u64,
    settings: &Settings,
) -> Bytes {
    let id = number.to_be_bytes();
    let (id, author) = match what {
        What::Empty => return Bytes::new(),
        What::Garbage => return vec![0xff; wanted(size, settings, 1)].into(),
        What::LongId => ([&id[..], &[0; 60]].concat(), from),
        What::Foreign(author) => (id.to_vec(), author),
        What::Message
        | What::Confirm
        | What::OfType(_)
        | What::Heartbeat
        | What::Block(_)
        | What::Unblock(_)
        | What::BlockNobody
        | What::UnblockNobody
        | What::Mislabelled(_) => (id.to_vec(), from),
    };
    let spelled = |text: &str| spelled(text, number);
    let (kind, payload) = payload(what, from, spelled);
    let envelope = Envelope {
        version: 1,
        from_address: spelled(author.address().as_str()),
        to_address: spelled(&to.text(from)),
        message_id: id.into(),
        r#type: kind,
        payload: Some(payload),
        ..Envelope::default()
    };
    sized(envelope, size, settings)
}

/// An address as message `number` writes it: some have the host in capital letters, for the case of
/// hosts does not count.
fn spelled(text: &str, number: u64) -> String {
    match text.rsplit_once('@') {
        Some((name, host)) if number % 3 == 2 => format!("{name}@{}", host.to_ascii_uppercase()),
        Some(_) | None => text.into(),
    }
}

/// The type of an envelope, and what it carries.
fn payload(what: What, sender: Agent, spelled: impl Fn(&str) -> String) -> (i32, Payload) {
    let blocker_address: String = sender.address().as_str().into();
    let block = |blocked_address: &str| {
        let blocker_address = blocker_address.clone();
        let blocked_address = spelled(blocked_address);
        Payload::BlockNotification(BlockNotification {
            blocker_address,
            blocked_address,
        })
    };
    let unblock = |unblocked_address: &str| {
        Payload::UnblockNotification(UnblockNotification {
            unblocker_address: blocker_address.clone(),
            unblocked_address: spelled(unblocked_address),
        })
    };
    let payload = match what {
        What::Block(agent) => block(agent.address().as_str()),
        What::BlockNobody => block("nobody"),
        What::Unblock(agent) => unblock(agent.address().as_str()),
        What::UnblockNobody => unblock("nobody"),
        What::Mislabelled(true) => {
            let kind = MessageType::UnblockNotification.into();
            return (kind, block(sender.address().as_str()));
        }
        What::Mislabelled(false) => {
            let kind = MessageType::BlockNotification.into();
            return (kind, unblock(sender.address().as_str()));
        }
        What::Heartbeat => Payload::Heartbeat(Heartbeat::default()),
        What::Confirm => Payload::DeliveryConfirm(DeliveryConfirm::default()),
        What::OfType(kind) => {
            let payload = Payload::Encrypted(EncryptedPayload::default());
            return (kind.into(), payload);
        }
        What::Message | What::LongId | What::Foreign(_) | What::Garbage | What::Empty => {
            Payload::Encrypted(EncryptedPayload::default())
        }
    };
    (payload.message_type().into(), payload)
}

/// How large a message is to be that has `least` bytes.
fn wanted(size: Size, settings: &Settings, least: usize) -> usize {
    match size {
        Size::Small(more) => least + usize::from(more),
        Size::Limit => settings.envelope_bytes,
        Size::OverLimit => settings.envelope_bytes + 1,
        Size::TooBig => settings.message_bytes() + 1,
        Size::Large => settings.envelope_bytes.min(33_000),
    }
}

/// The envelope, as large as it should be if its payload can grow, and it is not larger already.
fn sized(mut envelope: Envelope, size: Size, settings: &Settings) -> Bytes {
    let least = envelope.encoded_len();
    let wanted = wanted(size, settings, least);
    let mut text = wanted.saturating_sub(least);
    while let Some(Payload::Encrypted(payload)) = &mut envelope.payload {
        payload.ciphertext = vec![b'x'; text].into();
        let over = envelope.encoded_len().saturating_sub(wanted);
        if over == 0 || text == 0 {
            break;
        }
        text = text.saturating_sub(over);
    }
    envelope.to_bytes()
}

/// The number of the message that `message` is, or is about.
pub(super) fn number_of(view: &EnvelopeView<'_>) -> Option<u64> {
    let (number, _) = view.message_id().split_first_chunk()?;
    Some(u64::from_be_bytes(*number))
}
