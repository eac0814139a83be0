//! The durable queue over real sockets: nothing that was accepted is lost, whoever leaves in which
//! way, and a store that is slow, fails or is silent harms nobody.

use std::sync::Arc;

use futures_lite::FutureExt as _;
use futures_lite::future::zip;
use pinch_driver::proto::hub::{Config, QueueConfig};
use pinch_driver::proto::queue::{Failure, MemoryQueue};
use pinch_driver::proto::wire::Payload;
use pinch_driver::{Auth, BindError, MemoryStore, Store, StoreHealth};

use super::stores::{Gate, Mood, Moody};
use crate::envelopes::{address, decode, key_address, message, number, refusal};
use crate::peer::{Heard, Peer};
use crate::raw::{BINARY, CLOSE, PING, Raw, close_payload, frame};
use crate::relays::{self, Relay, config};
use crate::starter::{Running, Starter};
use crate::wait::{LIMIT, eventually, millis, soon};

async fn open<S: Starter>(starter: &S, config: Config, store: impl Store) -> Relay<S> {
    let builder = starter.builder().hub(config).auth(Auth::Open);
    relays::bind(starter, builder.store(store)).await
}

/// Waits until all connections have ended, and the store has everything.
async fn emptied(relay: &impl Running) {
    eventually(
        || format!("an empty relay, not {relay:?}"),
        || {
            let stats = relay.stats();
            let hub = stats.hub;
            let connections = hub.connections + hub.closing;
            let envelopes = hub.queued + hub.queued_bytes + hub.in_flight + hub.backlogged;
            let held = connections + envelopes + hub.storing + hub.store_unanswered;
            (held, stats.tasks) == (0, relay.idle_tasks() + 1)
        },
    )
    .await;
}

/// How much waits, as the relay says when an agent joins.
fn status(message: &[u8]) -> i32 {
    match decode(message).payload {
        Some(Payload::QueueStatus(status)) => status.pending_count,
        other => panic!("{other:?} instead of a QUEUE_STATUS"),
    }
}

/// Waits until the store has `count` envelopes.
async fn stored(relay: &impl Running, count: u64) {
    let what = || format!("{count} stored, not {relay:?}");
    eventually(what, || relay.stats().hub.stored == count).await;
}

pub(crate) async fn who_was_away_hears_how_much_waits_and_gets_it_in_order<S: Starter>(
    starter: &S,
) {
    let store = Arc::new(MemoryStore::new());
    let builder = starter.builder().hub(config()).store(Arc::clone(&store));
    let relay = relays::bind(starter, builder).await;
    let mut alice = Peer::proven(&relay, 1).await;
    let bob = key_address(2);
    let sent: Vec<_> = (0..50)
        .map(|number| message(&alice.address, &bob, number, 100))
        .collect();
    for message in &sent {
        alice.send(message.clone()).await;
    }
    stored(&relay, 50).await;
    let mut bob = Peer::proven(&relay, 2).await;
    assert_eq!(status(&bob.envelope().await), 50);
    for message in &sent {
        assert_eq!(bob.envelope().await, message, "verbatim, in order");
    }
    // The marker behind them is answered while he listens on.
    let live = message(&alice.address, &bob.address, 50, 100);
    alice.send(live.clone()).await;
    assert_eq!(bob.envelope().await, live);
    let hearing = async {
        loop {
            bob.hear().await;
        }
    };
    let delivered = || relay.stats().hub.delivered == 51;
    eventually("every envelope is confirmed", delivered)
        .or(hearing)
        .await;
    let empty = || store.with_queue(MemoryQueue::is_empty);
    eventually("the store has forgotten what has arrived", empty).await;
    bob.leave().await;
    alice.leave().await;
    emptied(&relay).await;
}

pub(crate) async fn who_is_cut_in_the_middle_gets_the_rest_and_what_it_had_not_confirmed<
    S: Starter,
>(
    starter: &S,
) {
    let relay = open(starter, config(), MemoryStore::new()).await;
    let mut alice = Peer::named(&relay, "alice").await;
    for number in 0..100 {
        let message = message(&alice.address, &address("bob"), number, 1000);
        alice.send(message).await;
    }
    stored(&relay, 100).await;
    let mut bob = Raw::named(&relay, "bob").await;
    assert_eq!(status(&bob.envelope().await), 100);
    for expected in 0..20 {
        let crate::peer::Heard::Envelope(heard) = bob.hear().await else {
            panic!("no envelope")
        };
        assert_eq!(number(&decode(&heard)), expected);
    }
    bob.reset();
    let gone = || relay.stats().hub.connections == 1;
    eventually("the relay sees that he is gone", gone).await;
    // What is written while he is away comes last.
    let last = message(&alice.address, &address("bob"), 100, 1000);
    alice.send(last).await;
    stored(&relay, 101).await;
    let mut bob = Peer::named(&relay, "bob").await;
    assert_eq!(status(&bob.envelope().await), 101, "he has confirmed none");
    for expected in 0..=100 {
        assert_eq!(number(&decode(&bob.envelope().await)), expected);
    }
    bob.leave().await;
    alice.leave().await;
    emptied(&relay).await;
}

