//! What one source address can do to a relay, and how a proxy says where connections come from.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::net::TcpStream;

use async_io::Async;
use pinch_driver::proto::hub::RateLimit;
use pinch_driver::proto::peers::{IpNet, Limits};
use pinch_driver::{Auth, Builder, HandshakeStats};
use socket2::{Domain, Socket, Type};

use super::http::health;
use crate::envelopes::{address, key, message};
use crate::peer::{Heard, Peer};
use crate::raw::{BINARY, Raw, Response, TEXT, answer, named_target, upgrade_request};
use crate::relays::{Relay, bind, config, emptied};
use crate::starter::{Running, Starter};
use crate::wait::{eventually, millis};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// An address that is in no list.
fn ip(last: u8) -> IpAddr {
    IpAddr::from([203, 0, 113, last])
}

fn network(ip: IpAddr) -> Vec<IpNet> {
    vec![ip.into()]
}

/// A relay in open mode with `limits`.
async fn limited<S: Starter>(starter: &S, limits: Limits) -> Relay<S> {
    bind(starter, open_with(starter, limits)).await
}

fn open_with<S: Starter>(starter: &S, limits: Limits) -> Builder<S::Tag> {
    let builder = starter.builder().hub(config()).auth(Auth::Open);
    builder.limits(limits)
}

/// A connection from another address of this host.
fn from_elsewhere(relay: &impl Running) -> Raw {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let elsewhere = SocketAddr::from(([127, 0, 0, 2], 0));
    socket.bind(&elsewhere.into()).expect("an address");
    let relay = relay.local_addr().expect("it listens");
    socket.connect(&relay.into()).expect("the relay accepts");
    Raw::new(Async::<TcpStream>::try_from(TcpStream::from(socket)).expect("a TCP socket"))
}

/// Joins as `name`, with the header line `line` in its request if there is one.
async fn join(mut raw: Raw, name: &str, line: &str) -> (Raw, Response) {
    let request = upgrade_request(&named_target(&address(name)));
    let request = request.replacen("\r\n", &format!("\r\n{line}"), 1);
    raw.write(request.as_bytes()).await;
    let response = raw.response().await;
    if response.status == 101 {
        raw.answer_ping().await;
    }
    (raw, response)
}

pub(crate) async fn a_newcomer_evicts_the_oldest_handshake<S: Starter>(starter: &S) {
    let relay = limited(starter, Limits::new().total_pending(1)).await;
    let mut oldest = Raw::connect(&relay).await;
    eventually("it waits", || relay.stats().pending == 1).await;
    let mut newer = Raw::connect(&relay).await;
    let response = oldest.response().await;
    assert_eq!(response.status, 503);
    assert_eq!(response.header("connection"), Some("close"));
    assert_eq!(oldest.hear().await, Heard::End);
    let _newest = Raw::connect(&relay).await;
    assert_eq!(newer.response().await.status, 503);
    // A joined connection does not count.
    let _alice = Peer::named(&relay, "alice").await;
    let _bob = Peer::named(&relay, "bob").await;
    assert_eq!(relay.stats().handshakes.rejected.evicted, 3);
    assert_eq!(health(&relay).await["rejected"]["evicted"], 3);
}

pub(crate) async fn half_requests_of_one_address_do_not_take_the_relay_away<S: Starter>(
    starter: &S,
) {
    const LIMIT: usize = 100;

    for limits in [
        // Loopback is exempt, and there are more from it than all may be.
        Limits::new().total_pending(LIMIT),
        // It has a limit of its own.
        Limits::new().pending(LIMIT).exempt(vec![]),
    ] {
        let relay = bind(starter, starter.builder().hub(config()).limits(limits)).await;
        let mut alice = Peer::proven(&relay, 1).await;
        let mut flood = Vec::new();
        let mut bobs = Vec::new();
        for round in 0..3 {
            for _ in 0..LIMIT {
                let mut half = Raw::connect(&relay).await;
                half.write(b"GET /ws HTTP/1.1\r\nHost: ").await;
                flood.push(half);
            }
            // Each of these is one more newcomer.
            assert_eq!(health(&relay).await["status"], "ok");
            bobs.push(Peer::proven(&relay, 10 + round).await);
            let said = message(&alice.address, &alice.address, u64::from(round), 100);
            alice.send(said.clone()).await;
            assert_eq!(alice.envelope().await, said);
        }
        let stats = relay.stats();
        assert!(stats.pending <= LIMIT, "{stats:?}");
        let evicted = stats.handshakes.rejected.evicted;
        assert!(evicted >= 2 * LIMIT as u64, "{stats:?}");
        drop((alice, bobs, flood));
        emptied(&relay).await;
    }
}

