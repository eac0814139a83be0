//! The client that blocks, at a relay with event loops; and the suite's cases for clients, on what it
//! runs on.

use core::future::Future;
use core::net::SocketAddr;
use core::time::Duration;
use std::sync::mpsc::RecvTimeoutError;
use std::thread;

use pinch_conformance::Harness;
use pinch_mio::proto::client::{Config, Event, Identity};
use pinch_mio::proto::hub;
use pinch_mio::proto::wire::Envelope;
use pinch_mio::proto::{EnvelopeView, Host, SecretKey};
use pinch_mio::{Bind as _, Client, ClientBuilder, Relay, Threads};

struct OnThreads;

impl Harness for OnThreads {
    type Runtime = Threads;

    const ENDS: bool = false;

    fn run<T, F: Future<Output = T>>(test: impl FnOnce(Threads) -> F) -> T {
        async_io::block_on(test(Threads))
    }
}

pinch_conformance::cases!(pinch_conformance::tests { OnThreads run });

fn relay(addr: impl Into<SocketAddr>) -> Relay {
    let host = Host::parse("localhost").expect("a host");
    let hub = hub::Config::new(host).close_timeout(Duration::from_secs(1));
    Relay::builder().hub(hub).bind(addr).expect("it listens")
}

fn builder(addr: SocketAddr, seed: u8) -> ClientBuilder {
    let secret = SecretKey::from_seed([seed; 32]);
    let host = Host::parse("localhost").expect("a host");
    let config = Config::new().backoff(Duration::from_millis(10), Duration::from_millis(50));
    Client::builder(format!("ws://{addr}/ws"), Identity::Key { secret, host }).config(config)
}

fn to(client: &Client) -> Envelope {
    Envelope {
        to_address: client.address().to_string(),
        ..Envelope::default()
    }
}

/// The id of the envelope that comes next.
fn received(client: &mut Client) -> Vec<u8> {
    loop {
        match client.next_event_timeout(Duration::from_secs(20)) {
            Ok(Event::Received(envelope)) => {
                let envelope = EnvelopeView::parse(&envelope).expect("an envelope");
                return envelope.message_id().to_vec();
            }
            Ok(Event::Disconnected { .. } | Event::Joined { .. }) => {}
            other => panic!("{other:?} instead of an envelope"),
        }
    }
}

#[test]
fn threads_send_receive_and_close() {
    let relay = relay(([127, 0, 0, 1], 0));
    let mut bob = Client::connect(builder(relay.local_addr(), 2)).expect("it joins");
    let alice = Client::connect(builder(relay.local_addr(), 1)).expect("it joins");
    let none = bob.next_event_timeout(Duration::from_millis(1));
    assert_eq!(none, Err(RecvTimeoutError::Timeout));
    let (sender, envelope) = (alice.sender(), to(&bob));
    let sending = thread::spawn(move || sender.send(envelope).expect("it is sent"));
    assert_eq!(received(&mut bob), sending.join().expect("no panic"));
    alice.flush().expect("the relay has it");
    assert!(bob.close().is_empty());
    assert!(matches!(bob.next_event(), Some(Event::Closed { .. })));
    assert_eq!(bob.next_event(), None);
    let over = bob.next_event_timeout(Duration::from_secs(20));
    assert_eq!(over, Err(RecvTimeoutError::Disconnected));
}

#[test]
fn a_client_answers_pings_between_calls_and_comes_back() {
    let first = relay(([127, 0, 0, 1], 0));
    let addr = first.local_addr();
    let mut bob = Client::connect(builder(addr, 2)).expect("it joins");
    while first.stats().hub.pongs == 0 {
        thread::yield_now();
    }
    first.shutdown();
    drop(first);
    let _second = relay(addr);
    let id = bob.send(to(&bob)).expect("it is accepted");
    assert_eq!(received(&mut bob), id);
}
