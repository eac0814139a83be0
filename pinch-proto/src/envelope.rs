//! What routing reads of an envelope, without decoding it and without copying.
//!
//! [`EnvelopeView`] makes one pass over the top-level fields of the protobuf message and keeps four
//! of them. It accepts what [`wire::Envelope`](crate::wire::Envelope) can be decoded from and reads
//! the same values out of it; what is inside a payload is never looked at, so a broken payload is
//! found by its recipient and not here. Whether the addresses are addresses, and whose, is decided
//! by the hub.

use core::str;

use thiserror::Error;

use crate::wire::MessageType;

/// The routing fields of an envelope, borrowed from its bytes.
///
/// As everywhere in protobuf, a field that is missing is empty or zero, of a field that occurs
/// more than once the last one counts, and unknown fields are ignored.
///
/// ```
/// use pinch_proto::EnvelopeView;
/// use pinch_proto::wire::{Envelope, MessageType};
///
/// let bytes = Envelope {
///     from_address: "pinch:alice@relay.example.com".into(),
///     to_address: "pinch:bob@relay.example.com".into(),
///     r#type: MessageType::Message.into(),
///     message_id: b"0123456789abcdef".as_slice().into(),
///     ..Envelope::default()
/// }
/// .to_bytes();
///
/// let view = EnvelopeView::parse(&bytes)?;
/// assert_eq!(view.to_address(), "pinch:bob@relay.example.com");
/// assert_eq!(view.message_type(), Some(MessageType::Message));
/// assert!(EnvelopeView::parse(&bytes[1..]).is_err());
/// # Ok::<(), pinch_proto::EnvelopeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvelopeView<'a> {
    /// UTF-8, as is the next.
    from_address: &'a [u8],
    to_address: &'a [u8],
    type_number: i32,
    message_id: &'a [u8],
}

impl<'a> EnvelopeView<'a> {
    /// Reads the envelope that `bytes` are. Linear in the number of fields, and for the two
    /// addresses in their length; nothing is allocated.
    ///
    /// # Errors
    ///
    /// `bytes` are no protobuf message, or a field of `Envelope` has another type than it should;
    /// [`EnvelopeError`] says which and where.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EnvelopeError> {
        let mut view = Self {
            from_address: b"",
            to_address: b"",
            type_number: 0,
            message_id: &[],
        };
        let mut scan = Scan {
            rest: bytes,
            len: bytes.len(),
        };
        while let Some((&key, behind)) = scan.rest.split_first() {
            // Nearly every field of every envelope has one of these keys.
            match key {
                VERSION_KEY | TIMESTAMP_KEY => {
                    scan.rest = behind;
                    scan.varint()?;
                }
                FROM_ADDRESS_KEY => {
                    scan.rest = behind;
                    view.from_address = scan.text(FROM_ADDRESS)?;
                }
                TO_ADDRESS_KEY => {
                    scan.rest = behind;
                    view.to_address = scan.text(TO_ADDRESS)?;
                }
                TYPE_KEY => {
                    scan.rest = behind;
                    view.type_number = truncate(scan.varint()?);
                }
                MESSAGE_ID_KEY => {
                    scan.rest = behind;
                    view.message_id = scan.bytes()?;
                }
                ENCRYPTED_KEY => {
                    scan.rest = behind;
                    scan.bytes()?;
                }
                _ => view.take_field(&mut scan)?,
            }
        }
        Ok(view)
    }

    /// What the envelope says about its sender; the hub compares it with who really sent it.
    #[must_use]
    pub const fn from_address(&self) -> &'a str {
        checked(self.from_address)
    }

    /// [`from_address`](Self::from_address), for those who compare it.
    pub(crate) const fn from_bytes(&self) -> &'a [u8] {
        self.from_address
    }

    /// Where it shall go.
    #[must_use]
    pub const fn to_address(&self) -> &'a str {
        checked(self.to_address)
    }

    /// [`to_address`](Self::to_address), for those who look it up.
    pub(crate) const fn to_bytes(&self) -> &'a [u8] {
        self.to_address
    }

    /// What it is for, as a number that may be unknown here.
    #[must_use]
    pub const fn type_number(&self) -> i32 {
        self.type_number
    }

    /// What it is for; `None` if the number is unknown here.
    #[must_use]
    pub fn message_type(&self) -> Option<MessageType> {
        MessageType::try_from(self.type_number).ok()
    }

    /// What its sender calls it, so that a refusal can name it.
    #[must_use]
    pub const fn message_id(&self) -> &'a [u8] {
        self.message_id
    }

    /// Takes a field whatever it is, and however its key is written.
    fn take_field(&mut self, scan: &mut Scan<'a>) -> Result<(), EnvelopeError> {
        let key = scan.key()?;
        match key.field {
            VERSION | TIMESTAMP => {
                expect_wire_type(key, VARINT)?;
                scan.varint()?;
            }
            TYPE => {
                expect_wire_type(key, VARINT)?;
                self.type_number = truncate(scan.varint()?);
            }
            FROM_ADDRESS => {
                expect_wire_type(key, LENGTH_DELIMITED)?;
                self.from_address = scan.text(FROM_ADDRESS)?;
            }
            TO_ADDRESS => {
                expect_wire_type(key, LENGTH_DELIMITED)?;
                self.to_address = scan.text(TO_ADDRESS)?;
            }
            MESSAGE_ID => {
                expect_wire_type(key, LENGTH_DELIMITED)?;
                self.message_id = scan.bytes()?;
            }
            FIRST_PAYLOAD..=LAST_PAYLOAD => {
                expect_wire_type(key, LENGTH_DELIMITED)?;
                scan.bytes()?;
            }
            _ => scan.skip(key)?,
        }
        Ok(())
    }
}