pub(crate) async fn handshakes_without_an_answer_give_way_too<S: Starter>(starter: &S) {
    const LIMIT: usize = 20;

    let limits = Limits::new().total_pending(LIMIT);
    let relay = bind(starter, starter.builder().hub(config()).limits(limits)).await;
    let mut flood = Vec::new();
    for _ in 0..2 * LIMIT {
        flood.push(Raw::challenged(&relay).await.0);
    }
    let _alice = Peer::proven(&relay, 1).await;
    assert_eq!(health(&relay).await["status"], "ok");
    let told = Heard::close(1013, "too many pending handshakes");
    assert_eq!(flood[0].hear().await, told);
    assert_eq!(flood[0].hear().await, Heard::End);
}

pub(crate) async fn connections_of_one_address_are_limited<S: Starter>(starter: &S) {
    let limits = Limits::new().connections(1).exempt(vec![]);
    let relay = limited(starter, limits).await;
    let alice = Peer::named(&relay, "alice").await;
    let (mut bob, response) = join(Raw::connect(&relay).await, "bob", "").await;
    assert_eq!(response.status, 429);
    assert_eq!(
        response.body,
        "too many connections from 127.0.0.1: at most 1\n"
    );
    assert_eq!(bob.hear().await, Heard::End);
    drop(bob);
    // It may ask for the health all the same, and others may join.
    let counted = || relay.stats().handshakes.rejected.connections == 1;
    eventually("it is counted", counted).await;
    assert_eq!(health(&relay).await["rejected"]["connections"], 1);
    let (_dave, response) = join(from_elsewhere(&relay), "dave", "").await;
    assert_eq!(response.status, 101);

    drop(alice);
    eventually("alice has left", || {
        let hub = relay.stats().hub;
        hub.connections + hub.closing <= 1
    })
    .await;
    // The place is free when the connection has ended.
    loop {
        let (_bob, response) = join(Raw::connect(&relay).await, "bob", "").await;
        if response.status == 101 {
            return;
        }
        assert_eq!(response.status, 429);
    }
}

pub(crate) async fn joins_of_one_address_are_limited_in_time<S: Starter>(starter: &S) {
    // One token in a thousand seconds.
    let rate = RateLimit::new(0.001, 2).expect("a rate limit");
    let limits = Limits::new().join_rate(Some(rate)).exempt(vec![]);
    let relay = limited(starter, limits).await;
    for name in ["alice", "bob"] {
        // Leaving gives no join back.
        drop(Peer::named(&relay, name).await);
    }
    let (carol, response) = join(Raw::connect(&relay).await, "carol", "").await;
    drop(carol);
    assert_eq!(response.status, 429);
    let expected = "too many joins from 127.0.0.1: at most 0.001 per second, 2 at once\n";
    assert_eq!(response.body, expected);
    let seconds = response.header("retry-after").map(str::parse::<u64>);
    assert!(matches!(seconds, Some(Ok(1..=1000))), "{response:?}");
    let counted = || relay.stats().handshakes.rejected.join_rate == 1;
    eventually("it is counted", counted).await;
    let (_, response) = join(from_elsewhere(&relay), "carol", "").await;
    assert_eq!(response.status, 101);
    assert_eq!(health(&relay).await["status"], "ok");
}

