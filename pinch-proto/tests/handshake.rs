//! The two ends of a handshake, against each other and against everything that may go wrong.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and so do its helpers"
)]

use core::time::Duration;

use bytes::Bytes;
use pinch_proto::handshake::{
    ADDRESS_ALREADY_CONNECTED, AUTHENTICATION_FAILED, Agent, AgentError, AwaitingResult,
    KEY_NOT_REGISTERED, Refusal, Relay, auth_failed, auth_succeeded, signed_bytes,
};
use pinch_proto::wire::{
    AuthChallenge, AuthResponse, AuthResult, Envelope, Heartbeat, MessageType, Payload,
};
use pinch_proto::{Address, CloseCode, EnvelopeView, Host, SecretKey, Time, UnixMillis};
use proptest::prelude::*;
use prost::Message as _;

const HOST: &str = "test.relay.example.com";
const TIMEOUT: Duration = Duration::from_secs(10);
const START: Time = Time::from_nanos(5_000_000_000);
const UNIX: UnixMillis = UnixMillis(1_700_000_000_000);

/// Seed, address at [`HOST`], and signature over the challenge with [`nonce`]; the signatures were
/// made with another implementation of Ed25519.
const VECTORS: [(&str, &str, &str); 3] = [
    (
        "0000000000000000000000000000000000000000000000000000000000000001",
        "pinch:anSpcKpdMpR5GgdWktTxJHrow4AapjhmPGBfj3F1qr3HEbMcn@test.relay.example.com",
        "12313d8d2f500c201cba3d3c5118f658a7b16e693bc9614acec89d3169cd7116f3fe19705ed882982e5bc8a0003e2e052ae6a2e1a59bcd1bdcf1b6ad596c4c0f",
    ),
    (
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "pinch:2kpsAVWeesP916eiCW6FxmgGQcrsvyQSp3JFsdjExT3sS8b2Nz@test.relay.example.com",
        "836f65d50bc32796d13631dbe7c7d93f0087c55a3ae20e7bf0e63dbac0aa480f338c80bc737a4bc4f0f1ecaea82eb794a147c2c4af3c4c7ae9d097fe4f9acd02",
    ),
    (
        "deadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeef",
        "pinch:2wTMAXNcBzkfwvmYVyWVNpLkMdTCzdmYrAZkREHx8EVaL6L3ur@test.relay.example.com",
        "9bdb8e98144f3caf6b7c7c59aa2321158689748147504045da8ddb07e846692ff7cdecba1942cfa93235cd92f2fa79b9276c56bf0a5c5bf26f7a648691870108",
    ),
];

fn nonce() -> [u8; 32] {
    core::array::from_fn(|at| u8::try_from(at).unwrap())
}

fn host() -> Host {
    Host::parse(HOST).unwrap()
}

fn key() -> SecretKey {
    SecretKey::from_seed([0xaa; 32])
}

fn relay() -> Relay {
    Relay::new(host(), TIMEOUT, nonce(), START, UNIX)
}

fn agent() -> Agent {
    Agent::new(key(), host())
}

fn hex<const N: usize>(text: &str) -> [u8; N] {
    core::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
}

fn good_challenge() -> AuthChallenge {
    match Envelope::decode(relay().challenge()).unwrap().payload {
        Some(Payload::AuthChallenge(challenge)) => challenge,
        other => panic!("{other:?}"),
    }
}

fn good_response() -> AuthResponse {
    response_to(&relay().challenge())
}

fn response_to(challenge: &[u8]) -> AuthResponse {
    let (response, _) = agent().handle_challenge(challenge, UNIX).unwrap();
    match Envelope::decode(response).unwrap().payload {
        Some(Payload::AuthResponse(response)) => response,
        other => panic!("{other:?}"),
    }
}

fn envelope(payload: Payload) -> Bytes {
    Envelope::from_relay(payload, UNIX).to_bytes()
}

fn awaiting() -> AwaitingResult {
    agent()
        .handle_challenge(&relay().challenge(), UNIX)
        .unwrap()
        .1
}

/// What the relay makes of an answer at the moment when it asked.
fn judge(message: &[u8]) -> Result<Address, Refusal> {
    let proof = relay().handle_message(message, START, UNIX)?.verify()?;
    Ok(proof.into_address())
}

