//! Both ends against each other, with known keys and whatever comes.

use core::time::Duration;

use crate::sides::*;
use bytes::Bytes;
use pinch_proto::handshake::{
    ADDRESS_ALREADY_CONNECTED, AUTHENTICATION_FAILED, Agent, KEY_NOT_REGISTERED, Relay,
    auth_succeeded, signed_bytes,
};
use pinch_proto::wire::{AuthChallenge, Envelope, MessageType, Payload};
use pinch_proto::{Address, EnvelopeView, Host, SecretKey, UnixMillis};
use proptest::prelude::*;
use prost::Message as _;

#[test]
fn known_keys_join_under_their_known_addresses_with_known_signatures() {
    for (seed, address, signature) in VECTORS {
        let agent = Agent::new(SecretKey::from_seed(hex(seed)), host());
        let (response, agent) = agent.handle_challenge(&relay().challenge(), UNIX).unwrap();
        let envelope = Envelope::decode(response.clone()).unwrap();
        assert_eq!((envelope.version, envelope.timestamp), (1, UNIX.0));
        let Some(Payload::AuthResponse(answer)) = envelope.payload else {
            panic!()
        };
        assert_eq!(&*answer.signature, hex::<64>(signature));

        let claim = relay().handle_message(&response, START).unwrap();
        assert_eq!(claim.public_key().as_bytes()[..], answer.public_key);
        let proof = claim.verify().unwrap();
        assert_eq!(proof.address().as_str(), address);
        assert_eq!(proof.public_key().as_bytes()[..], answer.public_key);

        let joined = agent
            .handle_result(&auth_succeeded(proof.address(), UNIX), Duration::ZERO)
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
        .handle_message(&response, START)
        .unwrap()
        .verify()
        .unwrap();
    let joined = agent
        .handle_result(&auth_succeeded(proof.address(), UNIX), Duration::ZERO)
        .unwrap();
    assert_eq!(
        joined,
        Address::from_public_key(&key().public_key(), &shouting)
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
    let claim = relay().handle_message(&response, START).unwrap();
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
        prop_assert!(awaiting().handle_result(&bytes, Duration::ZERO).is_err());
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
        let proof = relay.handle_message(&response, START).unwrap().verify().unwrap();
        let joined = agent.handle_result(&auth_succeeded(proof.address(), UNIX), Duration::ZERO).unwrap();
        prop_assert_eq!(&joined, proof.address());
    }
}