pub(crate) async fn a_trusted_proxy_names_its_clients_in_the_request<S: Starter>(starter: &S) {
    let limits = Limits::new().connections(1).exempt(vec![]);
    let relay = open_with(starter, limits).trusted_proxies(network(LOCAL));
    let relay = bind(starter, relay).await;
    let (mut joined, mut pipes) = (Vec::new(), Vec::new());
    let cases = [
        ("alice", "X-Forwarded-For: 203.0.113.1\r\n", 101),
        ("bob", "X-Forwarded-For: 203.0.113.1\r\n", 429),
        // What the client has written does not count.
        ("bob", "X-Forwarded-For: 203.0.113.9, 203.0.113.1\r\n", 429),
        (
            "bob",
            "Forwarded: for=203.0.113.9, for=203.0.113.1\r\n",
            429,
        ),
        ("bob", "x-forwarded-for: 203.0.113.2, 127.0.0.1\r\n", 101),
        ("carol", "Forwarded: for=\"[2001:db8::1]:80\"\r\n", 101),
        ("dave", "X-Forwarded-For: 2001:db8::2\r\n", 429),
        ("dave", "X-Forwarded-For: someone\r\n", 400),
        (
            "dave",
            "X-Forwarded-For: 203.0.113.5\r\nForwarded: for=203.0.113.6\r\n",
            400,
        ),
        // The proxy itself has no limit.
        ("erin", "", 101),
        ("frank", "", 101),
    ];
    for (name, line, status) in cases {
        let (raw, response) = join(Raw::connect(&relay).await, name, line).await;
        assert_eq!(response.status, status, "{line:?}: {response:?}");
        if status == 101 {
            joined.push(raw);
        }
    }
    let counted = || {
        let rejected = relay.stats().handshakes.rejected;
        (rejected.connections, rejected.malformed) == (4, 2)
    };
    eventually("all are counted", counted).await;
    // From other addresses, the fields are ignored.
    for (name, line, status) in [
        ("grace", "X-Forwarded-For: 198.51.100.1\r\n", 101),
        ("heidi", "X-Forwarded-For: 198.51.100.2\r\n", 429),
        ("heidi", "X-Forwarded-For: someone\r\n", 429),
    ] {
        let (raw, response) = join(from_elsewhere(&relay), name, line).await;
        assert_eq!(response.status, status, "{line:?}");
        pipes.push(raw);
    }
}

/// A PROXY header, version 2, for a TCP connection from `source`.
fn proxy_header(source: IpAddr) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    let (family, from, to) = match source {
        IpAddr::V4(source) => (0x11, source.octets().to_vec(), vec![0; 4]),
        IpAddr::V6(source) => (0x21, source.octets().to_vec(), vec![0; 16]),
    };
    let length = u8::try_from(from.len() + to.len() + 4).expect("it is short");
    header.extend([0x21, family, 0, length]);
    header.extend([from, to, vec![0x12, 0x34, 0, 80]].concat());
    header
}

pub(crate) async fn a_trusted_proxy_names_its_clients_by_the_proxy_protocol<S: Starter>(
    starter: &S,
) {
    let limits = Limits::new().connections(1).exempt(vec![]);
    let proxied = |trusted| {
        let builder = open_with(starter, limits.clone());
        builder
            .trusted_proxies(network(trusted))
            .proxy_protocol(true)
    };
    let relay = bind(starter, proxied(LOCAL)).await;
    let v6: IpAddr = "2001:db8::1".parse().expect("an address");
    let own = [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[0x20, 0, 0, 0]].concat();
    let mut joined = Vec::new();
    for (name, header, status) in [
        ("alice", proxy_header(ip(1)), 101),
        ("bob", proxy_header(ip(1)), 429),
        ("bob", proxy_header(ip(2)), 101),
        ("carol", proxy_header(v6), 101),
        (
            "dave",
            proxy_header("2001:db8::2".parse().expect("an address")),
            429,
        ),
        // The proxy's own.
        ("dave", own.clone(), 101),
        ("erin", own, 101),
    ] {
        for size in [1, header.len()] {
            let mut raw = Raw::connect(&relay).await;
            for chunk in header.chunks(size) {
                raw.write(chunk).await;
            }
            let name = format!("{name}{size}");
            let (raw, response) = join(raw, &name, "").await;
            // Of two with one address, the first has joined.
            let expected = if status == 101 && size > 1 && !name.starts_with(['d', 'e']) {
                429
            } else {
                status
            };
            assert_eq!(response.status, expected, "{name}: {response:?}");
            joined.push(raw);
        }
    }
    // A proxy that names its clients in the request, too.
    let mut raw = Raw::connect(&relay).await;
    raw.write(&proxy_header(LOCAL)).await;
    let line = "X-Forwarded-For: 203.0.113.2\r\n";
    assert_eq!(join(raw, "frank", line).await.1.status, 429);
    // Without a header, a connection is rejected.
    for wrong in [
        &b"GET /health HTTP/1.1\r\n\r\n"[..],
        b"PROXY TCP4 203.0.113.9 1 2 3\r\n",
    ] {
        let mut raw = Raw::connect(&relay).await;
        raw.write(wrong).await;
        let response = raw.response().await;
        assert_eq!(response.status, 400);
        assert_eq!(
            response.body,
            "expected a PROXY protocol header of version 2\n"
        );
    }

    // From anywhere else, the header is no HTTP.
    let relay = bind(starter, proxied(ip(1))).await;
    let mut raw = Raw::connect(&relay).await;
    raw.write(&proxy_header(ip(2))).await;
    raw.write(upgrade_request(&named_target(&address("alice"))).as_bytes())
        .await;
    assert_eq!(raw.response().await.status, 400);
    assert_eq!(health(&relay).await["status"], "ok");
}

