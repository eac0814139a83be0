//! After a link is lost: when to come back, and when not to.

use core::time::Duration;

use pinch_proto::client::{Client, Disconnect, Event, Input, Output, UpgradeRejection};
use pinch_proto::{Close, CloseCode, Time};

use crate::rig::*;

#[test]
fn backoff_grows_to_its_cap_is_jittered_and_ends() {
    let mut longest = [Duration::ZERO; 9];
    for seed in 0..200 {
        let config = config()
            .backoff(secs(1), secs(30))
            .max_tries(Some(10))
            .build()
            .unwrap();
        let mut rig = Rig::new(config.clone(), name());
        rig.client = Client::new(config, name(), [seed; 16], Time::ZERO, UNIX);
        rig.submit(envelope(1)).unwrap();
        rig.timeout();
        for longest in &mut longest {
            let outputs = rig.disconnected("refused");
            let (why, delay) = rig.redial(&outputs);
            assert_eq!(why, lost("refused"));
            *longest = delay.max(*longest);
        }
        let gave_up = Event::GaveUp {
            why: lost("refused"),
            unsent: vec![envelope(1)],
        };
        assert_eq!(rig.disconnected("refused"), [Output::Event(gave_up)]);
        assert_eq!(rig.wakeup, None);
        assert!(rig.client.is_ended());
    }
    for (longest, ceiling) in longest
        .into_iter()
        .zip([1, 2, 4, 8, 16, 30, 30, 30, 30].map(secs))
    {
        assert!(
            longest <= ceiling && longest > ceiling * 9 / 10,
            "{longest:?} of {ceiling:?}"
        );
    }
}

#[test]
fn only_a_join_that_lasted_makes_failures_forgotten() {
    let usual = config().max_tries(Some(3)).heartbeat_interval(secs(1000));
    let patient = usual.clone().stable_after(secs(90));
    let cases = [
        (&usual, secs(29), false),
        (&usual, secs(30), true),
        (&patient, secs(89), false),
        (&patient, secs(90), true),
    ];
    for (config, lifetime, tries_left) in cases {
        let mut rig = Rig::new(config.clone(), name());
        rig.timeout();
        for _ in 0..2 {
            let outputs = rig.disconnected("refused");
            rig.redial(&outputs);
        }
        rig.join();
        rig.now = rig.now + lifetime;
        let outputs = rig.disconnected("reset");
        assert_eq!(
            matches!(outputs[..], [Output::Event(Event::Disconnected { .. })]),
            tries_left,
            "{outputs:?}"
        );
    }
}

#[test]
fn a_close_by_the_relay_is_final_only_if_coming_back_would_repeat_it() {
    let cases = [
        (1000, "", false),
        (1001, "going away", false),
        (1002, "", false),
        (1003, "", true),
        (1007, "", true),
        (1008, "heartbeat timeout", false),
        (1008, "from_address is not yours", true),
        (1008, "key not registered", true),
        (1008, "address already connected", false),
        (1009, "", true),
        (1013, "relay is full", false),
        (4001, "replaced by a new connection", true),
    ];
    for (code, reason, is_final) in cases {
        let mut rig = Rig::joined(config());
        rig.submit(envelope(1)).unwrap();
        rig.writable(PLENTY);
        let close = Close::new(CloseCode(code), reason);
        let outputs = rig.input(Input::PeerClosed(close.clone()));
        assert_eq!(outputs[0], Output::Hangup);
        let why = Disconnect::Closed(close);
        assert_eq!(why.is_permanent(), is_final, "{code}");
        if is_final {
            let unsent = vec![envelope(1)];
            assert_eq!(outputs[1..], [Output::Event(Event::GaveUp { why, unsent })]);
        } else {
            assert_eq!(rig.redial(&outputs).0, why);
        }
    }
    let rejoining = config().rejoin_when_replaced(true);
    for (code, is_final) in [(CloseCode::REPLACED, false), (CloseCode::TOO_BIG, true)] {
        let mut rig = Rig::joined(rejoining.clone());
        rig.input(Input::PeerClosed(Close::new(code, "")));
        assert_eq!(rig.client.is_ended(), is_final, "{code:?}");
    }
}

fn rejected(status: u16, retry_after: Option<Duration>) -> Input {
    let reason = "so it is".into();
    Input::UpgradeRejected {
        rejection: UpgradeRejection { status, reason },
        retry_after,
    }
}