/// The text that `bytes` were checked to be.
const fn checked(bytes: &[u8]) -> &str {
    match str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => unreachable!(),
    }
}

/// Why some bytes are no envelope. Each kind says at which byte, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// The bytes end within a varint.
    #[error("byte {at}: the envelope ends within the varint that begins here")]
    TruncatedVarint {
        /// Where the varint begins.
        at: usize,
    },
    /// The bytes end within a value.
    #[error("byte {at}: a value of {len} bytes begins here, but the envelope has only {left} more")]
    Truncated {
        /// Where the value begins.
        at: usize,
        /// How long it says it is.
        len: u64,
        /// How many bytes are left for it.
        left: usize,
    },
    /// The bytes end within a group.
    #[error("byte {at}: the envelope ends within group {field}")]
    TruncatedGroup {
        /// Where the bytes end.
        at: usize,
        /// The number of the innermost group that is open.
        field: u32,
    },
    /// A varint is longer than 10 bytes or larger than 64 bits.
    #[error("byte {at}: the varint that begins here does not fit 64 bits")]
    VarintOverflow {
        /// Where the varint begins.
        at: usize,
    },
    /// A field's key is larger than 32 bits.
    #[error("byte {at}: {key} is no key of a field, which has at most 32 bits")]
    InvalidKey {
        /// Where the key begins.
        at: usize,
        /// The key.
        key: u64,
    },
    /// A field has a wire type that protobuf does not have.
    #[error("byte {at}: field {field} has wire type {wire_type}, expected 0 to 5")]
    InvalidWireType {
        /// Where the field's key begins.
        at: usize,
        /// The number of the field.
        field: u32,
        /// Its wire type.
        wire_type: u8,
    },
    /// A field has the number 0.
    #[error("byte {at}: a field has number 0, expected 1 or more")]
    FieldNumberZero {
        /// Where the field's key begins.
        at: usize,
    },
    /// A field of `Envelope` has another wire type than it should.
    #[error("byte {at}: field {field} has wire type {wire_type}, expected {expected}")]
    WrongWireType {
        /// Where the field's key begins.
        at: usize,
        /// The number of the field.
        field: u32,
        /// Its wire type.
        wire_type: u8,
        /// The wire type it should have.
        expected: u8,
    },
    /// An address is not UTF-8.
    #[error("byte {at}: the text of field {field} is not UTF-8 from here on")]
    InvalidUtf8 {
        /// Where the first wrong sequence begins.
        at: usize,
        /// The number of the field.
        field: u32,
    },
    /// A group ends that had not begun, or another one than had.
    #[error("byte {at}: group {field} ends here, but it is not the one that is open")]
    UnexpectedGroupEnd {
        /// Where the end's key begins.
        at: usize,
        /// The number of the group that ends.
        field: u32,
    },
    /// Groups are nested too deep.
    #[error("byte {at}: a field within {MAX_DEPTH} groups begins here, expected fewer")]
    TooDeep {
        /// Where the field's key begins.
        at: usize,
    },
}

