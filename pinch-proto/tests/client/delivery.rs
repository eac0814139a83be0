//! What becomes of envelopes: sent, confirmed, sent again, refused, given back.

use bytes::Bytes;
use pinch_proto::Time;
use pinch_proto::client::{Disconnect, Event, Input, Output, Unsendable, WakeupReason};
use pinch_proto::handshake::Relay;
use pinch_proto::wire::{Envelope, MessageType, Payload, QueueFull};

use crate::rig::*;

#[test]
fn envelopes_leave_in_batches_with_one_ping_on_its_way() {
    let mut rig = Rig::joined(config());
    assert_eq!(rig.writable(PLENTY), []);
    assert_eq!(rig.submit(envelope(1)), Ok(vec![Output::Wake]));
    assert_eq!(rig.submit(envelope(2)), Ok(vec![]), "one wake is enough");
    assert_eq!(rig.submit(envelope(3)), Ok(vec![]));
    let room = envelope(1).len() + 1;
    assert_eq!(rig.writable(room), [message(1), message(2), ping(1)]);
    assert_eq!(
        rig.writable(1),
        [message(3)],
        "the ping is still on its way"
    );
    assert_eq!(rig.writable(PLENTY), []);

    assert_eq!((rig.client.submitted(), rig.client.confirmed()), (3, 0));
    assert_eq!(
        rig.pong(1),
        [Output::Confirmed { total: 2 }, Output::Wake],
        "3 needs a ping of its own"
    );
    assert!(!rig.client.is_flushed());
    assert_eq!(rig.writable(PLENTY), [ping(2)]);
    assert_eq!(rig.writable(PLENTY), []);
    assert_eq!(rig.pong(2), [Output::Confirmed { total: 3 }]);
    assert!(rig.client.is_flushed());
    assert_eq!(rig.pong(2), [], "a second pong confirms nothing");
}

#[test]
fn a_writable_without_room_hands_out_nothing_and_does_not_send_the_driver_to_sleep() {
    let mut rig = Rig::joined(config());
    assert_eq!(rig.submit(envelope(1)), Ok(vec![Output::Wake]));
    assert_eq!(rig.writable(0), []);
    assert_eq!(rig.submit(envelope(2)), Ok(vec![]));
    assert_eq!(rig.writable(PLENTY), [message(1), message(2), ping(1)]);

    let mut rig = Rig::joined(config());
    assert_eq!(rig.wait_for(WakeupReason::Ping), [Output::Wake]);
    assert_eq!(rig.writable(0), [], "not even a ping");
    assert_eq!(rig.writable(1), [ping(1)]);
}

#[test]
fn what_is_unconfirmed_when_the_link_ends_is_sent_again_in_order() {
    let mut rig = Rig::joined(config());
    for id in 1..=3 {
        rig.submit(envelope(id)).unwrap();
    }
    assert_eq!(rig.writable(1), [message(1), ping(1)]);
    assert_eq!(rig.writable(1), [message(2)]);
    assert_eq!(rig.pong(1), [Output::Confirmed { total: 1 }]);
    assert_eq!(rig.writable(1), [message(3), ping(2)]);
    let outputs = rig.disconnected("reset");
    rig.submit(envelope(4)).unwrap();
    assert_eq!(rig.redial(&outputs).0, lost("reset"));
    rig.join();
    assert_eq!(rig.pong(2), [], "a pong of the old link confirms nothing");
    assert_eq!(
        rig.writable(PLENTY),
        [message(2), message(3), message(4), ping(3)]
    );
    assert_eq!(rig.pong(3), [Output::Confirmed { total: 4 }]);
}

#[test]
fn what_comes_from_the_relay_is_handed_on_verbatim() {
    let mut rig = Rig::joined(config());
    let refusal = Payload::QueueFull(QueueFull {
        recipient_address: "pinch:bob@x".into(),
        reason: "full".into(),
    });
    let unknown = Envelope {
        r#type: 99,
        ..Envelope::default()
    }
    .to_bytes();
    for message in [
        envelope(1),
        Envelope::from_relay(refusal, UNIX).to_bytes(),
        unknown,
    ] {
        assert_eq!(
            rig.input(Input::Received(message.clone())),
            [Output::Event(Event::Received(message))]
        );
    }
    let outputs = rig.input(Input::Received(Bytes::from_static(&[0xff])));
    assert_eq!(outputs[0], Output::Hangup);
    assert!(matches!(rig.redial(&outputs).0, Disconnect::Malformed(_)));

    rig.join();
    let challenge = Relay::new(host(), secs(10), [3; 32], rig.now, UNIX).challenge();
    let gave_up = Event::GaveUp {
        why: Disconnect::KeyNeeded,
        unsent: vec![],
    };
    assert_eq!(
        rig.input(Input::Received(challenge)),
        [Output::Hangup, Output::Event(gave_up)]
    );
}

#[test]
fn an_envelope_that_cannot_be_sent_comes_back_with_the_reason() {
    let mut rig = Rig::new(config().outbox_count(2).envelope_bytes(200), name());
    let stranger = envelope_from("pinch:mallory@relay.example.com", 1);
    let from_alice = |r#type: i32, id: usize| {
        let message_id = vec![0; id].into();
        Envelope {
            from_address: ALICE.into(),
            r#type,
            message_id,
            ..Envelope::default()
        }
        .to_bytes()
    };
    let too_large = from_alice(4, 300);
    let len = too_large.len();
    for (bytes, reason) in [
        (stranger, Unsendable::NotYourAddress),
        (Bytes::new(), Unsendable::NotYourAddress),
        (too_large, Unsendable::TooLarge { len, limit: 200 }),
        (
            from_alice(2, 0),
            Unsendable::RelayOnly(MessageType::AuthChallenge),
        ),
        (
            from_alice(15, 0),
            Unsendable::RelayOnly(MessageType::RateLimited),
        ),
    ] {
        let error = rig.client.submit(bytes.clone(), Time::ZERO).unwrap_err();
        assert_eq!((error.envelope, error.reason), (bytes, reason));
    }
    assert!(matches!(
        rig.submit(Bytes::from_static(&[0xff])),
        Err(Unsendable::Malformed(_))
    ));

    rig.submit(envelope(1)).unwrap();
    rig.submit(envelope(2)).unwrap();
    assert!(!rig.client.has_room_for(1));
    assert_eq!(rig.submit(envelope(3)), Err(Unsendable::Full));
    rig.timeout();
    rig.join();
    rig.writable(PLENTY);
    assert_eq!(
        rig.submit(envelope(3)),
        Err(Unsendable::Full),
        "handed out is not confirmed"
    );
    assert_eq!(rig.pong(1), [Output::Confirmed { total: 2 }]);
    assert!(rig.client.has_room_for(1));
    rig.submit(envelope(3)).unwrap();
    rig.input(Input::Close);
    assert_eq!(rig.submit(envelope(4)), Err(Unsendable::Closed));
}

#[test]
fn the_outbox_is_limited_in_bytes() {
    let len = envelope(1).len();
    let mut rig = Rig::new(config().envelope_bytes(len).outbox_bytes(2 * len), name());
    rig.submit(envelope(1)).unwrap();
    assert!(rig.client.has_room_for(len) && !rig.client.has_room_for(len + 1));
    rig.submit(envelope(2)).unwrap();
    assert_eq!(rig.submit(envelope(3)), Err(Unsendable::Full));
    rig.timeout();
    rig.join();
    rig.writable(len);
    assert_eq!(rig.pong(1), [Output::Confirmed { total: 1 }]);
    assert!(rig.client.has_room_for(len) && !rig.client.has_room_for(len + 1));
}
