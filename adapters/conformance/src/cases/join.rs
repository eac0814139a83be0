//! Joining: who gets in under which address, what it hears first, and what happens when an address
//! is taken.

use bytes::Bytes;
use pinch_driver::proto::handshake::signed_bytes;
use pinch_driver::proto::hub::OnDuplicate;
use pinch_driver::proto::wire::{Envelope, MessageType, Payload};

use crate::envelopes::{address, decode, key, key_address, message, number};
use crate::peer::{Heard, Peer};
use crate::raw::{BINARY, CLOSE, PONG, Raw, TEXT, answer, close_payload, frame, upgrade_request};
use crate::relays::{HOST, bind, challenge, config, emptied, open};
use crate::starter::{Running, Starter};
use crate::wait::{LIMIT, eventually, millis, soon};

/// An AUTH_RESULT: whether it is a success, and the address or what is wrong.
fn auth_result(heard: &Heard) -> (bool, String) {
    let Heard::Envelope(message) = heard else {
        panic!("{heard:?} instead of AUTH_RESULT")
    };
    match decode(message).payload {
        Some(Payload::AuthResult(result)) if result.success => (true, result.assigned_address),
        Some(Payload::AuthResult(result)) => (false, result.error_message),
        other => panic!("{other:?} instead of AUTH_RESULT"),
    }
}

fn succeeded(heard: &Heard, seed: u8) {
    assert_eq!(
        auth_result(heard),
        (true, key_address(seed).as_str().into())
    );
}

fn failed(text: &str) -> (bool, String) {
    (false, text.into())
}

pub(crate) async fn a_named_agent_is_there_until_it_leaves<S: Starter>(starter: &S) {
    let relay = open(starter, config()).await;
    let alice = Peer::named(&relay, "alice").await;
    let bob = Peer::named(&relay, "bob").await;
    assert_eq!(relay.stats().hub.connections, 2);
    assert_eq!(relay.stats().pending, 0);
    alice.leave().await;
    eventually("alice is gone", || relay.stats().hub.connections == 1).await;
    drop(bob);
    emptied(&relay).await;
}

pub(crate) async fn a_proven_agent_is_there_until_it_leaves<S: Starter>(starter: &S) {
    let relay = challenge(starter, config()).await;
    let mut alice = Peer::proven(&relay, 1).await;
    let mut bob = Peer::proven(&relay, 2).await;
    let said = message(&alice.address, &bob.address, 1, 10);
    alice.send(said.clone()).await;
    assert_eq!(bob.envelope().await, said);
    let said = message(&bob.address, &alice.address, 1, 10);
    bob.send(said.clone()).await;
    assert_eq!(alice.envelope().await, said);
    alice.leave().await;
    bob.leave().await;
    emptied(&relay).await;
}

pub(crate) async fn every_challenge_is_fresh_and_says_what_the_protocol_says<S: Starter>(
    starter: &S,
) {
    let relay = challenge(starter, config()).await;
    let (_first, first) = Raw::challenged(&relay).await;
    let (_second, second) = Raw::challenged(&relay).await;
    assert_ne!(first.nonce, second.nonce);
    for challenge in [first, second] {
        assert_eq!((challenge.version, challenge.nonce.len()), (1, 32));
        assert_eq!(challenge.expires_at_ms - challenge.issued_at_ms, 10_000);
        assert_eq!(challenge.relay_host, HOST);
    }
}

pub(crate) async fn auth_result_and_a_ping_come_first_and_the_rest_after_the_pong<S: Starter>(
    starter: &S,
) {
    let relay = challenge(starter, config().join_timeout(LIMIT)).await;
    let mut bob = Peer::proven(&relay, 2).await;
    let (mut alice, challenge) = Raw::challenged(&relay).await;
    alice
        .send(BINARY, &answer(&challenge, &key(1), |_| ()))
        .await;
    succeeded(&alice.hear().await, 1);
    let ping = alice.ping().await;

    let said = [1, 2, 3].map(|number| message(&bob.address, &key_address(1), number, 9));
    for message in &said {
        bob.send(message.clone()).await;
    }
    eventually("they wait", || relay.stats().hub.queued == 3).await;
    alice.send(PONG, b"another ping's").await;
    alice.send(crate::raw::PING, b"echo").await;
    assert_eq!(alice.hear().await, Heard::Pong(b"echo".as_slice().into()));
    assert!(!alice.has_more().await);
    assert_eq!(relay.stats().hub.queued, 3);

    alice.send(PONG, &ping).await;
    for message in said {
        assert_eq!(alice.envelope().await, message);
    }
}

