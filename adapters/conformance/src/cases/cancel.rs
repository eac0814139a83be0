//! Futures that are dropped before they complete, at each of their await points: they leave nothing
//! behind, and lose nothing that was accepted or has come.

use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;

use futures_lite::future::yield_now;
use futures_util::SinkExt;
use futures_util::future::join_all;
use pinch_driver::proto::client::{Config, Event};
use pinch_driver::proto::wire::Envelope;
use pinch_driver::{ClientBuilder, Runtime};

use crate::agents::{self, Client, agent, client, key, message, received, relay, text, url};
use crate::envelopes::decode;
use crate::mortal::Mortal;
use crate::relays::{Relay, emptied};
use crate::starter::Starter as _;
use crate::tracked::Tracked;
use crate::wait::{eventually, soon};

/// More await points than any future of ours has.
const MOST: usize = 10_000;

/// Polls `future` as often as it is woken, but `polls` times at most; then drops it.
async fn polled<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    let limited = poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        let polled = future.as_mut().poll(cx).map(Some);
        if left == 0 {
            // It is not waited for any more.
            cx.waker().wake_by_ref();
        }
        polled
    });
    soon("a future that is polled", limited).await
}

/// Lets `attempt` drop its future after no poll, after one, after two, until it completes. It says
/// whether it has.
async fn at_every_await_point(mut attempt: impl AsyncFnMut(usize) -> bool) {
    for polls in 0..MOST {
        if attempt(polls).await {
            assert!(polls > 0, "it cannot complete without a poll");
            return;
        }
    }
    panic!("it does not complete within {MOST} polls");
}

/// Tasks and sockets; timers come and go.
fn held<R: Runtime>(runtime: &Tracked<R>) -> (usize, usize) {
    let held = runtime.held();
    (held.tasks, held.streams)
}

pub(crate) async fn a_bind_leaves_nothing<R: Runtime>(runtime: &Tracked<R>) {
    at_every_await_point(async |polls| {
        let binding = runtime.builder().bind(([127, 0, 0, 1], 0));
        let bound = polled(polls, binding).await;
        let completed = bound.is_some_and(|bound| bound.is_ok());
        eventually("nothing is left", || runtime.held().is_none()).await;
        completed
    })
    .await;
}

pub(crate) async fn a_shutdown_goes_on<R: Runtime>(runtime: &Tracked<R>) {
    at_every_await_point(async |polls| {
        let relay = relay(runtime).await;
        let mut alice = agent(runtime, &relay, 1).await;
        let completed = polled(polls, relay.shutdown()).await.is_some();
        if polls > 0 {
            let event = soon("the news", alice.next_event()).await;
            assert!(
                matches!(event, Some(Event::Disconnected { .. })),
                "{event:?}"
            );
            eventually("its end", || relay.stats().tasks == 0).await;
        }
        soon("the shutdown", relay.shutdown()).await;
        assert_eq!(relay.stats().hub.connections, 0);
        completed
    })
    .await;
}

pub(crate) async fn a_connect_leaves_nothing<R: Runtime>(runtime: &Tracked<R>) {
    let relay = relay(runtime).await;
    let idle = held(runtime);
    at_every_await_point(async |polls| {
        let connecting = client(runtime, url(&relay), key(1)).connect();
        let completed = match polled(polls, connecting).await {
            Some(connected) => connected.is_ok(),
            None => false,
        };
        emptied(&relay).await;
        eventually("the client is gone", || held(runtime) == idle).await;
        completed
    })
    .await;
}

/// A client with room for two envelopes.
async fn narrow<R: Runtime>(runtime: &Tracked<R>, relay: &Relay<Tracked<R>>) -> Client<R> {
    let config = Config::new().outbox_count(2);
    let builder = client(runtime, url(relay), key(1)).config(config);
    soon("the join", builder.connect()).await.expect("it joins")
}

