//! Fields as the wire has them, well written and badly.

use core::fmt;

use arbitrary::{Result, Unstructured};
use pinch_proto::wire::{
    AuthResult, EncryptedPayload, Envelope, Heartbeat, Payload, QueueFull, QueueStatus,
};
use prost::Message as _;

/// How deep groups are nested at most, in what is read field by field.
const MAX_NESTING: usize = 130;

/// Something in a message. The first number is that of the field; padding is how many bytes a
/// varint has, if that is more than it needs.
#[derive(Debug)]
pub(super) enum Field {
    /// Bytes as they are.
    Any(Vec<u8>),
    /// Fields that prost writes.
    Typed(Envelope),
    Varint {
        number: u32,
        value: u64,
        padding: usize,
    },
    Fixed64 {
        number: u32,
        value: [u8; 8],
    },
    Bytes {
        number: u32,
        value: Vec<u8>,
        padding: usize,
        /// How many more or less bytes it claims to have.
        off_by: i8,
    },
    Group {
        number: u32,
        fields: Vec<Field>,
    },
    /// So many groups within each other, with the same number.
    Nested {
        number: u32,
        depth: usize,
        fields: Vec<Field>,
    },
    Fixed32 {
        number: u32,
        value: [u8; 4],
    },
    /// A key alone.
    Key {
        number: u32,
        wire_type: u8,
        padding: usize,
    },
}

impl Field {
    pub(super) fn read(input: &mut Unstructured<'_>, depth: usize) -> Result<Self> {
        let number = match input.int_in_range(0..=40)? {
            // Those that do not fit into a byte.
            0 => input.arbitrary::<u32>()? >> 3,
            number => number,
        };
        let kinds = if depth < 4 { 10 } else { 7 };
        Ok(match input.int_in_range(0..=kinds)? {
            0 => Self::Any(short(input)?),
            1 | 2 => Self::Varint {
                number,
                value: value(input)?,
                padding: padding(input)?,
            },
            3 => Self::Fixed64 {
                number,
                value: input.arbitrary()?,
            },
            4 | 5 => Self::Bytes {
                number,
                value: short(input)?,
                padding: padding(input)?,
                off_by: if input.ratio(1, 16)? {
                    input.arbitrary()?
                } else {
                    0
                },
            },
            6 => Self::Fixed32 {
                number,
                value: input.arbitrary()?,
            },
            7 => Self::Key {
                number,
                wire_type: input.int_in_range(0..=7)?,
                padding: padding(input)?,
            },
            8 => Self::Group {
                number,
                fields: Self::some(input, depth)?,
            },
            9 => Self::Nested {
                number,
                depth: input.int_in_range(90..=MAX_NESTING)?,
                fields: Self::some(input, depth)?,
            },
            _ => Self::Typed(envelope(input)?),
        })
    }

    fn some(input: &mut Unstructured<'_>, depth: usize) -> Result<Vec<Self>> {
        let count = input.int_in_range(0..=3)?;
        (0..count).map(|_| Self::read(input, depth + 1)).collect()
    }

