//! What a relay says in a handshake, and all that can be wrong with it.

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use pinch_proto::wire::{AuthChallenge, AuthResult, Envelope, Payload};
use prost::Message as _;

use crate::targets::address;
use crate::targets::parties::{self, AGENTS, HOSTS, WrongEnvelope};

/// Something that is wrong with a challenge.
#[derive(Debug)]
pub(super) enum ChallengeFault {
    Version(u32),
    NonceLength(usize),
    Host(String),
    /// How much time there is to answer.
    Time(i64),
    Envelope(WrongEnvelope),
}

impl ChallengeFault {
    pub(super) fn read(input: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match input.int_in_range(0..=4)? {
            0 => Self::Version(input.arbitrary::<u8>()?.into()),
            1 => Self::NonceLength(input.int_in_range(0..=33)?),
            2 if input.ratio(1, 2)? => Self::Host((*input.choose(&HOSTS)?).into()),
            2 => {
                let len = input.int_in_range(0..=20)?.min(input.len());
                Self::Host(String::from_utf8_lossy(input.bytes(len)?).into_owned())
            }
            3 => Self::Time(*input.choose(&[0, -1, 1, i64::MIN, i64::MAX])?),
            _ => Self::Envelope(WrongEnvelope::read(input)?),
        })
    }

    pub(super) fn changed(&self, message: Bytes) -> Bytes {
        change(message, |envelope| {
            if let Self::Envelope(wrong) = self {
                wrong.change(envelope);
            }
            let Some(Payload::AuthChallenge(challenge)) = &mut envelope.payload else {
                return;
            };
            match self {
                Self::Version(version) => challenge.version = *version,
                Self::NonceLength(len) => {
                    let mut nonce = challenge.nonce.to_vec();
                    nonce.resize(*len, 0);
                    challenge.nonce = nonce.into();
                }
                Self::Host(host) => challenge.relay_host.clone_from(host),
                Self::Time(ms) => {
                    challenge.expires_at_ms = challenge.issued_at_ms.saturating_add(*ms);
                }
                Self::Envelope(_) => {}
            }
        })
    }
}

/// Something that is wrong with the end of a handshake.
#[derive(Debug)]
pub(super) enum VerdictFault {
    Refused(&'static str),
    /// It succeeds, and says why not.
    Both,
    OfAgent(u8),
    AtHost(&'static str),
    /// The whole address in one case.
    Lowercase,
    Address(String),
    Envelope(WrongEnvelope),
}

impl VerdictFault {
    pub(super) fn read(input: &mut Unstructured<'_>) -> Result<Self> {
        let reasons = [
            "authentication failed",
            "key not registered",
            "address already connected",
            "",
            "key not registered ",
        ];
        Ok(match input.int_in_range(0..=6)? {
            0 => Self::Refused(input.choose(&reasons)?),
            1 => Self::Both,
            2 => Self::OfAgent(input.int_in_range(0..=AGENTS - 1)?),
            3 => Self::AtHost(input.choose(&HOSTS)?),
            4 => Self::Lowercase,
            5 => {
                let len = input.int_in_range(0..=20)?.min(input.len());
                Self::Address(String::from_utf8_lossy(input.bytes(len)?).into_owned())
            }
            _ => Self::Envelope(WrongEnvelope::read(input)?),
        })
    }

    pub(super) fn changed(&self, message: Bytes, own: &str) -> Bytes {
        change(message, |envelope| {
            if let Self::Envelope(wrong) = self {
                wrong.change(envelope);
            }
            let Some(Payload::AuthResult(result)) = &mut envelope.payload else {
                return;
            };
            let host = own.rsplit_once('@').map_or("", |(_, host)| host);
            match self {
                Self::Refused(reason) => {
                    result.success = false;
                    result.error_message = (*reason).into();
                }
                Self::Both => result.error_message = "authentication failed".into(),
                Self::OfAgent(agent) => {
                    let key = parties::public_key_of(*agent);
                    result.assigned_address = address::address_of(key, host);
                }
                Self::AtHost(host) => {
                    let name = own.rsplit_once('@').map_or("", |(name, _)| name);
                    result.assigned_address = format!("{name}@{host}");
                }
                Self::Lowercase => result.assigned_address.make_ascii_lowercase(),
                Self::Address(text) => result.assigned_address.clone_from(text),
                Self::Envelope(_) => {}
            }
        })
    }
}

/// The message with which an agent has joined as `address`.
pub(super) fn success(address: &str) -> Bytes {
    let result = AuthResult {
        success: true,
        error_message: String::new(),
        assigned_address: address.into(),
    };
    let envelope = Envelope {
        version: 1,
        r#type: 9,
        payload: Some(Payload::AuthResult(result)),
        ..Envelope::default()
    };
    envelope.to_bytes()
}

/// The challenge in a message that is one.
pub(super) fn challenge_in(message: &Bytes) -> Option<AuthChallenge> {
    let envelope = Envelope::decode(message.clone()).ok()?;
    match envelope.payload {
        Some(Payload::AuthChallenge(challenge)) if envelope.r#type == 2 => Some(challenge),
        _ => None,
    }
}

/// The verdict in a message that is one.
pub(super) fn verdict_in(message: &Bytes) -> Option<AuthResult> {
    let envelope = Envelope::decode(message.clone()).ok()?;
    match envelope.payload {
        Some(Payload::AuthResult(result)) if envelope.r#type == 9 => Some(result),
        _ => None,
    }
}

fn change(message: Bytes, change: impl FnOnce(&mut Envelope)) -> Bytes {
    let mut envelope = Envelope::decode(message).expect("a relay's own message");
    change(&mut envelope);
    envelope.to_bytes()
}