fn judge_changed(change: impl FnOnce(&mut AuthResponse)) -> Result<Address, Refusal> {
    let mut response = good_response();
    change(&mut response);
    judge(&envelope(Payload::AuthResponse(response)))
}

fn answer_changed(
    change: impl FnOnce(&mut AuthChallenge),
) -> Result<(Bytes, AwaitingResult), AgentError> {
    let mut challenge = good_challenge();
    change(&mut challenge);
    agent().handle_challenge(&envelope(Payload::AuthChallenge(challenge)), UNIX)
}

fn result_of(result: AuthResult) -> Result<Address, AgentError> {
    awaiting().handle_result(&envelope(Payload::AuthResult(result)))
}

#[test]
fn known_keys_join_under_their_known_addresses_with_known_signatures() {
    for (seed, address, signature) in VECTORS {
        let agent = Agent::new(SecretKey::from_seed(hex(seed)), host());
        let (response, agent) = agent.handle_challenge(&relay().challenge(), UNIX).unwrap();
        let Some(Payload::AuthResponse(answer)) =
            Envelope::decode(response.clone()).unwrap().payload
        else {
            panic!()
        };
        assert_eq!(&*answer.signature, hex::<64>(signature));

        let claim = relay().handle_message(&response, START, UNIX).unwrap();
        assert_eq!(claim.public_key().as_bytes()[..], answer.public_key);
        let proof = claim.verify().unwrap();
        assert_eq!(proof.address().as_str(), address);
        assert_eq!(proof.public_key().as_bytes()[..], answer.public_key);

        let joined = agent
            .handle_result(&auth_succeeded(proof.address(), UNIX))
            .unwrap();
        assert_eq!(joined, proof.into_address());
    }
}

#[test]
fn a_challenge_says_what_the_protocol_says() {
    let message = relay().challenge();
    assert_eq!(
        EnvelopeView::parse(&message).unwrap().message_type(),
        Some(MessageType::AuthChallenge)
    );
    assert_eq!(
        Envelope::decode(message).unwrap(),
        Envelope {
            version: 1,
            r#type: 2,
            timestamp: UNIX.0,
            payload: Some(Payload::AuthChallenge(AuthChallenge {
                version: 1,
                nonce: Bytes::copy_from_slice(&nonce()),
                issued_at_ms: UNIX.0,
                expires_at_ms: UNIX.0 + 10_000,
                relay_host: HOST.into(),
            })),
            ..Envelope::default()
        }
    );
}

#[test]
fn the_signed_bytes_are_those_of_the_protocol() {
    let mut expected = b"pinch-auth-v1\0test.relay.example.com\0".to_vec();
    expected.extend(nonce());
    assert_eq!(signed_bytes(HOST, &nonce()), expected);
}

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

fn heartbeat() -> Payload {
    Payload::Heartbeat(Heartbeat::default())
}

fn typed(message_type: MessageType, payload: Option<Payload>) -> Bytes {
    Envelope {
        version: 1,
        r#type: message_type.into(),
        payload,
        ..Envelope::default()
    }
    .to_bytes()
}

#[test]
fn an_answer_is_too_late_when_either_clock_says_so() {
    let response = envelope(Payload::AuthResponse(good_response()));
    let ms = Duration::from_millis(1);
    let cases = [
        (START + (TIMEOUT - ms), UNIX + TIMEOUT, true),
        (START + TIMEOUT, UNIX, false),
        (START, UNIX + (TIMEOUT + ms), false),
        // A wall clock that is set back harms nobody: the other clock still counts.
        (START + (TIMEOUT - ms), UnixMillis(0), true),
        (START + TIMEOUT, UnixMillis(0), false),
    ];
    for (now, unix, is_in_time) in cases {
        let result = relay().handle_message(&response, now, unix);
        assert_eq!(
            result.as_ref().err(),
            (!is_in_time).then_some(&Refusal::Expired),
            "{now:?} {unix:?}"
        );
    }
}

#[test]
fn a_relay_times_out_at_its_deadline_and_not_before() {
    let mut relay = relay();
    let deadline = relay.poll_timeout();
    assert_eq!(deadline, START + TIMEOUT);
    for now in [Time::ZERO, START, Time::from_nanos(deadline.as_nanos() - 1)] {
        relay = relay.handle_timeout(now).unwrap();
        assert_eq!(relay.poll_timeout(), deadline);
    }
    let refusal = relay.handle_timeout(deadline).unwrap_err();
    assert_eq!(refusal, Refusal::TimedOut);
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
            awaiting().handle_result(&result),
            Err(AgentError::Refused {
                reason: "authentication failed".into()
            })
        );
    }
}

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
fn an_agent_whose_clock_is_wrong_joins_all_the_same() {
    for unix in [UnixMillis(0), UnixMillis(i64::MIN), UnixMillis(i64::MAX)] {
        let (response, _) = agent()
            .handle_challenge(&relay().challenge(), unix)
            .unwrap();
        assert!(judge(&response).is_ok());
    }
}

