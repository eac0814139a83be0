//! Peers that break the rules after they have joined: each is told which rule, cut, and nobody else
//! notices.

use futures_util::AsyncWriteExt as _;
use pinch_driver::proto::wire::{Envelope, MessageType};

use crate::envelopes::{address, envelope, message, message_of};
use crate::peer::{Heard, Peer};
use crate::raw::{
    BINARY, CLOSE, FIRST, LAST, MIDDLE, PING, Raw, TEXT, close_payload, frame, header,
};
use crate::relays::{config, emptied, open};
use crate::starter::{Running, Starter};
use crate::wait::{eventually, millis, soon};

/// What a peer hears that joins and writes `bytes`, to the end; it answers no close frame.
async fn told(relay: &impl Running, bytes: &[u8]) -> Vec<Heard> {
    let mut peer = Raw::named(relay, "mallory").await;
    peer.write(bytes).await;
    let told = peer.rest().await;
    eventually("it is gone", || relay.stats().hub.connections == 1).await;
    told
}

/// Sends a message to itself, and waits for it.
async fn works(peer: &mut Peer) {
    let said = message(&peer.address, &peer.address, 1, 1000);
    peer.send(said.clone()).await;
    assert_eq!(peer.envelope().await, said);
}

pub(crate) async fn a_breach_of_websocket_is_told_apart_from_others<S: Starter>(starter: &S) {
    let relay = open(starter, config()).await;
    let mut bystander = Peer::named(&relay, "bystander").await;
    let unmasked = [&header(BINARY, 5, false)[..], b"hello"].concat();
    let broken = |bytes: Vec<u8>| (bytes, 1002, "WebSocket protocol error");
    let too_big = |bytes: Vec<u8>| (bytes, 1009, "message over 131072 bytes");
    let cases = [
        (
            frame(TEXT, b"hello"),
            1003,
            "text message, expected a binary one",
        ),
        (frame(TEXT, b"\xff"), 1007, "text that is not UTF-8"),
        (
            frame(CLOSE, b"\x03\xe8\xff"),
            1007,
            "text that is not UTF-8",
        ),
        broken(unmasked),
        // Reserved bits, and opcodes.
        broken(frame(BINARY | 0x40, b"hello")),
        broken(frame(BINARY | 0x20, b"hello")),
        broken(frame(BINARY | 0x10, b"hello")),
        broken(frame(LAST | 0x03, b"hello")),
        broken(frame(LAST | 0x0b, b"hello")),
        // Control frames that are too long, or in fragments.
        broken(frame(PING, &[0; 126])),
        broken(frame(PING & !LAST, b"hello")),
        // A fragment of nothing, and a message inside of another.
        broken(frame(LAST, b"hello")),
        broken(frame(MIDDLE, b"hello")),
        broken([frame(FIRST, b"a"), frame(BINARY, b"b")].concat()),
        // A close frame with half a code.
        broken(frame(CLOSE, b"\x03")),
        too_big(frame(BINARY, &[0; 131_073])),
        too_big([frame(FIRST, &[0; 131_072]), frame(LAST, b"1")].concat()),
        // Its header is enough.
        too_big([&header(BINARY, 131_073, true)[..], b"mask"].concat()),
        too_big([&header(BINARY, u64::MAX, true)[..], b"mask"].concat()),
    ];
    for (bytes, code, reason) in cases {
        let start = bytes[..bytes.len().min(20)].to_vec();
        assert_eq!(
            told(&relay, &bytes).await,
            [Heard::close(code, reason)],
            "{start:x?}"
        );
        works(&mut bystander).await;
    }
    drop(bystander);
    emptied(&relay).await;
}

pub(crate) async fn what_comes_before_a_breach_counts_and_what_comes_after_it_does_not<
    S: Starter,
>(
    starter: &S,
) {
    let relay = open(starter, config()).await;
    let mut bob = Peer::named(&relay, "bob").await;
    let mallory = address("mallory");
    let said = |number| frame(BINARY, &message(&mallory, &bob.address, number, 9));
    let bytes = [
        said(1),
        frame(PING, b"1"),
        frame(TEXT, b"!"),
        said(2),
        frame(PING, b"2"),
    ]
    .concat();
    let close = Heard::close(1003, "text message, expected a binary one");
    assert_eq!(
        told(&relay, &bytes).await,
        [Heard::Pong(b"1".as_slice().into()), close]
    );
    assert_eq!(bob.envelope().await, message(&mallory, &bob.address, 1, 9));
    works(&mut bob).await;
}

pub(crate) async fn a_pong_does_not_confirm_what_ends_the_connection<S: Starter>(starter: &S) {
    let relay = open(starter, config()).await;
    let mut bob = Peer::named(&relay, "bob").await;
    let said = message(&address("mallory"), &bob.address, 1, 9);
    let foreign = message(&address("alice"), &bob.address, 2, 9);
    let bytes = [
        frame(BINARY, &said),
        frame(PING, b"1"),
        frame(BINARY, &foreign),
        frame(PING, b"2"),
    ]
    .concat();
    let close = Heard::close(1008, "from_address is not yours");
    assert_eq!(
        told(&relay, &bytes).await,
        [Heard::Pong(b"1".as_slice().into()), close]
    );
    assert_eq!(bob.envelope().await, said);
    works(&mut bob).await;
}

