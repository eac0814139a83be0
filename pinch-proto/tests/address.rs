//! Addresses and hosts: the vectors of protocol section 1, every error, and properties over any text.

use core::hash::BuildHasher;
use std::collections::BTreeMap;

use pinch_proto::{Address, AddressError, AddressRef, Host, HostError, PublicKey, SecretKey};
use proptest::prelude::*;
use siphasher::sip::SipHasher13;

const ALPHABET: &str = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const HOST: &str = "test.relay.example.com";

/// Seed, public key and name of the address, as protocol section 1 has them.
const VECTORS: [(&str, &str, &str); 3] = [
    (
        "0000000000000000000000000000000000000000000000000000000000000001",
        "4cb5abf6ad79fbf5abbccafcc269d85cd2651ed4b885b5869f241aedf0a5ba29",
        "anSpcKpdMpR5GgdWktTxJHrow4AapjhmPGBfj3F1qr3HEbMcn",
    ),
    (
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "e734ea6c2b6257de72355e472aa05a4c487e6b463c029ed306df2f01b5636b58",
        "2kpsAVWeesP916eiCW6FxmgGQcrsvyQSp3JFsdjExT3sS8b2Nz",
    ),
    (
        "deadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeef",
        "ff57575dc7af8bfc4d0837cc1ce2017b686a88145dc5579a958e3462fe9a908e",
        "2wTMAXNcBzkfwvmYVyWVNpLkMdTCzdmYrAZkREHx8EVaL6L3ur",
    ),
];

/// 32 bytes from hex.
fn bytes(hex: &str) -> [u8; 32] {
    core::array::from_fn(|at| {
        u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("two hex digits")
    })
}

fn named(name: &str) -> Address {
    Address::parse(&format!("pinch:{name}@{HOST}")).expect("the syntax of an address")
}

fn hash(value: impl core::hash::Hash) -> u64 {
    core::hash::BuildHasherDefault::<SipHasher13>::default().hash_one(value)
}

#[test]
fn vectors() {
    let host = Host::parse(HOST).unwrap();
    for (seed, public, name) in VECTORS {
        let secret = SecretKey::from_seed(bytes(seed));
        assert_eq!(secret.seed(), &bytes(seed));
        let key = secret.public_key();
        assert_eq!(key, PublicKey::from_bytes(bytes(public)));

        let address = Address::from_public_key(&key, &host);
        assert_eq!(address.as_str(), format!("pinch:{name}@{HOST}"));
        assert_eq!(address.name(), name);
        assert_eq!(address.host(), HOST);
        assert_eq!(address.public_key(), Ok(key));
        assert_eq!(address.as_str().parse(), Ok(address));
    }
}

#[test]
fn keys_at_the_edges_fit() {
    let host = Host::parse(&"h".repeat(Host::MAX_LEN)).unwrap();
    for byte in [0x00, 0x01, 0xff] {
        let key = PublicKey::from_bytes([byte; 32]);
        let address = Address::from_public_key(&key, &host);
        assert!(address.as_str().len() <= Address::MAX_LEN);
        assert_eq!(Address::parse(address.as_str()), Ok(address.clone()));
        assert_eq!(address.public_key(), Ok(key));
    }
    let longest = Address::from_public_key(&PublicKey::from_bytes([0xff; 32]), &host);
    assert_eq!(longest.as_str().len(), Address::MAX_LEN);
}

