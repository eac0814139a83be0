//! Joining in challenge mode (protocol section 3): who may call itself by which address.
//!
//! The relay sends a nonce, the agent signs it, and the key that it signed with *is* the address.
//! [`Relay`] and [`Agent`] are the two ends of one such exchange. Each state is a type and each
//! step consumes it, so that a nonce cannot be answered twice and an unproven address cannot be
//! had. Both are outside the hub: checking a signature is slow and needs nothing that is shared.
//! Whether a proven address may be connected now is the hub's decision, and it tells the agent.
//!
//! ```
//! use core::time::Duration;
//! use pinch_proto::handshake::{Agent, Relay, auth_succeeded};
//! use pinch_proto::{Host, SecretKey, Time, UnixMillis};
//!
//! let host = Host::parse("relay.example.com")?;
//! let (now, unix) = (Time::ZERO, UnixMillis(1_700_000_000_000));
//! let nonce = [7; 32]; // In earnest: 32 fresh random bytes.
//!
//! let relay = Relay::new(host.clone(), Duration::from_secs(10), nonce, now, unix);
//! let agent = Agent::new(SecretKey::from_seed([0xaa; 32]), host);
//!
//! let (response, agent) = agent.handle_challenge(&relay.challenge(), unix)?;
//! let proof = relay.handle_message(&response, now)?.verify()?;
//! let address = agent.handle_result(&auth_succeeded(proof.address(), unix), Duration::ZERO)?;
//! assert_eq!(&address, proof.address());
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

mod agent;
mod relay;

use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use prost::Message as _;

pub use self::agent::{Agent, AgentError, AwaitingResult};
pub use self::relay::{Claim, Proof, Refusal, Relay};

use crate::wire::{AuthResult, Envelope, MessageType, Payload};
use crate::{Address, EnvelopeError, EnvelopeView, UnixMillis};

/// Error text of AUTH_RESULT: the proof does not hold. Clients match on it.
pub const AUTHENTICATION_FAILED: &str = "authentication failed";

/// Error text of AUTH_RESULT: the relay does not know the key (protocol section 6, locked mode).
/// Clients match on it.
pub const KEY_NOT_REGISTERED: &str = "key not registered";

/// Error text of AUTH_RESULT: the address has a connection. Clients match on it.
pub const ADDRESS_ALREADY_CONNECTED: &str = "address already connected";

/// The length of a challenge's nonce, in bytes.
pub const NONCE_LEN: usize = 32;

const DOMAIN: &str = "pinch-auth-v1";

/// What an agent signs to join the relay `host` (protocol section 3). No host contains the zero
/// byte that separates the parts, so no two challenges have the same bytes.
#[must_use]
pub fn signed_bytes(host: &str, nonce: &[u8; NONCE_LEN]) -> Vec<u8> {
    [DOMAIN.as_bytes(), host.as_bytes(), nonce].join(&0)
}

/// The AUTH_RESULT that tells an agent that it has joined as `address`.
#[must_use]
pub fn auth_succeeded(address: &Address, unix: UnixMillis) -> Bytes {
    auth_result(
        AuthResult {
            success: true,
            error_message: String::new(),
            assigned_address: address.as_str().into(),
        },
        unix,
    )
}

/// The AUTH_RESULT that tells an agent that it has not joined, and why: one of
/// [`AUTHENTICATION_FAILED`], [`KEY_NOT_REGISTERED`] and [`ADDRESS_ALREADY_CONNECTED`], or a text
/// for people.
#[must_use]
pub fn auth_failed(text: &str, unix: UnixMillis) -> Bytes {
    auth_result(
        AuthResult {
            success: false,
            error_message: text.into(),
            assigned_address: String::new(),
        },
        unix,
    )
}

fn auth_result(result: AuthResult, unix: UnixMillis) -> Bytes {
    Envelope::from_relay(Payload::AuthResult(result), unix).to_bytes()
}

/// Why a message is not the one that a handshake waits for. Both ends say it in their own words.
enum Unexpected {
    Envelope(EnvelopeError),
    Type(i32),
    Payload,
}

/// The payload of `message`, if its type is `expected`. Nothing else is decoded: bytes of a stranger
/// cost no allocation before they have shown the right type.
fn decode(message: &[u8], expected: MessageType) -> Result<Payload, Unexpected> {
    let view = EnvelopeView::parse(message).map_err(Unexpected::Envelope)?;
    if view.message_type() != Some(expected) {
        return Err(Unexpected::Type(view.type_number()));
    }
    Envelope::decode(message)
        .ok()
        .and_then(|envelope| envelope.payload)
        .filter(|payload| payload.message_type() == expected)
        .ok_or(Unexpected::Payload)
}
