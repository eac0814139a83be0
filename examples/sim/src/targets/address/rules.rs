//! The rules for addresses and hosts (protocol section 1), read a second time, and slowly: Base58 is
//! a number that is divided by hand.

use pinch_proto::{AddressError, HostError};
use sha2::{Digest as _, Sha256};

const ALPHABET: &str = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// The name and the host of the address that `text` is.
pub(super) fn parts(text: &str) -> Option<(&str, &str)> {
    let is_written_well = text.len() <= 256 && text.chars().all(is_graphic);
    let at = text.char_indices().rev().find(|&(_, it)| it == '@')?.0;
    let (before, host) = (&text[..at], &text[at + 1..]);
    let name = before.strip_prefix("pinch:")?;
    (is_written_well && !name.is_empty() && !host.is_empty()).then_some((name, host))
}

/// Whether `text` is a host: the longest address of a key at it has 256 bytes.
pub(super) fn is_host(text: &str) -> bool {
    let longest_name = base58(&[0xff; 36]).len();
    !text.is_empty()
        && text.chars().all(|it| is_graphic(it) && it != '@')
        && "pinch:".len() + longest_name + "@".len() + text.len() <= 256
}

/// The key that `name` is the Base58 of, if its checksum is right.
pub(super) fn key(name: &str) -> Option<[u8; 32]> {
    let bytes = from_base58(name)?;
    let (key, checksum) = bytes.split_first_chunk::<32>()?;
    (checksum == checksum_of(key)).then_some(*key)
}

/// The address of `key` at `host`.
pub(in crate::targets) fn address_of(key: &[u8; 32], host: &str) -> String {
    format!("pinch:{}@{host}", base58(&key_and_checksum(key)))
}

pub(super) fn key_and_checksum(key: &[u8; 32]) -> Vec<u8> {
    [key.as_slice(), &checksum_of(key)].concat()
}

pub(super) fn in_lower_case(text: &str) -> String {
    let lower = |it: char| match it {
        'A'..='Z' => char::from_u32(u32::from(it) + 32).unwrap_or(it),
        _ => it,
    };
    text.chars().map(lower).collect()
}

fn is_graphic(it: char) -> bool {
    ('!'..='~').contains(&it)
}

fn checksum_of(key: &[u8; 32]) -> [u8; 4] {
    let digest: [u8; 32] = Sha256::digest(key).into();
    [digest[0], digest[1], digest[2], digest[3]]
}

/// Divides the number that `bytes` are by 58 until nothing is left; zeros in front are kept.
pub(super) fn base58(bytes: &[u8]) -> String {
    let zeros = bytes.iter().take_while(|&&it| it == 0).count();
    let mut number = bytes.to_vec();
    let mut digits = vec![];
    while number.iter().any(|&it| it != 0) {
        digits.push(divide(&mut number, 256, 58));
    }
    digits.extend(vec![0; zeros]);
    let digits = digits.iter().rev();
    let symbol = |&it: &u8| char::from(ALPHABET.as_bytes()[usize::from(it)]);
    digits.map(symbol).collect()
}

fn from_base58(text: &str) -> Option<Vec<u8>> {
    let digit = |it: char| u8::try_from(ALPHABET.find(it)?).ok();
    let mut number: Vec<u8> = text.chars().map(digit).collect::<Option<_>>()?;
    let zeros = number.iter().take_while(|&&it| it == 0).count();
    let mut bytes = vec![];
    while number.iter().any(|&it| it != 0) {
        bytes.push(divide(&mut number, 58, 256));
    }
    bytes.extend(vec![0; zeros]);
    bytes.reverse();
    Some(bytes)
}

/// Divides the number with these digits, and returns what remains.
fn divide(digits: &mut [u8], base: u16, divisor: u16) -> u8 {
    let mut rest = 0;
    for digit in digits {
        let value = rest * u32::from(base) + u32::from(*digit);
        *digit = byte(value / u32::from(divisor));
        rest = value % u32::from(divisor);
    }
    byte(rest)
}

fn byte(value: u32) -> u8 {
    u8::try_from(value).expect("digits stay below their base")
}

/// Whether what the error says about `text` is so.
pub(super) fn is_true_of_address(error: &AddressError, text: &str) -> bool {
    let rest = text.strip_prefix("pinch:");
    match *error {
        AddressError::TooLong { len } => len == text.len() && len > 256,
        AddressError::InvalidByte { at, byte } => {
            is_first(text, at, byte, |it| !is_graphic(char::from(it)))
        }
        AddressError::MissingScheme => rest.is_none(),
        AddressError::MissingHost => rest.is_some_and(|rest| !rest.contains('@')),
        AddressError::EmptyName => rest.is_some_and(|rest| rest.rfind('@') == Some(0)),
        AddressError::EmptyHost => rest.is_some_and(|rest| rest.ends_with('@')),
        AddressError::NameTooLong { .. }
        | AddressError::NotBase58 { .. }
        | AddressError::WrongKeyLength { .. }
        | AddressError::WrongChecksum
        | _ => false,
    }
}

/// Whether what the error says about `name`, behind the scheme, is so.
pub(super) fn is_true_of_name(error: &AddressError, name: &str) -> bool {
    match *error {
        AddressError::NameTooLong { len } => len == name.len() && len > base58(&[0xff; 36]).len(),
        AddressError::NotBase58 { at, character } => {
            let is_foreign = |it| !ALPHABET.contains(char::from(it));
            let at_in_name = at.checked_sub("pinch:".len());
            let byte = u8::try_from(character);
            at_in_name
                .zip(byte.ok())
                .is_some_and(|(at, byte)| is_first(name, at, byte, is_foreign))
        }
        AddressError::WrongKeyLength { len } => {
            len != 36 && from_base58(name).is_some_and(|bytes| bytes.len() == len)
        }
        AddressError::WrongChecksum => from_base58(name).is_some_and(|bytes| bytes.len() == 36),
        AddressError::TooLong { .. }
        | AddressError::InvalidByte { .. }
        | AddressError::MissingScheme
        | AddressError::MissingHost
        | AddressError::EmptyName
        | AddressError::EmptyHost
        | _ => false,
    }
}

/// Whether what the error says about `text` is so.
pub(super) fn is_true_of_host(error: &HostError, text: &str) -> bool {
    match *error {
        HostError::Empty => text.is_empty(),
        HostError::TooLong { len } => len == text.len() && len > 199,
        HostError::InvalidByte { at, byte } => is_first(text, at, byte, |it| {
            it == b'@' || !is_graphic(char::from(it))
        }),
        _ => false,
    }
}

/// Whether `byte`, at `at`, is the first one in `text` that is wrong.
fn is_first(text: &str, at: usize, byte: u8, is_wrong: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().position(|&it| is_wrong(it)) == Some(at) && bytes[at] == byte
}