#[test]
fn syntax_errors() {
    let table = [
        (
            format!("pinch:a@{}", "h".repeat(249)),
            AddressError::TooLong { len: 257 },
            "the address has 257 bytes, expected at most 256",
        ),
        // A long text is not read any further.
        (
            "\0".repeat(257),
            AddressError::TooLong { len: 257 },
            "the address has 257 bytes, expected at most 256",
        ),
        (
            "pinch:a b@host".to_owned(),
            AddressError::InvalidByte { at: 7, byte: b' ' },
            "byte 7 of the address is 0x20, expected printable ASCII without space",
        ),
        (
            "pinch:a@host\n".to_owned(),
            AddressError::InvalidByte {
                at: 12,
                byte: b'\n',
            },
            "byte 12 of the address is 0x0a, expected printable ASCII without space",
        ),
        (
            "pinch:\u{e4}@host".to_owned(),
            AddressError::InvalidByte { at: 6, byte: 0xc3 },
            "byte 6 of the address is 0xc3, expected printable ASCII without space",
        ),
        (
            "pinch:a@\u{7f}".to_owned(),
            AddressError::InvalidByte { at: 8, byte: 0x7f },
            "byte 8 of the address is 0x7f, expected printable ASCII without space",
        ),
        (
            String::new(),
            AddressError::MissingScheme,
            "the address does not begin with `pinch:`, expected `pinch:<name>@<host>`",
        ),
        (
            "Pinch:a@host".to_owned(),
            AddressError::MissingScheme,
            "the address does not begin with `pinch:`, expected `pinch:<name>@<host>`",
        ),
        (
            "pinch:a".to_owned(),
            AddressError::MissingHost,
            "the address has no `@`, expected `pinch:<name>@<host>`",
        ),
        (
            "pinch:".to_owned(),
            AddressError::MissingHost,
            "the address has no `@`, expected `pinch:<name>@<host>`",
        ),
        (
            "pinch:@host".to_owned(),
            AddressError::EmptyName,
            "the address has nothing before its `@`, expected `pinch:<name>@<host>`",
        ),
        (
            "pinch:@".to_owned(),
            AddressError::EmptyName,
            "the address has nothing before its `@`, expected `pinch:<name>@<host>`",
        ),
        (
            "pinch:a@host@".to_owned(),
            AddressError::EmptyHost,
            "the address has nothing behind its last `@`, expected `pinch:<name>@<host>`",
        ),
    ];
    for (text, error, message) in table {
        assert_eq!(AddressRef::parse(&text), Err(error), "{text:?}");
        assert_eq!(Address::parse(&text), Err(error), "{text:?}");
        assert_eq!(text.parse::<Address>(), Err(error), "{text:?}");
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn key_errors() {
    let (_, _, name) = VECTORS[1];
    let wrong_length = |len| AddressError::WrongKeyLength { len };
    let table = [
        (
            "z".repeat(51),
            AddressError::NameTooLong { len: 51 },
            "the name has 51 characters, expected the Base58 of a key, which has at most 50",
        ),
        (
            name.replace('W', "0"),
            AddressError::NotBase58 {
                at: 12,
                character: '0',
            },
            "byte 12 of the address is `0`, expected the Base58 of a key, which has no such character",
        ),
        (
            "alice@home".to_owned(),
            AddressError::NotBase58 {
                at: 7,
                character: 'l',
            },
            "byte 7 of the address is `l`, expected the Base58 of a key, which has no such character",
        ),
        (
            bs58::encode([0xff; 35]).into_string(),
            wrong_length(35),
            "the name is the Base58 of 35 bytes, expected 36: a key and its checksum",
        ),
        (
            "z".repeat(50),
            wrong_length(37),
            "the name is the Base58 of 37 bytes, expected 36: a key and its checksum",
        ),
        // The longest that 50 characters can stand for.
        (
            "1".repeat(50),
            wrong_length(50),
            "the name is the Base58 of 50 bytes, expected 36: a key and its checksum",
        ),
        (
            "bob".to_owned(),
            wrong_length(3),
            "the name is the Base58 of 3 bytes, expected 36: a key and its checksum",
        ),
        (
            "1".repeat(36),
            AddressError::WrongChecksum,
            "the name ends in a wrong checksum, expected the first 4 bytes of the key's SHA-256",
        ),
    ];
    for (name, error, message) in table {
        let address = named(&name);
        assert_eq!(address.public_key(), Err(error), "{name:?}");
        assert_eq!(address.by_ref().public_key(), Err(error), "{name:?}");
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn a_slip_anywhere_in_a_name_is_noticed() {
    for (_, _, name) in VECTORS {
        for at in 0..name.len() {
            for other in ALPHABET
                .chars()
                .filter(|&other| !name[at..].starts_with(other))
            {
                let slipped = format!("{}{other}{}", &name[..at], &name[at + 1..]);
                assert!(named(&slipped).public_key().is_err(), "{slipped}");
            }
            if let Some(swapped) = name.get(at..at + 2).filter(|pair| pair[..1] != pair[1..]) {
                let swapped: String = swapped.chars().rev().collect();
                let slipped = format!("{}{swapped}{}", &name[..at], &name[at + 2..]);
                assert!(named(&slipped).public_key().is_err(), "{slipped}");
            }
        }
    }
}

#[test]
fn a_flipped_bit_is_noticed() {
    for (_, public, name) in VECTORS {
        let good = bs58::decode(name).into_vec().unwrap();
        assert_eq!(good[..32], bytes(public));
        for bit in 0..8 * good.len() {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let address = named(&bs58::encode(bad).into_string());
            assert_eq!(
                address.public_key(),
                Err(AddressError::WrongChecksum),
                "bit {bit}"
            );
        }
    }
}

#[test]
fn open_mode_names() {
    for (text, name, host) in [
        ("pinch:a@b", "a", "b"),
        (
            "pinch:alice@home@relay.example.com",
            "alice@home",
            "relay.example.com",
        ),
        ("pinch:@@h", "@", "h"),
        ("pinch:pinch:x@h:8080", "pinch:x", "h:8080"),
        (
            "pinch:~!#$%&'()*+,-./:;<=>?[\\]^_`{|}@[::1]",
            "~!#$%&'()*+,-./:;<=>?[\\]^_`{|}",
            "[::1]",
        ),
    ] {
        let address = Address::parse(text).unwrap();
        assert_eq!((address.name(), address.host()), (name, host));
        assert_eq!(address.to_string(), text);
        assert!(address.public_key().is_err());
    }
    let longest = format!("pinch:{}@h", "n".repeat(248));
    assert_eq!(longest.len(), Address::MAX_LEN);
    assert!(Address::parse(&longest).is_ok());
}

#[test]
fn hosts() {
    let long = "h".repeat(200);
    let table = [
        (
            "",
            HostError::Empty,
            "the host is empty, expected 1 to 199 bytes",
        ),
        (
            &long,
            HostError::TooLong { len: 200 },
            "the host has 200 bytes, expected at most 199",
        ),
        (
            "a@b",
            HostError::InvalidByte { at: 1, byte: b'@' },
            "byte 1 of the host is 0x40, expected printable ASCII without space and `@`",
        ),
        (
            "a b",
            HostError::InvalidByte { at: 1, byte: b' ' },
            "byte 1 of the host is 0x20, expected printable ASCII without space and `@`",
        ),
        (
            "\u{fc}ber",
            HostError::InvalidByte { at: 0, byte: 0xc3 },
            "byte 0 of the host is 0xc3, expected printable ASCII without space and `@`",
        ),
        (
            "host\0",
            HostError::InvalidByte { at: 4, byte: 0 },
            "byte 4 of the host is 0x00, expected printable ASCII without space and `@`",
        ),
    ];
    for (text, error, message) in table {
        assert_eq!(Host::parse(text), Err(error), "{text:?}");
        assert_eq!(text.parse::<Host>(), Err(error), "{text:?}");
        assert_eq!(error.to_string(), message);
    }
    for text in ["h", "localhost:8080", "[::1]:8080", &long[1..]] {
        let host = Host::parse(text).unwrap();
        assert_eq!(host.as_str(), text);
        assert_eq!(host.to_string(), text);
        assert_eq!(text.parse(), Ok(host));
    }
}

#[test]
fn case_of_hosts() {
    let host = Host::parse("Relay.example.COM").unwrap();
    assert!(host.matches("relay.EXAMPLE.com"));
    assert!(!host.matches("relay.example.co"));
    assert!(!host.matches("relay.example.com."));
    // Kelvin sign: equal to `k` in some notions of case, not in ASCII's.
    assert!(!Host::parse("k").unwrap().matches("\u{212a}"));
    assert_eq!(host, Host::parse("relay.example.com").unwrap());
    assert_eq!(host.as_str(), "relay.example.com");
}

#[test]
fn case_of_addresses() {
    let address = Address::parse("pinch:Alice@H@Relay.Example.COM").unwrap();
    assert_eq!(address.as_str(), "pinch:Alice@H@relay.example.com");
    let parse = |text| Address::parse(text).unwrap();
    assert_eq!(address, parse("pinch:Alice@H@RELAY.example.com"));
    assert_eq!(
        hash(&address),
        hash(parse("pinch:Alice@H@relay.example.com"))
    );
    // The name is what it is, and so is the scheme.
    assert_ne!(address, parse("pinch:alice@H@relay.example.com"));
    assert_ne!(address, parse("pinch:Alice@h@relay.example.com"));
    // Base58 has both cases.
    let key = SecretKey::from_seed([0xaa; 32]).public_key();
    let host = Host::parse("LOCALHOST").unwrap();
    let own = Address::from_public_key(&key, &host);
    assert_eq!(own.host(), "localhost");
    let shouted = own.as_str().replace("localhost", "LocalHost");
    assert_eq!(Address::parse(&shouted), Ok(own.clone()));
    assert_eq!(AddressRef::parse(&shouted).unwrap(), own.by_ref());
    assert!(Address::parse(&own.as_str().to_ascii_lowercase()).unwrap() != own);
}

#[test]
fn maps_of_addresses_can_be_asked_by_text() {
    let mut map = BTreeMap::new();
    map.insert(Address::parse("pinch:a@h").unwrap(), 1);
    map.insert(Address::parse("pinch:b@h").unwrap(), 2);
    assert_eq!(map.get("pinch:b@h"), Some(&2));
    assert_eq!(map.get("pinch:c@h"), None);
}

#[test]
fn an_address_is_shown_with_its_host_in_lower_case_if_it_is_not_borrowed() {
    let text = "pinch:alice@Relay.example.com";
    let (owned, borrowed) = (
        Address::parse(text).unwrap(),
        AddressRef::parse(text).unwrap(),
    );
    let normal = "pinch:alice@relay.example.com";
    assert_eq!(
        (owned.as_ref(), owned.as_str(), owned.to_string()),
        (normal, normal, normal.to_owned())
    );
    assert_eq!(
        (borrowed.as_ref(), borrowed.to_string()),
        (text, text.to_owned())
    );
    assert_eq!(borrowed.as_str(), text);
    assert_eq!(format!("{borrowed:>31}"), format!("  {text}"));
}

#[test]
fn sizes() {
    // A relay keeps one of these for each connection, and more in its maps.
    assert_eq!(size_of::<Address>(), 2 * size_of::<usize>());
    assert_eq!(size_of::<Option<Address>>(), size_of::<Address>());
    assert_eq!(size_of::<Host>(), size_of::<Address>());
}

/// The rules of protocol section 1, written down a second time.
fn is_address(text: &str) -> bool {
    let graphic = |text: &str| !text.is_empty() && text.chars().all(|c| ('!'..='~').contains(&c));
    let sides = text
        .strip_prefix("pinch:")
        .map(|rest| rest.split('@').collect::<Vec<_>>());
    text.len() <= 256
        && sides.is_some_and(|sides| match sides.split_last() {
            Some((host, names)) => graphic(host) && graphic(&names.join("@")),
            None => false,
        })
}

/// Texts that are addresses, nearly addresses, or anything.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "pinch:[!-~]{0,8}@[!-?A-~]{0,8}",
        "(pinch:|Pinch:|pinch|)[ -~\u{e4}]{0,3}@?[!-~]{0,8}@?[!-~]{0,8}",
        "pinch:[a-z]{100}@[a-z]{147,151}",
        // A name that is a key, at any host.
        (any::<[u8; 32]>(), "[!-?A-~]{1,199}").prop_map(|(key, host)| {
            let host = Host::parse(&host).expect("the syntax of a host");
            Address::from_public_key(&PublicKey::from_bytes(key), &host).to_string()
        }),
    ]
}

proptest! {
    #[test]
    fn any_text_is_an_address_or_is_not(text in any_text()) {
        let parsed = AddressRef::parse(&text);
        prop_assert_eq!(parsed.is_ok(), is_address(&text), "{:?}", parsed);
        if let Ok(address) = parsed {
            prop_assert_eq!(format!("pinch:{}@{}", address.name(), address.host()), text.as_str());
            let owned = address.to_address();
            prop_assert_eq!(owned.by_ref(), address);
            // Whatever it says, it does not panic, and a key's address is the text it came from.
            if let Ok(key) = address.public_key() {
                let host = Host::parse(address.host()).unwrap();
                prop_assert_eq!(Address::from_public_key(&key, &host), owned);
            }
        }
    }

    #[test]
    fn any_text_is_a_host_or_is_not(text in prop_oneof![any::<String>(), "[ -~]{0,4}", "[a-z]{197,201}"]) {
        let is_host = (1..=199).contains(&text.len()) && text.chars().all(|c| ('!'..='~').contains(&c) && c != '@');
        prop_assert_eq!(Host::parse(&text).is_ok(), is_host);
    }

    #[test]
    fn names_and_hosts_come_back(name in "[!-~]{1,50}", host in "[!-?A-~]{1,199}") {
        let text = format!("pinch:{name}@{host}");
        let address = Address::parse(&text).unwrap();
        prop_assert_eq!(address.name(), &name);
        let host = host.to_ascii_lowercase();
        prop_assert_eq!(address.host(), &host);
        prop_assert_eq!(address.to_string(), format!("pinch:{name}@{host}"));
        prop_assert_eq!(address.by_ref(), AddressRef::parse(&text).unwrap());
        let again = Address::parse(address.as_str()).unwrap();
        prop_assert_eq!(hash(&again), hash(&address));
        prop_assert_eq!(again, address);
    }

    #[test]
    fn keys_come_back(key: [u8; 32], zeros in 0..=32_usize, host in "[!-?A-~]{1,199}") {
        let mut key = key;
        key[..zeros].fill(0);
        let key = PublicKey::from_bytes(key);
        let host = Host::parse(&host).unwrap();
        let address = Address::from_public_key(&key, &host);
        prop_assert_eq!(address.public_key(), Ok(key));
        prop_assert_eq!(address.host(), host.as_str());
        prop_assert_eq!(Address::parse(address.as_str()), Ok(address));
    }

    #[test]
    fn names_of_base58_never_panic(name in "[1-9A-HJ-NP-Za-km-z]{1,60}") {
        // Nobody finds 32 bits of SHA-256 by chance.
        prop_assert!(named(&name).public_key().is_err());
    }

    #[test]
    fn addresses_hash_and_sort_as_their_text(one in "pinch:[!-~]{1,4}@[a-c]", other in "pinch:[!-~]{1,4}@[a-c]") {
        let (a, b) = (Address::parse(&one).unwrap(), Address::parse(&other).unwrap());
        prop_assert_eq!(hash(&a), hash(one.as_str()));
        prop_assert_eq!(a.cmp(&b), one.cmp(&other));
        prop_assert_eq!(a == b, one == other);
    }
}
