//! Addresses: what parses is what the protocol allows, and it says what it was parsed from.
//!
//! An input is a text. It is anything, or it begins as an address of a key or of a name and is
//! edited here and there, because what is wrong by one character tells more than what is wrong
//! altogether. The judge is `rules`, a second reading of the protocol.

mod rules;

pub(super) use self::rules::address_of;

use core::cmp::Ordering;
use core::fmt;

use arbitrary::{Arbitrary, Result, Unstructured};
use pinch_proto::{Address, AddressRef, Host, PublicKey};

use super::damage::Damage;
use super::lines;

/// Reads a text, and what becomes of it, as an address and as a host.
///
/// # Panics
///
/// If a promise about addresses is broken.
pub fn run(data: &[u8]) {
    let script = Script::read(data);
    let first = script.first.text();
    let second = script.first.damaged(&script.damage);
    for text in [&first, &second] {
        check_address(text);
        check_host(text);
    }
    check_pair(&first, &second);
}

/// What an input means, line by line.
#[must_use]
pub fn story(data: &[u8]) -> String {
    let script = Script::read(data);
    let second = script.first.damaged(&script.damage);
    lines([
        script.first.to_string(),
        format!("which is {:?}", script.first.text()),
    ]) + &lines(&script.damage)
        + &lines([format!("which makes it {second:?}")])
}

/// A text, and what is done to it.
struct Script {
    first: Text,
    damage: Vec<Damage>,
}

/// Where a text comes from.
enum Text {
    Any(String),
    Named {
        name: String,
        host: String,
    },
    /// Perhaps with a bit that is flipped, in the key or in its checksum.
    OfKey {
        key: [u8; 32],
        flipped: Option<u16>,
        host: String,
    },
    OfBytes {
        bytes: Vec<u8>,
        host: String,
    },
}

impl Script {
    fn read(data: &[u8]) -> Self {
        let mut input = Unstructured::new(data);
        Self {
            damage: Damage::several(&mut input),
            first: Text::arbitrary(&mut input).unwrap_or_else(|_| Text::Any(String::new())),
        }
    }
}

impl<'a> Arbitrary<'a> for Text {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match input.int_in_range(0..=4)? {
            0 => Self::Any(text(input.bytes(input.len())?)),
            1 => {
                let len = usize::from(input.arbitrary::<u8>()?).min(input.len());
                Self::Named {
                    name: text(input.bytes(len)?),
                    host: text(input.bytes(input.len())?),
                }
            }
            2 => {
                // Few of its bytes are anything, so that there are many zeros in front of some.
                let mut key = [input.arbitrary()?; 32];
                let from = input.int_in_range(0..=32)?;
                input.fill_buffer(&mut key[from..])?;
                let bit = input.int_in_range(0..=2 * 36 * 8)?;
                Self::OfKey {
                    key,
                    flipped: (bit < 36 * 8).then_some(bit),
                    host: text(input.bytes(input.len())?),
                }
            }
            3 => {
                let len = input.int_in_range(0..=60)?.min(input.len());
                Self::OfBytes {
                    bytes: input.bytes(len)?.to_vec(),
                    host: text(input.bytes(input.len())?),
                }
            }
            // Long ones, where the limits are.
            _ => {
                let (name, host) = (input.arbitrary::<u8>()?, input.arbitrary::<u8>()?);
                Self::Named {
                    name: "1".repeat(usize::from(name)),
                    host: "h".repeat(usize::from(host)),
                }
            }
        })
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Text {
    fn text(&self) -> String {
        match self {
            Self::Any(text) => text.clone(),
            Self::Named { name, host } => format!("pinch:{name}@{host}"),
            Self::OfKey {
                key,
                flipped: None,
                host,
            } => rules::address_of(key, host),
            Self::OfKey {
                key,
                flipped: Some(bit),
                host,
            } => {
                let mut bytes = rules::key_and_checksum(key);
                bytes[usize::from(bit / 8)] ^= 1 << (bit % 8);
                format!("pinch:{}@{host}", rules::base58(&bytes))
            }
            Self::OfBytes { bytes, host } => format!("pinch:{}@{host}", rules::base58(bytes)),
        }
    }

    fn damaged(&self, damage: &[Damage]) -> String {
        let bytes = damage
            .iter()
            .fold(self.text().into_bytes(), |bytes, it| it.applied(bytes));
        text(&bytes)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any(text) => write!(f, "the text {text:?}"),
            Self::Named { name, host } => write!(f, "{name:?} at the host {host:?}"),
            Self::OfKey { key, flipped, host } => {
                write!(f, "the key {key:02x?} at the host {host:?}")?;
                flipped.map_or(Ok(()), |bit| write!(f, ", bit {bit} flipped"))
            }
            Self::OfBytes { bytes, host } => {
                write!(f, "the Base58 of {bytes:02x?} at the host {host:?}")
            }
        }
    }
}