/// Sends again and again by `send`, which is dropped somewhere, and compares what arrives.
async fn sends<R: Runtime>(
    runtime: &Tracked<R>,
    mut send: impl AsyncFnMut(usize, &Client<R>, Envelope) -> bool,
) {
    let relay = relay(runtime).await;
    let (alice, mut bob) = (
        narrow(runtime, &relay).await,
        agent(runtime, &relay, 2).await,
    );
    let to = bob.address();
    let mut accepted = Vec::new();
    let mut next = 0;
    let mut envelope = || {
        next += 1;
        (next.to_string(), message(&to, &next.to_string()))
    };
    at_every_await_point(async |polls| {
        // Full, so that the next one has to wait.
        loop {
            let (text, envelope) = envelope();
            if alice.try_send(envelope).is_err() {
                break;
            }
            accepted.push(text);
        }
        let (text, envelope) = envelope();
        let sent = send(polls, &alice, envelope).await;
        if sent {
            accepted.push(text);
        }
        sent
    })
    .await;
    soon("all", alice.flush())
        .await
        .expect("the relay is there");
    for expected in accepted {
        assert_eq!(text(&received(&mut bob).await), expected);
    }
    // Nothing else came: this is the next.
    let last = message(&to, "last");
    soon("room", alice.send(last)).await.expect("it is sent");
    assert_eq!(text(&received(&mut bob).await), "last");
}

pub(crate) async fn a_send_has_accepted_everything_or_nothing<R: Runtime>(runtime: &Tracked<R>) {
    sends(runtime, async |polls, alice, envelope| {
        polled(polls, alice.send(envelope))
            .await
            .is_some_and(|sent| sent.is_ok())
    })
    .await;
}

pub(crate) async fn a_sink_has_accepted_everything_or_nothing<R: Runtime>(runtime: &Tracked<R>) {
    sends(runtime, async |polls, alice, envelope| {
        let mut sender = alice.sender();
        polled(polls, sender.feed(envelope))
            .await
            .is_some_and(|sent| sent.is_ok())
    })
    .await;
}

/// Flushes by `flush`, which is dropped somewhere: what was accepted arrives all the same.
async fn flushes<R: Runtime>(
    runtime: &Tracked<R>,
    mut flush: impl AsyncFnMut(usize, &Client<R>) -> bool,
) {
    let relay = relay(runtime).await;
    let (alice, mut bob) = (
        agent(runtime, &relay, 1).await,
        agent(runtime, &relay, 2).await,
    );
    let to = bob.address();
    at_every_await_point(async |polls| {
        for n in 0..10 {
            let text = format!("{polls}: {n}");
            soon("room", alice.send(message(&to, &text)))
                .await
                .expect("it is sent");
        }
        let flushed = flush(polls, &alice).await;
        for n in 0..10 {
            assert_eq!(text(&received(&mut bob).await), format!("{polls}: {n}"));
        }
        flushed
    })
    .await;
}

pub(crate) async fn a_flush_changes_nothing<R: Runtime>(runtime: &Tracked<R>) {
    flushes(runtime, async |polls, alice| {
        polled(polls, alice.flush())
            .await
            .is_some_and(|flushed| flushed.is_ok())
    })
    .await;
    flushes(runtime, async |polls, alice| {
        let mut sender = alice.sender();
        polled(polls, SinkExt::<Envelope>::flush(&mut sender))
            .await
            .is_some_and(|flushed| flushed.is_ok())
    })
    .await;
    flushes(runtime, async |polls, alice| {
        let mut sender = alice.sender();
        polled(polls, SinkExt::<Envelope>::close(&mut sender))
            .await
            .is_some_and(|flushed| flushed.is_ok())
    })
    .await;
}

