//! Short sessions: what arrives how often, by how the first of three sessions ends.

use core::ops::RangeInclusive;

use serde_json::{Value, json};

use crate::peer::{Event, Foreign};
use crate::relay::Relay;
use crate::row::{ALICE, BOB, DELIVERY_CONFIRM, MESSAGE, QUEUE_STATUS, Row};
use crate::scenarios::connections;
use crate::setup::Language;
use crate::soon;

/// How many messages wait for the first session.
const WAITING: u8 = 5;

const ALL: usize = WAITING as usize;

/// What a client sends to itself when it wants to know that it has all that waited: this comes
/// behind it.
const LAST: u8 = 99;

/// How the first session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Its handlers are attached before the join; it closes when everything has come.
    HandlersBeforeTheJoin,
    /// It closes in the handler of the last message.
    InTheLastHandler,
    /// It closes in the handler of the first message; what still comes is handled.
    InTheFirstHandler,
    /// It closes as soon as it has joined; what still comes is handled.
    BeforeTheQueue,
    /// As `InTheLastHandler`, with the `Origin` of a page.
    WithOrigin,
    /// Its process is killed, between two messages where its library allows that.
    Killed,
    /// It closes while the relay shuts down.
    BothAtOnce,
    /// The relay shuts down when the first message was handled.
    Shutdown,
}

/// A row of the table.
struct Case {
    ending: Ending,
    /// How many messages each of three sessions gets.
    arrivals: [RangeInclusive<usize>; 3],
    /// How often a message arrives in the three sessions together.
    times: RangeInclusive<usize>,
}

const fn case(
    ending: Ending,
    arrivals: [RangeInclusive<usize>; 3],
    times: RangeInclusive<usize>,
) -> Case {
    Case {
        ending,
        arrivals,
        times,
    }
}

/// A clean close by the client acknowledges: exactly once. Where only pongs do, it is a matter of
/// which pongs the relay has had: at least once, at most twice, and never again after a clean end.
const TABLE: [Case; 8] = {
    const NONE: RangeInclusive<usize> = 0..=0;
    const EACH: RangeInclusive<usize> = ALL..=ALL;
    const SOME: RangeInclusive<usize> = 0..=ALL;
    const ONCE: RangeInclusive<usize> = 1..=1;
    const TWICE_AT_MOST: RangeInclusive<usize> = 1..=2;
    [
        case(Ending::HandlersBeforeTheJoin, [EACH, NONE, NONE], ONCE),
        case(Ending::InTheLastHandler, [EACH, NONE, NONE], ONCE),
        case(Ending::InTheFirstHandler, [1..=ALL, SOME, NONE], ONCE),
        case(Ending::BeforeTheQueue, [SOME, SOME, NONE], ONCE),
        case(Ending::WithOrigin, [EACH, SOME, NONE], TWICE_AT_MOST),
        case(Ending::Killed, [1..=ALL, SOME, NONE], TWICE_AT_MOST),
        case(Ending::BothAtOnce, [EACH, SOME, NONE], TWICE_AT_MOST),
        case(Ending::Shutdown, [1..=ALL, SOME, NONE], TWICE_AT_MOST),
    ]
};

/// The number of a message, or `None` for what the relay says.
fn number(envelope: &Value) -> Option<u8> {
    if envelope["type"] == QUEUE_STATUS {
        return None;
    }
    assert_eq!(envelope["type"], MESSAGE, "{envelope}");
    let id = envelope["message_id"].as_str().expect("an id");
    Some(u8::from_str_radix(&id[..2], 16).expect("hex"))
}

/// Reads messages until it has `count` of them.
async fn messages(bob: &mut Foreign, count: usize) -> Vec<u8> {
    let mut heard = Vec::new();
    while heard.len() < count {
        heard.extend(number(&bob.receive().await.1));
    }
    heard
}

/// Reads messages until the WebSocket has ended. Returns its close code, too.
async fn messages_and_end(bob: &mut Foreign) -> (Vec<u8>, u16) {
    let mut heard = Vec::new();
    loop {
        let event = bob.event().await;
        if let Event::Closed { code, .. } = event {
            return (heard, code);
        }
        let Event::Envelope { envelope, .. } = event else {
            panic!("{event:?} instead of a message")
        };
        heard.extend(number(&envelope));
    }
}

/// Reads all that waits.
async fn everything(row: &Row, bob: &mut Foreign) -> Vec<u8> {
    let last = row.message(BOB, BOB, LAST, 1);
    bob.tell(&json!({ "do": "send", "envelope": last })).await;
    let mut heard = Vec::new();
    loop {
        let event = bob.event().await;
        if let Event::Envelope { envelope, .. } = event {
            heard.extend(number(&envelope));
        } else {
            assert!(matches!(event, Event::Sent { .. }), "{event:?}");
        }
        if heard.last() == Some(&LAST) {
            heard.pop();
            return heard;
        }
    }
}