pub(crate) async fn a_reader_that_stops_spills_and_gets_everything_in_order<S: Starter>(
    starter: &S,
) {
    const OUTBOX: usize = 128 << 10;
    const COUNT: u64 = 2000;
    let config = config().outbox_bytes(OUTBOX).unconfirmed_bytes(OUTBOX);
    let queue = QueueConfig::new().recipient_count(COUNT);
    let store = Arc::new(MemoryStore::new());
    let relay = open(starter, config.queue(queue), Arc::clone(&store)).await;
    let mut reader = Raw::named(&relay, "reader").await;
    let mut sender = Peer::named(&relay, "sender").await;
    for number in 0..COUNT {
        let message = message(&sender.address, &address("reader"), number, 16 << 10);
        sender.send(message).await;
        let hub = relay.stats().hub;
        let held = hub.queued_bytes + hub.in_flight_bytes;
        assert!(held <= 3 * OUTBOX as u64, "{hub:?}");
    }
    eventually("it spills", || relay.stats().hub.stored > 0).await;
    for expected in 0..COUNT {
        assert_eq!(number(&decode(&reader.envelope().await)), expected);
    }
    let hub = relay.stats().hub;
    assert_eq!((hub.refused(), hub.returned, hub.stalls), (0, 0, 0));
    // To itself, and so behind everything that the relay would have said about the others.
    let own = message(&sender.address, &sender.address, COUNT, 0);
    sender.send(own.clone()).await;
    assert_eq!(sender.envelope().await, own, "nothing was to be told");
}

pub(crate) async fn a_shutdown_keeps_what_was_not_confirmed_for_the_next_relay<S: Starter>(
    starter: &S,
) {
    let store = Arc::new(MemoryStore::new());
    let config_of_first = config().close_timeout(millis(50)).ack_probe_interval(LIMIT);
    let relay = open(starter, config_of_first, Arc::clone(&store)).await;
    let mut alice = Peer::named(&relay, "alice").await;
    let mut bob = Raw::named(&relay, "bob").await;
    let sent: Vec<_> = (0..10)
        .map(|number| message(&alice.address, &address("bob"), number, 100))
        .collect();
    for message in &sent {
        alice.send(message.clone()).await;
    }
    for message in &sent {
        assert_eq!(bob.hear_no_ping().await, Heard::Envelope(message.clone()));
    }
    // He has everything, but never says so.
    soon("the shutdown", relay.shutdown()).await;
    assert_eq!(relay.stats().tasks, 0);
    assert_eq!(store.with_queue(MemoryQueue::len), 10);

    let relay = open(starter, config(), store).await;
    let mut bob = Peer::named(&relay, "bob").await;
    assert_eq!(status(&bob.envelope().await), 10);
    for message in &sent {
        assert_eq!(bob.envelope().await, message);
    }
}

pub(crate) async fn a_goodbye_that_crosses_that_of_a_shutdown_confirms_nothing<S: Starter>(
    starter: &S,
) {
    let store = Arc::new(MemoryStore::new());
    let relay = open(starter, config(), Arc::clone(&store)).await;
    let mut alice = Peer::named(&relay, "alice").await;
    let mut bob = Peer::named(&relay, "bob").await;
    for number in 0..10 {
        let message = message(&alice.address, &address("bob"), number, 100);
        alice.send(message).await;
    }
    eventually("his socket has them", || relay.stats().hub.in_flight == 10).await;
    let leave = async {
        // So that the relay's close frame is on its way to him, too.
        alice.closed().await;
        // He ends at the same time, and reads nothing of it.
        bob.say_goodbye().await;
        drop(bob);
    };
    soon("the end of both", zip(relay.shutdown(), leave)).await;
    assert_eq!(store.with_queue(MemoryQueue::len), 10);
}

