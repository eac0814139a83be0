//! What attackers say: frames that a relay has to deal with.

use bytes::Bytes;
use pinch_proto::wire::{
    BlockNotification, EncryptedPayload, Envelope, MessageType, Payload, VERSION,
};

use crate::frame::{self, MaskKey, Opcode};
use crate::load::identity::Identity;
use crate::load::unix_now;

const NONCE_LEN: usize = 24;

/// The bit of a frame's first byte that says that the message ends.
const FIN: u8 = 0x80;

/// Appends a frame with an envelope of `size` bytes of ciphertext.
pub(super) fn put_message(
    out: &mut Vec<u8>,
    (from, to): (&Identity, &str),
    number: u64,
    size: usize,
    mask: MaskKey,
) {
    let payload = EncryptedPayload {
        nonce: Bytes::from_static(&[1; NONCE_LEN]),
        ciphertext: vec![2; size].into(),
        sender_public_key: Bytes::copy_from_slice(from.secret.public_key().as_bytes()),
    };
    let id = Bytes::copy_from_slice(&number.to_be_bytes());
    put_envelope(out, (from, to), id, Payload::Encrypted(payload), mask);
}

/// Appends a frame by which `from` blocks `blocked`.
pub(super) fn put_block(out: &mut Vec<u8>, from: &Identity, blocked: &str, mask: MaskKey) {
    let payload = BlockNotification {
        blocker_address: from.address.to_string(),
        blocked_address: blocked.to_owned(),
    };
    let payload = Payload::BlockNotification(payload);
    put_envelope(out, (from, ""), Bytes::new(), payload, mask);
}

fn put_envelope(
    out: &mut Vec<u8>,
    (from, to): (&Identity, &str),
    message_id: Bytes,
    payload: Payload,
    mask: MaskKey,
) {
    let message_type: MessageType = payload.message_type();
    let envelope = Envelope {
        version: VERSION,
        from_address: from.address.to_string(),
        to_address: to.to_owned(),
        r#type: message_type.into(),
        message_id,
        timestamp: unix_now().0,
        payload: Some(payload),
    };
    frame::put_masked(out, Opcode::Binary, &envelope.to_bytes(), mask);
}

/// Appends a frame after which the message goes on.
pub(super) fn put_fragment(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: MaskKey) {
    let begin = out.len();
    frame::put_masked(out, opcode, payload, mask);
    out[begin] &= !FIN;
}
