//! The way from a dial to a join, and what can go wrong on it.

use pinch_proto::client::{Disconnect, Event, Input, Output, WakeupReason};
use pinch_proto::handshake::{
    ADDRESS_ALREADY_CONNECTED, AUTHENTICATION_FAILED, AgentError, KEY_NOT_REGISTERED, Relay,
    auth_failed, auth_succeeded,
};
use pinch_proto::wire::Envelope;
use pinch_proto::{Frame, Host, Time};
use prost::Message as _;

use crate::rig::*;

#[test]
fn a_key_joins_by_answering_the_challenge() {
    let mut rig = Rig::new(config(), key());
    let address = rig.client.address().clone();
    let envelope = envelope_from(address.as_str(), 1);
    rig.submit(envelope.clone()).unwrap();
    assert_eq!(rig.timeout(), [Output::Dial]);
    assert_eq!(rig.input(Input::Connected), []);
    assert_eq!(
        rig.writable(PLENTY),
        [],
        "nothing is said before the relay asks"
    );

    let relay = Relay::new(host(), secs(10), [3; 32], rig.now, UNIX);
    assert_eq!(
        rig.input(Input::Received(relay.challenge())),
        [Output::Wake]
    );
    let outputs = rig.writable(PLENTY);
    let [Output::Transmit(Frame::Message(response))] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    let proof = relay
        .handle_message(response, rig.now)
        .unwrap()
        .verify()
        .unwrap();
    assert_eq!(proof.address(), &address);
    assert_eq!(
        rig.writable(PLENTY),
        [],
        "envelopes wait for the end of the handshake"
    );

    let joined = auth_succeeded(&address, UNIX);
    assert_eq!(
        rig.input(Input::Received(joined)),
        [Output::Event(Event::Joined { address }), Output::Wake]
    );
    assert_eq!(
        rig.writable(PLENTY),
        [Output::Transmit(Frame::Message(envelope)), ping(1)]
    );
}

#[test]
fn the_answer_is_dated_by_the_wall_clock() {
    let mut rig = Rig::new(config(), key());
    rig.timeout();
    rig.input(Input::Connected);
    rig.now = rig.now + core::time::Duration::from_millis(1500);
    let relay = Relay::new(host(), secs(10), [3; 32], rig.now, UNIX);
    rig.input(Input::Received(relay.challenge()));
    let outputs = rig.writable(PLENTY);
    let [Output::Transmit(Frame::Message(response))] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    let response = Envelope::decode(response.clone()).unwrap();
    assert_eq!(response.timestamp, UNIX.0 + 1500);
}

#[test]
fn the_case_of_the_relays_host_does_not_count() {
    let mut rig = Rig::new(config(), key());
    rig.timeout();
    rig.input(Input::Connected);
    let relay = Relay::new(
        Host::parse("Relay.Example.COM").unwrap(),
        secs(10),
        [3; 32],
        rig.now,
        UNIX,
    );
    rig.input(Input::Received(relay.challenge()));
    let address = rig.client.address().clone();
    rig.input(Input::Received(auth_succeeded(&address, UNIX)));
    let shouted = address.as_str().replace(HOST, "Relay.Example.COM");
    for (number, from) in [address.as_str(), &shouted].into_iter().enumerate() {
        assert!(rig.submit(envelope_from(from, number as u64)).is_ok());
    }
    let shouted_name = address.as_str().to_ascii_uppercase();
    assert!(rig.submit(envelope_from(&shouted_name, 3)).is_err());
}

#[test]
fn a_failed_handshake_is_tried_again_unless_that_is_pointless() {
    let other = Host::parse("other.example.com").unwrap();
    let challenge =
        |host: &Host| Relay::new(host.clone(), secs(10), [3; 32], Time::ZERO, UNIX).challenge();
    let refused = |reason: &str| AgentError::Refused {
        reason: reason.into(),
    };
    let cases = [
        (
            vec![challenge(&other)],
            AgentError::WrongHost {
                expected: host(),
                found: other.to_string(),
            },
            false,
        ),
        (
            vec![challenge(&host()), auth_failed(AUTHENTICATION_FAILED, UNIX)],
            refused(AUTHENTICATION_FAILED),
            false,
        ),
        (
            vec![challenge(&host()), auth_failed(KEY_NOT_REGISTERED, UNIX)],
            refused(KEY_NOT_REGISTERED),
            false,
        ),
        (
            vec![
                challenge(&host()),
                auth_failed(ADDRESS_ALREADY_CONNECTED, UNIX),
            ],
            refused(ADDRESS_ALREADY_CONNECTED),
            true,
        ),
    ];
    for (messages, error, may_retry) in cases {
        let mut rig = Rig::new(config(), key());
        rig.timeout();
        let mut outputs = rig.input(Input::Connected);
        for message in messages {
            outputs = rig.input(Input::Received(message));
        }
        assert_eq!(outputs[0], Output::Hangup);
        let why = Disconnect::Join(error);
        if may_retry {
            assert_eq!(rig.redial(&outputs).0, why);
        } else {
            assert_eq!(
                outputs[1..],
                [Output::Event(Event::GaveUp {
                    why,
                    unsent: vec![]
                })]
            );
            assert_eq!(rig.wakeup, None);
        }
    }
}

#[test]
fn a_failed_authentication_is_tried_again_if_the_answer_may_have_been_late() {
    // A challenge is valid for 10 s here, which may have begun with the dial.
    for (dialling, joining, is_final) in [(1, 8, true), (1, 9, false), (9, 1, false)] {
        let mut rig = Rig::new(config().join_timeout(secs(60)), key());
        rig.timeout();
        rig.now = rig.now + secs(dialling);
        rig.input(Input::Connected);
        let challenge = Relay::new(host(), secs(10), [3; 32], rig.now, UNIX).challenge();
        rig.input(Input::Received(challenge));
        rig.now = rig.now + secs(joining);
        let refusal = auth_failed(AUTHENTICATION_FAILED, UNIX);
        let outputs = rig.input(Input::Received(refusal));
        assert_eq!(rig.client.is_ended(), is_final, "{outputs:?}");
    }
}

#[test]
fn dialling_and_joining_have_deadlines() {
    let mut rig = Rig::new(config().dial_timeout(secs(3)).join_timeout(secs(4)), key());
    rig.timeout();
    let outputs = rig.wait_for(WakeupReason::DialTimeout);
    assert_eq!(
        (rig.now, &outputs[0]),
        (Time::ZERO + secs(3) + GRACE, &Output::Hangup)
    );
    assert_eq!(rig.redial(&outputs).0, Disconnect::DialTimeout);
    let connected_at = rig.now;
    rig.input(Input::Connected);
    let outputs = rig.wait_for(WakeupReason::Join);
    assert_eq!(
        (rig.now, &outputs[0]),
        (connected_at + secs(4) + GRACE, &Output::Hangup)
    );
    assert_eq!(rig.redial(&outputs).0, Disconnect::JoinTimeout);
}
