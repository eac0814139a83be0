//! Answers to challenges: right ones, and all that can be wrong with one.

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use pinch_proto::wire::{AuthResponse, Envelope, Payload};

use crate::targets::damage::Damage;
use crate::targets::parties::{self, AGENTS, HOSTS, WrongEnvelope};

/// The order of the group, in little-endian bytes: added to the scalar of a signature it changes
/// nothing but the bytes.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// An agent's answer to a challenge.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) agent: u8,
    pub(super) faults: Vec<Fault>,
    pub(super) damage: Vec<Damage>,
}

/// Something that is wrong with an answer.
#[derive(Debug)]
pub(super) enum Fault {
    SignedByAgent(u8),
    SignedForHost(&'static str),
    SignedNonce(u8),
    SignedDomain(&'static str),
    SignedWithoutSeparators,
    ClaimsAgent(u8),
    ClaimsKey([u8; 32]),
    KeyLength(usize),
    Nonce(u8),
    NonceLength(usize),
    SignatureLength(usize),
    SignatureNotReduced,
    SignatureOfNeutral,
    SignatureFlipped(u16),
    Version(u32),
    Envelope(WrongEnvelope),
}

impl Answer {
    pub(super) fn read(input: &mut Unstructured<'_>) -> Result<Self> {
        let agent = input.int_in_range(0..=AGENTS - 1)?;
        let damage = Damage::several(input);
        let faults = input.int_in_range(0..=5)?;
        Ok(Self {
            agent,
            damage,
            faults: (3..faults)
                .map(|_| Fault::read(input))
                .collect::<Result<_>>()?,
        })
    }

    /// The message that answers the challenge of the relay at `host`.
    pub(super) fn message(&self, host: &'static str, nonce: u8) -> Bytes {
        let mut signed = Signed {
            agent: self.agent,
            domain: "pinch-auth-v1",
            separator: Some(0),
            host,
            nonce,
        };
        for fault in &self.faults {
            fault.change_signed(&mut signed);
        }
        let mut response = AuthResponse {
            version: 1,
            public_key: parties::public_key_of(self.agent).as_slice().into(),
            signature: signed.signature(),
            nonce: vec![nonce; 32].into(),
        };
        for fault in &self.faults {
            fault.change_response(&mut response);
        }
        let mut envelope = Envelope {
            version: 1,
            r#type: 3,
            payload: Some(Payload::AuthResponse(response)),
            ..Envelope::default()
        };
        for fault in &self.faults {
            if let Fault::Envelope(wrong) = fault {
                wrong.change(&mut envelope);
            }
        }
        let bytes = envelope.to_bytes().to_vec();
        let damaged = self
            .damage
            .iter()
            .fold(bytes, |bytes, it| it.applied(bytes));
        damaged.into()
    }
}

/// What is signed, and by whom.
struct Signed {
    agent: u8,
    domain: &'static str,
    separator: Option<u8>,
    host: &'static str,
    nonce: u8,
}

impl Signed {
    fn signature(&self) -> Bytes {
        let mut bytes = self.domain.as_bytes().to_vec();
        bytes.extend(self.separator);
        bytes.extend(self.host.as_bytes());
        bytes.extend(self.separator);
        bytes.extend([self.nonce; 32]);
        let signature = parties::signature_of(self.agent, bytes);
        Bytes::copy_from_slice(signature.as_bytes())
    }
}

impl Fault {
    fn read(input: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match input.int_in_range(0..=15)? {
            0 => Self::SignedByAgent(input.int_in_range(0..=AGENTS - 1)?),
            1 => Self::SignedForHost(input.choose(&HOSTS)?),
            2 => Self::SignedNonce(input.int_in_range(0..=3)?),
            3 => Self::SignedDomain(input.choose(&["", "pinch-auth-v2", "pinch-auth-v1\0"])?),
            4 => Self::SignedWithoutSeparators,
            5 => Self::ClaimsAgent(input.int_in_range(0..=AGENTS - 1)?),
            6 => {
                let mut key = [0; 32];
                key[0] = input.int_in_range(0..=2)?;
                Self::ClaimsKey(key)
            }
            7 => Self::KeyLength(input.int_in_range(0..=33)?),
            8 => Self::Nonce(input.int_in_range(0..=3)?),
            9 => Self::NonceLength(input.int_in_range(0..=33)?),
            10 => Self::SignatureLength(input.int_in_range(0..=65)?),
            11 => Self::SignatureNotReduced,
            12 => Self::SignatureOfNeutral,
            13 => Self::SignatureFlipped(input.int_in_range(0..=511)?),
            14 => Self::Version(input.arbitrary::<u8>()?.into()),
            _ => Self::Envelope(WrongEnvelope::read(input)?),
        })
    }

    fn change_signed(&self, signed: &mut Signed) {
        match *self {
            Self::SignedByAgent(agent) => signed.agent = agent,
            Self::SignedForHost(host) => signed.host = host,
            Self::SignedNonce(nonce) => signed.nonce = nonce,
            Self::SignedDomain(domain) => signed.domain = domain,
            Self::SignedWithoutSeparators => signed.separator = None,
            Self::ClaimsAgent(_)
            | Self::ClaimsKey(_)
            | Self::KeyLength(_)
            | Self::Nonce(_)
            | Self::NonceLength(_)
            | Self::SignatureLength(_)
            | Self::SignatureNotReduced
            | Self::SignatureOfNeutral
            | Self::SignatureFlipped(_)
            | Self::Version(_)
            | Self::Envelope(_) => {}
        }
    }

    fn change_response(&self, response: &mut AuthResponse) {
        match *self {
            Self::ClaimsAgent(agent) => {
                response.public_key = parties::public_key_of(agent).as_slice().into();
            }
            Self::ClaimsKey(key) => response.public_key = Bytes::copy_from_slice(&key),
            Self::KeyLength(len) => resize(&mut response.public_key, len),
            Self::Nonce(nonce) => response.nonce = vec![nonce; 32].into(),
            Self::NonceLength(len) => resize(&mut response.nonce, len),
            Self::SignatureLength(len) => resize(&mut response.signature, len),
            Self::SignatureNotReduced => {
                let mut bytes = response.signature.to_vec();
                add_order(bytes.get_mut(32..).unwrap_or_default());
                response.signature = bytes.into();
            }
            // The neutral element as commitment, and the scalar 0: under the neutral element as a
            // key, a lenient check lets it pass for every message.
            Self::SignatureOfNeutral => {
                let mut bytes = vec![0; 64];
                bytes[0] = 1;
                response.signature = bytes.into();
            }
            Self::SignatureFlipped(bit) => {
                let mut bytes = response.signature.to_vec();
                if let Some(byte) = bytes.get_mut(usize::from(bit / 8)) {
                    *byte ^= 1 << (bit % 8);
                }
                response.signature = bytes.into();
            }
            Self::Version(version) => response.version = version,
            Self::SignedByAgent(_)
            | Self::SignedForHost(_)
            | Self::SignedNonce(_)
            | Self::SignedDomain(_)
            | Self::SignedWithoutSeparators
            | Self::Envelope(_) => {}
        }
    }
}

fn resize(bytes: &mut Bytes, len: usize) {
    let mut resized = bytes.to_vec();
    resized.resize(len, 0);
    *bytes = resized.into();
}

fn add_order(scalar: &mut [u8]) {
    let mut carry = 0;
    for (byte, order) in scalar.iter_mut().zip(ORDER) {
        carry += u16::from(*byte) + u16::from(order);
        [*byte, _] = carry.to_le_bytes();
        carry >>= 8;
    }
}
