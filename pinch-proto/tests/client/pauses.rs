//! A process that was paused: whatever a timeout of the client is for, it is not over before the driver
//! has read what came meanwhile.

use core::time::Duration;

use pinch_proto::Time;
use pinch_proto::client::{Input, WakeupReason};

use crate::rig::*;

const NANO: Duration = Duration::from_nanos(1);

/// Times for which a process stands still.
const PAUSES: [Duration; 6] = [
    Duration::from_millis(1),
    Duration::from_millis(249),
    Duration::from_millis(600),
    secs(8),
    secs(40),
    secs(86_400),
];

/// A client for which the timeout with this name has just begun to run.
const TIMEOUTS: [(WakeupReason, fn() -> Rig); 6] = [
    (WakeupReason::DialTimeout, || {
        let mut rig = Rig::new(config(), key());
        rig.timeout();
        rig
    }),
    (WakeupReason::Join, || {
        let mut rig = Rig::new(config(), key());
        rig.timeout();
        rig.input(Input::Connected);
        rig
    }),
    (WakeupReason::Stall, || {
        let mut rig = Rig::joined(config().heartbeat_interval(secs(1_000_000)));
        rig.submit(envelope(1)).unwrap();
        rig.writable(PLENTY);
        rig
    }),
    (WakeupReason::Pong, || {
        let mut rig = Rig::joined(config());
        rig.wait_for(WakeupReason::Ping);
        rig.writable(PLENTY);
        rig.writable(PLENTY);
        rig
    }),
    (WakeupReason::Flush, || {
        let mut rig = Rig::joined(config());
        rig.submit(envelope(1)).unwrap();
        rig.writable(PLENTY);
        rig.writable(PLENTY);
        rig.input(Input::Close);
        rig
    }),
    (WakeupReason::Close, || {
        let mut rig = Rig::joined(config());
        rig.input(Input::Close);
        rig.writable(PLENTY);
        rig.writable(PLENTY);
        rig
    }),
];

/// Calls the client whenever it wants to be, up to `until`: nothing comes of it.
fn wait_in_vain(rig: &mut Rig, until: Time) {
    while let Some(wakeup) = rig.wakeup.filter(|wakeup| wakeup.at < until) {
        rig.now = wakeup.at;
        assert_eq!(rig.timeout(), [], "{wakeup:?}");
    }
    rig.now = until;
}

#[test]
fn a_pause_of_any_length_at_any_moment_ends_no_timeout() {
    for (reason, begin) in TIMEOUTS {
        let mut undisturbed = begin();
        let begun = undisturbed.now;
        undisturbed.wait_for(reason);
        let timeout = undisturbed.now.since(begun) - GRACE;
        for pause in PAUSES {
            for before in [Duration::ZERO, timeout / 2, timeout - NANO] {
                let mut rig = begin();
                wait_in_vain(&mut rig, begun + before);
                rig.timeout();
                // The timer is first, and what came lies in the socket: the runtime has not heard of it.
                let resumed = rig.now + pause;
                rig.now = resumed;
                assert_eq!(rig.timeout(), [], "{reason:?}, {pause:?} after {before:?}");
                wait_in_vain(&mut rig, resumed + (STEP - NANO));
            }
        }
    }
}

#[test]
fn a_client_that_is_always_late_ends_each_timeout_after_a_bounded_number_of_looks() {
    for (reason, begin) in TIMEOUTS {
        let mut undisturbed = begin();
        let begun = undisturbed.now;
        undisturbed.wait_for(reason);
        let looks = undisturbed.now.since(begun).as_millis() / STEP.as_millis();
        for late in [Duration::from_millis(250), secs(3600)] {
            let mut rig = begin();
            let ended = (0..looks).find(|_| {
                rig.now = rig.wakeup.unwrap().at + late;
                let mut outputs = rig.timeout();
                while rig.wakeup.is_some_and(|wakeup| wakeup.at <= rig.now) {
                    outputs.extend(rig.timeout());
                }
                !outputs.is_empty()
            });
            assert_eq!(ended, Some(looks - 1), "{reason:?}");
        }
    }
}
