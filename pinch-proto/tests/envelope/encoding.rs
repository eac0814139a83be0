//! Fields as the wire has them, well written and badly, and strategies for both.

use pinch_proto::EnvelopeView;
use pinch_proto::wire::{
    AuthChallenge, ConnectionResponse, DeliveryConfirm, EncryptedPayload, Envelope, Heartbeat,
    MessageType, Payload, QueueFull, QueueStatus, RateLimited,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};

/// A field as the wire has it. The first number is that of the field; the length of `Bytes` is
/// padded like a varint.
#[derive(Clone, Debug)]
pub(crate) enum Field {
    Varint(u32, Number),
    Fixed64(u32, [u8; 8]),
    Bytes(u32, usize, Vec<u8>),
    Group(u32, Vec<Field>),
    Fixed32(u32, [u8; 4]),
}

/// A varint, and how many bytes it has if that is more than it needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number(pub(crate) u64, pub(crate) usize);

impl Number {
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        let Self(mut value, padding) = self;
        for len in 1.. {
            let byte = value.to_le_bytes()[0] & 0x7f;
            value >>= 7;
            if value == 0 && len >= padding {
                out.push(byte);
                return;
            }
            out.push(byte | 0x80);
        }
    }
}

impl Field {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let key = |number: &u32, wire_type: u64, out: &mut Vec<u8>| {
            // A tenth of all field numbers gets a key that is longer than it must be.
            let padding = if number.is_multiple_of(10) { 7 } else { 0 };
            Number(u64::from(*number) << 3 | wire_type, padding).encode(out);
        };
        match self {
            Self::Varint(number, value) => {
                key(number, 0, out);
                value.encode(out);
            }
            Self::Fixed64(number, value) => {
                key(number, 1, out);
                out.extend(value);
            }
            Self::Bytes(number, padding, value) => {
                key(number, 2, out);
                Number(value.len() as u64, *padding).encode(out);
                out.extend(value);
            }
            Self::Group(number, fields) => {
                key(number, 3, out);
                fields.iter().for_each(|field| field.encode(out));
                key(number, 4, out);
            }
            Self::Fixed32(number, value) => {
                key(number, 5, out);
                out.extend(value);
            }
        }
    }
}

pub(crate) fn encode(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    fields.iter().for_each(|field| field.encode(&mut out));
    out
}

pub(crate) fn padding() -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(0), 1 => 0..=10_usize]
}

pub(crate) fn number() -> impl Strategy<Value = Number> {
    let value = prop_oneof![
        0..200_u64,
        any::<u64>(),
        any::<i32>().prop_map(|value| i64::from(value).cast_unsigned())
    ];
    (value, padding()).prop_map(|(value, padding)| Number(value, padding))
}

pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof!["pinch:[a-z]{1,8}@[a-z]{1,8}", ".{0,5}", "[a-z]{120,140}"]
}

/// A field of any wire type with a number that `numbers` gives.
pub(crate) fn field_of<S: Strategy<Value = u32> + Clone + 'static>(
    numbers: S,
) -> impl Strategy<Value = Field> {
    let leaf = prop_oneof![
        (numbers.clone(), number()).prop_map(|(field, value)| Field::Varint(field, value)),
        (numbers.clone(), any::<[u8; 8]>()).prop_map(|(field, value)| Field::Fixed64(field, value)),
        (numbers.clone(), padding(), vec(any::<u8>(), 0..12))
            .prop_map(|(field, padding, value)| Field::Bytes(field, padding, value)),
        (numbers.clone(), any::<[u8; 4]>()).prop_map(|(field, value)| Field::Fixed32(field, value)),
    ];
    // Inside a group every number is unknown, those of the envelope too.
    leaf.prop_recursive(4, 16, 4, move |inner| {
        (numbers.clone(), vec(inner, 0..4)).prop_map(|(field, fields)| Field::Group(field, fields))
    })
}

