//! Heartbeats, markers, and sockets that take nothing.

use bytes::Bytes;
use pinch_proto::Time;
use pinch_proto::client::{Disconnect, Input, Output, WakeupReason};

use crate::rig::*;

#[test]
fn a_silent_relay_is_given_up_after_interval_and_timeout() {
    let mut rig = Rig::joined(config());
    assert_eq!(rig.due(), (Time::ZERO + secs(25), WakeupReason::Ping));
    assert_eq!(rig.wait_for(WakeupReason::Ping), [Output::Wake]);
    rig.now = rig.now + secs(2);
    assert_eq!(rig.writable(PLENTY), [ping(1)]);
    assert_eq!(
        rig.due().1,
        WakeupReason::Stall,
        "the socket has not taken the ping: no deadline yet"
    );
    rig.now = rig.now + secs(2);
    assert_eq!(rig.writable(PLENTY), []);
    assert_eq!(rig.due(), (rig.now + STEP, WakeupReason::Pong));
    let outputs = rig.wait_for(WakeupReason::Pong);
    assert_eq!(rig.now, Time::ZERO + secs(25 + 2 + 2 + 7) + GRACE);
    assert_eq!(outputs[0], Output::Hangup);
    assert_eq!(rig.redial(&outputs).0, Disconnect::HeartbeatTimeout);
}

#[test]
fn any_data_and_any_pong_is_a_sign_of_life() {
    for life in [
        Input::Received(envelope(1)),
        Input::Pong {
            payload: Bytes::new(),
        },
    ] {
        let mut rig = Rig::joined(config());
        rig.wait_for(WakeupReason::Ping);
        assert_eq!(rig.writable(PLENTY), [ping(1)]);
        rig.writable(PLENTY);
        assert_eq!(rig.due().1, WakeupReason::Pong);
        rig.input(life);
        assert_eq!(rig.due(), (Time::ZERO + secs(50), WakeupReason::Ping));
        // The ping's own pong is still missing; its absence counts again after the next interval.
        assert_eq!(rig.wait_for(WakeupReason::Ping), []);
        assert_eq!(
            rig.due(),
            (Time::ZERO + secs(50) + STEP, WakeupReason::Pong)
        );
        assert_eq!(rig.pong(1), []);
        assert_eq!(rig.due(), (Time::ZERO + secs(75), WakeupReason::Ping));
    }
}

#[test]
fn a_marker_has_no_deadline_before_the_next_heartbeat() {
    let mut rig = Rig::joined(config());
    rig.now = rig.now + secs(10);
    rig.submit(envelope(1)).unwrap();
    assert_eq!(rig.writable(PLENTY), [message(1), ping(1)]);
    rig.writable(PLENTY);
    assert_eq!(
        rig.due(),
        (Time::ZERO + secs(35), WakeupReason::Ping),
        "it counts as the heartbeat"
    );
    assert_eq!(rig.wait_for(WakeupReason::Ping), []);
    rig.wait_for(WakeupReason::Pong);
    assert_eq!(rig.now, Time::ZERO + secs(42) + GRACE);
}

#[test]
fn a_marker_that_the_socket_takes_late_is_the_heartbeat_then() {
    let mut rig = Rig::joined(config().heartbeat_interval(secs(10)));
    rig.submit(envelope(1)).unwrap();
    assert_eq!(rig.writable(PLENTY), [message(1), ping(1)]);
    rig.now = Time::ZERO + secs(10);
    assert_eq!(rig.timeout(), []);
    assert_eq!(
        rig.due().1,
        WakeupReason::Stall,
        "no deadline while the socket has not taken it"
    );
    rig.now = rig.now + secs(1);
    assert_eq!(rig.writable(PLENTY), []);
    rig.wait_for(WakeupReason::Pong);
    assert_eq!(rig.now, Time::ZERO + secs(11 + 7) + GRACE);
}

#[test]
fn a_socket_that_takes_nothing_is_given_up() {
    let mut rig = Rig::joined(config().heartbeat_interval(secs(1000)));
    rig.submit(envelope(1)).unwrap();
    assert_eq!(
        rig.due(),
        (Time::ZERO + STEP, WakeupReason::Stall),
        "a wake wants an answer too"
    );
    rig.now = rig.now + secs(5);
    rig.writable(PLENTY);
    let outputs = rig.wait_for(WakeupReason::Stall);
    assert_eq!(rig.now, Time::ZERO + secs(5 + 30) + GRACE);
    assert_eq!(outputs[0], Output::Hangup);
    assert_eq!(rig.redial(&outputs).0, Disconnect::Stalled);
}

#[test]
fn the_times_to_wait_are_settings() {
    let mut rig = Rig::joined(config().heartbeat_interval(secs(60)).pong_timeout(secs(3)));
    assert_eq!(rig.due(), (Time::ZERO + secs(60), WakeupReason::Ping));
    rig.wait_for(WakeupReason::Ping);
    rig.writable(PLENTY);
    rig.writable(PLENTY);
    rig.wait_for(WakeupReason::Pong);
    assert_eq!(rig.now, Time::ZERO + secs(63) + GRACE);

    let mut rig = Rig::joined(config().stall_timeout(secs(4)));
    rig.submit(envelope(1)).unwrap();
    rig.writable(PLENTY);
    rig.wait_for(WakeupReason::Stall);
    assert_eq!(rig.now, Time::ZERO + secs(4) + GRACE);
}
