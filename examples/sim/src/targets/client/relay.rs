//! What the relay says to the client, and what that means to it.

use core::time::Duration;
use std::sync::LazyLock;

use bytes::Bytes;
use pinch_proto::Address;
use pinch_proto::EnvelopeView;
use pinch_proto::wire::{AuthChallenge, AuthResult, Envelope, MessageType, Payload};

use super::model::Meaning;
use super::script::{ChallengeKind, Says, WelcomeKind};
use super::world::{HOST, NO_ENVELOPE};
use crate::targets::{address, parties};

/// The addresses of the agents with keys, without their hosts.
static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let name = |agent| address::address_of(parties::public_key_of(agent), "");
    (0..parties::AGENTS).map(name).collect()
});

/// The address of an agent with a key.
pub(super) fn address_of(agent: u8, host: &str) -> Address {
    let address = format!("{}{host}", NAMES[usize::from(agent)]);
    Address::parse(&address).expect("an address")
}

/// How long a challenge is valid.
pub(super) const CHALLENGE_LIFETIME: Duration = Duration::from_secs(10);

/// A message of the relay.
pub(super) struct Letter {
    pub(super) message: Bytes,
    pub(super) meaning: Meaning,
    /// The address under which it says that the client has joined.
    pub(super) assigned: Option<Address>,
}

/// The message with which the relay says that; a close frame is none.
pub(super) fn letter(says: &Says) -> Letter {
    let mut assigned = None;
    let (message, meaning) = match *says {
        Says::Challenge(kind) => challenge(kind),
        Says::Welcome(kind) => {
            let (agent, host) = match kind {
                WelcomeKind::Good => (0, HOST),
                WelcomeKind::Respelled => (0, parties::HOSTS[1]),
                WelcomeKind::OfOtherAgent => (1, HOST),
            };
            let address = address_of(agent, host);
            let has_joined = !matches!(kind, WelcomeKind::OfOtherAgent);
            let meaning = Meaning::Verdict {
                has_joined,
                is_permanent: !has_joined,
                may_be_late: false,
            };
            let message = verdict(true, "", address.as_str());
            assigned = has_joined.then_some(address);
            (message, meaning)
        }
        Says::Refused(reason) => {
            let meaning = Meaning::Verdict {
                has_joined: false,
                is_permanent: reason != "address already connected",
                may_be_late: reason == "authentication failed",
            };
            (verdict(false, reason, ""), meaning)
        }
        Says::Envelope {
            from,
            id,
            time,
            is_refusal,
        } => {
            let r#type = if is_refusal {
                MessageType::QueueFull
            } else {
                MessageType::Message
            };
            let envelope = Envelope {
                from_address: from.into(),
                r#type: r#type.into(),
                message_id: vec![id; usize::from(id)].into(),
                timestamp: time,
                ..Envelope::default()
            };
            let can_be_duplicate = !is_refusal && id > 0 && !from.is_empty();
            (envelope.to_bytes(), Meaning::Envelope { can_be_duplicate })
        }
        Says::NoEnvelope | Says::Close { .. } => {
            (Bytes::from_static(NO_ENVELOPE), Meaning::NoEnvelope)
        }
    };
    Letter {
        message,
        meaning,
        assigned,
    }
}

fn challenge(kind: ChallengeKind) -> (Bytes, Meaning) {
    let (host, nonce) = match kind {
        ChallengeKind::Good => (HOST, 32),
        ChallengeKind::OfOtherHost => (parties::HOSTS[2], 32),
        ChallengeKind::ShortNonce => (HOST, 31),
    };
    let challenge = AuthChallenge {
        version: 1,
        nonce: vec![9; nonce].into(),
        issued_at_ms: 1,
        expires_at_ms: 1 + i64::try_from(CHALLENGE_LIFETIME.as_millis()).expect("it is short"),
        relay_host: host.into(),
    };
    let meaning = Meaning::Challenge {
        may_be_signed: matches!(kind, ChallengeKind::Good),
        is_permanent: matches!(kind, ChallengeKind::OfOtherHost),
    };
    let payload = Payload::AuthChallenge(challenge);
    (envelope(MessageType::AuthChallenge, payload), meaning)
}

fn verdict(success: bool, reason: &str, assigned: &str) -> Bytes {
    let result = AuthResult {
        success,
        error_message: reason.into(),
        assigned_address: assigned.into(),
    };
    envelope(MessageType::AuthResult, Payload::AuthResult(result))
}

fn envelope(r#type: MessageType, payload: Payload) -> Bytes {
    Envelope {
        version: 1,
        r#type: r#type.into(),
        payload: Some(payload),
        ..Envelope::default()
    }
    .to_bytes()
}

/// Whether this is an answer to a challenge.
pub(super) fn is_answer(message: &[u8]) -> bool {
    EnvelopeView::parse(message)
        .is_ok_and(|view| view.message_type() == Some(MessageType::AuthResponse))
}