pub(crate) async fn a_dropped_relay_keeps_what_was_not_confirmed<S: Starter>(starter: &S) {
    let store = Arc::new(MemoryStore::new());
    let relay = open(starter, config(), Arc::clone(&store)).await;
    let mut alice = Peer::named(&relay, "alice").await;
    let _bob = Raw::named(&relay, "bob").await;
    for number in 0..10 {
        let message = message(&alice.address, &address("bob"), number, 100);
        alice.send(message).await;
    }
    eventually("they are accepted", || relay.stats().hub.accepted == 10).await;
    drop(relay);
    let kept = || store.with_queue(MemoryQueue::len) == 10;
    eventually("the store has them", kept).await;
}

pub(crate) async fn blocks_outlive_the_relay<S: Starter>(starter: &S) {
    use pinch_driver::proto::wire::{BlockNotification, Envelope};

    let store = Arc::new(MemoryStore::new());
    let relay = open(starter, config(), Arc::clone(&store)).await;
    let mut bob = Peer::named(&relay, "bob").await;
    let payload = Payload::BlockNotification(BlockNotification {
        blocked_address: address("alice").as_str().into(),
        ..BlockNotification::default()
    });
    let block = Envelope {
        from_address: bob.address.as_str().into(),
        r#type: payload.message_type().into(),
        payload: Some(payload),
        ..Envelope::default()
    };
    bob.send(block.to_bytes()).await;
    let known = || store.restored().blocks == [(address("bob"), address("alice"))];
    eventually("the store knows", known).await;
    drop(relay);

    let relay = open(starter, config(), store).await;
    let mut alice = Peer::named(&relay, "alice").await;
    let message = message(&alice.address, &address("bob"), 0, 0);
    alice.send(message).await;
    eventually("it is dropped", || relay.stats().hub.blocked == 1).await;
    assert_eq!(relay.stats().hub.accepted, 0);
}

pub(crate) async fn many_senders_share_a_commit<S: Starter>(starter: &S) {
    const SENDERS: u64 = 50;
    let store = Arc::new(Gate::new(MemoryStore::new()));
    let relay = open(starter, config(), Arc::clone(&store)).await;
    let mut senders = Vec::new();
    for number in 0..SENDERS {
        senders.push(Peer::named(&relay, &format!("sender{number}")).await);
    }
    // All that joined have read their queues.
    eventually("the store is idle", || {
        relay.stats().hub.store_unanswered == 0
    })
    .await;
    let before = store.batches();
    store.close();
    for (sender, number) in senders.iter_mut().zip(0..) {
        let message = message(&sender.address, &address("bob"), number, 100);
        sender.send(message).await;
    }
    let asked = || relay.stats().hub.store_unanswered == SENDERS;
    eventually("all of them wait for the store", asked).await;
    store.open();
    stored(&relay, SENDERS).await;
    // The first of them began one; all others are the next.
    assert!(store.batches() - before <= 2, "{} batches", store.batches());
}

pub(crate) async fn a_store_that_fails_is_told_and_shown_and_live_traffic_goes_on<S: Starter>(
    starter: &S,
) {
    let store = Arc::new(Moody::new(MemoryStore::new()));
    let relay = open(starter, config(), Arc::clone(&store)).await;
    let mut alice = Peer::named(&relay, "alice").await;
    let mut bob = Peer::named(&relay, "bob").await;
    assert_eq!(relay.stats().store, StoreHealth::Working);
    store.set(Mood::Fails(Failure::DiskFull));
    let away = address("away");
    alice.send(message(&alice.address, &away, 1, 0)).await;
    let (about, refused) = refusal(&alice.envelope().await).expect("a refusal");
    assert_eq!(
        (about, refused.recipient_address.as_str()),
        (1, away.as_str())
    );
    assert_eq!(refused.reason, "relay is out of disk");
    let health = super::http::health(&relay).await;
    assert_eq!(
        (&health["status"], &health["store"]),
        (&"ok".into(), &"disk full".into())
    );

    let live = message(&alice.address, &bob.address, 2, 0);
    alice.send(live.clone()).await;
    assert_eq!(bob.envelope().await, live);

    store.set(Mood::Works);
    alice.send(message(&alice.address, &away, 3, 0)).await;
    stored(&relay, 1).await;
    assert_eq!(super::http::health(&relay).await["store"], "ok");
}

/// A relay that alice and bob have joined, their queues known to be empty, before its store comes into
/// `mood`.
async fn drained_before<S: Starter>(starter: &S, mood: Mood) -> (Relay<S>, Peer, Peer) {
    let store = Arc::new(Moody::new(MemoryStore::new()));
    let queue = QueueConfig::new().answer_timeout(millis(100));
    let relay = open(starter, config().queue(queue), Arc::clone(&store)).await;
    let alice = Peer::named(&relay, "alice").await;
    let bob = Peer::named(&relay, "bob").await;
    let drained = || relay.stats().hub.backlogged == 0;
    eventually("their queues are known to be empty", drained).await;
    store.set(mood);
    (relay, alice, bob)
}

