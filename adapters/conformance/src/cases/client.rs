//! The client's front door against a real relay on a real socket.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use core::time::Duration;
use std::collections::BTreeSet;

use async_tungstenite::accept_async;
use async_tungstenite::tungstenite::Message as WsMessage;
use futures_lite::future::{yield_now, zip};
use futures_util::{SinkExt, StreamExt as _};
use pinch_driver::proto::client::{Config, Disconnect, Duplicates, Event, Identity};
use pinch_driver::proto::wire::{Envelope, MessageType, Payload};
use pinch_driver::proto::{Address, EnvelopeView, Host, SecretKey};
use pinch_driver::{Auth, BindError, ConnectError, Runtime, bind};
use prost::Message as _;

use crate::agents::{agent, client, host, hub_config, key, message, received, relay, text, url};
use crate::envelopes::{address, envelope};
use crate::relays::{challenge, emptied};
use crate::starter::Starter as _;
use crate::tracked::Tracked;
use crate::wait;

async fn soon<T>(future: impl Future<Output = T>) -> T {
    wait::soon("what a client does", future).await
}

pub(crate) async fn two_agents_prove_their_keys_and_exchange_envelopes<R: Runtime>(
    runtime: &Tracked<R>,
) {
    let relay = relay(runtime).await;
    let (mut alice, mut bob) = (
        agent(runtime, &relay, 1).await,
        agent(runtime, &relay, 2).await,
    );
    let id = soon(alice.send(message(&bob.address(), "hello")))
        .await
        .unwrap();
    let envelope = received(&mut bob).await;
    assert_eq!(text(&envelope), "hello");
    assert_eq!(envelope.from_address, alice.address().as_str());
    assert_eq!(envelope.r#type(), MessageType::Message);
    assert_eq!(envelope.message_id, id);
    assert_eq!(id.len(), 32);
    assert!(id.iter().all(u8::is_ascii_hexdigit));
    soon(bob.send(message(&alice.address(), "and back")))
        .await
        .unwrap();
    assert_eq!(text(&received(&mut alice).await), "and back");

    assert!(soon(alice.close()).await.is_empty());
    assert_eq!(
        soon(alice.next_event()).await,
        Some(Event::Closed { unsent: vec![] })
    );
    assert_eq!(soon(alice.next_event()).await, None);
    drop(bob);
    soon(async {
        while relay.stats().hub.connections > 0 {
            yield_now().await;
        }
    })
    .await;
    soon(relay.shutdown()).await;
    assert_eq!(relay.stats().tasks, 0);
}

pub(crate) async fn larger_envelopes_pass_where_both_sides_allow_them<R: Runtime>(
    runtime: &Tracked<R>,
) {
    const LIMIT: usize = 400_000;
    let hub = hub_config().envelope_bytes(LIMIT).message_bytes(LIMIT);
    let relay = challenge(runtime, hub).await;
    let config = Config::new().envelope_bytes(LIMIT);
    let builder = |seed| client(runtime, url(&relay), key(seed)).config(config.clone());
    let alice = soon(builder(1).connect()).await.unwrap();
    let mut bob = soon(builder(2).connect()).await.unwrap();
    let long = "long".repeat(90_000);
    soon(alice.send(message(&bob.address(), &long)))
        .await
        .unwrap();
    assert_eq!(text(&received(&mut bob).await), long);
    drop((alice, bob));
    emptied(&relay).await;
}

pub(crate) async fn open_mode_joins_by_name<R: Runtime>(runtime: &Tracked<R>) {
    let relay = runtime
        .builder()
        .auth(Auth::Open)
        .hub(hub_config())
        .bind(([127, 0, 0, 1], 0))
        .await
        .unwrap();
    let name = |name: &str| Identity::Name(Address::parse(name).unwrap());
    let alice = soon(client(runtime, url(&relay), name("pinch:a+b%20@x")).connect())
        .await
        .unwrap();
    let mut bob = soon(client(runtime, url(&relay), name("pinch:bob@x")).connect())
        .await
        .unwrap();
    soon(alice.send(message(&bob.address(), "hi")))
        .await
        .unwrap();
    assert_eq!(received(&mut bob).await.from_address, "pinch:a+b%20@x");
}

pub(crate) async fn flush_means_that_the_relay_has_it<R: Runtime>(runtime: &Tracked<R>) {
    let relay = relay(runtime).await;
    let (alice, mut bob) = (
        agent(runtime, &relay, 1).await,
        agent(runtime, &relay, 2).await,
    );
    for n in 0..2000 {
        soon(alice.send(message(&bob.address(), &n.to_string())))
            .await
            .unwrap();
    }
    soon(alice.flush()).await.unwrap();
    assert_eq!(relay.stats().hub.accepted, 2000);
    for n in 0..2000 {
        assert_eq!(text(&received(&mut bob).await), n.to_string());
    }
}

pub(crate) async fn an_offline_recipient_is_told_with_the_id_of_the_envelope<R: Runtime>(
    runtime: &Tracked<R>,
) {
    let relay = relay(runtime).await;
    let mut alice = agent(runtime, &relay, 1).await;
    let nobody = Address::from_public_key(&SecretKey::from_seed([9; 32]).public_key(), &host());
    let id = soon(alice.send(message(&nobody, "?"))).await.unwrap();
    let refusal = received(&mut alice).await;
    assert_eq!(refusal.message_id, id);
    match refusal.payload {
        Some(Payload::QueueFull(refused)) => {
            assert_eq!(refused.recipient_address, nobody.as_str());
            assert_eq!(
                refused.reason,
                "recipient is offline and no queue is configured"
            );
        }
        other => panic!("expected QUEUE_FULL, got {other:?}"),
    }
}

pub(crate) async fn comes_back_after_the_relay_restarts_and_sends_what_was_accepted_meanwhile<
    R: Runtime,
>(
    runtime: &Tracked<R>,
) {
    let first = relay(runtime).await;
    let addr = first.local_addr().unwrap();
    let quick = Config::new()
        .backoff(Duration::from_millis(5), Duration::from_millis(20))
        .max_tries(None);
    let mut clients = Vec::new();
    for seed in [1, 2] {
        let builder = client(runtime, url(&first), key(seed)).config(quick.clone());
        clients.push(soon(builder.connect()).await.unwrap());
    }
    let (mut bob, mut alice) = (clients.pop().unwrap(), clients.pop().unwrap());
    soon(first.shutdown()).await;
    drop(first);
    for client in [&mut alice, &mut bob] {
        let event = soon(client.next_event()).await;
        assert!(
            matches!(&event, Some(Event::Disconnected { why: Disconnect::Closed(close), .. }) if close.code.0 == 1001),
            "{event:?}"
        );
    }

    let second = soon(async {
        loop {
            match runtime.builder().hub(hub_config()).bind(addr).await {
                Ok(relay) => return relay,
                Err(BindError::Listen { .. }) => yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await;
    for client in [&mut alice, &mut bob] {
        loop {
            match soon(client.next_event()).await {
                Some(Event::Joined { .. }) => break,
                Some(Event::Disconnected { .. }) => {}
                other => panic!("expected to come back, got {other:?}"),
            }
        }
    }
    soon(alice.send(message(&bob.address(), "after all")))
        .await
        .unwrap();
    assert_eq!(text(&received(&mut bob).await), "after all");
    drop(second);
}

pub(crate) async fn gives_up_after_its_tries_and_returns_what_is_unsent<R: Runtime>(
    runtime: &Tracked<R>,
) {
    let gone = relay(runtime).await;
    let url = url(&gone);
    soon(gone.shutdown()).await;
    let config = Config::new()
        .backoff(Duration::from_millis(1), Duration::from_millis(2))
        .max_tries(Some(3));
    let mut client = client(runtime, url, key(1)).config(config).start().unwrap();
    let to = client.address();
    let id = soon(client.send(message(&to, "kept"))).await.unwrap();
    let mut tries = 0;
    let unsent = loop {
        match soon(client.next_event()).await {
            Some(Event::Disconnected { .. }) => tries += 1,
            Some(Event::GaveUp { unsent, .. }) => break unsent,
            other => panic!("unexpected {other:?}"),
        }
    };
    assert_eq!(tries, 2, "the third failure is the last event");
    assert_eq!(unsent.len(), 1);
    assert_eq!(EnvelopeView::parse(&unsent[0]).unwrap().message_id(), id);
    assert!(soon(client.flush()).await.is_err());
    assert!(soon(client.send(message(&to, "late"))).await.is_err());
    assert_eq!(soon(client.next_event()).await, None);
}

pub(crate) async fn what_the_relay_delivers_twice_is_handed_over_once<R: Runtime>(
    runtime: &Tracked<R>,
) {
    let [alice, bob] = ["alice", "bob"].map(address);
    let refusal = envelope(&alice, &alice, MessageType::QueueFull, 1).to_bytes();
    let [first, second, third] =
        [1, 2, 3].map(|number| envelope(&bob, &alice, MessageType::Message, number).to_bytes());
    // What comes over one link after the other, each of which is cut behind it.
    let links = [
        vec![&first, &first, &second],
        vec![&first, &second, &refusal, &refusal],
        vec![&second, &third],
    ];
    let once = [&first, &second, &refusal, &refusal, &third];
    for (duplicates, expected, dropped) in [
        (Duplicates::default(), once.to_vec(), 4),
        (Duplicates::Deliver, links.concat(), 0),
    ] {
        let listener = bind(([127, 0, 0, 1], 0).into()).unwrap();
        let url = format!("ws://{}/ws", listener.local_addr().unwrap());
        let listener = runtime.listen(listener).unwrap();
        let quick = Config::new().backoff(Duration::from_millis(1), Duration::from_millis(2));
        let mut client = client(runtime, url, Identity::Name(alice.clone()))
            .config(quick)
            .duplicates(duplicates)
            .start()
            .unwrap();
        let mut received = Vec::new();
        for envelopes in &links {
            let (stream, _) = soon(runtime.accept(&listener)).await.unwrap();
            let mut relay = soon(accept_async(stream)).await.unwrap();
            for &envelope in envelopes {
                let message = WsMessage::Binary(envelope.clone());
                soon(relay.send(message)).await.unwrap();
            }
            drop(relay);
            loop {
                match soon(client.next_event()).await {
                    Some(Event::Joined { .. }) => {}
                    Some(Event::Received(envelope)) => received.push(envelope),
                    Some(Event::Disconnected { .. }) => break,
                    other => panic!("unexpected {other:?}"),
                }
            }
        }
        assert!(received.iter().eq(expected), "{received:?}");
        assert_eq!(client.dropped_duplicates(), dropped);
    }
}

pub(crate) async fn connect_says_what_is_wrong<R: Runtime>(runtime: &Tracked<R>) {
    let relay = relay(runtime).await;
    let elsewhere = Identity::Key {
        secret: SecretKey::from_seed([1; 32]),
        host: Host::parse("other.example.com").unwrap(),
    };
    let error = soon(client(runtime, url(&relay), elsewhere).connect())
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(error, ConnectError::Join(Disconnect::Join(_))),
        "{text}"
    );
    assert!(
        text.contains("localhost") && text.contains("other.example.com"),
        "{text}"
    );

    let _first = agent(runtime, &relay, 1).await;
    let error = soon(client(runtime, url(&relay), key(1)).connect())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("address already connected"),
        "{error}"
    );

    let nowhere = url(&relay).replace("/ws", "/nowhere");
    let error = soon(client(runtime, nowhere, key(2)).connect())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("404"), "{error}");

    let error = client(runtime, "http://localhost/ws".into(), key(2))
        .connect()
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::Url(_)), "{error}");
}