/// A field that an envelope does not have, with anything in it.
pub(crate) fn unknown() -> impl Strategy<Value = Field> {
    let numbers = prop_oneof![7..=9_u32, 25..=40_u32, 1_000..=(1 << 29) - 1_u32];
    let anywhere = prop_oneof![1..=30_u32, 1..=(1 << 29) - 1_u32];
    prop_oneof![
        field_of(numbers.clone()),
        (numbers, vec(field_of(anywhere), 0..4))
            .prop_map(|(field, fields)| Field::Group(field, fields)),
    ]
}

/// A field of an envelope, as it should be.
pub(crate) fn known() -> impl Strategy<Value = Field> {
    let text = (2..=3_u32, padding(), text())
        .prop_map(|(field, padding, text)| Field::Bytes(field, padding, text.into_bytes()));
    let id =
        (padding(), vec(any::<u8>(), 0..20)).prop_map(|(padding, id)| Field::Bytes(5, padding, id));
    let number = (prop_oneof![Just(1), Just(4), Just(6)], number())
        .prop_map(|(field, value)| Field::Varint(field, value));
    let payload = (10..=24_u32, padding())
        .prop_map(|(field, padding)| Field::Bytes(field, padding, Vec::new()));
    prop_oneof![2 => text, 1 => id, 2 => number, 1 => payload]
}

pub(crate) fn payload() -> impl Strategy<Value = Payload> {
    let bytes = || vec(any::<u8>(), 0..40);
    prop_oneof![
        (bytes(), bytes(), bytes()).prop_map(|(nonce, ciphertext, key)| {
            Payload::Encrypted(EncryptedPayload {
                nonce: nonce.into(),
                ciphertext: ciphertext.into(),
                sender_public_key: key.into(),
            })
        }),
        any::<i64>().prop_map(|timestamp| Payload::Heartbeat(Heartbeat { timestamp })),
        (any::<u32>(), bytes(), any::<i64>(), any::<i64>(), text()).prop_map(
            |(version, nonce, issued_at_ms, expires_at_ms, relay_host)| {
                Payload::AuthChallenge(AuthChallenge {
                    version,
                    nonce: nonce.into(),
                    issued_at_ms,
                    expires_at_ms,
                    relay_host,
                })
            }
        ),
        (text(), text(), any::<bool>(), bytes()).prop_map(
            |(from_address, to_address, accepted, key)| {
                Payload::ConnectionResponse(ConnectionResponse {
                    from_address,
                    to_address,
                    accepted,
                    responder_public_key: key.into(),
                })
            }
        ),
        (bytes(), bytes(), any::<i64>(), text(), any::<bool>()).prop_map(
            |(message_id, signature, timestamp, state, was_stored)| {
                Payload::DeliveryConfirm(DeliveryConfirm {
                    message_id: message_id.into(),
                    signature: signature.into(),
                    timestamp,
                    state,
                    was_stored,
                })
            }
        ),
        any::<i32>().prop_map(|pending_count| Payload::QueueStatus(QueueStatus { pending_count })),
        (text(), text()).prop_map(|(recipient_address, reason)| Payload::QueueFull(QueueFull {
            recipient_address,
            reason
        })),
        (any::<i64>(), text()).prop_map(|(retry_after_ms, reason)| Payload::RateLimited(
            RateLimited {
                retry_after_ms,
                reason
            }
        )),
    ]
}

pub(crate) fn envelope() -> impl Strategy<Value = Envelope> {
    let kind = prop_oneof![0..=15_i32, any::<i32>()];
    (
        any::<u32>(),
        text(),
        text(),
        kind,
        vec(any::<u8>(), 0..20),
        any::<i64>(),
        proptest::option::of(payload()),
    )
        .prop_map(
            |(version, from_address, to_address, r#type, message_id, timestamp, payload)| {
                Envelope {
                    version,
                    from_address,
                    to_address,
                    r#type,
                    message_id: message_id.into(),
                    timestamp,
                    payload,
                }
            },
        )
}

