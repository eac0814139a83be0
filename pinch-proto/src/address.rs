//! Addresses: `pinch:<name>@<host>` (protocol section 1).
//!
//! An address is text with a syntax; in challenge mode its name is also a key. Parsing checks the
//! syntax alone, [`public_key`](AddressRef::public_key) reads the key, and whether anybody proved
//! that key is decided by the handshake, not here.
//!
//! Hosts compare without regard to case, names do not. So [`Host`] and [`Address`] hold the host in
//! lower case, and equality, order and hash are those of their text. [`AddressRef`] borrows a text as
//! it was written, such as that of an envelope, which is forwarded verbatim.

use alloc::borrow::{Cow, ToOwned as _};
use alloc::string::String;
use alloc::sync::Arc;
use core::borrow::Borrow;
use core::fmt;
use core::str::FromStr;

use bs58::decode::Error as Base58Error;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::PublicKey;

const SCHEME: &str = "pinch:";
const CHECKSUM_LEN: usize = 4;
const KEY_NAME_BYTES: usize = PublicKey::LEN + CHECKSUM_LEN;
/// The longest Base58 text of [`KEY_NAME_BYTES`] bytes: 36 · log 256 / log 58, rounded up.
const KEY_NAME_MAX_LEN: usize = 50;

// An address that is made from a key and a host needs no check of its length.
const _: () = assert!(SCHEME.len() + KEY_NAME_MAX_LEN + 1 + Host::MAX_LEN == Address::MAX_LEN);

/// The public host of a relay: the part of an address behind the `@`.
///
/// It is held in lower case. Cloning is cheap.
///
/// ```
/// use pinch_proto::Host;
///
/// let host = Host::parse("Relay.Example.COM")?;
/// assert_eq!(host.as_str(), "relay.example.com");
/// assert!(host.matches("RELAY.example.com"));
/// assert!(Host::parse("me@relay.example.com").is_err());
/// # Ok::<(), pinch_proto::HostError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(Arc<str>);

impl Host {
    /// The longest host, in bytes: an address of a key at this host has [`Address::MAX_LEN`].
    pub const MAX_LEN: usize = 199;

    /// The host that `text` names: 1 to [`Host::MAX_LEN`] printable ASCII characters without space
    /// and `@`.
    ///
    /// # Errors
    ///
    /// [`HostError`] says what else `text` is.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if text.is_empty() {
            return Err(HostError::Empty);
        }
        if text.len() > Self::MAX_LEN {
            return Err(HostError::TooLong { len: text.len() });
        }
        match text
            .bytes()
            .enumerate()
            .find(|&(_, byte)| byte == b'@' || !byte.is_ascii_graphic())
        {
            Some((at, byte)) => Err(HostError::InvalidByte { at, byte }),
            None => Ok(Self(text.to_ascii_lowercase().into())),
        }
    }

    /// The host, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `other` is this host, whatever the case of its ASCII letters.
    #[must_use]
    pub fn matches(&self, other: &str) -> bool {
        self.0.eq_ignore_ascii_case(other)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// Why a text is no [`Host`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HostError {
    /// There is nothing in it.
    #[error("the host is empty, expected 1 to {max} bytes", max = Host::MAX_LEN)]
    Empty,
    /// It has too many bytes.
    #[error("the host has {len} bytes, expected at most {max}", max = Host::MAX_LEN)]
    TooLong {
        /// How many it has.
        len: usize,
    },
    /// It has a byte that no host has.
    #[error("byte {at} of the host is {byte:#04x}, expected printable ASCII without space and `@`")]
    InvalidByte {
        /// Where that byte is, counted from 0.
        at: usize,
        /// The byte.
        byte: u8,
    },
}

/// An address of an agent, owned, with its host in lower case. Cloning is cheap.
///
/// A map whose keys are addresses can be asked by `&str`, of which the host is in lower case.
///
/// ```
/// use pinch_proto::{Address, Host, SecretKey};
///
/// let host = Host::parse("test.relay.example.com")?;
/// let key = SecretKey::from_seed([0xaa; 32]).public_key();
/// let address = Address::from_public_key(&key, &host);
/// assert_eq!(
///     address.as_str(),
///     "pinch:2kpsAVWeesP916eiCW6FxmgGQcrsvyQSp3JFsdjExT3sS8b2Nz@test.relay.example.com",
/// );
/// assert_eq!(Address::parse(address.as_str())?.public_key()?, key);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(Arc<str>);

impl Address {
    /// The longest address, in bytes.
    pub const MAX_LEN: usize = 256;

