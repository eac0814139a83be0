//! Who takes part in a handshake, and what is signed in it, as the protocol has it (section 3).

use core::cell::RefCell;
use std::collections::HashMap;
use std::sync::LazyLock;

use arbitrary::{Result, Unstructured};
use pinch_proto::wire::{Envelope, Heartbeat, Payload};
use pinch_proto::{Host, SecretKey, Signature};

/// Relays, some of which differ by little.
pub(super) const HOSTS: [&str; 5] = [
    "relay.example.com",
    "Relay.Example.COM",
    "other.example.com",
    "relay.example.com.",
    "r",
];

/// How many agents there are.
pub(super) const AGENTS: u8 = 3;

/// The keys of all agents. Nobody else signs anything.
static KEYS: LazyLock<Vec<SecretKey>> = LazyLock::new(|| {
    let key = |agent| SecretKey::from_seed([agent; SecretKey::SEED_LEN]);
    (0..AGENTS).map(key).collect()
});

static PUBLIC_KEYS: LazyLock<Vec<[u8; 32]>> = LazyLock::new(|| {
    let public = |key: &SecretKey| *key.public_key().as_bytes();
    KEYS.iter().map(public).collect()
});

/// How many signatures are remembered.
const REMEMBERED: usize = 10_000;

thread_local! {
    /// Signatures of Ed25519 are deterministic, and slow; the same few are asked for all the time.
    static SIGNATURES: RefCell<HashMap<(u8, Vec<u8>), Signature>> = RefCell::default();
}

/// The host of [`HOSTS`] that a relay says it is if it is set to `host`: the same in lower case.
pub(super) fn lower(host: &'static str) -> &'static str {
    let is_lower = |it: &&&str| **it == host.to_ascii_lowercase();
    HOSTS.iter().find(is_lower).copied().unwrap_or(host)
}

pub(super) fn host(text: &str) -> Host {
    Host::parse(text).expect("these are hosts")
}

pub(super) fn key_of(agent: u8) -> &'static SecretKey {
    &KEYS[usize::from(agent % AGENTS)]
}

pub(super) fn public_key_of(agent: u8) -> &'static [u8; 32] {
    &PUBLIC_KEYS[usize::from(agent % AGENTS)]
}

/// The agent that has this public key.
pub(super) fn holder_of(public_key: &[u8]) -> Option<u8> {
    (0..AGENTS).find(|&agent| public_key_of(agent) == public_key)
}

/// What an agent signs to join the relay at `host`.
pub(super) fn to_be_signed(host: &str, nonce: &[u8]) -> Vec<u8> {
    let mut bytes = b"pinch-auth-v1".to_vec();
    bytes.push(0);
    bytes.extend_from_slice(host.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(nonce);
    bytes
}

/// What an agent makes of a message.
pub(super) fn signature_of(agent: u8, message: Vec<u8>) -> Signature {
    SIGNATURES.with_borrow_mut(|signatures| {
        if signatures.len() >= REMEMBERED {
            signatures.clear();
        }
        let signed = signatures.entry((agent, message));
        *signed.or_insert_with_key(|(agent, message)| key_of(*agent).sign(message))
    })
}

/// Whether `signature` is what the holder of the key makes of `message`. Since signatures are
/// deterministic, and nobody here can forge one, there is nothing to verify.
pub(super) fn has_signed(public_key: &[u8], message: Vec<u8>, signature: &[u8]) -> bool {
    let holder = holder_of(public_key);
    holder.is_some_and(|agent| signature_of(agent, message).as_bytes() == signature)
}

/// Something that is wrong with an envelope, whatever it should be.
#[derive(Clone, Debug)]
pub(super) enum WrongEnvelope {
    Type(i32),
    NoPayload,
    OtherPayload,
    Version(u32),
}

impl WrongEnvelope {
    pub(super) fn read(input: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match input.int_in_range(0..=3)? {
            0 => Self::Type(input.arbitrary::<i8>()?.into()),
            1 => Self::NoPayload,
            2 => Self::OtherPayload,
            _ => Self::Version(input.arbitrary::<u8>()?.into()),
        })
    }

    pub(super) fn change(&self, envelope: &mut Envelope) {
        match *self {
            Self::Type(number) => envelope.r#type = number,
            Self::NoPayload => envelope.payload = None,
            Self::OtherPayload => {
                envelope.payload = Some(Payload::Heartbeat(Heartbeat { timestamp: 1 }));
            }
            Self::Version(version) => envelope.version = version,
        }
    }
}