pub(crate) async fn dropping_a_client_sends_what_it_accepted<R: Runtime>(runtime: &Tracked<R>) {
    let relay = relay(runtime).await;
    let (alice, mut bob) = (
        agent(runtime, &relay, 1).await,
        agent(runtime, &relay, 2).await,
    );
    for n in 0..500 {
        soon(alice.send(message(&bob.address(), &n.to_string())))
            .await
            .unwrap();
    }
    drop(alice);
    for n in 0..500 {
        assert_eq!(text(&received(&mut bob).await), n.to_string());
    }
    soon(async {
        while relay.stats().hub.connections > 1 {
            yield_now().await;
        }
    })
    .await;
}

pub(crate) async fn a_sender_is_a_sink_and_a_client_a_stream<R: Runtime>(runtime: &Tracked<R>) {
    let relay = relay(runtime).await;
    let (alice, bob) = (
        agent(runtime, &relay, 1).await,
        agent(runtime, &relay, 2).await,
    );
    let to = bob.address();
    // More than fits the outbox at once: the sink has to wait for room.
    let count = 3000;
    let envelopes =
        futures_util::stream::iter((0..count).map(|n| Ok(message(&to, &n.to_string()))));
    let sending = async {
        let mut sender = alice.sender();
        let mut envelopes = envelopes;
        sender.send_all(&mut envelopes).await.unwrap();
        SinkExt::close(&mut sender).await.unwrap();
    };
    let receiving = async {
        bob.take(count)
            .filter_map(|event| async move {
                let Event::Received(bytes) = event else {
                    panic!("expected an envelope, got {event:?}");
                };
                Some(text(&Envelope::decode(bytes).unwrap()))
            })
            .collect::<BTreeSet<_>>()
            .await
    };
    let ((), texts) = soon(zip(sending, receiving)).await;
    assert_eq!(texts.len(), count);
}

pub(crate) async fn what_cannot_be_sent_comes_back<R: Runtime>(runtime: &Tracked<R>) {
    let relay = relay(runtime).await;
    let alice = agent(runtime, &relay, 1).await;
    let to = alice.address();
    let forged = Envelope {
        from_address: "pinch:mallory@localhost".into(),
        ..message(&to, "x")
    };
    let error = soon(alice.send(forged)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "from_address is not the address of this client"
    );
    assert_eq!(error.envelope.from_address, "pinch:mallory@localhost");
    let huge = message(&to, &"x".repeat(70_000));
    let error = soon(alice.send(huge)).await.unwrap_err();
    assert!(error.to_string().contains("65536"), "{error}");
}