pub(crate) async fn without_a_pong_the_rest_follows_after_the_join_timeout<S: Starter>(
    starter: &S,
) {
    let relay = open(starter, config().join_timeout(millis(50))).await;
    let mut bob = Peer::named(&relay, "bob").await;
    let mut alice = Raw::upgraded(&relay, "alice").await;
    alice.ping().await;
    let said = message(&bob.address, &address("alice"), 1, 9);
    bob.send(said.clone()).await;
    assert_eq!(alice.envelope().await, said);
}

pub(crate) async fn what_shares_a_segment_with_the_upgrade_request_is_heard<S: Starter>(
    starter: &S,
) {
    let relay = open(starter, config()).await;
    let alice = address("alice");
    let said = message(&alice, &alice, 1, 9);
    let request = upgrade_request(&crate::raw::named_target(&alice));
    let mut raw = Raw::connect(&relay).await;
    raw.write(&[request.as_bytes(), &frame(BINARY, &said)].concat())
        .await;
    raw.upgraded_response().await;
    raw.answer_ping().await;
    assert_eq!(raw.envelope().await, said);
}

pub(crate) async fn what_shares_a_segment_with_the_answer_to_the_challenge_is_heard<S: Starter>(
    starter: &S,
) {
    let relay = challenge(starter, config()).await;
    let alice = key_address(1);
    let (mut raw, challenge) = Raw::challenged(&relay).await;
    let answer = frame(BINARY, &answer(&challenge, &key(1), |_| ()));
    let said = [1, 2].map(|number| message(&alice, &alice, number, 9));
    // The second one is cut in two.
    let frames = said.each_ref().map(|message| frame(BINARY, message));
    let (beginning, end) = frames[1].split_at(20);
    raw.write(&[&answer, &frames[0], beginning].concat()).await;
    succeeded(&raw.hear().await, 1);
    raw.write(end).await;
    raw.answer_ping().await;
    for message in said {
        assert_eq!(raw.envelope().await, message);
    }
}

pub(crate) async fn what_shares_a_segment_with_the_answer_may_be_as_long_as_later<S: Starter>(
    starter: &S,
) {
    let relay = challenge(starter, config()).await;
    let alice = key_address(1);
    let (mut raw, challenge) = Raw::challenged(&relay).await;
    let answer = frame(BINARY, &answer(&challenge, &key(1), |_| ()));
    let said = message(&alice, &alice, 1, 50_000);
    let long = frame(BINARY, &said);
    // The header of its frame, at least, shares the segment.
    let (beginning, end) = long.split_at(20);
    raw.write(&[&answer, beginning].concat()).await;
    succeeded(&raw.hear().await, 1);
    raw.write(end).await;
    raw.answer_ping().await;
    assert_eq!(raw.envelope().await, said);
}

pub(crate) async fn who_answers_a_challenge_wrongly_is_told_so_and_closed<S: Starter>(starter: &S) {
    let relay = challenge(starter, config()).await;
    let (_other, other) = Raw::challenged(&relay).await;
    let signed = |host: &str, nonce: &Bytes| {
        let nonce = nonce.as_ref().try_into().expect("32 bytes");
        Bytes::copy_from_slice(key(1).sign(&signed_bytes(host, &nonce)).as_bytes())
    };
    for case in 0..9 {
        let (mut raw, challenge) = Raw::challenged(&relay).await;
        let nonce = challenge.nonce.clone();
        let answer = answer(&challenge, &key(1), |answer| match case {
            0 => answer.signature = vec![7; 64].into(),
            1 => answer.public_key = Bytes::copy_from_slice(key(2).public_key().as_bytes()),
            // An answer to another challenge, whole or in parts.
            2 => {
                answer.nonce = other.nonce.clone();
                answer.signature = signed(HOST, &other.nonce);
            }
            3 => answer.signature = signed(HOST, &other.nonce),
            4 => answer.signature = signed("evil.example.com", &nonce),
            5 => answer.version = 2,
            6 => answer.public_key = vec![1; 31].into(),
            7 => answer.signature = vec![1; 65].into(),
            _ => answer.nonce = Bytes::new(),
        });
        raw.send(BINARY, &answer).await;
        assert_eq!(
            auth_result(&raw.hear().await),
            failed("authentication failed"),
            "case {case}"
        );
        let close = Heard::close(1008, "authentication failed");
        assert_eq!(raw.rest().await, [close], "case {case}");
    }
    assert_eq!(relay.stats().hub.registered, 0);
}

