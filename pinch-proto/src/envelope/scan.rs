//! The parts of a protobuf message (encoding: field keys, varints, lengths, groups), one after another.
//!
//! Which fields there are, and what they mean, is the view's business.

use core::str;

use super::EnvelopeError;

pub(super) const VARINT: u8 = 0;
pub(super) const FIXED_64: u8 = 1;
pub(super) const LENGTH_DELIMITED: u8 = 2;
pub(super) const GROUP_START: u8 = 3;
pub(super) const GROUP_END: u8 = 4;
pub(super) const FIXED_32: u8 = 5;

/// How deep fields may be nested; the same limit as prost's.
pub(super) const MAX_DEPTH: usize = 100;

#[derive(Clone, Copy)]
pub(super) struct Key {
    pub(super) at: usize,
    pub(super) field: u32,
    pub(super) wire_type: u8,
}

/// A protobuf message that is being read: what is left of it, and how long it was.
pub(super) struct Scan<'a> {
    pub(super) rest: &'a [u8],
    pub(super) len: usize,
}

impl<'a> Scan<'a> {
    /// How much of it was read.
    pub(super) fn at(&self) -> usize {
        self.len - self.rest.len()
    }

    #[inline]
    pub(super) fn key(&mut self) -> Result<Key, EnvelopeError> {
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
    pub(super) fn varint(&mut self) -> Result<u64, EnvelopeError> {
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
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], EnvelopeError> {
        let len = self.varint()?;
        self.take(len)
    }

    /// The bytes of the text that `field` is.
    #[inline]
    pub(super) fn text(&mut self, field: u32) -> Result<&'a [u8], EnvelopeError> {
        let bytes = self.bytes()?;
        // The cheap question first: addresses are ASCII.
        if is_ascii(bytes) {
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
    pub(super) fn skip(&mut self, key: Key) -> Result<(), EnvelopeError> {
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

/// As [`<[u8]>::is_ascii`], which reads the last bytes one by one.
#[inline]
fn is_ascii(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk::<8>() else {
        return bytes.is_ascii();
    };
    let (chunks, _) = bytes.as_chunks::<8>();
    let last = u64::from_le_bytes(*last);
    let all = chunks
        .iter()
        .fold(last, |all, chunk| all | u64::from_le_bytes(*chunk));
    all & 0x8080_8080_8080_8080 == 0
}

pub(super) fn expect_wire_type(key: Key, expected: u8) -> Result<(), EnvelopeError> {
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
