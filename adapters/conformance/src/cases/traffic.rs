//! Envelopes between agents that have joined: every byte of them, all of them, in their order, or a
//! refusal with the true reason.

use bytes::Bytes;
use futures_lite::future::zip;
use futures_util::future::join_all;
use pinch_driver::proto::hub::RateLimit;
use pinch_driver::proto::wire::{BlockNotification, Envelope, MessageType, Payload};

use crate::envelopes::{
    address, decode, envelope, key_address, message, message_of, number, refusal,
};
use crate::peer::{Heard, Peer};
use crate::raw::{BINARY, CLOSE, FIRST, LAST, MIDDLE, PING, Raw, close_payload, frame};
use crate::relays::{challenge, config, emptied, open};
use crate::starter::{Running, Starter};
use crate::wait::eventually;

/// The number of the refused envelope, and why it was refused.
fn refused(message: &Bytes) -> (u64, String) {
    let (number, refusal) = refusal(message).expect("a refusal");
    (number, refusal.reason)
}

pub(crate) async fn envelopes_arrive_byte_for_byte_in_both_directions<S: Starter>(starter: &S) {
    let relay = open(starter, config()).await;
    let mut alice = Peer::named(&relay, "alice").await;
    let mut bob = Peer::named(&relay, "bob").await;
    for _ in 0..2 {
        let (from, to) = (&mut alice, &mut bob);
        let plain = message(&from.address, &to.address, 1, 100);
        let type_99 = Envelope {
            r#type: 99,
            ..envelope(&from.address, &to.address, MessageType::Unspecified, 2)
        };
        // Field 1000, a string; then the version once more, in a varint that is longer than needed.
        let unknown = [&plain[..], b"\xc2\x3e\x05hello", b"\x08\x81\x80\x00"].concat();
        let cases = [
            plain,
            type_99.to_bytes(),
            unknown.into(),
            message_of(&from.address, &to.address, 3, 65_536),
        ];
        for case in &cases {
            from.send(case.clone()).await;
        }
        for case in cases {
            assert_eq!(to.envelope().await, case);
        }
        core::mem::swap(from, to);
    }
}

pub(crate) async fn an_agent_can_write_to_itself<S: Starter>(starter: &S) {
    let relay = challenge(starter, config()).await;
    let mut alice = Peer::proven(&relay, 1).await;
    let said = message(&alice.address, &alice.address, 1, 9);
    alice.send(said.clone()).await;
    assert_eq!(alice.envelope().await, said);
}

pub(crate) async fn many_pipelined_envelopes_keep_their_order<S: Starter>(starter: &S) {
    const EACH: u64 = 2000;
    let relay = open(
        starter,
        config().outbox_count(1 << 20).outbox_bytes(64 << 20),
    )
    .await;
    let mut bob = Peer::named(&relay, "bob").await;
    let to = bob.address.clone();
    let sending = join_all((0..4).map(async |sender| {
        let mut peer = Peer::named(&relay, &format!("sender{sender}")).await;
        for number in 0..EACH {
            let len = usize::try_from(number % 300).expect("a small number");
            peer.send(message(&peer.address, &to, number, len)).await;
        }
        peer
    }));
    let hearing = async {
        let mut next = [0; 4];
        for _ in 0..4 * EACH {
            let envelope = decode(&bob.envelope().await);
            let sender =
                (0..4).find(|n| envelope.from_address == address(&format!("sender{n}")).as_str());
            let next = &mut next[sender.expect("a sender that there is")];
            assert_eq!(number(&envelope), *next);
            *next += 1;
        }
    };
    let (senders, ()) = zip(sending, hearing).await;
    drop(senders);
    assert_eq!(relay.stats().hub.accepted, 4 * EACH);
    drop(bob);
    emptied(&relay).await;
}

pub(crate) async fn many_envelopes_in_one_segment_are_many_envelopes<S: Starter>(starter: &S) {
    let relay = open(starter, config()).await;
    let mut bob = Peer::named(&relay, "bob").await;
    let mut alice = Raw::named(&relay, "alice").await;
    let said: Vec<Bytes> = (0..500)
        .map(|n| message(&address("alice"), &bob.address, n, 50))
        .collect();
    let frames: Vec<Vec<u8>> = said.iter().map(|message| frame(BINARY, message)).collect();
    alice.write(&frames.concat()).await;
    for message in said {
        assert_eq!(bob.envelope().await, message);
    }
}