#[test]
fn a_host_in_another_case_is_signed_as_the_relay_writes_it() {
    let shouting = Host::parse("TEST.Relay.Example.COM").unwrap();
    let relay = Relay::new(shouting.clone(), TIMEOUT, nonce(), START, UNIX);
    let (response, agent) = agent().handle_challenge(&relay.challenge(), UNIX).unwrap();
    let proof = relay
        .handle_message(&response, START, UNIX)
        .unwrap()
        .verify()
        .unwrap();
    let joined = agent
        .handle_result(&auth_succeeded(proof.address(), UNIX))
        .unwrap();
    assert_eq!(
        joined,
        Address::from_public_key(&key().public_key(), &shouting)
    );
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
        (AUTHENTICATION_FAILED, false),
        (KEY_NOT_REGISTERED, true),
        (ADDRESS_ALREADY_CONNECTED, false),
        ("relay is full", false),
        ("", false),
    ] {
        let error = awaiting()
            .handle_result(&auth_failed(reason, UNIX))
            .unwrap_err();
        assert_eq!(
            error,
            AgentError::Refused {
                reason: reason.into()
            }
        );
        assert_eq!(error.is_permanent(), is_permanent, "{reason}");
    }
    let error = awaiting().handle_result(&relay().challenge()).unwrap_err();
    assert_eq!(
        error,
        AgentError::WrongType {
            expected: MessageType::AuthResult,
            type_number: 2
        }
    );
    let error = awaiting()
        .handle_result(&typed(MessageType::AuthResult, None))
        .unwrap_err();
    assert_eq!(
        error,
        AgentError::MalformedPayload {
            expected: MessageType::AuthResult
        }
    );
}

#[test]
fn the_error_texts_are_those_that_clients_match_on() {
    assert_eq!(AUTHENTICATION_FAILED, "authentication failed");
    assert_eq!(KEY_NOT_REGISTERED, "key not registered");
    assert_eq!(ADDRESS_ALREADY_CONNECTED, "address already connected");
}

#[test]
fn a_claim_can_be_verified_on_another_thread() {
    let response = envelope(Payload::AuthResponse(good_response()));
    let claim = relay().handle_message(&response, START, UNIX).unwrap();
    let proof = std::thread::spawn(move || claim.verify())
        .join()
        .unwrap()
        .unwrap();
    assert_eq!(proof.public_key(), &key().public_key());
}

proptest! {
    #[test]
    fn no_bytes_make_either_end_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(judge(&bytes).is_err());
        prop_assert!(agent().handle_challenge(&bytes, UNIX).is_err());
        prop_assert!(awaiting().handle_result(&bytes).is_err());
    }

    #[test]
    fn no_damage_to_an_answer_goes_unnoticed(at in any::<prop::sample::Index>(), bit in 0..8) {
        let good = envelope(Payload::AuthResponse(good_response()));
        let mut bytes = good.to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        // The envelope's own fields are not signed; what is proven is the key, and that must hold.
        let own = Address::from_public_key(&key().public_key(), &host());
        prop_assert!(judge(&bytes).map_or(true, |address| address == own));
    }

    #[test]
    fn any_key_host_and_nonce_agree(seed: [u8; 32], nonce: [u8; 32], host in "[a-zA-Z0-9.:-]{1,199}") {
        let host = Host::parse(&host).unwrap();
        let relay = Relay::new(host.clone(), TIMEOUT, nonce, START, UNIX);
        let agent = Agent::new(SecretKey::from_seed(seed), host);
        let (response, agent) = agent.handle_challenge(&relay.challenge(), UNIX).unwrap();
        let proof = relay.handle_message(&response, START, UNIX).unwrap().verify().unwrap();
        let joined = agent.handle_result(&auth_succeeded(proof.address(), UNIX)).unwrap();
        prop_assert_eq!(&joined, proof.address());
    }
}