    fn write(&self, out: &mut Vec<u8>) {
        let key = |number: u32, wire_type: u8, out: &mut Vec<u8>| {
            write_varint(u64::from(number) << 3 | u64::from(wire_type), 0, out);
        };
        match self {
            Self::Any(bytes) => out.extend(bytes),
            Self::Typed(envelope) => out.extend(envelope.encode_to_vec()),
            Self::Varint {
                number,
                value,
                padding,
            } => {
                key(*number, 0, out);
                write_varint(*value, *padding, out);
            }
            Self::Fixed64 { number, value } => {
                key(*number, 1, out);
                out.extend(value);
            }
            Self::Bytes {
                number,
                value,
                padding,
                off_by,
            } => {
                key(*number, 2, out);
                let len = (value.len() as u64).wrapping_add_signed(i64::from(*off_by));
                write_varint(len, *padding, out);
                out.extend(value);
            }
            Self::Group { number, fields } => {
                key(*number, 3, out);
                fields.iter().for_each(|field| field.write(out));
                key(*number, 4, out);
            }
            Self::Nested {
                number,
                depth,
                fields,
            } => {
                (0..*depth).for_each(|_| key(*number, 3, out));
                fields.iter().for_each(|field| field.write(out));
                (0..*depth).for_each(|_| key(*number, 4, out));
            }
            Self::Fixed32 { number, value } => {
                key(*number, 5, out);
                out.extend(value);
            }
            Self::Key {
                number,
                wire_type,
                padding,
            } => {
                let key = u64::from(*number) << 3 | u64::from(*wire_type);
                write_varint(key, *padding, out);
            }
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any(bytes) => write!(f, "the bytes {bytes:02x?}"),
            Self::Typed(envelope) => write!(f, "the fields of {envelope:?}"),
            Self::Varint {
                number,
                value,
                padding,
            } => write!(f, "field {number}: varint {value}, padded to {padding}"),
            Self::Fixed64 { number, value } => write!(f, "field {number}: 64 bits {value:02x?}"),
            Self::Bytes {
                number,
                value,
                padding,
                off_by,
            } => write!(
                f,
                "field {number}: bytes {value:02x?}, length padded to {padding}, off by {off_by}"
            ),
            Self::Group { number, fields } => {
                write!(f, "group {number} of {} fields: {fields:?}", fields.len())
            }
            Self::Nested {
                number,
                depth,
                fields,
            } => write!(f, "{depth} groups {number} around {fields:?}"),
            Self::Fixed32 { number, value } => write!(f, "field {number}: 32 bits {value:02x?}"),
            Self::Key {
                number,
                wire_type,
                padding,
            } => write!(
                f,
                "the key of field {number} with wire type {wire_type}, padded to {padding}"
            ),
        }
    }
}

pub(super) fn encode(fields: &[Field]) -> Vec<u8> {
    let mut out = vec![];
    fields.iter().for_each(|field| field.write(&mut out));
    out
}

fn write_varint(mut value: u64, padding: usize, out: &mut Vec<u8>) {
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

fn short(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let len = input.int_in_range(0..=24)?;
    Ok(input.bytes(len.min(input.len()))?.to_vec())
}

fn value(input: &mut Unstructured<'_>) -> Result<u64> {
    Ok(match input.int_in_range(0..=3)? {
        0 => input.arbitrary()?,
        1 => i64::from(input.arbitrary::<i32>()?).cast_unsigned(),
        _ => u64::from(input.arbitrary::<u8>()?),
    })
}

fn padding(input: &mut Unstructured<'_>) -> Result<usize> {
    Ok(input.int_in_range(0_usize..=33)?.saturating_sub(22))
}

fn envelope(input: &mut Unstructured<'_>) -> Result<Envelope> {
    let text = |input: &mut Unstructured<'_>| {
        short(input).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    };
    let payload = match input.int_in_range(0..=5)? {
        0 => Payload::Encrypted(EncryptedPayload {
            nonce: short(input)?.into(),
            ciphertext: short(input)?.into(),
            sender_public_key: short(input)?.into(),
        }),
        1 => Payload::Heartbeat(Heartbeat {
            timestamp: input.arbitrary()?,
        }),
        2 => Payload::AuthResult(AuthResult {
            success: input.arbitrary()?,
            error_message: text(input)?,
            assigned_address: text(input)?,
        }),
        3 => Payload::QueueStatus(QueueStatus {
            pending_count: input.arbitrary()?,
        }),
        _ => Payload::QueueFull(QueueFull {
            recipient_address: text(input)?,
            reason: text(input)?,
        }),
    };
    Ok(Envelope {
        version: input.arbitrary::<u8>()?.into(),
        from_address: text(input)?,
        to_address: text(input)?,
        r#type: input.arbitrary::<i8>()?.into(),
        message_id: short(input)?.into(),
        timestamp: input.arbitrary()?,
        payload: Some(payload),
    })
}
