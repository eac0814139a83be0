//! What routing reads of an envelope, without decoding it and without copying.
//!
//! [`EnvelopeView`] makes one pass over the top-level fields of the protobuf message and keeps four
//! of them. It accepts what [`wire::Envelope`](crate::wire::Envelope) can be decoded from and reads
//! the same values out of it; what is inside a payload is never looked at, so a broken payload is
//! found by its recipient and not here. Whether the addresses are addresses, and whose, is decided
//! by the hub.

mod outline;
mod scan;

use core::str;

use thiserror::Error;

pub(crate) use self::outline::Outline;
use self::scan::MAX_DEPTH;
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
        Outline::parse(bytes).map(|outline| outline.view(bytes))
    }

    /// What the envelope says about its sender; the hub compares it with who really sent it.
    #[must_use]
    pub const fn from_address(&self) -> &'a str {
        checked(self.from_address)
    }

    /// [`from_address`](Self::from_address), for those who compare it.
    pub(crate) const fn sender_bytes(&self) -> &'a [u8] {
        self.from_address
    }

    /// Where it shall go.
    #[must_use]
    pub const fn to_address(&self) -> &'a str {
        checked(self.to_address)
    }

    /// [`to_address`](Self::to_address), for those who look it up.
    pub(crate) const fn recipient_bytes(&self) -> &'a [u8] {
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
    /// There are 4 GiB or more. Protobuf ends at 2 GiB.
    #[error("the envelope has {len} bytes, expected less than 4 GiB")]
    TooLong {
        /// How many there are.
        len: usize,
    },
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