const VERSION: u32 = 1;
const FROM_ADDRESS: u32 = 2;
const TO_ADDRESS: u32 = 3;
const TYPE: u32 = 4;
const MESSAGE_ID: u32 = 5;
const TIMESTAMP: u32 = 6;
const FIRST_PAYLOAD: u32 = 10;
const LAST_PAYLOAD: u32 = 24;

const VARINT: u8 = 0;
const FIXED_64: u8 = 1;
const LENGTH_DELIMITED: u8 = 2;
const GROUP_START: u8 = 3;
const GROUP_END: u8 = 4;
const FIXED_32: u8 = 5;

// The keys of fields with a number below 16, as they are written.
const VERSION_KEY: u8 = (VERSION as u8) << 3 | VARINT;
const FROM_ADDRESS_KEY: u8 = (FROM_ADDRESS as u8) << 3 | LENGTH_DELIMITED;
const TO_ADDRESS_KEY: u8 = (TO_ADDRESS as u8) << 3 | LENGTH_DELIMITED;
const TYPE_KEY: u8 = (TYPE as u8) << 3 | VARINT;
const MESSAGE_ID_KEY: u8 = (MESSAGE_ID as u8) << 3 | LENGTH_DELIMITED;
const TIMESTAMP_KEY: u8 = (TIMESTAMP as u8) << 3 | VARINT;
const ENCRYPTED_KEY: u8 = (FIRST_PAYLOAD as u8) << 3 | LENGTH_DELIMITED;

/// How deep fields may be nested; the same limit as prost's.
const MAX_DEPTH: usize = 100;

#[derive(Clone, Copy)]
struct Key {
    at: usize,
    field: u32,
    wire_type: u8,
}

/// A protobuf message that is being read: what is left of it, and how long it was.
struct Scan<'a> {
    rest: &'a [u8],
    len: usize,
}

impl<'a> Scan<'a> {
    fn at(&self) -> usize {
        self.len - self.rest.len()
    }

    #[inline]
    fn key(&mut self) -> Result<Key, EnvelopeError> {
        let at = self.at();
        let key = self.varint()?;
        let Ok(narrow) = u32::try_from(key) else {
            return Err(EnvelopeError::InvalidKey { at, key });
        };
        let field = narrow >> 3;
        let wire_type = (key & 7) as u8;
        if wire_type > FIXED_32 {
            return Err(EnvelopeError::InvalidWireType {
                at,
                field,
                wire_type,
            });
        }
        if field == 0 {
            return Err(EnvelopeError::FieldNumberZero { at });
        }
        Ok(Key {
            at,
            field,
            wire_type,
        })
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, EnvelopeError> {
        match self.rest {
            [byte @ ..0x80, rest @ ..] => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            _ => self.middle_varint(),
        }
    }

    /// A varint of up to eight bytes, all at once.
    #[inline]
    fn middle_varint(&mut self) -> Result<u64, EnvelopeError> {
        const CONTINUED: u64 = 0x8080_8080_8080_8080;
        let Some((chunk, _)) = self.rest.split_first_chunk() else {
            return self.long_varint();
        };
        let bytes = u64::from_le_bytes(*chunk);
        // The highest bit of the last byte, and all below it.
        let last = !bytes & CONTINUED;
        let within = last ^ last.wrapping_sub(1);
        let len = last.trailing_zeros() / u8::BITS + 1;
        let Some(rest) = self.rest.get(len as usize..).filter(|_| last != 0) else {
            return self.long_varint();
        };
        self.rest = rest;
        // Groups of 7 bits move together: to 14, to 28, to 56.
        let groups = bytes & within & !CONTINUED;
        let groups = groups & 0x007f_007f_007f_007f | (groups & 0x7f00_7f00_7f00_7f00) >> 1;
        let groups = groups & 0x0000_3fff_0000_3fff | (groups & 0x3fff_0000_3fff_0000) >> 2;
        Ok(groups & 0x0000_0000_0fff_ffff | (groups & 0x0fff_ffff_0000_0000) >> 4)
    }

    #[cold]
    fn long_varint(&mut self) -> Result<u64, EnvelopeError> {
        let at = self.at();
        let mut value = 0;
        let mut shift = 0;
        let mut rest = self.rest;
        while let Some((&byte, tail)) = rest.split_first() {
            // The tenth byte has room for the 64th bit only.
            if shift == 63 && byte > 1 {
                return Err(EnvelopeError::VarintOverflow { at });
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                self.rest = tail;
                return Ok(value);
            }
            shift += 7;
            rest = tail;
        }
        Err(EnvelopeError::TruncatedVarint { at })
    }

    #[inline]
    fn take(&mut self, len: u64) -> Result<&'a [u8], EnvelopeError> {
        match usize::try_from(len)
            .ok()
            .and_then(|len| self.rest.split_at_checked(len))
        {
            Some((value, rest)) => {
                self.rest = rest;
                Ok(value)
            }
            None => Err(EnvelopeError::Truncated {
                at: self.at(),
                len,
                left: self.rest.len(),
            }),
        }
    }