/// The fields of `envelope`, each as prost writes it.
pub(crate) fn pieces(envelope: &Envelope) -> Vec<Vec<u8>> {
    let Envelope {
        version,
        from_address,
        to_address,
        r#type,
        message_id,
        timestamp,
        payload,
    } = envelope.clone();
    let none = Envelope::default;
    [
        Envelope { version, ..none() },
        Envelope {
            from_address,
            ..none()
        },
        Envelope {
            to_address,
            ..none()
        },
        Envelope { r#type, ..none() },
        Envelope {
            message_id,
            ..none()
        },
        Envelope {
            timestamp,
            ..none()
        },
        Envelope { payload, ..none() },
    ]
    .iter()
    .map(Message::encode_to_vec)
    .collect()
}

/// Bytes with a little damage.
pub(crate) fn damage(mut bytes: Vec<u8>, hits: &[(Index, Hit)]) -> Vec<u8> {
    for (at, hit) in hits {
        let at = at.index(bytes.len() + 1);
        match *hit {
            Hit::Insert(byte) => bytes.insert(at, byte),
            Hit::Truncate => bytes.truncate(at),
            Hit::Set(byte) => bytes
                .iter_mut()
                .skip(at)
                .take(1)
                .for_each(|old| *old = byte),
            Hit::Flip(bit) => bytes
                .iter_mut()
                .skip(at)
                .take(1)
                .for_each(|old| *old ^= 1 << bit),
            Hit::Repeat => bytes.extend_from_within(at..),
            Hit::Remove => drop(bytes.drain(at..(at + 1).min(bytes.len()))),
        }
    }
    bytes
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Hit {
    Insert(u8),
    Truncate,
    Set(u8),
    Flip(u8),
    Repeat,
    Remove,
}

pub(crate) fn hits() -> impl Strategy<Value = Vec<(Index, Hit)>> {
    let hit = prop_oneof![
        2 => any::<u8>().prop_map(Hit::Insert),
        1 => Just(Hit::Truncate),
        2 => any::<u8>().prop_map(Hit::Set),
        4 => (0..8_u8).prop_map(Hit::Flip),
        1 => Just(Hit::Repeat),
        2 => Just(Hit::Remove),
    ];
    vec((any::<Index>(), hit), 0..4)
}

/// `bytes` without their payloads, as far as these are length-delimited as they should be.
pub(crate) fn without_payloads(bytes: &[u8]) -> Vec<u8> {
    let mut rest = bytes;
    let mut kept = Vec::new();
    while !rest.is_empty() {
        let start = rest;
        let (number, wire_type) = decode_key(&mut rest).expect("a key that the view read");
        skip_field(wire_type, number, &mut rest, DecodeContext::default())
            .expect("a value that the view read");
        if wire_type != WireType::LengthDelimited || !(10..=24).contains(&number) {
            kept.extend(start.iter().take(start.len() - rest.len()));
        }
    }
    kept
}

pub(crate) fn agrees(view: &EnvelopeView<'_>, envelope: &Envelope) -> bool {
    view.from_address() == envelope.from_address
        && view.to_address() == envelope.to_address
        && view.type_number() == envelope.r#type
        && view.message_type() == MessageType::try_from(envelope.r#type).ok()
        && view.message_id() == envelope.message_id
}

/// The promise of `EnvelopeView`, for any bytes: it stands or falls with prost, payloads aside.
pub(crate) fn check(bytes: &[u8]) {
    match (EnvelopeView::parse(bytes), Envelope::decode(bytes)) {
        (Ok(view), Ok(envelope)) => assert!(
            agrees(&view, &envelope),
            "{view:?} {envelope:?} {bytes:02x?}"
        ),
        (Ok(view), Err(_)) => {
            let rest = without_payloads(bytes);
            let envelope = Envelope::decode(&rest[..]);
            assert!(
                envelope.is_ok_and(|envelope| agrees(&view, &envelope)),
                "{view:?} {bytes:02x?}"
            );
        }
        (Err(error), envelope) => assert!(envelope.is_err(), "{error} {envelope:?} {bytes:02x?}"),
    }
}
