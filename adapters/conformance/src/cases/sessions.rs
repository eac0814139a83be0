//! Short sessions: what the end of a session acknowledges, and sessions that only send.

use std::sync::Arc;

use futures_util::AsyncWriteExt as _;
use pinch_driver::proto::hub::AckOnClose;
use pinch_driver::proto::queue::MemoryQueue;
use pinch_driver::proto::wire::Payload;
use pinch_driver::{AllowedOrigins, Auth, MemoryStore};

use crate::envelopes::{address, decode, message};
use crate::peer::{Heard, Peer};
use crate::raw::{BINARY, CLOSE, Raw, close_payload, upgrade_request};
use crate::relays::{self, Relay, config};
use crate::starter::{Running, Starter};
use crate::wait::eventually;

/// How a session ends that has read its queue and answered no ping behind it.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// Close frames are exchanged, then the peer ends its stream.
    Clean,
    /// The stream is reset after the close frames.
    ResetAfterClose,
    /// The peer ends its stream without a close frame.
    EndOfStream,
    /// The stream is reset without a close frame.
    Reset,
    /// The relay shuts down; the peer answers its close frame and ends its stream.
    Shutdown,
}

async fn open<S: Starter>(starter: &S, policy: AckOnClose, store: &Arc<MemoryStore>) -> Relay<S> {
    let builder = starter
        .builder()
        .hub(config().ack_on_close(policy))
        .auth(Auth::Open)
        .allowed_origins(AllowedOrigins::Any)
        .store(Arc::clone(store));
    relays::bind(starter, builder).await
}

/// A session of bob that has read everything but answered only the ping of its join.
async fn session(relay: &impl Running, query: &str, fields: &str, waiting: usize) -> Raw {
    let mut bob = Raw::connect(relay).await;
    let target = format!("/ws?address={}{query}", address("bob"));
    let request = upgrade_request(&target);
    let request = request.replacen("\r\n", &format!("\r\n{fields}"), 1);
    bob.write(request.as_bytes()).await;
    bob.upgraded_response().await;
    bob.answer_ping().await;
    // QUEUE_STATUS, the queue, and the ack probe behind it.
    for _ in 0..=waiting {
        let heard = bob.hear().await;
        assert!(matches!(heard, Heard::Envelope(_)), "{heard:?}");
    }
    bob.ping().await;
    bob
}

async fn end(relay: &impl Running, mut bob: Raw, ending: Ending) {
    match ending {
        Ending::Clean | Ending::ResetAfterClose => {
            bob.send(CLOSE, &close_payload(1000, "")).await;
            assert_eq!(bob.hear().await, Heard::close(1000, ""));
            if matches!(ending, Ending::ResetAfterClose) {
                bob.reset();
            }
        }
        Ending::EndOfStream => bob.stream.close().await.expect("a socket"),
        Ending::Reset => bob.reset(),
        Ending::Shutdown => {
            let closes = async {
                let rest = bob.hear_no_ping().await;
                assert_eq!(rest, Heard::close(1001, "going away"));
                bob.send(CLOSE, &close_payload(1001, "")).await;
            };
            futures_lite::future::zip(relay.shutdown(), closes).await;
        }
    }
}

