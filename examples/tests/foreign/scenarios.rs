//! What every foreign client goes through, in every mode.

use serde_json::{Value, json};

use crate::peer::{Event, Foreign, Party};
use crate::relay::Relay;
use crate::row::{ALICE, BOB, Mode, QUEUE_FULL, QUEUE_STATUS, RATE_LIMITED, Row, message};
use crate::soon;

fn closed(code: u16, reason: &str) -> Event {
    let reason = reason.into();
    Event::Closed { code, reason }
}

/// What `/health` says of the number of connections.
pub(crate) async fn connections(client: &mut Foreign, relay: &Relay) -> u64 {
    let (status, body) = client.get(&relay.http("/health")).await;
    assert_eq!(status, 200, "{body}");
    let health: Value = serde_json::from_str(&body).expect("JSON");
    health["connections"].as_u64().expect("a number")
}

/// Messages of several lengths, both ways; each has to arrive byte for byte.
pub(crate) async fn exchange(mode: Mode, alice: &mut Party, bob: &mut Party) {
    for (number, length) in [(1, 1), (2, 126), (3, 65_000)] {
        let request = message(mode, ALICE, BOB, number, length);
        let sent = alice.send(&request).await;
        assert_eq!(bob.receive(&request).await, sent);
        let reply = message(mode, BOB, ALICE, number, length);
        let sent = bob.send(&reply).await;
        assert_eq!(alice.receive(&reply).await, sent);
    }
}

pub(crate) async fn exchanges_envelopes_with_its_like(row: Row) {
    let relay = row.relay(&[]).await;
    let mut alice = row.party(&relay, ALICE).await;
    let mut bob = row.party(&relay, BOB).await;
    exchange(row.mode, &mut alice, &mut bob).await;
}

pub(crate) async fn exchanges_envelopes_with_our_client(row: Row) {
    let relay = row.relay(&[]).await;
    let mut alice = row.party(&relay, ALICE).await;
    let mut bob = Party::ours(&relay, BOB, row.mode).await;
    exchange(row.mode, &mut alice, &mut bob).await;
}

/// The relay pings only who has answered: the last ping shows that the others were.
pub(crate) async fn answers_pings_by_itself(row: Row) {
    let relay = row
        .relay(&["--heartbeat-interval", "100ms", "--pong-timeout", "10s"])
        .await;
    let mut alice = row.joined(&relay, ALICE).await;
    let mut bob = row.joined(&relay, BOB).await;
    alice.pinged(20).await;
    bob.pinged(20).await;
    assert_eq!(connections(&mut alice, &relay).await, 2);
    let message = row.message(ALICE, BOB, 1, 1);
    let sent = alice.send(&message, "").await;
    assert_eq!(bob.receive().await, (sent, message));
}

pub(crate) async fn is_cut_when_it_freezes(row: Row) {
    let relay = row
        .relay(&["--heartbeat-interval", "100ms", "--pong-timeout", "1s"])
        .await;
    let mut watcher = row.client();
    let mut alice = row.joined(&relay, ALICE).await;
    alice.freeze();
    soon("the relay's patience to end", async {
        while connections(&mut watcher, &relay).await > 0 {}
    })
    .await;
    alice.thaw();
    assert_eq!(alice.event().await, closed(1008, "heartbeat timeout"));
}

pub(crate) async fn leaves_in_order(row: Row) {
    let relay = row.relay(&[]).await;
    let mut alice = row.joined(&relay, ALICE).await;
    alice
        .tell(&json!({ "do": "close", "code": 1000, "reason": "done" }))
        .await;
    assert_eq!(alice.event().await, closed(1000, "done"));
    alice.join(&relay, ALICE, row.mode).await;
}

pub(crate) async fn hears_that_the_relay_shuts_down(row: Row) {
    let mut relay = row.relay(&[]).await;
    let mut alice = row.joined(&relay, ALICE).await;
    let mut bob = row.joined(&relay, BOB).await;
    relay.terminate();
    assert_eq!(alice.event().await, closed(1001, "going away"));
    assert_eq!(bob.event().await, closed(1001, "going away"));
    assert_eq!(relay.ended().await.code(), Some(0));
}

pub(crate) async fn hears_which_rule_it_broke(row: Row) {
    let relay = row.relay(&[]).await;
    let mut alice = row.client();
    let stranger = row.message(BOB, ALICE, 1, 1);
    let mut only_relays = row.message(ALICE, BOB, 1, 1);
    only_relays["type"] = QUEUE_FULL.into();
    let breaches = [
        // A masked frame with an opcode that is reserved.
        (json!({ "do": "raw", "hex": "838000000000" }), 1002, None),
        (json!({ "do": "text", "text": "{}" }), 1003, None),
        // A field of 127 bytes, of which none comes.
        (json!({ "do": "binary", "hex": "127f" }), 1007, None),
        (
            json!({ "do": "send", "envelope": stranger }),
            1008,
            Some("from_address is not yours"),
        ),
        (json!({ "do": "send", "envelope": only_relays }), 1008, None),
        (
            json!({ "do": "binary", "hex": "00".repeat(131_073) }),
            1009,
            None,
        ),
    ];
    for (command, expected_code, expected_reason) in breaches {
        alice.join(&relay, ALICE, row.mode).await;
        alice.tell(&command).await;
        let mut event = alice.event().await;
        if command["do"] == "send" {
            assert!(matches!(event, Event::Sent { .. }), "{event:?}");
            event = alice.event().await;
        }
        let Event::Closed { code, reason } = event else {
            panic!("{event:?} instead of {expected_code}")
        };
        assert_eq!(code, expected_code, "{reason}");
        assert_eq!(reason, expected_reason.unwrap_or(&reason));
        assert_ne!(reason, "", "{code}");
    }
}