pub(crate) async fn an_envelope_may_come_in_fragments_with_pings_in_between<S: Starter>(
    starter: &S,
) {
    let relay = open(starter, config()).await;
    let mut bob = Peer::named(&relay, "bob").await;
    let mut alice = Raw::named(&relay, "alice").await;
    let said = message_of(&address("alice"), &bob.address, 1, 65_536);
    let (first, rest) = said.split_at(10);
    let (middle, last) = rest.split_at(40_000);
    alice.send(FIRST, first).await;
    alice.send(PING, b"1").await;
    assert_eq!(alice.hear().await, Heard::Pong(b"1".as_slice().into()));
    alice.send(MIDDLE, middle).await;
    alice.send(MIDDLE, b"").await;
    alice.send(PING, b"2").await;
    assert_eq!(alice.hear().await, Heard::Pong(b"2".as_slice().into()));
    alice.send(LAST, last).await;
    assert_eq!(bob.envelope().await, said);
    // And the next one is whole again.
    let said = message(&address("alice"), &bob.address, 2, 9);
    alice.send(BINARY, &said).await;
    assert_eq!(bob.envelope().await, said);
}

pub(crate) async fn an_envelope_may_come_byte_by_byte<S: Starter>(starter: &S) {
    let relay = open(starter, config()).await;
    let mut alice = Raw::named(&relay, "alice").await;
    let said = message(&address("alice"), &address("alice"), 1, 200);
    for byte in frame(BINARY, &said) {
        alice.write(&[byte]).await;
    }
    assert_eq!(alice.envelope().await, said);
}

pub(crate) async fn pings_are_answered_in_order_and_a_close_is_echoed<S: Starter>(starter: &S) {
    let relay = open(starter, config()).await;
    let mut alice = Raw::named(&relay, "alice").await;
    let pings: Vec<Vec<u8>> = (0..100).map(|n| frame(PING, &[n; 125])).collect();
    alice.write(&pings.concat()).await;
    for n in 0..100 {
        assert_eq!(alice.hear().await, Heard::Pong(vec![n; 125].into()));
    }
    let bye = frame(CLOSE, &close_payload(1000, "bye"));
    alice.write(&[frame(PING, b"last"), bye].concat()).await;
    let last = Heard::Pong(b"last".as_slice().into());
    assert_eq!(alice.rest().await, [last, Heard::close(1000, "bye")]);
    drop(alice);
    emptied(&relay).await;
}

pub(crate) async fn a_close_code_is_echoed_if_it_may_be_sent<S: Starter>(starter: &S) {
    let relay = open(starter, config()).await;
    let broken = (1002, "WebSocket protocol error");
    let cases = [
        (1000, (1000, "so")),
        (1007, (1007, "so")),
        (1014, (1014, "so")),
        (3000, (3000, "so")),
        (4999, (4999, "so")),
        (999, broken),
        (1004, broken),
        (1005, broken),
        (1015, broken),
        (1016, broken),
        (5000, broken),
    ];
    for (sent, (code, reason)) in cases {
        let mut alice = Raw::named(&relay, "alice").await;
        alice.send(CLOSE, &close_payload(sent, "so")).await;
        assert_eq!(alice.rest().await, [Heard::close(code, reason)], "{sent}");
        drop(alice);
        emptied(&relay).await;
    }
}

pub(crate) async fn who_cannot_be_reached_is_named_in_the_refusal<S: Starter>(starter: &S) {
    let relay = challenge(starter, config()).await;
    let mut alice = Peer::proven(&relay, 1).await;
    let bob = key_address(2);
    let offline = "recipient is offline and no queue is configured";
    let not_ours = "to_address is no address of this relay: ";
    let cases = [
        (bob.as_str(), offline.into()),
        ("nonsense", format!("{not_ours}it does not parse")),
        (
            "pinch:bob@relay.example.com",
            format!("{not_ours}it is not a key with its checksum"),
        ),
        (
            "pinch:bob@elsewhere.example.com",
            format!("{not_ours}its host is another"),
        ),
    ];
    for (number, (to, reason)) in (1..).zip(cases) {
        let envelope = Envelope {
            to_address: to.into(),
            ..envelope(&alice.address, &alice.address, MessageType::Message, number)
        };
        alice.send(envelope.to_bytes()).await;
        let (about, refusal) = refusal(&alice.envelope().await).expect("a refusal");
        assert_eq!((about, refusal.recipient_address.as_str()), (number, to));
        assert_eq!(refusal.reason, reason);
    }
}

pub(crate) async fn an_envelope_that_is_too_large_is_refused_with_its_size<S: Starter>(
    starter: &S,
) {
    let relay = open(starter, config()).await;
    let mut alice = Peer::named(&relay, "alice").await;
    for len in [65_537, 131_072] {
        let number = u64::try_from(len).expect("a length");
        alice
            .send(message_of(&alice.address, &alice.address, number, len))
            .await;
        let reason = format!("envelope of {len} bytes over the limit of 65536");
        assert_eq!(refused(&alice.envelope().await), (number, reason));
    }
    let fits = message_of(&alice.address, &alice.address, 1, 65_536);
    alice.send(fits.clone()).await;
    assert_eq!(alice.envelope().await, fits);
}

