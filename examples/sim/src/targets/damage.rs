//! Small damage to bytes that were good: it finds more than bytes that were never any good.

use core::fmt;

use arbitrary::{Arbitrary, Result, Unstructured};

/// One thing that is done to some bytes. A place counts from the front, or from the end if it is
/// negative; beyond both it wraps around.
#[derive(Clone, Copy, Debug)]
pub(super) enum Damage {
    Insert { at: i8, byte: u8 },
    Set { at: i8, byte: u8 },
    Flip { at: i8, bit: u8 },
    Remove { at: i8 },
    Truncate { at: i8 },
    Repeat { from: i8 },
    Swap { at: i8 },
}

impl Damage {
    /// None, mostly; three at most.
    pub(super) fn several(input: &mut Unstructured<'_>) -> Vec<Self> {
        let count = input.int_in_range(0..=7).unwrap_or(0);
        let several = (4..count).map(|_| Self::arbitrary(input));
        several.collect::<Result<_>>().unwrap_or_default()
    }

    pub(super) fn applied(self, mut bytes: Vec<u8>) -> Vec<u8> {
        let place = |at: i8| {
            let len = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
            usize::try_from(i64::from(at).rem_euclid(len + 1)).unwrap_or(0)
        };
        match self {
            Self::Insert { at, byte } => bytes.insert(place(at), byte),
            Self::Set { at, byte } => {
                let at = place(at);
                if let Some(old) = bytes.get_mut(at) {
                    *old = byte;
                }
            }
            Self::Flip { at, bit } => {
                let at = place(at);
                if let Some(old) = bytes.get_mut(at) {
                    *old ^= 1 << bit;
                }
            }
            Self::Remove { at } => {
                let at = place(at);
                if at < bytes.len() {
                    bytes.remove(at);
                }
            }
            Self::Truncate { at } => bytes.truncate(place(at)),
            Self::Repeat { from } => bytes.extend_from_within(place(from)..),
            Self::Swap { at } => {
                let at = place(at);
                if at + 1 < bytes.len() {
                    bytes.swap(at, at + 1);
                }
            }
        }
        bytes
    }
}

impl<'a> Arbitrary<'a> for Damage {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        let kind = input.int_in_range(0..=6)?;
        let at = input.arbitrary()?;
        Ok(match kind {
            0 => Self::Insert {
                at,
                byte: input.arbitrary()?,
            },
            1 => Self::Set {
                at,
                byte: input.arbitrary()?,
            },
            2 => Self::Flip {
                at,
                bit: input.int_in_range(0..=7)?,
            },
            3 => Self::Remove { at },
            4 => Self::Truncate { at },
            5 => Self::Repeat { from: at },
            _ => Self::Swap { at },
        })
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Insert { at, byte } => write!(f, "insert {byte:#04x} at {at}"),
            Self::Set { at, byte } => write!(f, "write {byte:#04x} at {at}"),
            Self::Flip { at, bit } => write!(f, "flip bit {bit} at {at}"),
            Self::Remove { at } => write!(f, "take away the byte at {at}"),
            Self::Truncate { at } => write!(f, "cut it off at {at}"),
            Self::Repeat { from } => write!(f, "repeat it from {from} on"),
            Self::Swap { at } => write!(f, "swap the bytes at {at}"),
        }
    }
}