/// Closes in order, without having heard more.
async fn leave(mut client: Foreign) {
    client.close().await;
    assert_eq!(messages_and_end(&mut client).await, (Vec::new(), 1000));
}

async fn joined(row: &Row, relay: &Relay, how: Value) -> Foreign {
    let mut bob = row.client();
    bob.join_with(relay, BOB, row.mode, &how).await;
    bob
}

/// Lets Alice send messages to Bob, who is away, and leave.
async fn fill(row: &Row, relay: &Relay, count: u8) {
    let mut alice = row.joined(relay, ALICE).await;
    for number in 1..=count {
        alice.send(&row.message(ALICE, BOB, number, 100), "").await;
    }
    // Behind all of them: what has come back has passed the relay.
    let last = row.message(ALICE, ALICE, LAST, 1);
    alice.send(&last, "").await;
    assert_eq!(alice.receive().await.1, last);
    leave(alice).await;
}

/// The first session of Bob, to its end. Returns what arrived.
async fn first_session(row: &Row, relay: &Relay, ending: Ending) -> Vec<u8> {
    let in_order = |(heard, code)| {
        assert_eq!(code, 1000);
        heard
    };
    match ending {
        Ending::HandlersBeforeTheJoin => {
            let mut bob = joined(row, relay, json!({ "early": true })).await;
            let heard = everything(row, &mut bob).await;
            leave(bob).await;
            heard
        }
        Ending::InTheLastHandler => {
            let mut bob = joined(row, relay, json!({ "close_after": WAITING })).await;
            in_order(messages_and_end(&mut bob).await)
        }
        Ending::InTheFirstHandler => {
            let mut bob = joined(row, relay, json!({ "close_after": 1 })).await;
            in_order(messages_and_end(&mut bob).await)
        }
        Ending::BeforeTheQueue => {
            let mut bob = joined(row, relay, json!({ "close_after": 0 })).await;
            in_order(messages_and_end(&mut bob).await)
        }
        Ending::WithOrigin => {
            let origin = "https://app.example.com";
            let how = json!({ "close_after": WAITING, "origin": origin });
            let mut bob = joined(row, relay, how).await;
            in_order(messages_and_end(&mut bob).await)
        }
        Ending::Killed => {
            let mut bob = joined(row, relay, json!({})).await;
            // `websockets` answers a ping while the program has not taken yet what came before, and
            // this is lost with the process: only what it has handled is sure to be so.
            let count = match row.program.language {
                Language::Node => 1,
                Language::Python => ALL,
            };
            let mut heard = messages(&mut bob, count).await;
            for event in bob.kill().await {
                if let Event::Envelope { envelope, .. } = event {
                    heard.extend(number(&envelope));
                }
            }
            heard
        }
        Ending::BothAtOnce => {
            let mut bob = joined(row, relay, json!({})).await;
            let mut heard = messages(&mut bob, ALL).await;
            bob.close().await;
            relay.terminate();
            let (rest, code) = messages_and_end(&mut bob).await;
            assert!([1000, 1001].contains(&code), "{code}");
            heard.extend(rest);
            heard
        }
        Ending::Shutdown => {
            let mut bob = joined(row, relay, json!({})).await;
            let mut heard = messages(&mut bob, 1).await;
            relay.terminate();
            let (rest, code) = messages_and_end(&mut bob).await;
            assert_eq!(code, 1001);
            heard.extend(rest);
            heard
        }
    }
}

/// Waits until the relay knows that nobody is connected.
async fn nobody_is_connected(row: &Row, relay: &Relay) {
    let mut watcher = row.client();
    soon("the end of all connections", async {
        while connections(&mut watcher, relay).await > 0 {}
    })
    .await;
}

