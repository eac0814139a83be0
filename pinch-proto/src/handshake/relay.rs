//! The relay's end of a handshake.
//!
//! One per joining connection. It decides whether an answer proves a key; it does not decide what
//! the key is good for. The cheap checks come first and on the connection's own task
//! ([`Relay::handle_message`]); the slow one, the signature, is a step of its own
//! ([`Claim::verify`]) that any thread can take.

use core::time::Duration;

use bytes::Bytes;
use thiserror::Error;

use super::{AUTHENTICATION_FAILED, NONCE_LEN, Unexpected, auth_failed, decode, signed_bytes};
use crate::wire::{AuthChallenge, Envelope, MessageType, Payload, VERSION};
use crate::{
    Address, Close, CloseCode, EnvelopeError, Host, PublicKey, Signature, Time, Timeout, UnixMillis,
};

/// A challenge that waits for its answer.
///
/// ```text
///          handle_message            verify
///  Relay ────────────────► Claim ────────────► Proof
///    │                       │
///    │ the timeout is over   │ the signature is wrong
///    ▼                       ▼
///  Refusal ◄─────────────────┘
/// ```
///
/// ```
/// use core::time::Duration;
/// use pinch_proto::handshake::{Refusal, Relay};
/// use pinch_proto::{CloseCode, Host, Time, UnixMillis};
///
/// let host = Host::parse("relay.example.com")?;
/// let mut relay = Relay::new(host, Duration::from_secs(10), [7; 32], Time::ZERO, UnixMillis(0));
/// let challenge = relay.challenge();
///
/// // The agent says nothing.
/// let mut now = Time::ZERO;
/// while !relay.timeout().is_over(now) {
///     now = relay.timeout().wakeup();
/// }
/// assert_eq!(Refusal::TimedOut.close().code, CloseCode::POLICY);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
///
/// A challenge is answered once, or not at all:
///
/// ```compile_fail,E0382
/// # use pinch_proto::handshake::Relay;
/// # use pinch_proto::Time;
/// fn twice(relay: Relay, message: &[u8], now: Time) {
///     let first = relay.handle_message(message, now);
///     let second = relay.handle_message(message, now);
/// }
/// ```
#[derive(Debug)]
#[must_use = "a connection without an answer has to be timed out"]
pub struct Relay {
    host: Host,
    nonce: [u8; NONCE_LEN],
    issued_at: UnixMillis,
    expires_at: UnixMillis,
    timeout: Timeout,
}

impl Relay {
    /// A challenge at the relay `host` that can be answered for `timeout` (protocol: 10 s), pauses
    /// of the process apart.
    ///
    /// `nonce` must be fresh and unpredictable: it is all that keeps an old answer from being used
    /// again. `now` and `unix` are the same moment on the two clocks.
    pub fn new(
        host: Host,
        timeout: Duration,
        nonce: [u8; NONCE_LEN],
        now: Time,
        unix: UnixMillis,
    ) -> Self {
        Self {
            host,
            nonce,
            issued_at: unix,
            expires_at: unix + timeout,
            timeout: Timeout::new(timeout, now),
        }
    }

    /// The AUTH_CHALLENGE to send, before anything else.
    #[must_use]
    pub fn challenge(&self) -> Bytes {
        let challenge = AuthChallenge {
            version: VERSION,
            nonce: Bytes::copy_from_slice(&self.nonce),
            issued_at_ms: self.issued_at.0,
            expires_at_ms: self.expires_at.0,
            relay_host: self.host.as_str().into(),
        };
        Envelope::from_relay(Payload::AuthChallenge(challenge), self.issued_at).to_bytes()
    }

    /// The time for the answer. When it is over, the agent is given up: [`Refusal::TimedOut`].
    #[must_use]
    pub const fn timeout(&mut self) -> &mut Timeout {
        &mut self.timeout
    }

    /// Checks everything about the agent's first message but its signature.
    ///
    /// Whether it is too late is up to the [timeout](Self::timeout), and not to the wall clock,
    /// which may be set at any time: nobody can use a nonce that is answered once, on one
    /// connection.
    ///
    /// # Errors
    ///
    /// Every [`Refusal`] but [`TimedOut`](Refusal::TimedOut) and
    /// [`WrongSignature`](Refusal::WrongSignature).
    pub fn handle_message(mut self, message: &[u8], now: Time) -> Result<Claim, Refusal> {
        let Payload::AuthResponse(response) = decode(message, MessageType::AuthResponse)? else {
            return Err(Refusal::MalformedPayload);
        };
        if response.version != VERSION {
            return Err(Refusal::WrongVersion {
                version: response.version,
            });
        }
        let key =
            PublicKey::try_from(&*response.public_key).map_err(|_| Refusal::WrongKeyLength {
                len: response.public_key.len(),
            })?;
        let signature = Signature::try_from(&*response.signature).map_err(|_| {
            Refusal::WrongSignatureLength {
                len: response.signature.len(),
            }
        })?;
        if *response.nonce != self.nonce {
            return Err(Refusal::WrongNonce);
        }
        if self.timeout.is_over(now) {
            return Err(Refusal::Expired);
        }
        Ok(Claim {
            host: self.host,
            nonce: self.nonce,
            key,
            signature,
        })
    }
}

