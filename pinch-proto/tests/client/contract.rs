//! What holds for every turn: outputs that stay, time that stands still, settings that fit.

use core::time::Duration;

use pinch_proto::Time;
use pinch_proto::client::{
    Client, Config, ConfigError, Duplicates, Identity, Input, Wakeup, WakeupReason,
};

use crate::rig::*;

#[test]
fn outputs_that_are_left_in_a_turn_stay_and_are_due_at_once() {
    let mut rig = Rig::joined(config());
    rig.submit(envelope(1)).unwrap();
    let mut turn = rig
        .client
        .handle_input(Input::Writable { bytes: PLENTY }, rig.now);
    assert_eq!(turn.poll_output(), Some(message(1)));
    assert_eq!(
        turn.finish(),
        Some(Wakeup {
            at: rig.now,
            reason: WakeupReason::Backlog
        })
    );
    assert_eq!(rig.timeout(), [ping(1)]);
}

#[test]
fn time_that_goes_backwards_stands_still() {
    let mut rig = Rig::joined(config());
    rig.now = Time::ZERO + secs(20);
    rig.writable(PLENTY);
    rig.now = Time::ZERO;
    rig.submit(envelope(1)).unwrap();
    rig.writable(PLENTY);
    let step = Time::ZERO + secs(20) + STEP;
    assert_eq!(rig.due(), (step, WakeupReason::Stall));
    rig.writable(PLENTY);
    assert_eq!(rig.due(), (Time::ZERO + secs(45), WakeupReason::Ping));
}

#[test]
fn settings_that_cannot_work_are_refused() {
    assert!(config().build().is_ok());
    assert!(config().outbox_bytes(65_536).build().is_ok());
    assert!(config().backoff(secs(1), secs(1)).build().is_ok());
    let zero = |setting| Err(ConfigError::Zero { setting });
    let cases = [
        (
            config().heartbeat_interval(Duration::ZERO),
            zero("heartbeat interval"),
        ),
        (config().max_tries(Some(0)), zero("number of tries")),
        (config().backoff(Duration::ZERO, secs(1)), zero("backoff")),
        (
            config().duplicates(Duplicates::Drop { remembered: 0 }),
            zero("number of remembered envelopes"),
        ),
        (
            config().backoff(secs(2), secs(1)),
            Err(ConfigError::BackoffAboveCap {
                base: secs(2),
                cap: secs(1),
            }),
        ),
        (
            config().outbox_bytes(65_535),
            Err(ConfigError::OutboxTooSmall {
                outbox_bytes: 65_535,
                envelope_bytes: 65_536,
            }),
        ),
    ];
    for (config, expected) in cases {
        assert_eq!(config.build(), expected);
    }
}

#[test]
fn a_setting_is_a_sentence_of_its_own() {
    assert_eq!(Config::default().build(), Config::new().build());
    // Each of them is 0 here, and named.
    let cases = [
        (config().dial_timeout(Duration::ZERO), "dial timeout"),
        (config().join_timeout(Duration::ZERO), "join timeout"),
        (config().pong_timeout(Duration::ZERO), "pong timeout"),
        (config().stall_timeout(Duration::ZERO), "stall timeout"),
        (config().close_timeout(Duration::ZERO), "close timeout"),
        (config().envelope_bytes(0), "envelope limit"),
        (config().outbox_count(0), "outbox count"),
    ];
    for (config, setting) in cases {
        assert_eq!(config.build(), Err(ConfigError::Zero { setting }));
    }
}

#[test]
fn a_client_says_who_it_is_and_how_it_is_set() {
    let config = config().envelope_bytes(1000).build().unwrap();
    let rig = Rig::new(config.clone(), name());
    assert!(matches!(rig.client.identity(), Identity::Name(address) if address.as_str() == ALICE));
    assert_eq!(rig.client.config(), &config);
    assert_eq!(rig.client.config().max_envelope_bytes(), 1000);
}

#[test]
fn a_client_can_move_to_another_thread() {
    fn assert_send_sync<T: Send + Sync>() {}
    assert_send_sync::<Client>();
}