pub(crate) async fn rejections_before_the_join_are_counted_by_reason<S: Starter>(starter: &S) {
    let relay = bind(starter, starter.builder().hub(config())).await;
    let alice = Peer::proven(&relay, 1).await;
    let refused = [
        ("hello\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n".into(), 404),
        (
            upgrade_request("/ws").replace("Host", "Origin: https://evil.example\r\nHost"),
            403,
        ),
    ];
    for (request, status) in refused {
        assert_eq!(Raw::ask(&relay, &request).await.status, status);
    }
    let (mut wrong, challenge) = Raw::challenged(&relay).await;
    let forged = answer(&challenge, &key(2), |response| {
        response.signature = response.signature.slice(1..);
    });
    wrong.send(BINARY, &forged).await;
    assert_eq!(wrong.rest().await.len(), 2);
    let (mut text, _) = Raw::challenged(&relay).await;
    text.send(TEXT, b"hello").await;
    assert!(matches!(text.hear().await, Heard::Close(1003, _)));
    let (mut again, challenge) = Raw::challenged(&relay).await;
    let proof = answer(&challenge, &key(1), |_| ());
    again.send(BINARY, &proof).await;
    assert_eq!(again.rest().await.len(), 2);
    drop(Raw::connect(&relay).await);
    health(&relay).await;
    drop((wrong, text, again));

    let HandshakeStats {
        joined,
        answered,
        left,
        rejected,
        ..
    } = all_ended(&relay, 9).await;
    assert_eq!((joined, answered, left), (1, 1, 1));
    assert_eq!(
        (rejected.malformed, rejected.request, rejected.origin),
        (1, 1, 1)
    );
    assert_eq!((rejected.timeout, rejected.authentication), (0, 1));
    assert_eq!((rejected.protocol, rejected.hub), (1, 1));
    let shown = &health(&relay).await["rejected"];
    assert_eq!((&shown["origin"], &shown["hub"]), (&1.into(), &1.into()));
    drop(alice);

    let relay = starter.builder().hub(config()).auth_timeout(millis(200));
    let relay = bind(starter, relay).await;
    let mut late = Raw::connect(&relay).await;
    assert_eq!(late.response().await.status, 408);
    let (mut silent, _) = Raw::challenged(&relay).await;
    assert!(matches!(silent.hear().await, Heard::Close(1008, _)));
    drop((late, silent));
    assert_eq!(all_ended(&relay, 2).await.rejected.timeout, 2);
}

/// What came of `accepted` connections, none of which is pending.
async fn all_ended(relay: &impl Running, accepted: u64) -> HandshakeStats {
    let ended = || relay.stats().pending == 0 && relay.stats().handshakes.accepted == accepted;
    eventually(|| format!("all have ended, not {:?}", relay.stats()), ended).await;
    let stats = relay.stats().handshakes;
    let rejected = stats.rejected.total();
    assert_eq!(
        accepted,
        stats.joined + stats.answered + stats.left + rejected
    );
    stats
}
