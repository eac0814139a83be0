//! Section 3 of the protocol, read a second time: who may come in.

use core::time::Duration;

use bytes::Bytes;
use pinch_proto::handshake::Refusal;
use pinch_proto::wire::{AuthChallenge, AuthResponse, Envelope, Payload};
use pinch_proto::{Time, UnixMillis};
use prost::Message as _;

use crate::targets::parties;

/// A challenge that a relay made.
#[derive(Clone, Debug)]
pub(super) struct Challenge {
    pub(super) host: &'static str,
    /// All 32 bytes of it.
    pub(super) nonce: u8,
    /// When the relay has looked at the clock last, and the time that it has attended.
    pub(super) looked_at: Time,
    pub(super) attended: Duration,
    pub(super) asked_at_unix: UnixMillis,
    pub(super) timeout: Duration,
}

impl Challenge {
    pub(super) fn envelope(&self) -> Envelope {
        let challenge = AuthChallenge {
            version: 1,
            nonce: vec![self.nonce; 32].into(),
            issued_at_ms: self.asked_at_unix.0,
            expires_at_ms: i64::try_from(self.expires_at_unix()).unwrap_or(i64::MAX),
            relay_host: self.host.into(),
        };
        Envelope {
            version: 1,
            r#type: 2,
            timestamp: self.asked_at_unix.0,
            payload: Some(Payload::AuthChallenge(challenge)),
            ..Envelope::default()
        }
    }

    fn expires_at_unix(&self) -> i128 {
        i128::from(self.asked_at_unix.0)
            + i128::from(self.timeout.as_secs()) * 1000
            + i128::from(self.timeout.subsec_millis())
    }

    /// Of the time between two looks at the clock, at most this counts.
    fn step(&self) -> Duration {
        let quarter = self.timeout / 4;
        quarter.clamp(Duration::from_millis(10), Duration::from_millis(250))
    }

    /// The relay looks at the clock.
    pub(super) fn look(&mut self, now: Time) {
        self.attended += now.since(self.looked_at).min(self.step());
        self.looked_at = self.looked_at.max(now);
    }

    /// Whether an answer comes too late, as far as the relay has looked: two steps after the
    /// timeout.
    pub(super) fn is_over(&self) -> bool {
        self.attended >= self.timeout + 2 * self.step()
    }

    /// When the relay has to look again.
    pub(super) fn wakeup(&self) -> Time {
        let over = self.timeout + 2 * self.step();
        let left = over.saturating_sub(self.attended);
        self.looked_at + left.min(self.step())
    }

    /// Whether all is right with an answer, as far as can be seen without looking at the signature.
    pub(super) fn is_answered_by(&self, message: &Bytes) -> bool {
        response_of(message).is_some_and(|response| {
            response.version == 1
                && response.public_key.len() == 32
                && response.signature.len() == 64
                && response.nonce == vec![self.nonce; 32]
                && !self.is_over()
        })
    }

    /// Whether the signature of an answer is what the agent makes that it claims to be from.
    pub(super) fn is_proven_by(&self, message: &Bytes) -> bool {
        response_of(message).is_some_and(|response| {
            let signed = parties::to_be_signed(self.host, &[self.nonce; 32]);
            parties::has_signed(&response.public_key, signed, &response.signature)
        })
    }

    /// Whether what is said against an answer is so.
    pub(super) fn check_refusal(&self, refusal: &Refusal, message: &Bytes) -> Result<(), String> {
        let decoded = Envelope::decode(message.clone());
        let response = response_of(message);
        let is_true = match *refusal {
            Refusal::Malformed(_) => decoded.is_err(),
            // An envelope with a broken payload has a type all the same.
            Refusal::WrongType { type_number } => {
                type_number != 3 && decoded.map_or(true, |it| it.r#type == type_number)
            }
            Refusal::MalformedPayload => response.is_none(),
            Refusal::WrongVersion { version } => {
                version != 1 && response.is_some_and(|it| it.version == version)
            }
            Refusal::WrongKeyLength { len } => {
                len != 32 && response.is_some_and(|it| it.public_key.len() == len)
            }
            Refusal::WrongSignatureLength { len } => {
                len != 64 && response.is_some_and(|it| it.signature.len() == len)
            }
            Refusal::WrongNonce => response.is_some_and(|it| it.nonce != vec![self.nonce; 32]),
            Refusal::Expired => response.is_some() && self.is_over(),
            Refusal::TimedOut | Refusal::WrongSignature { .. } | _ => false,
        };
        is_true
            .then_some(())
            .ok_or_else(|| format!("{refusal:?}, but that is not so: {message:02x?}"))
    }
}

/// The answer in a message that is one.
fn response_of(message: &Bytes) -> Option<AuthResponse> {
    let envelope = Envelope::decode(message.clone()).ok()?;
    match envelope.payload {
        Some(Payload::AuthResponse(response)) if envelope.r#type == 3 => Some(response),
        _ => None,
    }
}