    /// A value that has a length.
    #[inline]
    fn bytes(&mut self) -> Result<&'a [u8], EnvelopeError> {
        let len = self.varint()?;
        self.take(len)
    }

    /// The bytes of the text that `field` is.
    #[inline]
    fn text(&mut self, field: u32) -> Result<&'a [u8], EnvelopeError> {
        let bytes = self.bytes()?;
        // The cheap question first: addresses are ASCII.
        if bytes.is_ascii() {
            return Ok(bytes);
        }
        match str::from_utf8(bytes) {
            Ok(text) => Ok(text.as_bytes()),
            Err(error) => Err(EnvelopeError::InvalidUtf8 {
                at: self.at() - bytes.len() + error.valid_up_to(),
                field,
            }),
        }
    }

    /// Passes over the value of an unknown field at the top level.
    fn skip(&mut self, key: Key) -> Result<(), EnvelopeError> {
        if key.wire_type == GROUP_START {
            self.skip_group(key)
        } else {
            self.skip_value(key)
        }
    }

    /// Passes over the value of a field that begins no group; what ends one is out of place here.
    fn skip_value(&mut self, key: Key) -> Result<(), EnvelopeError> {
        match key.wire_type {
            VARINT => self.varint().map(drop),
            FIXED_32 => self.take(4).map(drop),
            FIXED_64 => self.take(8).map(drop),
            LENGTH_DELIMITED => self.bytes().map(drop),
            _ => Err(EnvelopeError::UnexpectedGroupEnd {
                at: key.at,
                field: key.field,
            }),
        }
    }

    /// Passes over everything up to the end of the group that `start` begins.
    #[cold]
    fn skip_group(&mut self, start: Key) -> Result<(), EnvelopeError> {
        // The numbers of the groups around the open one, the outermost first.
        let mut outer = [0; MAX_DEPTH - 1];
        let mut depth: usize = 0;
        let mut open = start.field;
        loop {
            if self.rest.is_empty() {
                return Err(EnvelopeError::TruncatedGroup {
                    at: self.at(),
                    field: open,
                });
            }
            let key = self.key()?;
            if key.wire_type == GROUP_END {
                if key.field != open {
                    return Err(EnvelopeError::UnexpectedGroupEnd {
                        at: key.at,
                        field: key.field,
                    });
                }
                let Some((parent, &field)) = depth
                    .checked_sub(1)
                    .and_then(|at| Some((at, outer.get(at)?)))
                else {
                    return Ok(());
                };
                depth = parent;
                open = field;
                continue;
            }
            let Some(free) = outer.get_mut(depth) else {
                return Err(EnvelopeError::TooDeep { at: key.at });
            };
            if key.wire_type == GROUP_START {
                *free = open;
                depth += 1;
                open = key.field;
            } else {
                self.skip_value(key)?;
            }
        }
    }
}

fn expect_wire_type(key: Key, expected: u8) -> Result<(), EnvelopeError> {
    let Key {
        at,
        field,
        wire_type,
    } = key;
    if wire_type == expected {
        Ok(())
    } else {
        Err(EnvelopeError::WrongWireType {
            at,
            field,
            wire_type,
            expected,
        })
    }
}

/// An `int32` is written as 64 bits, of which the upper half says nothing.
#[allow(
    clippy::cast_possible_truncation,
    reason = "that is how protobuf reads an int32"
)]
const fn truncate(value: u64) -> i32 {
    value as i32
}
