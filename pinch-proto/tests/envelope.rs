//! The view agrees with prost: on whatever prost decodes it reads the same values, and what prost
//! refuses at the top level it refuses too. Only inside payloads it does not look.

use pinch_proto::wire::{
    AuthChallenge, ConnectionResponse, DeliveryConfirm, EncryptedPayload, Envelope, Heartbeat,
    MessageType, Payload, QueueFull, QueueStatus, RateLimited,
};
use pinch_proto::{EnvelopeError, EnvelopeView};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};

/// A field as the wire has it. The first number is that of the field; the length of `Bytes` is
/// padded like a varint.
#[derive(Clone, Debug)]
enum Field {
    Varint(u32, Number),
    Fixed64(u32, [u8; 8]),
    Bytes(u32, usize, Vec<u8>),
    Group(u32, Vec<Field>),
    Fixed32(u32, [u8; 4]),
}

/// A varint, and how many bytes it has if that is more than it needs.
#[derive(Clone, Copy, Debug)]
struct Number(u64, usize);

impl Number {
    fn encode(self, out: &mut Vec<u8>) {
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
    fn encode(&self, out: &mut Vec<u8>) {
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

fn encode(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    fields.iter().for_each(|field| field.encode(&mut out));
    out
}

fn padding() -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(0), 1 => 0..=10_usize]
}

fn number() -> impl Strategy<Value = Number> {
    let value = prop_oneof![
        0..200_u64,
        any::<u64>(),
        any::<i32>().prop_map(|value| i64::from(value).cast_unsigned())
    ];
    (value, padding()).prop_map(|(value, padding)| Number(value, padding))
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["pinch:[a-z]{1,8}@[a-z]{1,8}", ".{0,5}", "[a-z]{120,140}"]
}

/// A field of any wire type with a number that `numbers` gives.
fn field_of<S: Strategy<Value = u32> + Clone + 'static>(
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
fn unknown() -> impl Strategy<Value = Field> {
    let numbers = prop_oneof![7..=9_u32, 25..=40_u32, 1_000..=(1 << 29) - 1_u32];
    let anywhere = prop_oneof![1..=30_u32, 1..=(1 << 29) - 1_u32];
    prop_oneof![
        field_of(numbers.clone()),
        (numbers, vec(field_of(anywhere), 0..4))
            .prop_map(|(field, fields)| Field::Group(field, fields)),
    ]
}

/// A field of an envelope, as it should be.
fn known() -> impl Strategy<Value = Field> {
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

fn payload() -> impl Strategy<Value = Payload> {
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

fn envelope() -> impl Strategy<Value = Envelope> {
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
fn pieces(envelope: &Envelope) -> Vec<Vec<u8>> {
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
fn damage(mut bytes: Vec<u8>, hits: &[(Index, Hit)]) -> Vec<u8> {
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
enum Hit {
    Insert(u8),
    Truncate,
    Set(u8),
    Flip(u8),
    Repeat,
    Remove,
}

fn hits() -> impl Strategy<Value = Vec<(Index, Hit)>> {
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
fn without_payloads(bytes: &[u8]) -> Vec<u8> {
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

fn agrees(view: &EnvelopeView<'_>, envelope: &Envelope) -> bool {
    view.from_address() == envelope.from_address
        && view.to_address() == envelope.to_address
        && view.type_number() == envelope.r#type
        && view.message_type() == MessageType::try_from(envelope.r#type).ok()
        && view.message_id() == envelope.message_id
}

/// The promise of `EnvelopeView`, for any bytes: it stands or falls with prost, payloads aside.
fn check(bytes: &[u8]) {
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_order_of_fields(
        (envelope, bytes) in envelope().prop_flat_map(|envelope| {
            let pieces = Just(pieces(&envelope)).prop_shuffle();
            (Just(envelope), pieces.prop_map(|pieces| pieces.concat()))
        }),
    ) {
        prop_assert_eq!(Envelope::decode(&bytes[..]), Ok(envelope.clone()));
        prop_assert!(agrees(&EnvelopeView::parse(&bytes).unwrap(), &envelope));
    }

    #[test]
    fn of_two_envelopes_the_last_one_wins(
        bytes in (envelope(), envelope())
            .prop_flat_map(|(one, other)| Just([pieces(&one), pieces(&other)].concat()).prop_shuffle())
            .prop_map(|pieces| pieces.concat()),
    ) {
        let envelope = Envelope::decode(&bytes[..]).unwrap();
        prop_assert!(agrees(&EnvelopeView::parse(&bytes).unwrap(), &envelope));
    }

    #[test]
    fn every_way_to_write_it(fields in vec(prop_oneof![3 => known(), 1 => unknown()], 0..16)) {
        let bytes = encode(&fields);
        let envelope = Envelope::decode(&bytes[..]).unwrap();
        prop_assert!(agrees(&EnvelopeView::parse(&bytes).unwrap(), &envelope));
    }

    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..64)) {
        check(&bytes);
    }

    #[test]
    fn any_fields(fields in vec(field_of(0..=30_u32), 0..8)) {
        check(&encode(&fields));
    }

    #[test]
    fn damaged_envelopes(envelope in envelope(), hits in hits()) {
        check(&damage(envelope.encode_to_vec(), &hits));
    }

    #[test]
    fn damaged_encodings(fields in vec(prop_oneof![known(), unknown()], 0..8), hits in hits()) {
        check(&damage(encode(&fields), &hits));
    }

    #[test]
    fn every_beginning_of_an_envelope(envelope in envelope()) {
        let bytes = envelope.encode_to_vec();
        for len in 0..bytes.len() {
            check(&bytes[..len]);
        }
    }
}

#[test]
fn all_short_inputs() {
    check(&[]);
    for first in 0..=255 {
        check(&[first]);
        for second in 0..=255 {
            check(&[first, second]);
            for third in [0x00, 0x01, 0x02, 0x0c, 0x12, 0x7f, 0x80, 0xff] {
                check(&[first, second, third]);
            }
        }
    }
}

/// `depth` groups inside each other, and in the innermost one `inner`.
fn nested(depth: usize, inner: &[u8]) -> Vec<u8> {
    [&[0x3b].repeat(depth), inner, &[0x3c].repeat(depth)].concat()
}

#[test]
fn errors() {
    let table: [(&[u8], _, _); 23] = [
        (
            &[0x20],
            EnvelopeError::TruncatedVarint { at: 1 },
            "byte 1: the envelope ends within the varint that begins here",
        ),
        (
            &[0x08, 0x01, 0x82],
            EnvelopeError::TruncatedVarint { at: 2 },
            "byte 2: the envelope ends within the varint that begins here",
        ),
        (
            &[0x12, 0x03, b'a', b'b'],
            EnvelopeError::Truncated {
                at: 2,
                len: 3,
                left: 2,
            },
            "byte 2: a value of 3 bytes begins here, but the envelope has only 2 more",
        ),
        // A payload's contents are nobody's business here, but its length is.
        (
            &[0x52, 0x05, 0x00],
            EnvelopeError::Truncated {
                at: 2,
                len: 5,
                left: 1,
            },
            "byte 2: a value of 5 bytes begins here, but the envelope has only 1 more",
        ),
        (
            &[
                0x2a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
            ],
            EnvelopeError::Truncated {
                at: 11,
                len: u64::MAX,
                left: 0,
            },
            "byte 11: a value of 18446744073709551615 bytes begins here, but the envelope has only 0 more",
        ),
        (
            &[0x3d, 0, 0, 0],
            EnvelopeError::Truncated {
                at: 1,
                len: 4,
                left: 3,
            },
            "byte 1: a value of 4 bytes begins here, but the envelope has only 3 more",
        ),
        (
            &[0x39, 0, 0, 0, 0, 0, 0, 0],
            EnvelopeError::Truncated {
                at: 1,
                len: 8,
                left: 7,
            },
            "byte 1: a value of 8 bytes begins here, but the envelope has only 7 more",
        ),
        (
            &[0x3b, 0x43, 0x44],
            EnvelopeError::TruncatedGroup { at: 3, field: 7 },
            "byte 3: the envelope ends within group 7",
        ),
        (
            &[
                0x20, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02,
            ],
            EnvelopeError::VarintOverflow { at: 1 },
            "byte 1: the varint that begins here does not fit 64 bits",
        ),
        (
            &[
                0x20, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00,
            ],
            EnvelopeError::VarintOverflow { at: 1 },
            "byte 1: the varint that begins here does not fit 64 bits",
        ),
        (
            &[0x80, 0x80, 0x80, 0x80, 0x10, 0x00],
            EnvelopeError::InvalidKey {
                at: 0,
                key: 1 << 32,
            },
            "byte 0: 4294967296 is no key of a field, which has at most 32 bits",
        ),
        (
            &[0x08, 0x00, 0x16],
            EnvelopeError::InvalidWireType {
                at: 2,
                field: 2,
                wire_type: 6,
            },
            "byte 2: field 2 has wire type 6, expected 0 to 5",
        ),
        (
            &[0x3f],
            EnvelopeError::InvalidWireType {
                at: 0,
                field: 7,
                wire_type: 7,
            },
            "byte 0: field 7 has wire type 7, expected 0 to 5",
        ),
        (
            &[0x00, 0x00],
            EnvelopeError::FieldNumberZero { at: 0 },
            "byte 0: a field has number 0, expected 1 or more",
        ),
        (
            &[0x10, 0x00],
            EnvelopeError::WrongWireType {
                at: 0,
                field: 2,
                wire_type: 0,
                expected: 2,
            },
            "byte 0: field 2 has wire type 0, expected 2",
        ),
        (
            &[0x08, 0x00, 0x22, 0x00],
            EnvelopeError::WrongWireType {
                at: 2,
                field: 4,
                wire_type: 2,
                expected: 0,
            },
            "byte 2: field 4 has wire type 2, expected 0",
        ),
        (
            &[0x53, 0x54],
            EnvelopeError::WrongWireType {
                at: 0,
                field: 10,
                wire_type: 3,
                expected: 2,
            },
            "byte 0: field 10 has wire type 3, expected 2",
        ),
        (
            &[0x12, 0x03, b'a', 0xff, b'b'],
            EnvelopeError::InvalidUtf8 { at: 3, field: 2 },
            "byte 3: the text of field 2 is not UTF-8 from here on",
        ),
        // A field that does not count is checked too: there is a better one behind it.
        (
            &[0x1a, 0x02, 0xc3, 0x28, 0x1a, 0x01, b'a'],
            EnvelopeError::InvalidUtf8 { at: 2, field: 3 },
            "byte 2: the text of field 3 is not UTF-8 from here on",
        ),
        (
            &[0x3c],
            EnvelopeError::UnexpectedGroupEnd { at: 0, field: 7 },
            "byte 0: group 7 ends here, but it is not the one that is open",
        ),
        (
            &[0x3b, 0x43, 0x3c, 0x44],
            EnvelopeError::UnexpectedGroupEnd { at: 2, field: 7 },
            "byte 2: group 7 ends here, but it is not the one that is open",
        ),
        (
            &nested(100, &[0x08, 0x00]),
            EnvelopeError::TooDeep { at: 100 },
            "byte 100: a field within 100 groups begins here, expected fewer",
        ),
        (
            &nested(101, &[]),
            EnvelopeError::TooDeep { at: 100 },
            "byte 100: a field within 100 groups begins here, expected fewer",
        ),
    ];
    for (bytes, error, message) in table {
        assert_eq!(EnvelopeView::parse(bytes), Err(error), "{bytes:02x?}");
        assert_eq!(error.to_string(), message);
        assert!(Envelope::decode(bytes).is_err(), "{bytes:02x?}");
    }
}

#[test]
fn every_known_field_has_one_wire_type() {
    for number in (1..=6).chain(10..=24_u32) {
        let expected = if [1, 4, 6].contains(&number) { 0 } else { 2 };
        for wire_type in 0..=5_u8 {
            let mut bytes = Vec::new();
            Number(u64::from(number << 3 | u32::from(wire_type)), 0).encode(&mut bytes);
            bytes.extend([0; 8]);
            bytes.truncate(if wire_type == expected {
                bytes.len() - 7
            } else {
                bytes.len()
            });

            let view = EnvelopeView::parse(&bytes);
            if wire_type == expected {
                assert!(view.is_ok(), "field {number}: {view:?}");
            } else {
                let error = EnvelopeError::WrongWireType {
                    at: 0,
                    field: number,
                    wire_type,
                    expected,
                };
                assert_eq!(view, Err(error));
            }
            check(&bytes);
        }
    }
}

#[test]
fn groups_may_be_nested_a_hundred_deep() {
    for inner in [&[][..], &[0x08, 0x00], &[0x43, 0x44]] {
        for depth in 97..=102 {
            check(&nested(depth, inner));
        }
    }
    assert!(EnvelopeView::parse(&nested(100, &[])).is_ok());
    assert!(EnvelopeView::parse(&nested(99, &[0x08, 0x00])).is_ok());
    // One after another is not nested, however many.
    assert!(EnvelopeView::parse(&nested(1, &[]).repeat(1_000)).is_ok());
    assert!(EnvelopeView::parse(&nested(1, &nested(98, &[]).repeat(1_000))).is_ok());
    // A field in a group is none of the envelope's.
    assert_eq!(
        EnvelopeView::parse(&nested(1, &[0x12, 0x01, b'a']))
            .unwrap()
            .from_address(),
        ""
    );
}

#[test]
fn nothing_is_an_empty_envelope() {
    let view = EnvelopeView::parse(&[]).unwrap();
    assert!(agrees(&view, &Envelope::default()));
    assert_eq!(view.message_type(), Some(MessageType::Unspecified));
}

#[test]
fn payloads_are_opaque() {
    // Field 10 with a byte that is no protobuf: the recipient's business.
    let bytes = [0x1a, 0x01, b'b', 0x52, 0x01, 0xff];
    assert!(Envelope::decode(&bytes[..]).is_err());
    assert_eq!(EnvelopeView::parse(&bytes).unwrap().to_address(), "b");
}

#[test]
fn a_type_is_cut_to_32_bits() {
    // 2^32 + 4, as a writer of 64-bit enums would have it.
    let bytes = [0x20, 0x84, 0x80, 0x80, 0x80, 0x10];
    check(&bytes);
    assert_eq!(
        EnvelopeView::parse(&bytes).unwrap().message_type(),
        Some(MessageType::Message)
    );
}

#[test]
fn the_view_borrows_from_the_bytes() {
    let bytes = [0x2a, 0x02, b'i', b'd'];
    let id = {
        let view = EnvelopeView::parse(&bytes).unwrap();
        view.message_id()
    };
    assert_eq!(id.as_ptr_range(), bytes[2..].as_ptr_range());
}