    /// The address that `text` is; the rules are those of [`AddressRef::parse`].
    ///
    /// # Errors
    ///
    /// [`AddressError`] says where `text` breaks which rule.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        AddressRef::parse(text).map(AddressRef::to_address)
    }

    /// The address of the agent that holds `key`, at `host`.
    #[must_use]
    pub fn from_public_key(key: &PublicKey, host: &Host) -> Self {
        let mut bytes = [0; KEY_NAME_BYTES];
        let (head, tail) = bytes.split_at_mut(PublicKey::LEN);
        head.copy_from_slice(key.as_bytes());
        tail.copy_from_slice(&checksum(key));
        let name = bs58::encode(bytes).into_string();

        let mut text = String::with_capacity(SCHEME.len() + name.len() + 1 + host.as_str().len());
        text.push_str(SCHEME);
        text.push_str(&name);
        text.push('@');
        text.push_str(host.as_str());
        Self(text.into())
    }

    /// The borrowed form.
    #[must_use]
    pub fn by_ref(&self) -> AddressRef<'_> {
        AddressRef(&self.0)
    }

    /// The address, with its host in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// [`as_str`](Self::as_str), to compare with bytes that came.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whether `text` is this address, whatever the case of its host.
    pub(crate) fn is_written(&self, text: &[u8]) -> bool {
        let own = self.as_bytes();
        // Nearly every text is the same byte for byte.
        own == text || (own.len() == text.len() && is_same(own, text))
    }

    /// `text`, with what follows its last `@` in lower case, as in the address that it is, if it is
    /// one. Allocates only if there is something to change.
    pub(crate) fn normalized(text: &str) -> Cow<'_, str> {
        let host = text.bytes().rev().take_while(|byte| *byte != b'@');
        if !host.clone().any(|byte| byte.is_ascii_uppercase()) {
            return Cow::Borrowed(text);
        }
        let host = text.len() - host.count();
        let mut text = text.to_owned();
        if let Some(host) = text.get_mut(host..) {
            host.make_ascii_lowercase();
        }
        Cow::Owned(text)
    }

    /// The same for bytes, which need not be UTF-8.
    pub(crate) fn normalized_bytes(text: &[u8]) -> Cow<'_, [u8]> {
        let at = text.iter().rposition(|byte| *byte == b'@');
        let (_, host) = text.split_at(at.unwrap_or_default());
        if !host.iter().any(u8::is_ascii_uppercase) {
            return Cow::Borrowed(text);
        }
        let mut text = text.to_owned();
        if let Some(host) = text.get_mut(at.unwrap_or_default()..) {
            host.make_ascii_lowercase();
        }
        Cow::Owned(text)
    }

    /// What stands between the scheme and the last `@`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.by_ref().name()
    }

    /// What stands behind the last `@`.
    #[must_use]
    pub fn host(&self) -> &str {
        self.by_ref().host()
    }

    /// The key that the name is; see [`AddressRef::public_key`].
    ///
    /// # Errors
    ///
    /// The name is no key, as every name may be in open mode.
    pub fn public_key(&self) -> Result<PublicKey, AddressError> {
        self.by_ref().public_key()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl AsRef<str> for Address {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Address {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// An address in borrowed text, such as that of an envelope, as it was written. Two are equal if they
/// are one [`Address`].
///
/// ```
/// use pinch_proto::AddressRef;
///
/// let address = AddressRef::parse("pinch:alice@home@relay.example.com")?;
/// assert_eq!(address.name(), "alice@home");
/// assert_eq!(address.host(), "relay.example.com");
/// assert!(address.public_key().is_err());
/// assert_eq!(address, AddressRef::parse("pinch:alice@home@Relay.Example.COM")?);
/// # Ok::<(), pinch_proto::AddressError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct AddressRef<'a>(&'a str);

impl PartialEq for AddressRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && is_same(self.0.as_bytes(), other.0.as_bytes())
    }
}

impl Eq for AddressRef<'_> {}

impl<'a> AddressRef<'a> {
    /// The address that `text` is: `pinch:<name>@<host>`, at most [`Address::MAX_LEN`] printable
    /// ASCII characters without space. The last `@` is the one that counts; neither side of it is
    /// empty.
    ///
    /// # Errors
    ///
    /// [`AddressError`] says where `text` breaks which rule.
    pub fn parse(text: &'a str) -> Result<Self, AddressError> {
        if text.len() > Address::MAX_LEN {
            return Err(AddressError::TooLong { len: text.len() });
        }
        if let Some((at, byte)) = text
            .bytes()
            .enumerate()
            .find(|(_, byte)| !byte.is_ascii_graphic())
        {
            return Err(AddressError::InvalidByte { at, byte });
        }
        let rest = text
            .strip_prefix(SCHEME)
            .ok_or(AddressError::MissingScheme)?;
        let (name, host) = rest.rsplit_once('@').ok_or(AddressError::MissingHost)?;
        if name.is_empty() {
            return Err(AddressError::EmptyName);
        }
        if host.is_empty() {
            return Err(AddressError::EmptyHost);
        }
        Ok(Self(text))
    }

    /// The owned form, with its host in lower case.
    #[must_use]
    pub fn to_address(self) -> Address {
        Address(Address::normalized(self.0).into())
    }

    /// The address as it was written.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// What stands between the scheme and the last `@`.
    #[must_use]
    pub fn name(self) -> &'a str {
        self.parts().0
    }

    /// What stands behind the last `@`.
    #[must_use]
    pub fn host(self) -> &'a str {
        self.parts().1
    }

    /// The key that the name is: the Base58 of its 32 bytes and of the first 4 bytes of their
    /// SHA-256.
    ///
    /// The work is bounded and nothing is allocated, whatever the name is.
    ///
    /// # Errors
    ///
    /// The name is no key, as every name may be in open mode: [`AddressError::NameTooLong`],
    /// [`NotBase58`](AddressError::NotBase58), [`WrongKeyLength`](AddressError::WrongKeyLength) or
    /// [`WrongChecksum`](AddressError::WrongChecksum).
    pub fn public_key(self) -> Result<PublicKey, AddressError> {
        let name = self.name();
        if name.len() > KEY_NAME_MAX_LEN {
            return Err(AddressError::NameTooLong { len: name.len() });
        }
        // A character of Base58 stands for at most one byte, so this buffer is never too small;
        // and all of the name is ASCII.
        let mut buffer = [0; KEY_NAME_MAX_LEN];
        let len = bs58::decode(name)
            .onto(&mut buffer)
            .map_err(|error| match error {
                Base58Error::InvalidCharacter { character, index } => AddressError::NotBase58 {
                    at: SCHEME.len() + index,
                    character,
                },
                Base58Error::BufferTooSmall | Base58Error::NonAsciiCharacter { .. } | _ => {
                    AddressError::NameTooLong { len: name.len() }
                }
            })?;
        match buffer.get(..len).and_then(<[u8]>::split_first_chunk) {
            Some((bytes, found)) if found.len() == CHECKSUM_LEN => {
                let key = PublicKey::from_bytes(*bytes);
                if found == checksum(&key) {
                    Ok(key)
                } else {
                    Err(AddressError::WrongChecksum)
                }
            }
            _ => Err(AddressError::WrongKeyLength { len }),
        }
    }

    fn parts(self) -> (&'a str, &'a str) {
        let rest = self
            .0
            .strip_prefix(SCHEME)
            .expect("an address begins with its scheme");
        rest.rsplit_once('@').expect("an address has an `@`")
    }
}

