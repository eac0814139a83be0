//! How a client ends, and that it does.

use bytes::Bytes;
use pinch_proto::client::{Event, Input, Output, WakeupReason};
use pinch_proto::{Close, CloseCode, Frame, Time};

use crate::rig::*;

#[test]
fn closing_waits_for_confirmation_then_says_goodbye() {
    let mut rig = Rig::joined(config());
    rig.submit(envelope(1)).unwrap();
    assert_eq!(rig.input(Input::Close), []);
    assert_eq!(rig.writable(PLENTY), [message(1), ping(1)]);
    assert_eq!(rig.writable(PLENTY), []);
    assert_eq!(rig.pong(1), [Output::Confirmed { total: 1 }, Output::Wake]);
    let goodbye = Frame::Close(Close::new(CloseCode::NORMAL, ""));
    assert_eq!(rig.writable(PLENTY), [Output::Transmit(goodbye)]);
    assert_eq!(rig.writable(PLENTY), []);
    let late = envelope(9);
    assert_eq!(
        rig.input(Input::Received(late.clone())),
        [Output::Event(Event::Received(late))]
    );
    assert_eq!(rig.input(Input::Close), [], "once is enough");
    let closed = Output::Event(Event::Closed { unsent: vec![] });
    assert_eq!(
        rig.input(Input::PeerClosed(Close::new(CloseCode::NORMAL, ""))),
        [Output::Hangup, closed]
    );
    assert_eq!(rig.wakeup, None);
}

#[test]
fn closing_does_not_wait_for_ever() {
    // For the confirmation, nor for the relay's close frame; a late pong still counts.
    for (pong, unsent) in [(None, vec![envelope(1)]), (Some(1), vec![])] {
        let mut rig = Rig::joined(config());
        rig.submit(envelope(1)).unwrap();
        rig.writable(PLENTY);
        rig.writable(PLENTY);
        rig.input(Input::Close);
        assert_eq!(rig.wait_for(WakeupReason::Flush), [Output::Wake]);
        assert!(matches!(
            rig.writable(PLENTY)[..],
            [Output::Transmit(Frame::Close(_))]
        ));
        if let Some(number) = pong {
            assert_eq!(rig.pong(number), [Output::Confirmed { total: 1 }]);
        }
        let closed = Output::Event(Event::Closed { unsent });
        assert_eq!(rig.wait_for(WakeupReason::Close), [Output::Hangup, closed]);
        assert_eq!(rig.now, Time::ZERO + secs(10) + 2 * GRACE);
    }
}

#[test]
fn closing_without_a_join_says_nothing_to_the_relay() {
    type Prepare = fn(&mut Rig);
    let closed = |unsent: Vec<Bytes>| Output::Event(Event::Closed { unsent });
    let cases: [(Prepare, &[Output]); 3] = [
        (|_| {}, &[]),
        (|rig| drop(rig.timeout()), &[Output::Hangup]),
        (
            |rig| drop((rig.timeout(), rig.input(Input::Connected))),
            &[Output::Hangup],
        ),
    ];
    for (prepare, hangup) in cases {
        let mut rig = Rig::new(config(), key());
        prepare(&mut rig);
        assert_eq!(
            rig.input(Input::Close),
            [hangup, &[closed(vec![])]].concat()
        );

        // With something to send, it goes on trying for a while.
        let mut rig = Rig::new(config(), key());
        let envelope = envelope_from(rig.client.address().as_str(), 1);
        rig.submit(envelope.clone()).unwrap();
        rig.timeout();
        rig.input(Input::Close);
        rig.input(Input::Connected);
        assert_eq!(
            rig.wait_for(WakeupReason::Flush),
            [Output::Hangup, closed(vec![envelope])]
        );
        assert_eq!(rig.now, Time::ZERO + secs(5) + GRACE);
    }
}

#[test]
fn a_link_that_ends_while_closing_is_the_end() {
    let mut rig = Rig::joined(config());
    assert_eq!(rig.input(Input::Close), [Output::Wake]);
    assert_eq!(
        rig.disconnected("reset"),
        [Output::Event(Event::Closed { unsent: vec![] })]
    );
}

#[test]
fn after_the_end_nothing_happens() {
    let mut rig = Rig::joined(config());
    rig.input(Input::Close);
    rig.disconnected("reset");
    for input in [
        Input::Connected,
        Input::Received(envelope(1)),
        Input::Writable { bytes: PLENTY },
        Input::Pong {
            payload: payload(1),
        },
        Input::PeerClosed(Close::new(CloseCode::REPLACED, "")),
        Input::Disconnected {
            why: "again".into(),
        },
        Input::Close,
    ] {
        rig.now = rig.now + secs(100);
        assert_eq!(rig.input(input.clone()), [], "{input:?}");
        assert_eq!(rig.wakeup, None);
        assert_eq!(rig.timeout(), []);
    }
}

#[test]
fn how_long_a_goodbye_may_take_is_a_setting() {
    let mut rig = Rig::joined(config().close_timeout(secs(2)));
    rig.input(Input::Close);
    rig.writable(PLENTY);
    let closed = Output::Event(Event::Closed { unsent: vec![] });
    assert_eq!(rig.wait_for(WakeupReason::Close), [Output::Hangup, closed]);
    assert_eq!(rig.now, Time::ZERO + secs(2) + GRACE);
}