pub(crate) async fn who_sends_too_fast_is_told_when_to_go_on<S: Starter>(starter: &S) {
    let limit = RateLimit::new(0.01, 3).expect("a limit");
    let relay = open(starter, config().rate_limit(Some(limit))).await;
    let mut alice = Peer::named(&relay, "alice").await;
    for number in 0..5 {
        alice
            .send(message(&alice.address, &alice.address, number, 9))
            .await;
    }
    let (mut arrived, mut limited) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let envelope = decode(&alice.envelope().await);
        match &envelope.payload {
            Some(Payload::RateLimited(refusal)) => {
                assert!(
                    (1..=100_000).contains(&refusal.retry_after_ms),
                    "{refusal:?}"
                );
                assert_eq!(refusal.reason, "rate limit of 0.01 per second, 3 at once");
                limited.push(number(&envelope));
            }
            _ => arrived.push(number(&envelope)),
        }
    }
    assert_eq!((arrived, limited), (vec![0, 1, 2], vec![3, 4]));
}

pub(crate) async fn what_a_blocked_sender_says_goes_nowhere_in_silence<S: Starter>(starter: &S) {
    let relay = open(starter, config()).await;
    let mut alice = Peer::named(&relay, "alice").await;
    let mut bob = Peer::named(&relay, "bob").await;
    let block = BlockNotification {
        blocker_address: alice.address.as_str().into(),
        blocked_address: bob.address.as_str().into(),
    };
    let block = Envelope {
        payload: Some(Payload::BlockNotification(block)),
        ..envelope(
            &alice.address,
            &bob.address,
            MessageType::BlockNotification,
            1,
        )
    };
    alice.send(block.to_bytes()).await;
    eventually("the block stands", || relay.stats().hub.blocks == 1).await;
    bob.send(message(&bob.address, &alice.address, 2, 9)).await;
    let own = message(&bob.address, &bob.address, 3, 9);
    bob.send(own.clone()).await;
    assert_eq!(bob.envelope().await, own);
    let own = message(&alice.address, &alice.address, 4, 9);
    alice.send(own.clone()).await;
    assert_eq!(alice.envelope().await, own);
    assert_eq!(relay.stats().hub.blocked, 1);
}

pub(crate) async fn a_heartbeat_for_the_relay_is_not_answered<S: Starter>(starter: &S) {
    let relay = open(starter, config()).await;
    let mut alice = Peer::named(&relay, "alice").await;
    let heartbeat = Envelope {
        to_address: String::new(),
        ..envelope(&alice.address, &alice.address, MessageType::Heartbeat, 1)
    };
    alice.send(heartbeat.to_bytes()).await;
    let own = message(&alice.address, &alice.address, 2, 9);
    alice.send(own.clone()).await;
    assert_eq!(alice.envelope().await, own);
    assert_eq!(relay.stats().hub.consumed, 1);
}

/// Or the pong would say that all is well, and a connection that breaks behind it takes the refusal
/// along.
pub(crate) async fn a_refusal_comes_before_the_pong_behind_it<S: Starter>(starter: &S) {
    let relay = open(starter, config()).await;
    let mut alice = Raw::named(&relay, "alice").await;
    for count in [1, 300] {
        say_unheard(&mut alice, count, &frame(PING, b"?")).await;
        assert_eq!(alice.hear().await, Heard::Pong(b"?".as_slice().into()));
    }
}

/// Likewise the answer to its close frame, which is the last it hears.
pub(crate) async fn a_refusal_comes_before_the_answer_to_a_close<S: Starter>(starter: &S) {
    let relay = open(starter, config()).await;
    for count in [1, 300] {
        let mut alice = Raw::named(&relay, "alice").await;
        let bye = frame(CLOSE, &close_payload(1000, "bye"));
        say_unheard(&mut alice, count, &bye).await;
        assert_eq!(alice.hear().await, Heard::close(1000, "bye"));
        assert_eq!(alice.hear().await, Heard::End);
    }
}

/// Alice says something `count` times to somebody who is not there, then `last`, all at once, and
/// hears as many refusals.
async fn say_unheard(alice: &mut Raw, count: usize, last: &[u8]) {
    let unheard = message(&address("alice"), &address("nobody"), 1, 9);
    let mut said = frame(BINARY, &unheard).repeat(count);
    said.extend(last);
    alice.write(&said).await;
    let reason = "recipient is offline and no queue is configured".to_owned();
    for _ in 0..count {
        let heard = alice.hear().await;
        let Heard::Envelope(heard) = heard else {
            panic!("{heard:?} instead of a refusal");
        };
        assert_eq!(refused(&heard), (1, reason.clone()));
    }
}