async fn plays(row: &Row, case: &Case) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let db = directory.path().join("queue.db");
    let flags = [
        "--db",
        db.to_str().expect("text"),
        "--allowed-origins",
        "https://app.example.com",
        "--heartbeat-interval",
        "100ms",
    ];
    let mut relay = row.relay(&flags).await;
    fill(row, &relay, WAITING).await;

    let mut sessions = vec![first_session(row, &relay, case.ending).await];
    if matches!(case.ending, Ending::BothAtOnce | Ending::Shutdown) {
        assert_eq!(relay.ended().await.code(), Some(0));
        relay = row.relay(&flags).await;
    } else if case.ending == Ending::Killed {
        // Until the relay has seen it, the address is taken.
        nobody_is_connected(row, &relay).await;
    }
    for _ in 0..2 {
        let mut how = json!({});
        if case.ending == Ending::WithOrigin {
            how["origin"] = "https://app.example.com".into();
        }
        let mut bob = joined(row, &relay, how).await;
        sessions.push(everything(row, &mut bob).await);
        if case.ending == Ending::WithOrigin {
            // The ping of the next heartbeat comes behind everything.
            bob.pinged_again().await;
        }
        leave(bob).await;
    }

    let ending = case.ending;
    for (heard, expected) in sessions.iter().zip(&case.arrivals) {
        assert!(
            expected.contains(&heard.len()),
            "{ending:?}: {sessions:?} instead of {:?}",
            case.arrivals
        );
        // In order, and up to the last, if not from the first.
        let from_first = (1..).take(heard.len()).eq(heard.iter().copied());
        let to_last = (1..=WAITING)
            .rev()
            .zip(heard.iter().rev())
            .all(|(a, b)| a == *b);
        assert!(from_first || to_last, "{ending:?}: {sessions:?}");
    }
    // `ws` answers no ping once it is closing: nothing has acknowledged the last message.
    if ending == Ending::WithOrigin && row.program.language == Language::Node {
        assert_eq!(sessions[1].last(), Some(&WAITING), "{sessions:?}");
    }
    for number in 1..=WAITING {
        let all = sessions.iter().flatten();
        let times = all.filter(|heard| **heard == number).count();
        assert!(
            case.times.contains(&times),
            "{ending:?}: message {number} came {times} times: {sessions:?}"
        );
    }
}

pub(crate) async fn over_three_sessions(row: Row) {
    for case in &TABLE {
        plays(&row, case).await;
    }
}

/// As many as a queue holds after a night: more than the burst of the default rate limit.
pub(crate) async fn confirm_a_queue_beyond_the_rate_limit(row: Row) {
    const COUNT: u8 = 18;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let db = directory.path().join("queue.db");
    let db = ["--db", db.to_str().expect("text")];
    let mut relay = row.relay(&db).await;
    fill(&row, &relay, COUNT).await;
    relay.terminate();
    assert_eq!(relay.ended().await.code(), Some(0));

    // The rate limit that is the default.
    let limit = ["--rate-limit", "1", "--rate-burst", "10"];
    let relay = row.relay(&[&db[..], &limit].concat()).await;
    let how = json!({ "confirm": true, "close_after": COUNT });
    let mut bob = joined(&row, &relay, how).await;
    // `number` panics at a RATE_LIMITED.
    let (heard, code) = messages_and_end(&mut bob).await;
    assert_eq!((heard, code), ((1..=COUNT).collect(), 1000));

    let mut alice = row.joined(&relay, ALICE).await;
    let (_, status) = alice.receive().await;
    assert_eq!(status["queue_status"]["pending_count"], COUNT);
    for number in 1..=COUNT {
        let (_, confirm) = alice.receive().await;
        assert_eq!(confirm["type"], DELIVERY_CONFIRM);
        let sent = row.message(ALICE, BOB, number, 100);
        assert_eq!(
            confirm["delivery_confirm"]["message_id"],
            sent["message_id"]
        );
    }
}

pub(crate) async fn that_only_send_live_beside_the_one_that_listens(row: Row) {
    let relay = row.relay(&[]).await;
    let mut alice = row.joined(&relay, ALICE).await;
    let mut listener = joined(&row, &relay, json!({})).await;
    for number in 1..=3 {
        let mut sender = joined(&row, &relay, json!({ "receive": "0" })).await;
        // To others, and to the listener, which has the same address.
        for (to, reader) in [(ALICE, &mut alice), (BOB, &mut listener)] {
            let message = row.message(BOB, to, number, 10);
            let hex = sender.send(&message, "").await;
            assert_eq!(reader.receive().await, (hex, message));
        }
        let answer = row.message(ALICE, BOB, 10 + number, 10);
        let hex = alice.send(&answer, "").await;
        assert_eq!(listener.receive().await, (hex, answer));
        // It was told nothing: its next event is the answer to its close frame.
        leave(sender).await;
    }
    let message = row.message(ALICE, BOB, 20, 10);
    let hex = alice.send(&message, "").await;
    assert_eq!(listener.receive().await, (hex, message));
    leave(listener).await;
}

pub(crate) async fn that_only_send_leave_the_queue_alone(row: Row) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let db = directory.path().join("queue.db");
    let relay = row.relay(&["--db", db.to_str().expect("text")]).await;
    fill(&row, &relay, WAITING).await;
    let mut alice = row.joined(&relay, ALICE).await;
    for number in 1..=3 {
        let mut sender = joined(&row, &relay, json!({ "receive": "0" })).await;
        let message = row.message(BOB, ALICE, number, 10);
        let hex = sender.send(&message, "").await;
        assert_eq!(alice.receive().await, (hex, message));
        leave(sender).await;
    }
    let mut bob = joined(&row, &relay, json!({})).await;
    let expected: Vec<u8> = (1..=WAITING).collect();
    assert_eq!(everything(&row, &mut bob).await, expected);
}