pub(crate) async fn is_refused_where_its_address_is_connected(row: Row) {
    let relay = row.relay(&[]).await;
    let mut first = row.joined(&relay, ALICE).await;
    let mut second = row.client();
    second.ask_to_join(&relay, ALICE, row.mode).await;
    let reason = "address already connected".to_owned();
    let told = match row.mode {
        Mode::Challenge => Event::Refused { reason },
        // In open mode, a client takes itself for joined once the upgrade is done.
        Mode::Open => Event::Joined {
            address: ALICE.name.into(),
        },
    };
    assert_eq!(second.event().await, told);
    assert_eq!(
        second.event().await,
        closed(1008, "address already connected")
    );
    assert_eq!(connections(&mut first, &relay).await, 1);
}

pub(crate) async fn is_replaced_where_that_is_the_rule(row: Row) {
    let relay = row.relay(&["--on-duplicate", "replace"]).await;
    let mut first = row.joined(&relay, ALICE).await;
    let mut second = row.joined(&relay, ALICE).await;
    assert_eq!(
        first.event().await,
        closed(4001, "replaced by a new connection")
    );
    let message = row.message(ALICE, ALICE, 1, 1);
    let sent = second.send(&message, "").await;
    assert_eq!(second.receive().await, (sent, message));
}

pub(crate) async fn is_turned_away_without_a_proof_or_a_name(row: Row) {
    let relay = row.relay(&[]).await;
    let mut client = row.client();
    match row.mode {
        Mode::Challenge => {
            let mut command = ALICE.join_command(row.mode);
            command["url"] = relay.url.as_str().into();
            command["forge"] = true.into();
            client.tell(&command).await;
            let reason = "authentication failed".to_owned();
            assert_eq!(client.event().await, Event::Refused { reason });
            assert_eq!(client.event().await, closed(1008, "authentication failed"));
        }
        Mode::Open => {
            client
                .tell(&json!({ "do": "join", "url": relay.url }))
                .await;
            assert_eq!(client.event().await, Event::Rejected { status: 400 });
            client
                .tell(&json!({ "do": "join", "url": relay.url, "address": "alice" }))
                .await;
            assert_eq!(client.event().await, Event::Rejected { status: 400 });
        }
    }
    client.join(&relay, ALICE, row.mode).await;
}

pub(crate) async fn is_answered_in_http_before_the_upgrade(row: Row) {
    let relay = row
        .relay(&["--allowed-origins", "https://app.example.com"])
        .await;
    let mut client = row.client();
    let (status, body) = client.get(&relay.http("/ws")).await;
    assert_eq!(status, 426, "{body}");
    let mut command = ALICE.join_command(row.mode);
    command["url"] = relay.url.as_str().into();
    command["origin"] = "https://elsewhere.example.com".into();
    client.tell(&command).await;
    assert_eq!(client.event().await, Event::Rejected { status: 403 });
    command["origin"] = "https://app.example.com".into();
    client.tell(&command).await;
    let address = ALICE.address(row.mode).into();
    assert_eq!(client.event().await, Event::Joined { address });
}

pub(crate) async fn reads_why_an_envelope_will_not_arrive(row: Row) {
    let relay = row
        .relay(&["--rate-limit", "0.01", "--rate-burst", "2"])
        .await;
    let mut alice = row.joined(&relay, ALICE).await;
    for (number, length, reason) in [(1, 1, "offline"), (2, 66_000, "over the limit of 65536")] {
        let message = row.message(ALICE, BOB, number, length);
        alice.send(&message, "").await;
        let (_, refusal) = alice.receive().await;
        assert_eq!(refusal["type"], QUEUE_FULL);
        assert_eq!(refusal["message_id"], message["message_id"]);
        assert_eq!(
            refusal["queue_full"]["recipient_address"],
            message["to_address"]
        );
        let told = refusal["queue_full"]["reason"].as_str().expect("a reason");
        assert!(told.contains(reason), "{told}");
    }
    alice.send(&row.message(ALICE, BOB, 3, 1), "").await;
    let (_, refusal) = alice.receive().await;
    assert_eq!(refusal["type"], RATE_LIMITED);
    let wait = refusal["rate_limited"]["retry_after_ms"]
        .as_u64()
        .expect("a number");
    assert!((1..=100_000).contains(&wait), "{wait} ms");
    assert_ne!(refusal["rate_limited"]["reason"].as_str(), None);
}

pub(crate) async fn gets_what_came_while_it_was_away(row: Row) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("queue.db");
    let db = ["--db", path.to_str().expect("text")];
    let mut relay = row.relay(&db).await;
    let mut alice = row.joined(&relay, ALICE).await;
    let mut sent = Vec::new();
    for number in 1..=20 {
        let message = row.message(ALICE, BOB, number, 1000);
        let hex = alice.send(&message, "9a060568656c6c6f").await;
        sent.push((hex, message));
    }
    // Behind all of them: what has come back has passed the relay.
    let message = row.message(ALICE, ALICE, 1, 1);
    let hex = alice.send(&message, "").await;
    assert_eq!(alice.receive().await, (hex, message));
    relay.terminate();
    assert_eq!(relay.ended().await.code(), Some(0));

    let relay = row.relay(&db).await;
    let mut bob = row.joined(&relay, BOB).await;
    let (_, status) = bob.receive().await;
    assert_eq!(status["type"], QUEUE_STATUS);
    assert_eq!(status["queue_status"]["pending_count"], 20);
    for (hex, message) in sent {
        assert_eq!(bob.receive().await, (hex, message), "byte for byte");
    }
}