pub(crate) async fn only_a_clean_close_by_the_peer_acknowledges<S: Starter>(starter: &S) {
    use AckOnClose::{Clean, Never};
    const ORIGIN: &str = "Origin: https://app.example.com\r\n";
    let cases = [
        (Clean, "", "", Ending::Clean, 0),
        (Clean, "&receive=1&dedup=0", "", Ending::Clean, 0),
        (Never, "", "", Ending::Clean, 3),
        (Clean, "&dedup=1", "", Ending::Clean, 3),
        (Clean, "", ORIGIN, Ending::Clean, 3),
        (Clean, "", "", Ending::ResetAfterClose, 3),
        (Clean, "", "", Ending::EndOfStream, 3),
        (Clean, "", "", Ending::Reset, 3),
        (Clean, "", "", Ending::Shutdown, 3),
    ];
    for case in cases {
        let (policy, query, fields, ending, left) = case;
        let store = Arc::new(MemoryStore::new());
        let relay = open(starter, policy, &store).await;
        let mut alice = Peer::named(&relay, "alice").await;
        for number in 0..3 {
            let message = message(&alice.address, &address("bob"), number, 100);
            alice.send(message).await;
        }
        eventually("they are stored", || relay.stats().hub.stored == 3).await;
        alice.leave().await;
        let bob = session(&relay, query, fields, 3).await;
        end(&relay, bob, ending).await;
        let ended = || {
            let hub = relay.stats().hub;
            (hub.connections, hub.closing, hub.store_unanswered) == (0, 0, 0)
        };
        eventually(|| format!("the end of {case:?}"), ended).await;
        assert_eq!(store.with_queue(MemoryQueue::len), left, "{case:?}");
    }
}

pub(crate) async fn a_row_of_short_sessions_gets_each_envelope_once<S: Starter>(starter: &S) {
    let store = Arc::new(MemoryStore::new());
    let relay = open(starter, AckOnClose::Clean, &store).await;
    let mut alice = Peer::named(&relay, "alice").await;
    for number in 0..20 {
        let message = message(&alice.address, &address("bob"), number, 100);
        alice.send(message.clone()).await;
        eventually("it is stored", || relay.stats().hub.stored == number + 1).await;
        // One envelope waits for each session: those before are not delivered again.
        let mut bob = Raw::connect(&relay).await;
        bob.upgrade(&format!("/ws?address={}", address("bob")))
            .await;
        bob.answer_ping().await;
        let status = decode(&bob.envelope().await).payload;
        let Some(Payload::QueueStatus(status)) = status else {
            panic!("{status:?} instead of a QUEUE_STATUS")
        };
        assert_eq!(status.pending_count, 1, "session {number}");
        let heard = bob.hear().await;
        assert_eq!(heard, Heard::Envelope(message));
        // It closes in the handler of the last message: the probe behind it is not answered.
        bob.send(CLOSE, &close_payload(1000, "")).await;
        assert_eq!(bob.hear_no_ping().await, Heard::close(1000, ""));
    }
}

pub(crate) async fn a_session_that_only_sends_lives_beside_the_one_that_receives<S: Starter>(
    starter: &S,
) {
    let store = Arc::new(MemoryStore::new());
    let relay = open(starter, AckOnClose::Clean, &store).await;
    let mut listener = Peer::named(&relay, "bob").await;
    let own = address("bob");
    let target = format!("/ws?address={own}&receive=0");
    let mut senders = Vec::new();
    for _ in 0..8 {
        let mut sender = Raw::connect(&relay).await;
        sender.upgrade(&target).await;
        sender.answer_ping().await;
        senders.push(sender);
    }
    let mut ninth = Raw::connect(&relay).await;
    ninth.upgrade(&target).await;
    let reason = "too many send-only sessions of this address: at most 8";
    assert_eq!(ninth.hear().await, Heard::close(1013, reason));

    // What they send arrives at the listener, and what is rejected is reported to them.
    for (number, sender) in (0..).zip(&mut senders) {
        let sent = message(&own, &own, number, 10);
        sender.send(BINARY, &sent).await;
        assert_eq!(listener.envelope().await, sent);
        let lost = message(&own, &own, number, 70_000);
        sender.send(BINARY, &lost).await;
        let rejected = decode(&sender.envelope().await).payload;
        assert!(
            matches!(rejected, Some(Payload::QueueFull(_))),
            "{rejected:?}"
        );
    }
    assert_eq!(relay.stats().hub.send_only, 8);
    drop(senders);
    // The listener is still found, by those who write to it from elsewhere.
    let mut alice = Peer::named(&relay, "alice").await;
    let sent = message(&alice.address, &own, 0, 10);
    alice.send(sent.clone()).await;
    assert_eq!(listener.envelope().await, sent);
    let gone = || relay.stats().hub.send_only == 0;
    eventually("the send-only sessions have ended", gone).await;
}