pub(crate) async fn who_goes_on_after_a_breach_is_not_listened_to<S: Starter>(starter: &S) {
    let relay = open(starter, config().close_timeout(millis(200))).await;
    let mut bystander = Peer::named(&relay, "bystander").await;
    let mut mallory = Raw::named(&relay, "mallory").await;
    mallory.send(LAST | 0x03, b"").await;
    assert_eq!(
        mallory.hear().await,
        Heard::close(1002, "WebSocket protocol error")
    );
    // Until it is cut, it writes on.
    let garbage = vec![0xa5; 50_000];
    let flood = async { while mallory.stream.write_all(&garbage).await.is_ok() {} };
    soon("the cut", flood).await;
    works(&mut bystander).await;
    drop(bystander);
    emptied(&relay).await;
}

pub(crate) async fn what_is_no_envelope_ends_the_connection<S: Starter>(starter: &S) {
    let relay = open(starter, config()).await;
    let mut bystander = Peer::named(&relay, "bystander").await;
    // A varint that does not end, a string that is longer than the rest, a group, field 0.
    for bytes in [&b"\x08\xff"[..], b"\x12\x7fabc", b"\x0b", b"\x00\x00"] {
        let told = told_and_closed(&relay, bytes).await;
        let Heard::Close(1007, reason) = told else {
            panic!("{told:?} after {bytes:x?}")
        };
        assert!(reason.starts_with("no envelope: byte "), "{reason}");
        works(&mut bystander).await;
    }
}

/// What a peer hears that joins, sends one message, and answers the close frame.
async fn told_and_closed(relay: &impl Running, message: &[u8]) -> Heard {
    let mut peer = Raw::named(relay, "mallory").await;
    peer.send(BINARY, message).await;
    let told = peer.hear().await;
    peer.answer_close().await;
    told
}

pub(crate) async fn nobody_speaks_for_another_or_for_the_relay<S: Starter>(starter: &S) {
    let relay = open(starter, config()).await;
    let mut bob = Peer::named(&relay, "bob").await;
    let mallory = address("mallory");
    let foreign = message(&address("alice"), &bob.address, 1, 9);
    let nobodys = Envelope::default().to_bytes();
    for message in [foreign, nobodys] {
        let close = Heard::close(1008, "from_address is not yours");
        assert_eq!(told_and_closed(&relay, &message).await, close);
    }
    for kind in [
        MessageType::AuthChallenge,
        MessageType::AuthResponse,
        MessageType::AuthResult,
        MessageType::QueueStatus,
        MessageType::QueueFull,
        MessageType::RateLimited,
    ] {
        let message = envelope(&mallory, &bob.address, kind, 1).to_bytes();
        let close = Heard::close(1008, &format!("only the relay may send {kind:?}"));
        assert_eq!(told_and_closed(&relay, &message).await, close);
    }
    works(&mut bob).await;
    drop(bob);
    emptied(&relay).await;
    assert_eq!(relay.stats().hub.violations, 8);
}

pub(crate) async fn a_message_that_never_ends_harms_nobody<S: Starter>(starter: &S) {
    let relay = open(starter, config()).await;
    let mut bystander = Peer::named(&relay, "bystander").await;
    let whole = frame(
        BINARY,
        &message_of(&address("half"), &bystander.address, 1, 65_536),
    );
    let mut half = Raw::named(&relay, "half").await;
    half.write(&whole[..whole.len() - 1]).await;
    let mut fragments = Raw::named(&relay, "fragments").await;
    fragments.send(FIRST, &[8; 60_000]).await;
    works(&mut bystander).await;
    drop((half, fragments, bystander));
    emptied(&relay).await;
    assert_eq!(relay.stats().hub.accepted, 1);
}

pub(crate) async fn what_follows_a_close_frame_is_left_alone<S: Starter>(starter: &S) {
    let relay = open(starter, config()).await;
    let mut bob = Peer::named(&relay, "bob").await;
    let said = message(&address("mallory"), &bob.address, 1, 9);
    let bye = frame(CLOSE, &close_payload(1000, "bye"));
    let told = told(
        &relay,
        &[bye, frame(BINARY, &said), frame(TEXT, b"!")].concat(),
    )
    .await;
    assert_eq!(told, [Heard::close(1000, "bye")]);
    works(&mut bob).await;
    assert_eq!(relay.stats().hub.violations, 0);
}

pub(crate) async fn what_a_closed_peer_says_last_is_not_taken_for_anothers<S: Starter>(
    starter: &S,
) {
    let relay = open(starter, config()).await;
    let mut bystander = Peer::named(&relay, "bystander").await;
    let mut mallory = Raw::named(&relay, "mallory").await;
    let own = address("mallory");
    let forbidden = envelope(&own, &own, MessageType::AuthResult, 1);
    mallory.send(BINARY, &forbidden.to_bytes()).await;
    assert!(matches!(mallory.hear().await, Heard::Close(1008, _)));
    let foreign = message(&own, &bystander.address, 1, 9);
    let last = [
        frame(BINARY, &foreign),
        frame(CLOSE, &close_payload(1008, "")),
    ]
    .concat();
    mallory.write(&last).await;
    assert_eq!(mallory.rest().await, []);
    works(&mut bystander).await;
    works(&mut bystander).await;
    assert_eq!(relay.stats().hub.violations, 1);
}
