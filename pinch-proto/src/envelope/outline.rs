//! Where the routing fields of an envelope lie.

use super::scan::{LENGTH_DELIMITED, Scan, VARINT, expect_wire_type};
use super::{EnvelopeError, EnvelopeView};

/// Where one field lies. Outlines wait in lists, and are kept small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn of(self, bytes: &[u8]) -> &[u8] {
        let range = self.start as usize..self.end as usize;
        bytes.get(range).unwrap_or_default()
    }
}

/// What an [`EnvelopeView`] shows, without the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outline {
    /// UTF-8, as is the next.
    from_address: Span,
    to_address: Span,
    message_id: Span,
    type_number: i32,
}

impl Outline {
    /// Reads the envelope that `bytes` are.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        if u32::try_from(bytes.len()).is_err() {
            return Err(EnvelopeError::TooLong { len: bytes.len() });
        }
        let mut outline = Self::default();
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
                    outline.from_address = text(&mut scan, FROM_ADDRESS)?;
                }
                TO_ADDRESS_KEY => {
                    scan.rest = behind;
                    outline.to_address = text(&mut scan, TO_ADDRESS)?;
                }
                TYPE_KEY => {
                    scan.rest = behind;
                    outline.type_number = truncate(scan.varint()?);
                }
                MESSAGE_ID_KEY => {
                    scan.rest = behind;
                    outline.message_id = bytes_of(&mut scan)?;
                }
                ENCRYPTED_KEY => {
                    scan.rest = behind;
                    scan.bytes()?;
                }
                _ => outline.take_field(&mut scan)?,
            }
        }
        Ok(outline)
    }

    /// What it shows of `bytes`, which it was parsed from.
    pub(crate) fn view(self, bytes: &[u8]) -> EnvelopeView<'_> {
        EnvelopeView {
            from_address: self.from_address.of(bytes),
            to_address: self.to_address.of(bytes),
            type_number: self.type_number,
            message_id: self.message_id.of(bytes),
        }
    }

    /// Takes a field whatever it is, and however its key is written.
    fn take_field(&mut self, scan: &mut Scan<'_>) -> Result<(), EnvelopeError> {
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
                self.from_address = text(scan, FROM_ADDRESS)?;
            }
            TO_ADDRESS => {
                expect_wire_type(key, LENGTH_DELIMITED)?;
                self.to_address = text(scan, TO_ADDRESS)?;
            }
            MESSAGE_ID => {
                expect_wire_type(key, LENGTH_DELIMITED)?;
                self.message_id = bytes_of(scan)?;
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

/// Where the text lies that `field` is.
#[inline]
fn text(scan: &mut Scan<'_>, field: u32) -> Result<Span, EnvelopeError> {
    let len = scan.text(field)?.len();
    Ok(behind(scan, len))
}

/// Where the bytes lie that come next.
#[inline]
fn bytes_of(scan: &mut Scan<'_>) -> Result<Span, EnvelopeError> {
    let len = scan.bytes()?.len();
    Ok(behind(scan, len))
}

/// The last `len` bytes that `scan` has read.
#[allow(
    clippy::cast_possible_truncation,
    reason = "what is longer was refused"
)]
fn behind(scan: &Scan<'_>, len: usize) -> Span {
    let end = scan.at();
    Span {
        start: (end - len) as u32,
        end: end as u32,
    }
}

const VERSION: u32 = 1;
const FROM_ADDRESS: u32 = 2;
const TO_ADDRESS: u32 = 3;
const TYPE: u32 = 4;
const MESSAGE_ID: u32 = 5;
const TIMESTAMP: u32 = 6;
const FIRST_PAYLOAD: u32 = 10;
const LAST_PAYLOAD: u32 = 24;

// The keys of fields with a number below 16, as they are written.
const VERSION_KEY: u8 = key(VERSION, VARINT);
const FROM_ADDRESS_KEY: u8 = key(FROM_ADDRESS, LENGTH_DELIMITED);
const TO_ADDRESS_KEY: u8 = key(TO_ADDRESS, LENGTH_DELIMITED);
const TYPE_KEY: u8 = key(TYPE, VARINT);
const MESSAGE_ID_KEY: u8 = key(MESSAGE_ID, LENGTH_DELIMITED);
const TIMESTAMP_KEY: u8 = key(TIMESTAMP, VARINT);
const ENCRYPTED_KEY: u8 = key(FIRST_PAYLOAD, LENGTH_DELIMITED);

const fn key(field: u32, wire_type: u8) -> u8 {
    let [lowest, ..] = (field << 3).to_le_bytes();
    lowest | wire_type
}

/// An `int32` is written as 64 bits, of which the upper half says nothing.
#[allow(
    clippy::cast_possible_truncation,
    reason = "that is how protobuf reads an int32"
)]
const fn truncate(value: u64) -> i32 {
    value as i32
}
