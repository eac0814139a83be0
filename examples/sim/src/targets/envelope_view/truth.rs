//! Whether what an error says about some bytes is so.

use pinch_proto::EnvelopeError;

/// Whether the error says the truth about `bytes`: the place, and what is wrong there.
pub(super) fn is_true(error: &EnvelopeError, bytes: &[u8]) -> bool {
    let key_at = |at: usize| varint(bytes.get(at..)?);
    let is_key = |at: usize, field: u32, wire_type: u8| {
        key_at(at) == Some(u64::from(field) << 3 | u64::from(wire_type))
    };
    match *error {
        EnvelopeError::TruncatedVarint { at } => bytes
            .get(at..)
            .is_some_and(|rest| rest.len() < 10 && rest.iter().all(|&byte| byte >= 0x80)),
        EnvelopeError::Truncated { at, len, left } => at + left == bytes.len() && len > left as u64,
        EnvelopeError::TruncatedGroup { at, field } => {
            at == bytes.len() && (0..at).any(|begin| is_key(begin, field, 3))
        }
        EnvelopeError::VarintOverflow { at } => bytes.get(at..).is_some_and(|rest| {
            rest.len() >= 10 && rest[..9].iter().all(|&byte| byte >= 0x80) && rest[9] > 1
        }),
        EnvelopeError::InvalidKey { at, key } => {
            key_at(at) == Some(key) && key > u64::from(u32::MAX)
        }
        EnvelopeError::InvalidWireType {
            at,
            field,
            wire_type,
        } => is_key(at, field, wire_type) && wire_type > 5,
        EnvelopeError::FieldNumberZero { at } => key_at(at).is_some_and(|key| key < 8),
        EnvelopeError::WrongWireType {
            at,
            field,
            wire_type,
            expected,
        } => {
            is_key(at, field, wire_type)
                && wire_type != expected
                && match field {
                    1 | 4 | 6 => expected == 0,
                    2 | 3 | 5 | 10..=24 => expected == 2,
                    _ => false,
                }
        }
        // A byte alone is no text if it is none of ASCII; and addresses are fields 2 and 3.
        EnvelopeError::InvalidUtf8 { at, field } => {
            bytes.get(at).is_some_and(|&byte| byte >= 0x80) && (2..=3).contains(&field)
        }
        EnvelopeError::UnexpectedGroupEnd { at, field } => is_key(at, field, 4),
        EnvelopeError::TooDeep { at } => {
            let is_begin = |&at: &usize| key_at(at).is_some_and(|key| key & 7 == 3);
            key_at(at).is_some() && (0..at).filter(is_begin).count() >= 100
        }
        EnvelopeError::TooLong { len } => len == bytes.len() && u32::try_from(len).is_err(),
        _ => false,
    }
}

/// The varint that `bytes` begin with.
fn varint(bytes: &[u8]) -> Option<u64> {
    let len = 1 + bytes.iter().take_while(|&&byte| byte >= 0x80).count();
    let mut value: u128 = 0;
    for &byte in bytes.get(..len)?.iter().take(10).rev() {
        value = value << 7 | u128::from(byte & 0x7f);
    }
    u64::try_from(value).ok()
}