#[test]
fn an_upgrade_is_tried_again_unless_the_answer_will_be_the_same() {
    let permanent = [
        301, 308, 400, 401, 402, 403, 404, 405, 406, 407, 410, 411, 413, 414, 417, 422, 426, 428,
        431, 451,
    ];
    let temporary = [
        200, 204, 302, 303, 307, 408, 409, 421, 423, 425, 429, 500, 501, 502, 503, 504, 520, 599,
        100, 999,
    ];
    let all = permanent.map(|status| (status, true));
    for (status, is_final) in all
        .into_iter()
        .chain(temporary.map(|status| (status, false)))
    {
        let mut rig = Rig::new(config().max_tries(None), name());
        rig.submit(envelope(1)).unwrap();
        rig.timeout();
        let outputs = rig.input(rejected(status, None));
        let why = Disconnect::UpgradeRejected(UpgradeRejection {
            status,
            reason: "so it is".into(),
        });
        assert_eq!(why.is_permanent(), is_final, "{status}");
        let text = why.to_string();
        let begin = format!("the relay answered {status} (so it is); ");
        assert!(
            text.starts_with(&begin) && text.len() > begin.len(),
            "{text}"
        );
        if is_final {
            let unsent = vec![envelope(1)];
            assert_eq!(outputs, [Output::Event(Event::GaveUp { why, unsent })]);
            assert_eq!(rig.wakeup, None);
        } else {
            let (redialled, delay) = rig.redial(&outputs);
            assert_eq!(redialled, why);
            assert!(delay <= secs(1), "{delay:?}");
        }
    }
}

#[test]
fn retry_after_comes_before_the_backoff_and_is_bounded() {
    let hour = secs(3600);
    for (asked, least) in [(0, 0), (120, 120), (3600, 3600), (u64::MAX, 3600)] {
        let mut rig = Rig::new(config().backoff(secs(1), secs(30)), name());
        rig.timeout();
        let outputs = rig.input(rejected(503, Some(secs(asked))));
        let (_, delay) = rig.redial(&outputs);
        let longest = secs(least) + secs(1);
        assert!(delay >= secs(least) && delay <= longest, "{delay:?}");
        assert!(delay <= hour + secs(1));
        // It counts as a try, and is forgotten with the next.
        let outputs = rig.input(rejected(503, None));
        assert!(rig.redial(&outputs).1 <= secs(2));
    }
    let mut rig = Rig::new(config().max_tries(Some(1)), name());
    rig.timeout();
    rig.input(rejected(429, Some(secs(1))));
    assert!(rig.client.is_ended(), "it was the last try");
}

#[test]
fn a_user_who_leaves_while_the_relay_asks_to_stay_away_does_not_wait() {
    let mut rig = Rig::new(config(), name());
    rig.timeout();
    rig.input(rejected(503, Some(secs(3600))));
    let closed = Output::Event(Event::Closed { unsent: vec![] });
    assert_eq!(rig.input(Input::Close), [closed]);
}

#[test]
fn what_is_said_about_a_link_that_does_not_exist_is_ignored() {
    let strays = [
        Input::Received(envelope(1)),
        Input::Writable { bytes: PLENTY },
        Input::Pong {
            payload: payload(1),
        },
        Input::PeerClosed(Close::new(CloseCode::REPLACED, "")),
    ];
    let mut rig = Rig::new(config(), name());
    rig.submit(envelope(1)).unwrap();
    for input in [
        Input::Connected,
        Input::Disconnected {
            why: "early".into(),
        },
        rejected(404, None),
    ]
    .iter()
    .chain(&strays)
    {
        assert_eq!(rig.input(input.clone()), [], "{input:?} before dialling");
    }
    assert_eq!(rig.timeout(), [Output::Dial]);
    for input in strays {
        assert_eq!(rig.input(input.clone()), [], "{input:?} while dialling");
    }
    rig.join();
    assert_eq!(rig.input(Input::Connected), [], "it is connected already");
    assert_eq!(
        rig.input(rejected(404, None)),
        [],
        "it is connected already"
    );
}

#[test]
fn a_relay_that_refuses_a_join_may_say_when_to_try_again() {
    use pinch_proto::hub::JoinRefusal;

    let retry_after = Duration::from_millis(1500);
    let close = JoinRefusal::TooManyJoins { retry_after }.close();
    let with_reason = |reason: &'static str| Close::new(CloseCode::TRY_AGAIN_LATER, reason);
    let policy = Close::new(CloseCode::POLICY, "try again in 9000 ms");
    let cases = [
        (close, retry_after),
        (with_reason("try again in 2000 ms"), secs(2)),
        (
            with_reason("try again in 18446744073709551615 ms"),
            secs(3600),
        ),
        (with_reason("try again in -1 ms"), Duration::ZERO),
        (with_reason("relay is full"), Duration::ZERO),
        (policy, Duration::ZERO),
    ];
    for (close, asked) in cases {
        let config = config().backoff(Duration::from_millis(10), secs(1));
        let mut rig = Rig::joined(config.build().unwrap());
        let outputs = rig.input(Input::PeerClosed(close.clone()));
        let (why, delay) = rig.redial(&outputs);
        assert_eq!(why, Disconnect::Closed(close));
        let most = asked + Duration::from_millis(10);
        assert!((asked..=most).contains(&delay), "{delay:?} for {why:?}");
    }
}