fn check_address(text: &str) {
    let parsed = AddressRef::parse(text);
    assert_eq!(
        Address::parse(text).as_ref().map(Address::by_ref),
        parsed.as_ref().copied(),
        "{text:?}"
    );
    assert_eq!(
        text.parse::<Address>().ok(),
        parsed.ok().map(AddressRef::to_address)
    );
    match (parsed, rules::parts(text)) {
        (Ok(address), Some((name, host))) => {
            assert_eq!((address.name(), address.host()), (name, host), "{text:?}");
            assert_eq!(address.as_str(), text);
            let owned = address.to_address();
            let host = rules::in_lower_case(host);
            assert_eq!((owned.name(), owned.host()), (name, &*host), "{text:?}");
            assert_eq!(owned.to_string(), format!("pinch:{name}@{host}"));
            assert_eq!(owned, address.to_string().parse().expect("the same again"));
            check_key(address, name);
        }
        (Err(error), None) => assert!(
            rules::is_true_of_address(&error, text),
            "{error:?}, but that is not so: {text:?}"
        ),
        (parsed, parts) => panic!("{parsed:?}, but by the rules {parts:?}: {text:?}"),
    }
}

fn check_key(address: AddressRef<'_>, name: &str) {
    let parsed = address.public_key();
    assert_eq!(address.to_address().public_key(), parsed, "{address}");
    match (parsed, rules::key(name)) {
        (Ok(key), Some(bytes)) => {
            assert_eq!(key.as_bytes(), &bytes, "{address}");
            if let Ok(host) = Host::parse(address.host()) {
                let again = Address::from_public_key(&key, &host);
                assert_eq!(again.by_ref(), address, "the same key at the same host");
            }
        }
        (Err(error), None) => assert!(
            rules::is_true_of_name(&error, name),
            "{error:?}, but that is not so: {address}"
        ),
        (parsed, key) => panic!("{parsed:?}, but by the rules {key:?}: {address}"),
    }
}

fn check_host(text: &str) {
    let parsed = Host::parse(text);
    assert_eq!(text.parse::<Host>(), parsed, "{text:?}");
    match (parsed, rules::is_host(text)) {
        (Ok(host), true) => {
            let lower = rules::in_lower_case(text);
            assert_eq!(host.as_str(), lower);
            assert_eq!(Host::parse(&host.to_string()), Ok(host.clone()));
            let key = [text.len().to_le_bytes()[0]; PublicKey::LEN];
            let address = Address::from_public_key(&PublicKey::from_bytes(key), &host);
            assert_eq!(address.as_str(), rules::address_of(&key, &lower));
            check_address(address.as_str());
        }
        (Err(error), false) => assert!(
            rules::is_true_of_host(&error, text),
            "{error:?}, but that is not so: {text:?}"
        ),
        (parsed, is_host) => panic!("{parsed:?}, but by the rules {is_host}: {text:?}"),
    }
}

/// Two addresses are one exactly if their names are, and their hosts in any case.
fn check_pair(one: &str, other: &str) {
    if let (Ok(a), Ok(b)) = (AddressRef::parse(one), AddressRef::parse(other)) {
        let hosts = [a, b].map(|it| rules::in_lower_case(it.host()));
        let is_same = a.name() == b.name() && hosts[0] == hosts[1];
        assert_eq!(a == b, is_same, "{one:?} {other:?}");
        let (a, b) = (a.to_address(), b.to_address());
        assert_eq!(a == b, is_same, "{one:?} {other:?}");
        assert_eq!(a.cmp(&b) == Ordering::Equal, is_same);
        if let (Ok(host), true) = (Host::parse(a.host()), a.name() == b.name()) {
            assert_eq!(host.matches(b.host()), is_same, "{one:?} {other:?}");
        }
    }
}