pub(crate) async fn a_store_that_is_silent_holds_up_neither_traffic_nor_the_end<S: Starter>(
    starter: &S,
) {
    let (relay, mut alice, mut bob) = drained_before(starter, Mood::Silent).await;
    alice
        .send(message(&alice.address, &address("away"), 1, 0))
        .await;
    let live = message(&alice.address, &bob.address, 2, 0);
    alice.send(live.clone()).await;
    assert_eq!(bob.envelope().await, live);
    let (about, refused) = refusal(&alice.envelope().await).expect("a refusal");
    assert_eq!(about, 1);
    assert!(
        refused.reason.contains("does not answer"),
        "{}",
        refused.reason
    );
    bob.leave().await;
    alice.leave().await;
    soon("the shutdown", relay.shutdown()).await;
    assert_eq!(relay.stats().tasks, 0);
}

pub(crate) async fn a_store_that_gives_too_few_outcomes_has_failed<S: Starter>(starter: &S) {
    let store = Arc::new(Moody::new(MemoryStore::new()));
    let relay = open(starter, config(), Arc::clone(&store)).await;
    let mut alice = Peer::named(&relay, "alice").await;
    store.set(Mood::Forgets);
    alice
        .send(message(&alice.address, &address("away"), 1, 0))
        .await;
    let (_, refused) = refusal(&alice.envelope().await).expect("a refusal");
    assert_eq!(refused.reason, "relay's store does not work");
    let broken = StoreHealth::Failing(Failure::Broken);
    assert_eq!(relay.stats().store, broken);
}

pub(crate) async fn a_store_that_panics_shows_in_the_health_and_does_not_hold_up_the_end<
    S: Starter,
>(
    starter: &S,
) {
    let (relay, mut alice, mut bob) = drained_before(starter, Mood::Panics).await;
    let away = message(&alice.address, &address("away"), 1, 0);
    alice.send(away).await;
    let (about, _) = refusal(&alice.envelope().await).expect("a refusal");
    assert_eq!(about, 1);
    // Its panic may still be reported while the hub waits for it no longer.
    let failing = async {
        loop {
            let (status, health) = super::http::health_with_status(&relay).await;
            if status == 503 {
                return health;
            }
        }
    };
    let health = soon("a relay that says so", failing).await;
    assert_eq!(health["status"], "the store task has died");
    let live = message(&alice.address, &bob.address, 2, 0);
    alice.send(live.clone()).await;
    assert_eq!(bob.envelope().await, live);
    let told = async {
        for peer in [&mut alice, &mut bob] {
            assert_eq!(peer.closed().await, Heard::close(1001, "going away"));
        }
    };
    soon("the end of both", zip(relay.shutdown(), told)).await;
    assert_eq!(relay.stats().tasks, 0);
}

pub(crate) async fn a_queue_needs_a_store<S: Starter>(starter: &S) {
    let config = config().queue(QueueConfig::new());
    let localhost = ([127, 0, 0, 1], 0).into();
    let relay = starter.bind(starter.builder().hub(config), localhost).await;
    assert!(matches!(relay, Err(BindError::NoStore)), "{relay:?}");
}

pub(crate) async fn a_pong_and_a_close_wait_for_what_the_store_says<S: Starter>(starter: &S) {
    let config = config().queue(QueueConfig::new().recipient_count(1));
    let relay = open(starter, config, MemoryStore::new()).await;
    let mut alice = Raw::named(&relay, "alice").await;
    let envelope = |number| {
        let message = message(&address("alice"), &address("bob"), number, 100);
        frame(BINARY, &message)
    };
    alice.write(&envelope(0)).await;
    stored(&relay, 1).await;
    for number in 1..=11 {
        let ping = frame(PING, b"?");
        alice.write(&[envelope(number), ping].concat()).await;
        let rejected = refusal(&alice.envelope().await).expect("a rejection");
        assert_eq!(rejected.0, number);
        assert_eq!(alice.hear().await, Heard::Pong(b"?".as_slice().into()));
    }
    let bye = frame(CLOSE, &close_payload(1000, "bye"));
    alice.write(&[envelope(12), bye].concat()).await;
    let rest = alice.rest().await;
    let [Heard::Envelope(rejection), close] = &rest[..] else {
        panic!("{rest:?}")
    };
    assert_eq!(refusal(rejection).expect("a rejection").0, 12);
    assert_eq!(*close, Heard::close(1000, "bye"));
    drop(alice);
    emptied(&relay).await;
}
