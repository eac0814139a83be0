//! The agent's end of a handshake.
//!
//! It decides whether a challenge may be signed and whether the relay's verdict can be believed.
//! How long to wait for either, and whether to try again, is decided by whoever drives it (see
//! [`Client`](crate::client::Client)).

use alloc::string::String;
use core::fmt;
use core::time::Duration;

use bytes::Bytes;
use thiserror::Error;

use super::{
    ADDRESS_ALREADY_CONNECTED, AUTHENTICATION_FAILED, KEY_NOT_REGISTERED, NONCE_LEN, Unexpected,
    decode, signed_bytes,
};
use crate::wire::{AuthChallenge, AuthResponse, Envelope, MessageType, Payload, VERSION};
use crate::{Address, AddressRef, EnvelopeError, Host, PublicKey, SecretKey, UnixMillis};

/// An agent that waits for a challenge.
///
/// ```text
///         handle_challenge                   handle_result
///  Agent ──────────────────► AwaitingResult ───────────────► Address
///    │                             │
///    └────────► AgentError ◄───────┘
/// ```
///
/// See the [module](super) for an example.
#[derive(Debug)]
#[must_use = "an agent joins by answering a challenge"]
pub struct Agent {
    key: SecretKey,
    host: Host,
}

impl Agent {
    /// The holder of `key`, about to join the relay `host`.
    pub fn new(key: SecretKey, host: Host) -> Self {
        Self { key, host }
    }

    /// Checks AUTH_CHALLENGE, then signs it: the AUTH_RESPONSE to send, and the next state.
    ///
    /// Signed is the host as the relay wrote it, because that is what the relay verifies; it may
    /// differ from the expected one in the case of its letters.
    ///
    /// A challenge's times are those of the relay's clock, and the relay alone enforces them: what
    /// is signed too late, it refuses. Here they must only leave any time at all. They are not
    /// compared with `unix`, because an agent whose clock is wrong could then never join, and
    /// nothing would be safer for it: the signature is bound to nonce and host, not to a time.
    /// `unix` dates the answer's envelope.
    ///
    /// # Errors
    ///
    /// [`AgentError`] says what is wrong with the challenge; nothing has been signed then.
    pub fn handle_challenge(
        self,
        message: &[u8],
        unix: UnixMillis,
    ) -> Result<(Bytes, AwaitingResult), AgentError> {
        let Payload::AuthChallenge(challenge) =
            decode_from_relay(message, MessageType::AuthChallenge)?
        else {
            return Err(AgentError::MalformedPayload {
                expected: MessageType::AuthChallenge,
            });
        };
        if challenge.version != VERSION {
            return Err(AgentError::WrongVersion {
                version: challenge.version,
            });
        }
        let nonce: &[u8; NONCE_LEN] =
            (&*challenge.nonce)
                .try_into()
                .map_err(|_| AgentError::WrongNonceLength {
                    len: challenge.nonce.len(),
                })?;
        if !self.host.matches(&challenge.relay_host) {
            return Err(AgentError::WrongHost {
                expected: self.host,
                found: challenge.relay_host,
            });
        }
        if challenge.expires_at_ms <= challenge.issued_at_ms {
            return Err(AgentError::Expired);
        }
        let key = self.key.public_key();
        let signature = self.key.sign(&signed_bytes(&challenge.relay_host, nonce));
        let response = AuthResponse {
            version: VERSION,
            public_key: Bytes::copy_from_slice(key.as_bytes()),
            signature: Bytes::copy_from_slice(signature.as_bytes()),
            nonce: challenge.nonce.clone(),
        };
        let envelope = Envelope {
            version: VERSION,
            r#type: MessageType::AuthResponse.into(),
            timestamp: unix.0,
            payload: Some(Payload::AuthResponse(response)),
            ..Envelope::default()
        };
        Ok((
            envelope.to_bytes(),
            AwaitingResult {
                key,
                host: self.host,
                lifetime: lifetime(&challenge),
            },
        ))
    }
}

/// An agent that has answered, and waits for AUTH_RESULT.
#[derive(Debug)]
#[must_use = "an agent has joined only once the relay says so"]
pub struct AwaitingResult {
    key: PublicKey,
    host: Host,
    /// How long the challenge is valid.
    lifetime: Duration,
}

impl AwaitingResult {
    /// Reads AUTH_RESULT: the address under which the relay has registered this agent, which is that of
    /// the agent's own key.
    ///
    /// `elapsed` is the time since the agent dialled, and so the most that may have passed since the
    /// challenge was issued: within the challenge's lifetime, the answer cannot have been too late.
    ///
    /// # Errors
    ///
    /// [`AgentError::Refused`] if the relay refuses, [`AgentError::MaybeLate`] if that may be because
    /// the answer took too long, [`AgentError::WrongAddress`] if it assigns an address that is not of
    /// this agent's key at the expected host, others if the message is something else.
    pub fn handle_result(self, message: &[u8], elapsed: Duration) -> Result<Address, AgentError> {
        let Payload::AuthResult(result) = decode_from_relay(message, MessageType::AuthResult)?
        else {
            return Err(AgentError::MalformedPayload {
                expected: MessageType::AuthResult,
            });
        };
        if !result.success {
            if result.error_message == AUTHENTICATION_FAILED && elapsed >= self.lifetime {
                return Err(AgentError::MaybeLate { elapsed });
            }
            return Err(AgentError::Refused {
                reason: result.error_message,
            });
        }
        let own = Address::from_public_key(&self.key, &self.host);
        match AddressRef::parse(&result.assigned_address) {
            Ok(assigned) if assigned == own.by_ref() => Ok(own),
            _ => Err(AgentError::WrongAddress {
                expected: own,
                found: result.assigned_address,
            }),
        }
    }
}