impl fmt::Display for AddressRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

impl AsRef<str> for AddressRef<'_> {
    fn as_ref(&self) -> &str {
        self.0
    }
}

/// Why a text is no [`Address`], or why the name of an address is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AddressError {
    /// It has too many bytes.
    #[error("the address has {len} bytes, expected at most {max}", max = Address::MAX_LEN)]
    TooLong {
        /// How many it has.
        len: usize,
    },
    /// It has a byte that no address has.
    #[error("byte {at} of the address is {byte:#04x}, expected printable ASCII without space")]
    InvalidByte {
        /// Where that byte is, counted from 0.
        at: usize,
        /// The byte.
        byte: u8,
    },
    /// It does not begin with the scheme.
    #[error("the address does not begin with `pinch:`, expected `pinch:<name>@<host>`")]
    MissingScheme,
    /// It has no `@`.
    #[error("the address has no `@`, expected `pinch:<name>@<host>`")]
    MissingHost,
    /// Nothing stands before the `@`.
    #[error("the address has nothing before its `@`, expected `pinch:<name>@<host>`")]
    EmptyName,
    /// Nothing stands behind the last `@`.
    #[error("the address has nothing behind its last `@`, expected `pinch:<name>@<host>`")]
    EmptyHost,
    /// The name is longer than that of any key.
    #[error(
        "the name has {len} characters, expected the Base58 of a key, which has at most {KEY_NAME_MAX_LEN}"
    )]
    NameTooLong {
        /// How many it has.
        len: usize,
    },
    /// The name has a character that Base58 does not use.
    #[error(
        "byte {at} of the address is `{character}`, expected the Base58 of a key, which has no such character"
    )]
    NotBase58 {
        /// Where that character is in the address, counted from 0.
        at: usize,
        /// The character.
        character: char,
    },
    /// The name is Base58, but not of a key and its checksum.
    #[error(
        "the name is the Base58 of {len} bytes, expected {KEY_NAME_BYTES}: a key and its checksum"
    )]
    WrongKeyLength {
        /// How many bytes it is.
        len: usize,
    },
    /// The name is Base58 of the right length, but its end is not the checksum of its beginning.
    #[error(
        "the name ends in a wrong checksum, expected the first {CHECKSUM_LEN} bytes of the key's SHA-256"
    )]
    WrongChecksum,
}

/// Whether two texts of the same length are the same address, of which one is valid.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let host = one.iter().rev().take_while(|byte| **byte != b'@').count();
    let at = one.len() - host;
    matches!(
        (one.split_at_checked(at), other.split_at_checked(at)),
        (Some((one, host)), Some((other, other_host)))
            if one == other && host.eq_ignore_ascii_case(other_host)
    )
}

/// What follows `key` in the name of its address, so that a slip of the pen is noticed.
fn checksum(key: &PublicKey) -> [u8; CHECKSUM_LEN] {
    let digest: [u8; 32] = Sha256::digest(key.as_bytes()).into();
    let [first, second, third, fourth, ..] = digest;
    [first, second, third, fourth]
}
