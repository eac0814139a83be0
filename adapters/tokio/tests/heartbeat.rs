//! Heartbeats on real sockets and real time: who answers pings lives, who does not is told and cut.

mod support;

use support::raw::{BINARY, PING, Raw};
use support::{
    Heard, LIMIT, Peer, address, config, emptied, envelope, eventually, message, millis, open,
};

use pinch_proto::wire::MessageType;

#[tokio::test(flavor = "multi_thread")]
async fn who_only_answers_pings_lives_on() {
    let config = config().heartbeat_interval(millis(50)).pong_timeout(LIMIT);
    let relay = open(config).await;
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

#[tokio::test]
async fn who_answers_no_ping_is_told_and_closed() {
    let config = config()
        .heartbeat_interval(millis(50))
        .pong_timeout(millis(100));
    let relay = open(config).await;
    let mut silent = Raw::named(&relay, "silent").await;
    silent.ping().await;
    assert_eq!(silent.hear().await, Heard::close(1008, "heartbeat timeout"));
    silent.answer_close().await;
    emptied(&relay).await;
    assert_eq!(relay.stats().hub.heartbeat_timeouts, 1);
}

#[tokio::test]
async fn who_never_even_joined_with_a_pong_is_closed_too() {
    let config = config().heartbeat_interval(LIMIT).pong_timeout(millis(100));
    let relay = open(config).await;
    let mut silent = Raw::upgraded(&relay, "silent").await;
    silent.ping().await;
    assert_eq!(silent.hear().await, Heard::close(1008, "heartbeat timeout"));
    silent.answer_close().await;
}

#[tokio::test]
async fn who_neither_answers_nor_reads_nor_leaves_is_cut() {
    let config = config()
        .heartbeat_interval(millis(50))
        .pong_timeout(millis(100))
        .close_timeout(millis(100));
    let relay = open(config).await;
    let dead = Raw::named(&relay, "dead").await;
    emptied(&relay).await;
    assert_eq!(relay.stats().hub.heartbeat_timeouts, 1);
    drop(dead);
}

#[tokio::test]
async fn data_is_a_sign_of_life_too() {
    let config = config()
        .heartbeat_interval(millis(50))
        .pong_timeout(millis(1000));
    let relay = open(config).await;
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
#[tokio::test]
async fn who_floods_with_pings_and_reads_no_pong_is_cut() {
    use tokio::io::AsyncWriteExt as _;

    let config = config()
        .heartbeat_interval(millis(50))
        .pong_timeout(millis(300))
        .stall_timeout(millis(300))
        .close_timeout(millis(100));
    let relay = open(config).await;
    let mut flood = Raw::named(&relay, "flood").await;
    let pings = support::raw::frame(PING, &[0; 125]).repeat(100);
    let flooding = async { while flood.stream.write_all(&pings).await.is_ok() {} };
    support::soon("the cut", flooding).await;
    emptied(&relay).await;
}
