//! Heartbeats on real sockets and real time: who answers pings lives, who does not is told and cut.

use futures_util::AsyncWriteExt as _;

use crate::envelopes::{address, envelope, message, refusal};
use crate::peer::{Heard, Peer};
use crate::raw::{BINARY, PING, Raw};
use crate::relays::{config, emptied, open};
use crate::starter::{Running, Starter};
use crate::wait::{LIMIT, eventually, millis, soon};

use pinch_driver::proto::wire::MessageType;

pub(crate) async fn who_only_answers_pings_lives_on<S: Starter>(starter: &S) {
    let config = config().heartbeat_interval(millis(50)).pong_timeout(LIMIT);
    let relay = open(starter, config).await;
    let mut alice = Peer::named(&relay, "alice").await;
    while alice.pings < 20 {
        assert!(matches!(alice.hear().await, Heard::Ping(_)));
    }
    let said = message(&alice.address, &alice.address, 1, 9);
    alice.send(said.clone()).await;
    assert_eq!(alice.envelope().await, said);
    eventually("every pong is counted", || relay.stats().hub.pongs >= 20).await;
    assert_eq!(relay.stats().hub.heartbeat_timeouts, 0);
}

pub(crate) async fn who_answers_no_ping_is_told_and_closed<S: Starter>(starter: &S) {
    let config = config()
        .heartbeat_interval(millis(50))
        .pong_timeout(millis(1000));
    let relay = open(starter, config).await;
    let mut silent = Raw::named(&relay, "silent").await;
    silent.ping().await;
    assert_eq!(silent.hear().await, Heard::close(1008, "heartbeat timeout"));
    silent.answer_close().await;
    emptied(&relay).await;
    assert_eq!(relay.stats().hub.heartbeat_timeouts, 1);
}

pub(crate) async fn who_never_even_joined_with_a_pong_is_closed_too<S: Starter>(starter: &S) {
    let config = config().heartbeat_interval(LIMIT).pong_timeout(millis(100));
    let relay = open(starter, config).await;
    let mut silent = Raw::upgraded(&relay, "silent").await;
    silent.ping().await;
    assert_eq!(silent.hear().await, Heard::close(1008, "heartbeat timeout"));
    silent.answer_close().await;
}

pub(crate) async fn who_neither_answers_nor_reads_nor_leaves_is_cut<S: Starter>(starter: &S) {
    let config = config()
        .heartbeat_interval(millis(50))
        .pong_timeout(millis(100))
        .close_timeout(millis(100));
    let relay = open(starter, config).await;
    let dead = Raw::named(&relay, "dead").await;
    emptied(&relay).await;
    assert_eq!(relay.stats().hub.heartbeat_timeouts, 1);
    drop(dead);
}

pub(crate) async fn data_is_a_sign_of_life_too<S: Starter>(starter: &S) {
    let config = config().heartbeat_interval(millis(50)).pong_timeout(LIMIT);
    let relay = open(starter, config).await;
    let mut alice = Raw::named(&relay, "alice").await;
    let alive = envelope(
        &address("alice"),
        &address("alice"),
        MessageType::Heartbeat,
        1,
    );
    // Each ping gets an envelope for an answer, and each envelope comes back.
    let mut pings = 0;
    while pings < 40 {
        let heard = alice.hear().await;
        if matches!(heard, Heard::Ping(_)) {
            pings += 1;
            alice.send(BINARY, &alive.to_bytes()).await;
        } else {
            assert!(matches!(heard, Heard::Envelope(_)), "{heard:?}");
        }
    }
    assert_eq!(relay.stats().hub.heartbeat_timeouts, 0);
}

/// A peer that asks for pongs and does not read them fills its own socket, so that no ping of the
/// relay gets through to it.
pub(crate) async fn who_floods_with_pings_and_reads_no_pong_is_cut<S: Starter>(starter: &S) {
    let config = config()
        .heartbeat_interval(millis(50))
        .pong_timeout(millis(300))
        .stall_timeout(millis(300))
        .close_timeout(millis(100))
        .control_limit(None);
    let relay = open(starter, config).await;
    let mut flood = Raw::named(&relay, "flood").await;
    let pings = crate::raw::frame(PING, &[0; 125]).repeat(100);
    let flooding = async { while flood.stream.write_all(&pings).await.is_ok() {} };
    soon("the cut", flooding).await;
    emptied(&relay).await;
}

pub(crate) async fn a_peer_that_sends_and_acknowledges_nothing_is_closed<S: Starter>(starter: &S) {
    let config = config()
        .rate_limit(None)
        .control_limit(None)
        .stall_timeout(millis(300))
        .close_timeout(millis(100));
    let relay = open(starter, config).await;
    let mut sender = Peer::named(&relay, "sender").await;
    let mut hoarder = Raw::named(&relay, "hoarder").await;
    let held = message(&sender.address, &address("hoarder"), 1, 1000);
    sender.send(held.clone()).await;
    // It sends pings without end, reads, and answers none of the relay's.
    let heard = async {
        loop {
            hoarder.send(PING, b"alive").await;
            match hoarder.hear().await {
                Heard::Envelope(envelope) => assert_eq!(envelope, held),
                Heard::Ping(_) | Heard::Pong(_) => {}
                end @ (Heard::Close(..) | Heard::End) => return end,
            }
        }
    };
    let end = soon("the close", heard).await;
    assert_eq!(end, Heard::close(1008, "too slow"));
    assert_eq!(relay.stats().hub.ack_timeouts, 1);
    let about = refusal(&sender.envelope().await).expect("a rejection");
    assert_eq!(about.0, 1, "without a queue, its sender is told");
}
