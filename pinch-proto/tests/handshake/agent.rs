//! What the agent's end refuses to sign or to believe.

use core::time::Duration;

use crate::sides::*;
use pinch_proto::handshake::{
    ADDRESS_ALREADY_CONNECTED, AUTHENTICATION_FAILED, AgentError, KEY_NOT_REGISTERED, auth_failed,
};
use pinch_proto::wire::{AuthResult, MessageType};
use pinch_proto::{Address, Host, SecretKey};

#[test]
fn an_agent_signs_no_challenge_that_is_not_exactly_right() {
    let other = "other.example.com";
    let wrong_type = AgentError::WrongType {
        expected: MessageType::AuthChallenge,
        type_number: 9,
    };
    let malformed = AgentError::MalformedPayload {
        expected: MessageType::AuthChallenge,
    };
    let cases: [(&str, _, AgentError, bool); 9] = [
        (
            "a verdict",
            agent().handle_challenge(&auth_failed("no", UNIX), UNIX),
            wrong_type,
            false,
        ),
        (
            "no payload",
            agent().handle_challenge(&typed(MessageType::AuthChallenge, None), UNIX),
            malformed,
            false,
        ),
        (
            "version 0",
            answer_changed(|it| it.version = 0),
            AgentError::WrongVersion { version: 0 },
            true,
        ),
        (
            "version 2",
            answer_changed(|it| it.version = 2),
            AgentError::WrongVersion { version: 2 },
            true,
        ),
        (
            "31 bytes",
            answer_changed(|it| it.nonce.truncate(31)),
            AgentError::WrongNonceLength { len: 31 },
            false,
        ),
        (
            "33 bytes",
            answer_changed(|it| it.nonce = vec![0; 33].into()),
            AgentError::WrongNonceLength { len: 33 },
            false,
        ),
        (
            "another host",
            answer_changed(|it| it.relay_host = other.into()),
            AgentError::WrongHost {
                expected: host(),
                found: other.into(),
            },
            true,
        ),
        (
            "no time",
            answer_changed(|it| it.expires_at_ms = it.issued_at_ms),
            AgentError::Expired,
            false,
        ),
        (
            "negative time",
            answer_changed(|it| it.expires_at_ms = 0),
            AgentError::Expired,
            false,
        ),
    ];
    for (name, result, expected, is_permanent) in cases {
        let error = result.unwrap_err();
        assert_eq!(error, expected, "{name}");
        assert_eq!(error.is_permanent(), is_permanent, "{name}");
    }
    assert!(matches!(
        agent().handle_challenge(&[0xff], UNIX),
        Err(AgentError::Malformed(_))
    ));
    assert!(answer_changed(|_| {}).is_ok());
}

#[test]
fn an_agent_believes_only_in_its_own_address() {
    let own = Address::from_public_key(&key().public_key(), &host());
    let stranger = Address::from_public_key(&SecretKey::from_seed([1; 32]).public_key(), &host());
    let elsewhere = Address::from_public_key(
        &key().public_key(),
        &Host::parse("other.example.com").unwrap(),
    );
    let assigned = |text: &str| AuthResult {
        success: true,
        assigned_address: text.into(),
        ..AuthResult::default()
    };

    assert_eq!(result_of(assigned(own.as_str())), Ok(own.clone()));
    let other_case = own.as_str().replace("relay", "RELAY");
    assert_eq!(
        result_of(assigned(&other_case)),
        Ok(Address::parse(&other_case).unwrap())
    );

    // The name of an address is Base58, in which case matters.
    for text in [
        "",
        "pinch:",
        stranger.as_str(),
        elsewhere.as_str(),
        &own.as_str().to_lowercase(),
    ] {
        let error = result_of(assigned(text)).unwrap_err();
        assert_eq!(
            error,
            AgentError::WrongAddress {
                expected: own.clone(),
                found: text.into()
            }
        );
        assert!(error.is_permanent());
    }
}

#[test]
fn a_refusal_is_permanent_only_if_a_person_has_to_act() {
    for (reason, is_permanent) in [
        (AUTHENTICATION_FAILED, true),
        (KEY_NOT_REGISTERED, true),
        (ADDRESS_ALREADY_CONNECTED, false),
        ("relay is full", false),
        ("", false),
    ] {
        let error = awaiting()
            .handle_result(&auth_failed(reason, UNIX), Duration::ZERO)
            .unwrap_err();
        assert_eq!(
            error,
            AgentError::Refused {
                reason: reason.into()
            }
        );
        assert_eq!(error.is_permanent(), is_permanent, "{reason}");
    }
    // The challenge is valid for ten seconds: from then on, it may be the network's fault.
    for (elapsed, is_late) in [
        (TIMEOUT.saturating_sub(Duration::from_nanos(1)), false),
        (TIMEOUT, true),
        (Duration::MAX, true),
    ] {
        for reason in [AUTHENTICATION_FAILED, KEY_NOT_REGISTERED] {
            let error = awaiting()
                .handle_result(&auth_failed(reason, UNIX), elapsed)
                .unwrap_err();
            let is_late = is_late && reason == AUTHENTICATION_FAILED;
            assert_eq!(
                error == AgentError::MaybeLate { elapsed },
                is_late,
                "{error}"
            );
            assert_eq!(error.is_permanent(), !is_late, "{error}");
        }
    }
    let error = awaiting()
        .handle_result(&relay().challenge(), Duration::ZERO)
        .unwrap_err();
    assert_eq!(
        error,
        AgentError::WrongType {
            expected: MessageType::AuthResult,
            type_number: 2
        }
    );
    let error = awaiting()
        .handle_result(&typed(MessageType::AuthResult, None), Duration::ZERO)
        .unwrap_err();
    assert_eq!(
        error,
        AgentError::MalformedPayload {
            expected: MessageType::AuthResult
        }
    );
}
