//! Small values: how they are measured, cut, and shown in a log.

mod support;

use core::time::Duration;

use pinch_proto::hub::{ConnId, HubStats, Input};
use pinch_proto::{Close, CloseCode, Frame, Time};

use support::World;

#[test]
fn a_reason_that_does_not_fit_a_close_frame_is_cut_between_characters() {
    let close = |reason: String| Close::new(CloseCode::POLICY, reason).reason;
    assert_eq!(close("x".repeat(123)), "x".repeat(123));
    assert_eq!(close("x".repeat(124)), "x".repeat(123));
    assert_eq!(close("é".repeat(62)), "é".repeat(61));
    assert_eq!(close(format!("{}𝄞", "x".repeat(120))), "x".repeat(120));
}

#[test]
fn a_close_is_shown_with_its_reason_if_it_has_one() {
    assert_eq!(Close::new(CloseCode::NORMAL, "").to_string(), "1000");
    let replaced = Close::new(CloseCode::REPLACED, "replaced by a new connection");
    assert_eq!(replaced.to_string(), "4001 replaced by a new connection");
}

#[test]
fn a_frame_is_as_long_as_its_payload() {
    let close = Frame::Close(Close::new(CloseCode::NORMAL, "bye"));
    assert_eq!((close.len(), close.is_empty()), (5, false));
    for frame in [Frame::Message, Frame::Ping] {
        let (full, empty) = (frame(vec![0; 3].into()), frame(vec![].into()));
        assert_eq!((full.len(), full.is_empty()), (3, false));
        assert_eq!((empty.len(), empty.is_empty()), (0, true));
    }
}

#[test]
fn time_is_shown_as_what_has_passed_and_never_overflows() {
    let time = Time::ZERO + Duration::from_millis(1500);
    assert_eq!(format!("{time:?}"), "1.5s");
    let end = Time::from_nanos(u64::MAX);
    assert_eq!(time + Duration::MAX, end);
    assert_eq!(end.as_nanos(), u64::MAX);
}

#[test]
fn a_connection_has_a_name_that_is_never_used_again() {
    let mut world = World::open();
    let first = world.join("alice");
    assert_eq!(format!("{first:?}"), "conn 0.0");
    world.give(Input::Closed {
        conn: first,
        clean: false,
    });
    let second = world.join("alice");
    assert_eq!(format!("{second:?}"), "conn 0.1");
    assert_ne!(first, second);
    let other = world.join("bob");
    assert_eq!([first, second, other].map(ConnId::index), [0, 0, 1]);
}

#[test]
fn what_was_refused_is_counted_by_reason_and_in_all() {
    let reasons: [fn(&mut HubStats) -> &mut u64; 7] = [
        |stats| &mut stats.refused_rate,
        |stats| &mut stats.refused_size,
        |stats| &mut stats.refused_address,
        |stats| &mut stats.refused_offline,
        |stats| &mut stats.refused_full,
        |stats| &mut stats.refused_memory,
        |stats| &mut stats.refused_store,
    ];
    let mut stats = HubStats::default();
    let mut total = 0;
    for (count, reason) in (1..).zip(reasons) {
        *reason(&mut stats) = count;
        total += count;
        assert_eq!(stats.refused(), total);
    }
}