pub(crate) async fn an_answer_cannot_be_used_twice<S: Starter>(starter: &S) {
    let relay = challenge(starter, config()).await;
    let (mut first, first_challenge) = Raw::challenged(&relay).await;
    let answer = answer(&first_challenge, &key(1), |_| ());
    first.send(BINARY, &answer).await;
    succeeded(&first.hear().await, 1);
    drop(first);
    emptied_but_for_nobody(&relay).await;

    let (mut thief, _) = Raw::challenged(&relay).await;
    thief.send(BINARY, &answer).await;
    assert_eq!(
        auth_result(&thief.hear().await),
        failed("authentication failed")
    );
}

async fn emptied_but_for_nobody(relay: &impl Running) {
    eventually("nobody is there", || relay.stats().hub.connections == 0).await;
}

pub(crate) async fn what_is_no_answer_to_a_challenge_ends_the_join<S: Starter>(starter: &S) {
    let relay = challenge(starter, config()).await;
    let message = Envelope {
        r#type: MessageType::Message.into(),
        ..Envelope::default()
    };
    let empty = Envelope {
        r#type: MessageType::AuthResponse.into(),
        ..Envelope::default()
    };
    let unmasked = [&crate::raw::header(BINARY, 3, false)[..], b"abc"].concat();
    let cases = [
        (
            frame(BINARY, &message.to_bytes()),
            1008,
            "authentication failed",
        ),
        (frame(BINARY, &empty.to_bytes()), 1007, "malformed envelope"),
        (frame(BINARY, b"\xff\xff\xff"), 1007, "malformed envelope"),
        (
            frame(TEXT, b"hello"),
            1003,
            "text message, expected a binary one",
        ),
        (frame(BINARY, &[0; 4097]), 1009, "message over 4096 bytes"),
        (unmasked, 1002, "WebSocket protocol error"),
    ];
    for (bytes, code, reason) in cases {
        let (mut raw, _) = Raw::challenged(&relay).await;
        raw.write(&bytes).await;
        assert_eq!(raw.rest().await.pop(), Some(Heard::close(code, reason)));
    }
    let (mut raw, _) = Raw::challenged(&relay).await;
    raw.send(CLOSE, &close_payload(1000, "no")).await;
    assert_eq!(raw.rest().await, [Heard::close(1000, "no")]);
    emptied(&relay).await;
}

pub(crate) async fn who_does_not_answer_its_challenge_in_time_is_cut<S: Starter>(starter: &S) {
    let relay = bind(
        starter,
        starter.builder().hub(config()).auth_timeout(millis(2000)),
    )
    .await;
    let (mut silent, challenge) = Raw::challenged(&relay).await;
    assert_eq!(challenge.expires_at_ms - challenge.issued_at_ms, 2000);
    let (mut halfway, halfway_challenge) = Raw::challenged(&relay).await;
    let answer = frame(BINARY, &answer(&halfway_challenge, &key(1), |_| ()));
    halfway.write(&answer[..answer.len() / 2]).await;
    for raw in [&mut silent, &mut halfway] {
        assert_eq!(
            raw.hear().await,
            Heard::close(1008, "authentication timeout")
        );
    }
    // Too late.
    halfway.write(&answer[answer.len() / 2..]).await;
    assert_eq!(halfway.rest().await, []);
    assert_eq!(silent.rest().await, []);
    drop((silent, halfway));
    emptied(&relay).await;
    assert_eq!(relay.stats().hub.registered, 0);
}

pub(crate) async fn a_taken_address_is_refused<S: Starter>(starter: &S) {
    let relay = challenge(starter, config()).await;
    let mut alice = Peer::proven(&relay, 1).await;
    let (mut second, challenge) = Raw::challenged(&relay).await;
    second
        .send(BINARY, &answer(&challenge, &key(1), |_| ()))
        .await;
    let text = "address already connected";
    assert_eq!(auth_result(&second.hear().await), failed(text));
    assert_eq!(second.rest().await, [Heard::close(1008, text)]);

    let said = message(&alice.address, &alice.address, 1, 9);
    alice.send(said.clone()).await;
    assert_eq!(alice.envelope().await, said);
    assert_eq!(relay.stats().hub.joins_refused_duplicate, 1);
}