/// A well-formed answer whose signature nobody has checked yet.
#[derive(Debug)]
#[must_use = "a claim proves nothing before it is verified"]
pub struct Claim {
    host: Host,
    nonce: [u8; NONCE_LEN],
    key: PublicKey,
    signature: Signature,
}

impl Claim {
    /// The key that the agent claims to have.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.key
    }

    /// Checks the signature, strictly. This takes tens of microseconds, holds nothing shared and
    /// can be done on any thread.
    ///
    /// # Errors
    ///
    /// [`Refusal::WrongSignature`].
    pub fn verify(self) -> Result<Proof, Refusal> {
        let message = signed_bytes(self.host.as_str(), &self.nonce);
        if !self.key.verify_strict(&message, &self.signature) {
            return Err(Refusal::WrongSignature { key: self.key });
        }
        Ok(Proof {
            address: Address::from_public_key(&self.key, &self.host),
            key: self.key,
        })
    }
}

/// The agent at the other end holds the key of this address. Only [`Claim::verify`] makes one.
#[derive(Debug)]
#[must_use = "a proven address has joined only once the hub has registered it"]
pub struct Proof {
    key: PublicKey,
    address: Address,
}

impl Proof {
    /// The address.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// The key.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.key
    }

    /// The address, to register it.
    #[must_use]
    pub fn into_address(self) -> Address {
        self.address
    }
}

/// Why an agent has not joined. This is for the relay's log; the agent hears less
/// ([`auth_result`](Self::auth_result), [`close`](Self::close)).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No answer came in time.
    #[error("no answer to the challenge in time")]
    TimedOut,
    /// An answer came, but too late.
    #[error("the answer came after the challenge had expired")]
    Expired,
    /// The message is no envelope.
    #[error("the answer is no envelope: {0}")]
    Malformed(#[from] EnvelopeError),
    /// The message is an envelope of another type.
    #[error("the answer has type {type_number}, expected {expected}", expected = MessageType::AuthResponse as i32)]
    WrongType {
        /// The type, as the wire has it.
        type_number: i32,
    },
    /// The envelope does not carry what its type says.
    #[error("the answer has no AuthResponse in it, or a broken one")]
    MalformedPayload,
    /// The agent speaks another version.
    #[error("the answer has version {version}, expected {VERSION}")]
    WrongVersion {
        /// The version.
        version: u32,
    },
    /// The key has the wrong length.
    #[error("the answer's key has {len} bytes, expected {expected}", expected = PublicKey::LEN)]
    WrongKeyLength {
        /// Its length, in bytes.
        len: usize,
    },
    /// The signature has the wrong length.
    #[error("the answer's signature has {len} bytes, expected {expected}", expected = Signature::LEN)]
    WrongSignatureLength {
        /// Its length, in bytes.
        len: usize,
    },
    /// The nonce is that of another challenge, or none.
    #[error("the answer is not to this challenge: its nonce is another")]
    WrongNonce,
    /// The signature is not this key's over this host and nonce.
    #[error("the signature is not that of {key:?} over this challenge")]
    WrongSignature {
        /// The key that was claimed.
        key: PublicKey,
    },
}

impl Refusal {
    /// The AUTH_RESULT to send before the close frame. It says no more than
    /// [`AUTHENTICATION_FAILED`]. An agent that said nothing gets none.
    #[must_use]
    pub fn auth_result(&self, unix: UnixMillis) -> Option<Bytes> {
        (*self != Self::TimedOut).then(|| auth_failed(AUTHENTICATION_FAILED, unix))
    }

    /// The close frame to send: 1007 for what is no protobuf message, else 1008.
    #[must_use]
    pub fn close(&self) -> Close {
        match self {
            Self::TimedOut => Close::new(CloseCode::POLICY, "authentication timeout"),
            Self::Malformed(_) | Self::MalformedPayload => {
                Close::new(CloseCode::INVALID_DATA, "malformed envelope")
            }
            Self::Expired
            | Self::WrongType { .. }
            | Self::WrongVersion { .. }
            | Self::WrongKeyLength { .. }
            | Self::WrongSignatureLength { .. }
            | Self::WrongNonce
            | Self::WrongSignature { .. } => Close::new(CloseCode::POLICY, AUTHENTICATION_FAILED),
        }
    }
}

impl From<Unexpected> for Refusal {
    fn from(unexpected: Unexpected) -> Self {
        match unexpected {
            Unexpected::Envelope(error) => Self::Malformed(error),
            Unexpected::Type(type_number) => Self::WrongType { type_number },
            Unexpected::Payload => Self::MalformedPayload,
        }
    }
}
