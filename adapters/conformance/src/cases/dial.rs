//! How a client reaches its relay: which of its addresses answers, and what is said if none does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use core::net::SocketAddr;
use core::time::Duration;

use futures_util::{AsyncReadExt as _, AsyncWriteExt as _};
use pinch_driver::proto::client::{Config, Disconnect, Event};
use pinch_driver::{Runtime, bind};
use socket2::{Domain, Socket, Type};

use crate::agents::{client, key, relay};
use crate::tracked::{Names, Tracked};
use crate::wait::{eventually, soon};

/// No try ends by itself within a test.
const ENDLESS: Duration = Duration::from_secs(3600);

/// A URL whose host has the addresses that a test says.
const SOMEWHERE: &str = "ws://relay.invalid/ws";

fn patient() -> Config {
    Config::new().dial_timeout(ENDLESS).max_tries(None)
}

/// An address at which no SYN is answered: its queue is full, and nobody accepts.
struct Swallower {
    addr: SocketAddr,
    _sockets: Vec<Socket>,
}

impl Swallower {
    fn start() -> Self {
        let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let listener = socket();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        listener.bind(&any.into()).unwrap();
        listener.listen(0).unwrap();
        let addr = listener.local_addr().unwrap();
        let mut sockets = vec![listener];
        for _ in 0..8 {
            let waiting = socket();
            waiting.set_nonblocking(true).unwrap();
            // It says that it would block.
            let _ = waiting.connect(&addr);
            sockets.push(waiting);
        }
        Self {
            addr: addr.as_socket().unwrap(),
            _sockets: sockets,
        }
    }
}

/// An address at which nobody listens.
fn refusing() -> SocketAddr {
    let listener = bind(([127, 0, 0, 1], 0).into()).unwrap();
    listener.local_addr().unwrap()
}

pub(crate) async fn an_address_that_swallows_syns_does_not_cost_the_try<R: Runtime>(
    runtime: &Tracked<R>,
) {
    let relay = relay(runtime).await;
    let addr = relay.local_addr().unwrap();
    let unused = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], refusing().port()));
    let swallowers = [Swallower::start(), Swallower::start()];
    let [first, second] = [0, 1].map(|number| swallowers[number].addr);
    let names = Names::Have(vec![first, unused, second, addr]);
    let client = client(&runtime.with_names(names), SOMEWHERE.into(), key(1)).config(patient());
    let _client = soon("the join", client.connect()).await.unwrap();
    // One socket at either end: those that lost are closed.
    eventually(
        || format!("two sockets, not {:?}", runtime.held()),
        || runtime.held().streams == 2,
    )
    .await;
}

pub(crate) async fn an_address_at_which_no_relay_answers_does_not_cost_every_try<R: Runtime>(
    runtime: &Tracked<R>,
) {
    let relay = relay(runtime).await;
    // The system accepts what connects there, and nobody reads.
    let mute = bind(([127, 0, 0, 1], 0).into()).unwrap();
    let addrs = vec![mute.local_addr().unwrap(), relay.local_addr().unwrap()];
    let config = patient()
        .dial_timeout(Duration::from_secs(1))
        .backoff(Duration::from_millis(1), Duration::from_millis(1));
    let mut client = client(
        &runtime.with_names(Names::Have(addrs)),
        SOMEWHERE.into(),
        key(1),
    )
    .config(config)
    .start()
    .unwrap();
    loop {
        match soon("a join", client.next_event()).await {
            Some(Event::Joined { .. }) => break,
            Some(Event::Disconnected { .. }) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
}

pub(crate) async fn every_address_that_fails_is_named<R: Runtime>(runtime: &Tracked<R>) {
    let addrs = [refusing(), refusing()];
    let runtime = runtime.with_names(Names::Have(addrs.into()));
    let joining = client(&runtime, SOMEWHERE.into(), key(1)).config(patient());
    let error = soon("an answer", joining.connect()).await.unwrap_err();
    let text = error.to_string();
    let named = addrs.iter().all(|addr| text.contains(&format!("{addr}: ")));
    assert!(named && text.contains("relay.invalid:80"), "{text}");
    assert!(!text.contains('\n'), "{text}");

    let nameless = runtime.with_names(Names::Have(vec![]));
    let joining = client(&nameless, SOMEWHERE.into(), key(1)).config(patient());
    let error = soon("an answer", joining.connect()).await.unwrap_err();
    assert!(error.to_string().contains("has no address"), "{error}");
}

pub(crate) async fn a_resolver_that_hangs_holds_up_nobody<R: Runtime>(runtime: &Tracked<R>) {
    let hanging = runtime.with_names(Names::Hang);
    let start = |config| {
        let client = client(&hanging, SOMEWHERE.into(), key(1)).config(config);
        client.start().unwrap()
    };
    let mut client = start(patient());
    assert!(soon("the end", client.close()).await.is_empty());
    assert_eq!(
        soon("the end", client.next_event()).await,
        Some(Event::Closed { unsent: vec![] })
    );
    drop(start(patient()));
    // Each try has its limit.
    let brief = Duration::from_millis(1);
    let mut client = start(patient().dial_timeout(brief).backoff(brief, brief));
    for _ in 0..3 {
        let event = soon("a failure", client.next_event()).await;
        assert!(
            matches!(&event, Some(Event::Disconnected { why, .. }) if *why == Disconnect::DialTimeout),
            "{event:?}"
        );
    }
}

pub(crate) async fn an_upgrade_is_tried_again_after_503_and_not_after_404<R: Runtime>(
    runtime: &Tracked<R>,
) {
    let listener = bind(([127, 0, 0, 1], 0).into()).unwrap();
    let url = format!("ws://{}/ws", listener.local_addr().unwrap());
    let listener = runtime.listen(listener).unwrap();
    let brief = Duration::from_millis(1);
    let config = patient().backoff(brief, brief);
    let mut client = client(runtime, url, key(1)).config(config).start().unwrap();
    for (status, headers, body, expected) in [
        (
            "503 Service Unavailable",
            "Retry-After: 0\r\n",
            "",
            "503 (Service Unavailable)",
        ),
        ("429 Too Many Requests", "", "slow down", "429 (slow down)"),
        ("404 Not Found", "", "<html>", "404 (Not Found)"),
    ] {
        let (mut stream, _) = soon("a try", runtime.accept(&listener)).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            soon("the request", stream.read_exact(&mut byte))
                .await
                .unwrap();
            head.extend(byte);
        }
        let length = body.len();
        let answer =
            format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
        soon("the answer", stream.write_all(answer.as_bytes()))
            .await
            .unwrap();
        let why = match soon("a failure", client.next_event()).await {
            Some(Event::Disconnected { why, .. }) if !why.is_permanent() => why,
            Some(Event::GaveUp { why, .. }) if why.is_permanent() => why,
            other => panic!("unexpected {other:?}"),
        };
        assert!(why.to_string().contains(expected), "{why}");
    }
    assert_eq!(soon("the end", client.next_event()).await, None);
}