pub(crate) async fn a_taken_name_is_refused<S: Starter>(starter: &S) {
    let relay = open(starter, config()).await;
    let _alice = Peer::named(&relay, "alice").await;
    let mut second = Raw::upgraded(&relay, "alice").await;
    let close = Heard::close(1008, "address already connected");
    assert_eq!(second.rest().await, [close]);
}

pub(crate) async fn peers_that_are_refused_and_stay_are_dropped<S: Starter>(starter: &S) {
    let relay = open(starter, config().close_timeout(millis(100))).await;
    let (mut agents, mut refused) = (Vec::new(), Vec::new());
    // Enough of them that every shard has some.
    for n in 0..16 {
        let name = format!("agent{n}");
        agents.push(Peer::named(&relay, &name).await);
        refused.push(Raw::upgraded(&relay, &name).await);
    }
    eventually("none is waited for", || relay.stats().pending == 0).await;
    assert_eq!(relay.stats().handshakes.rejected.hub, 16);
    soon("the shutdown", relay.shutdown()).await;
    drop((agents, refused));
}

pub(crate) async fn a_newcomer_takes_over_where_that_is_configured<S: Starter>(starter: &S) {
    let config = config()
        .on_duplicate(OnDuplicate::Replace)
        .join_timeout(LIMIT);
    let relay = open(starter, config).await;
    let mut bob = Peer::named(&relay, "bob").await;
    let mut old = Raw::upgraded(&relay, "alice").await;
    old.ping().await;
    let said = [1, 2, 3].map(|number| message(&bob.address, &address("alice"), number, 9));
    for message in &said[..2] {
        bob.send(message.clone()).await;
    }
    eventually("they wait", || relay.stats().hub.queued == 2).await;

    let mut new = Peer::named(&relay, "alice").await;
    assert_eq!(
        old.hear().await,
        Heard::close(4001, "replaced by a new connection")
    );
    old.answer_close().await;
    bob.send(said[2].clone()).await;
    for message in said {
        assert_eq!(new.envelope().await, message);
    }
    let stats = relay.stats().hub;
    assert_eq!((stats.replaced, stats.connections), (1, 2));
}

pub(crate) async fn a_dead_holder_of_an_address_loses_it_after_the_pong_timeout<S: Starter>(
    starter: &S,
) {
    let relay = open(
        starter,
        config()
            .pong_timeout(millis(1000))
            .close_timeout(millis(100)),
    )
    .await;
    let mut dead = Raw::named(&relay, "alice").await;
    let refused = Heard::close(1008, "address already connected");
    let mut knocks = 0;
    let mut alice = loop {
        let mut raw = Raw::upgraded(&relay, "alice").await;
        let heard = raw.hear().await;
        if let Heard::Ping(payload) = heard {
            raw.send(PONG, &payload).await;
            break raw;
        }
        assert_eq!(heard, refused);
        knocks += 1;
    };
    assert!(knocks > 0);
    dead.ping().await;
    assert_eq!(dead.rest().await, [Heard::close(1008, "heartbeat timeout")]);
    let said = message(&address("alice"), &address("alice"), 1, 9);
    alice.send(BINARY, &said).await;
    assert_eq!(number(&decode(&alice.envelope().await)), 1);
}

pub(crate) async fn a_full_relay_says_so<S: Starter>(starter: &S) {
    let relay = challenge(starter, config().max_connections(1)).await;
    let mut joined = Vec::new();
    // Each shard has room for one.
    for seed in 1.. {
        let (mut raw, challenge) = Raw::challenged(&relay).await;
        raw.send(BINARY, &answer(&challenge, &key(seed), |_| ()))
            .await;
        let result = auth_result(&raw.hear().await);
        if !result.0 {
            assert_eq!(result, failed("relay is full"));
            assert_eq!(raw.rest().await, [Heard::close(1013, "relay is full")]);
            break;
        }
        joined.push(raw);
    }
    assert!((1..=relay.shards()).contains(&joined.len()));
}