pub(crate) async fn waiting_for_an_event_loses_none<R: Runtime>(runtime: &Tracked<R>) {
    let relay = relay(runtime).await;
    let (alice, mut bob) = (
        agent(runtime, &relay, 1).await,
        agent(runtime, &relay, 2).await,
    );
    let to = bob.address();
    for n in 0..200 {
        soon("room", alice.send(message(&to, &n.to_string())))
            .await
            .expect("it is sent");
        let event = loop {
            // Dropped at its only await point, as often as that takes.
            if let Some(event) = polled(1, bob.next_event()).await {
                break event;
            }
            yield_now().await;
        };
        let Some(Event::Received(envelope)) = event else {
            panic!("{event:?} instead of an envelope")
        };
        assert_eq!(text(&decode(&envelope)), n.to_string());
    }
}

pub(crate) async fn a_close_goes_on<R: Runtime>(runtime: &Tracked<R>) {
    let relay = relay(runtime).await;
    let mut bob = agent(runtime, &relay, 2).await;
    let to = bob.address();
    let idle = held(runtime);
    at_every_await_point(async |polls| {
        let mut alice = agent(runtime, &relay, 1).await;
        let text_of = |n| format!("{polls}: {n}");
        for n in 0..10 {
            let sent = alice.send(message(&to, &text_of(n)));
            soon("room", sent).await.expect("it is sent");
        }
        let completed = polled(polls, alice.close()).await.is_some();
        for n in 0..10 {
            assert_eq!(text(&received(&mut bob).await), text_of(n));
        }
        let unsent = soon("the close", alice.close()).await;
        assert_eq!(unsent.len(), 0);
        let closed = Some(Event::Closed { unsent });
        assert_eq!(soon("the last event", alice.next_event()).await, closed);
        drop(alice);
        eventually("it is gone", || held(runtime) == idle).await;
        completed
    })
    .await;
}

/// What an agent lives through that joins, writes to itself and leaves; it may be cut at any time.
async fn short_life<R: Runtime>(client: ClientBuilder<Tracked<R>>) {
    let config = Config::new().max_tries(Some(1));
    let mut client = client.config(config).start().expect("settings that fit");
    let to = client.address();
    for n in 0..5 {
        // Who is cut has given up and takes nothing.
        let _ = client.try_send(message(&to, &n.to_string()));
    }
    let mut heard = 0;
    while heard < 5 {
        match soon("an event", client.next_event()).await {
            Some(Event::Received(envelope)) => {
                assert_eq!(text(&decode(&envelope)), heard.to_string());
                heard += 1;
            }
            Some(Event::Joined { .. }) => {}
            Some(Event::GaveUp { .. }) => return,
            other => panic!("{other:?}"),
        }
    }
    soon("the close", client.close()).await;
}

/// Runs a relay whose runtime dies after `polls` polls; says whether nobody noticed.
async fn survives<R: Runtime>(runtime: &Tracked<R>, polls: usize) -> bool {
    let mortal = Tracked::new(Mortal::new(runtime.clone(), polls));
    let relay = agents::relay(&mortal).await;
    let url = url(&relay);
    let lives = (1..4).map(|seed| short_life(client(runtime, url.clone(), key(seed))));
    join_all(lives).await;
    let survived = !mortal.runtime().is_dead();
    if !survived {
        eventually("everything is dropped", || mortal.held().is_none()).await;
        let stats = relay.stats();
        assert_eq!((stats.tasks, stats.pending), (0, 0));
        assert_eq!((stats.hub.connections, stats.hub.closing), (0, 0));
        assert_eq!((stats.hub.queued, stats.hub.in_flight), (0, 0));
        soon("a shutdown that has nothing to do", relay.shutdown()).await;
    }
    survived
}

pub(crate) async fn a_runtime_may_die_at_any_moment<R: Runtime>(runtime: &Tracked<R>) {
    let mut polls = 0;
    while !survives(runtime, polls).await {
        polls += 1;
        assert!(polls < MOST);
    }
    assert!(
        polls > 10,
        "three lives and a relay take more than {polls} polls"
    );
}