/// How long `challenge` is valid, by the relay's clock.
fn lifetime(challenge: &AuthChallenge) -> Duration {
    let millis = challenge
        .expires_at_ms
        .saturating_sub(challenge.issued_at_ms);
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

fn decode_from_relay(message: &[u8], expected: MessageType) -> Result<Payload, AgentError> {
    decode(message, expected).map_err(|unexpected| match unexpected {
        Unexpected::Envelope(error) => AgentError::Malformed(error),
        Unexpected::Type(type_number) => AgentError::WrongType {
            expected,
            type_number,
        },
        Unexpected::Payload => AgentError::MalformedPayload { expected },
    })
}

/// Why an agent has not joined. Each kind says what to do about it;
/// [`is_permanent`](Self::is_permanent) says it to a program.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The relay's message is no envelope.
    #[error(
        "the relay sent something that is no envelope ({0}); check that the address is that of a Pinch relay"
    )]
    Malformed(#[from] EnvelopeError),
    /// The relay's message is not the next one of a handshake.
    #[error(
        "the relay sent type {type_number} where {expected:?} was due; check that it is in challenge mode"
    )]
    WrongType {
        /// The type that was due.
        expected: MessageType,
        /// The type that came, as the wire has it.
        type_number: i32,
    },
    /// The relay's message does not carry what its type says.
    #[error(
        "the relay sent an {expected:?} without its payload, or with a broken one; tell its operator"
    )]
    MalformedPayload {
        /// The type of the message.
        expected: MessageType,
    },
    /// The relay speaks another version.
    #[error(
        "the relay speaks version {version} of the handshake, this agent {VERSION}; update the older one"
    )]
    WrongVersion {
        /// The relay's version.
        version: u32,
    },
    /// The nonce has the wrong length, and is not safe to sign.
    #[error(
        "the challenge has a nonce of {len} bytes instead of {NONCE_LEN} and was not signed; tell the relay's operator"
    )]
    WrongNonceLength {
        /// Its length, in bytes.
        len: usize,
    },
    /// The challenge is for another relay: somebody in between could use the answer there.
    #[error(
        "the challenge is for the relay {found:?} instead of {expected} and was not signed; check the relay's public host"
    )]
    WrongHost {
        /// The host that this agent wants to join.
        expected: Host,
        /// The host in the challenge.
        found: String,
    },
    /// The challenge leaves no time to answer it.
    #[error(
        "the challenge had expired when it was issued and was not signed; tell the relay's operator"
    )]
    Expired,
    /// The relay refuses this agent.
    #[error("the relay refuses this agent: {reason:?}{}", Advice(reason))]
    Refused {
        /// Why: one of the texts of this module, or one for people.
        reason: String,
    },
    /// The relay says `authentication failed` after the challenge may have expired: on a slow network
    /// that need not be the key's fault.
    #[error(
        "the relay refuses the answer to its challenge, which may have come too late: the dial began {} ms ago",
        elapsed.as_millis()
    )]
    MaybeLate {
        /// Time since the dial began.
        elapsed: Duration,
    },
    /// The relay assigned an address that is not this agent's.
    #[error("the relay assigned {found:?}, but this agent is {expected}; don't trust this relay")]
    WrongAddress {
        /// This agent's own address.
        expected: Address,
        /// What the relay assigned.
        found: String,
    },
}

impl AgentError {
    /// Whether trying again is pointless until a person has changed something: the expected host,
    /// the software, the relay's list of keys.
    ///
    /// [`ADDRESS_ALREADY_CONNECTED`](super::ADDRESS_ALREADY_CONNECTED) is not permanent: the other
    /// connection may be this agent's own, dead but not yet noticed by the relay.
    /// [`AUTHENTICATION_FAILED`](super::AUTHENTICATION_FAILED) is, unless the answer
    /// [may have been late](Self::MaybeLate): the same key fails again.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::WrongVersion { .. } | Self::WrongHost { .. } | Self::WrongAddress { .. } => true,
            Self::Refused { reason } => {
                [AUTHENTICATION_FAILED, KEY_NOT_REGISTERED].contains(&reason.as_str())
            }
            Self::MaybeLate { .. }
            | Self::Malformed(_)
            | Self::WrongType { .. }
            | Self::MalformedPayload { .. }
            | Self::WrongNonceLength { .. }
            | Self::Expired => false,
        }
    }
}

/// What to do about a refusal, behind its reason.
struct Advice<'a>(&'a str);

impl fmt::Display for Advice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            AUTHENTICATION_FAILED => "; check the key: the relay does not accept its signature",
            KEY_NOT_REGISTERED => "; register the key with the operator of the relay",
            ADDRESS_ALREADY_CONNECTED => {
                "; end the other connection with this key, or wait until the relay finds it dead"
            }
            _ => "",
        })
    }
}
