//! Whom an envelope is for: all that the simplest relay has to know of it.

const TO_ADDRESS: u64 = 3;

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const FIXED32: u64 = 5;

/// The first field 3 of a protobuf message, if that is bytes. What is behind it is not looked at.
#[must_use]
pub fn recipient(envelope: &[u8]) -> Option<&[u8]> {
    let mut rest = envelope;
    loop {
        let key = varint(&mut rest)?;
        let len = match key & 7 {
            VARINT => {
                varint(&mut rest)?;
                0
            }
            FIXED64 => 8,
            FIXED32 => 4,
            LENGTH_DELIMITED => usize::try_from(varint(&mut rest)?).ok()?,
            _ => return None,
        };
        let (value, behind) = rest.split_at_checked(len)?;
        if key == TO_ADDRESS << 3 | LENGTH_DELIMITED {
            return Some(value);
        }
        rest = behind;
    }
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, behind) = rest.split_first()?;
        *rest = behind;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use pinch_proto::wire::Envelope;

    use super::*;

    #[test]
    fn the_recipient_is_found_behind_whatever_comes_before_it() {
        let envelope = Envelope {
            version: u32::MAX,
            from_address: "pinch:alice@localhost".into(),
            to_address: "pinch:bob@localhost".into(),
            message_id: b"id".as_slice().into(),
            ..Envelope::default()
        };
        let bytes = envelope.to_bytes();
        assert_eq!(recipient(&bytes), Some(&b"pinch:bob@localhost"[..]));
        // Unknown fields with 32 and 64 bits.
        let strange = [b"\xa5\x06abcd\xa1\x06abcdefgh", &*bytes].concat();
        assert_eq!(recipient(&strange), recipient(&bytes));
    }

    #[test]
    fn what_is_no_envelope_has_none() {
        let long = [0xff; 16];
        for bytes in [
            &b""[..],
            b"\x1a",
            b"\x1a\x05bob",
            b"\x08\x01",
            b"\x0b",
            &long,
        ] {
            assert_eq!(recipient(bytes), None, "{bytes:?}");
        }
    }
}
