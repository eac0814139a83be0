//! What the relay's end refuses, when, and what it says of it.

use core::time::Duration;

use crate::sides::*;
use bytes::Bytes;
use pinch_proto::handshake::{
    AUTHENTICATION_FAILED, AgentError, Refusal, Relay, auth_failed, signed_bytes,
};
use pinch_proto::wire::{MessageType, Payload};
use pinch_proto::{Address, CloseCode, SecretKey, Time};

#[test]
fn the_relay_refuses_every_answer_that_is_not_exactly_right() {
    let other = relay_with_other_nonce();
    let replayed = envelope(Payload::AuthResponse(response_to(&other.challenge())));
    let foreign_signature = SecretKey::from_seed([1; 32]).sign(&signed_bytes(HOST, &nonce()));
    let for_another_host = key().sign(&signed_bytes("other.example.com", &nonce()));
    let public_key = key().public_key();

    let cases: [(&str, Result<Address, Refusal>, Refusal); 12] = [
        (
            "another type",
            judge(&envelope(heartbeat())),
            Refusal::WrongType { type_number: 8 },
        ),
        (
            "nothing at all",
            judge(&[]),
            Refusal::WrongType { type_number: 0 },
        ),
        (
            "no payload",
            judge(&typed(MessageType::AuthResponse, None)),
            Refusal::MalformedPayload,
        ),
        (
            "another payload than its type",
            judge(&typed(MessageType::AuthResponse, Some(heartbeat()))),
            Refusal::MalformedPayload,
        ),
        (
            "version 2",
            judge_changed(|it| it.version = 2),
            Refusal::WrongVersion { version: 2 },
        ),
        (
            "short key",
            judge_changed(|it| it.public_key.truncate(31)),
            Refusal::WrongKeyLength { len: 31 },
        ),
        (
            "long signature",
            judge_changed(|it| it.signature = [&*it.signature, &[0]].concat().into()),
            Refusal::WrongSignatureLength { len: 65 },
        ),
        (
            "31 bytes of nonce",
            judge_changed(|it| it.nonce.truncate(31)),
            Refusal::WrongNonce,
        ),
        ("a replay", judge(&replayed), Refusal::WrongNonce),
        (
            "the nonce of this challenge on a signature over another",
            judge_changed(|it| it.signature = response_to(&other.challenge()).signature),
            Refusal::WrongSignature { key: public_key },
        ),
        (
            "somebody else's signature",
            judge_changed(|it| it.signature = Bytes::copy_from_slice(foreign_signature.as_bytes())),
            Refusal::WrongSignature { key: public_key },
        ),
        (
            "a signature for another relay",
            judge_changed(|it| it.signature = Bytes::copy_from_slice(for_another_host.as_bytes())),
            Refusal::WrongSignature { key: public_key },
        ),
    ];
    for (name, result, expected) in cases {
        assert_eq!(result, Err(expected), "{name}");
    }
    assert!(matches!(judge(&[0xff]), Err(Refusal::Malformed(_))));
    assert!(judge_changed(|_| {}).is_ok());
}

fn relay_with_other_nonce() -> Relay {
    Relay::new(host(), TIMEOUT, [9; 32], START, UNIX)
}

/// With each wakeup on time, the end of a timeout: it has half a second of grace.
fn waits(relay: &mut Relay) -> Time {
    let mut now = START;
    while !relay.timeout().is_over(now) {
        now = relay.timeout().wakeup();
    }
    now
}

#[test]
fn an_answer_is_too_late_when_the_timeout_is_over() {
    let response = envelope(Payload::AuthResponse(good_response()));
    let mut late = relay();
    let over = waits(&mut late);
    assert_eq!(over, START + TIMEOUT + Duration::from_millis(500));
    assert_eq!(
        late.handle_message(&response, over).err(),
        Some(Refusal::Expired)
    );
    for pause in [1, 9_999, 10_500, 86_400_000] {
        let now = START + Duration::from_millis(pause);
        assert!(relay().handle_message(&response, now).is_ok(), "{pause}");
    }
}

#[test]
fn a_pause_of_any_length_leaves_time_to_read_the_answer() {
    for pause in [1, 700, 20_000, 86_400_000] {
        let mut relay = relay();
        let mut now = START;
        while now < START + TIMEOUT {
            assert!(!relay.timeout().is_over(now));
            now = relay.timeout().wakeup();
        }
        now = now + Duration::from_millis(pause);
        assert!(!relay.timeout().is_over(now), "{pause}");
        let wakeup = relay.timeout().wakeup();
        assert!(
            !relay
                .timeout()
                .is_over(Time::from_nanos(wakeup.as_nanos() - 1))
        );
    }
}

#[test]
fn an_agent_that_times_out_is_told_so() {
    let refusal = Refusal::TimedOut;
    assert_eq!(refusal.auth_result(UNIX), None);
    assert_eq!(refusal.close().code, CloseCode::POLICY);
}

#[test]
fn a_refused_agent_hears_no_more_than_it_must() {
    let refusals = [
        (judge(&[0xff]).unwrap_err(), CloseCode::INVALID_DATA),
        (Refusal::MalformedPayload, CloseCode::INVALID_DATA),
        (Refusal::Expired, CloseCode::POLICY),
        (Refusal::WrongType { type_number: 8 }, CloseCode::POLICY),
        (Refusal::WrongVersion { version: 2 }, CloseCode::POLICY),
        (Refusal::WrongKeyLength { len: 1 }, CloseCode::POLICY),
        (Refusal::WrongSignatureLength { len: 1 }, CloseCode::POLICY),
        (Refusal::WrongNonce, CloseCode::POLICY),
        (
            Refusal::WrongSignature {
                key: key().public_key(),
            },
            CloseCode::POLICY,
        ),
    ];
    for (refusal, code) in refusals {
        assert_eq!(refusal.close().code, code, "{refusal}");
        let result = refusal.auth_result(UNIX).unwrap();
        assert_eq!(result, auth_failed(AUTHENTICATION_FAILED, UNIX));
        assert_eq!(
            awaiting().handle_result(&result, Duration::ZERO),
            Err(AgentError::Refused {
                reason: "authentication failed".into()
            })
        );
    }
}
