//! What is refused, why and where; and what is not.

use crate::encoding::*;
use pinch_proto::wire::{Envelope, MessageType};
use pinch_proto::{EnvelopeError, EnvelopeView};
use prost::Message;

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
#[cfg(target_pointer_width = "64")]
fn what_is_longer_than_protobuf_can_say_is_not_looked_at() {
    // Zeros that nobody looks at are no memory.
    let bytes = vec![0; 1 << 32];
    let error = EnvelopeError::TooLong { len: 1 << 32 };
    assert_eq!(EnvelopeView::parse(&bytes), Err(error));
    assert_eq!(
        error.to_string(),
        "the envelope has 4294967296 bytes, expected less than 4 GiB"
    );
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
