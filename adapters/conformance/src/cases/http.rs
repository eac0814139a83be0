//! HTTP on the relay's port: `/health`, the upgrade, and every way in which a request is refused.

use async_io::Timer;
use futures_lite::future::yield_now;
use futures_util::AsyncWriteExt as _;
use pinch_driver::{AllowedOrigins, Builder};
use serde_json::{Value, json};

use crate::envelopes::address;
use crate::peer::{Heard, Peer};
use crate::raw::{Raw, Response, named_target, upgrade_request};
use crate::relays::{bind, challenge, config, emptied, open};
use crate::starter::{Running, Starter};
use crate::wait::{LIMIT, eventually, millis, soon};

pub(crate) async fn health(relay: &impl Running) -> Value {
    let (status, health) = health_with_status(relay).await;
    assert_eq!(status, 200);
    health
}

pub(crate) async fn health_with_status(relay: &impl Running) -> (u16, Value) {
    let request = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let response = Raw::ask(relay, request).await;
    assert_eq!(response.header("content-type"), Some("application/json"));
    let health = serde_json::from_str(&response.body).expect("JSON");
    (response.status, health)
}

/// An upgrade request, with `line` in place of the header line that begins the same way, or added.
fn upgrade_with(target: &str, line: &str) -> String {
    let name = line.split_once(':').expect("a header line").0;
    let request = upgrade_request(target);
    let kept = request
        .trim_end()
        .lines()
        .filter(|kept| !kept.starts_with(name));
    let lines: Vec<&str> = kept.chain([line]).collect();
    lines.join("\r\n") + "\r\n\r\n"
}

fn upgrade_without(target: &str, name: &str) -> String {
    let request = upgrade_request(target);
    let kept: Vec<&str> = request
        .lines()
        .filter(|line| !line.starts_with(name))
        .collect();
    kept.join("\r\n") + "\r\n\r\n"
}

pub(crate) async fn health_counts_connections_and_tasks<S: Starter>(starter: &S) {
    let relay = open(starter, config()).await;
    let uptime = health(&relay).await["uptime_seconds"]
        .as_u64()
        .expect("a number");
    assert!(uptime < LIMIT.as_secs());
    let mut peers = Vec::new();
    for connections in 1..=3 {
        peers.push(Peer::named(&relay, &format!("peer{connections}")).await);
        let expected = json!({
            "status": "ok",
            "connections": connections,
            // The request for it has a task, too.
            "tasks": relay.idle_tasks() + connections + 1,
            "goroutines": relay.idle_tasks() + connections + 1,
            "uptime_seconds": null,
            "version": env!("CARGO_PKG_VERSION"),
            "runtime": S::NAME,
            "store": "none",
            "stored": 0,
            // The request for it is one.
            "pending": 1,
            "rejected": {
                "evicted": 0,
                "connections": 0,
                "join_rate": 0,
                "timeout": 0,
                "malformed": 0,
                "request": 0,
                "origin": 0,
                "authentication": 0,
                "protocol": 0,
                "shutting_down": 0,
                "hub": 0,
            },
            "memory": "ok",
            "held_bytes": 0,
            "closed": {"stalled": 0, "unacknowledged": 0, "memory": 0},
        });
        let tasks = || relay.stats().tasks == relay.idle_tasks() + connections;
        eventually("other requests are over", tasks).await;
        let mut found = health(&relay).await;
        assert!(found["uptime_seconds"].take().is_u64());
        assert_eq!(found, expected);
    }
}

pub(crate) async fn health_is_for_every_origin_and_query<S: Starter>(starter: &S) {
    let relay = challenge(starter, config()).await;
    let request = "GET /health?verbose HTTP/1.1\r\nHost: a\r\nOrigin: https://a.example\r\n\r\n";
    assert_eq!(Raw::ask(&relay, request).await.status, 200);
    let request = "GET /health HTTP/1.0\r\n\r\n";
    assert_eq!(Raw::ask(&relay, request).await.status, 200);
}

pub(crate) async fn the_answer_to_head_is_the_one_to_get_without_its_body<S: Starter>(starter: &S) {
    let relay = challenge(starter, config()).await;
    for (target, status) in [("/health", 200), ("/ws", 426), ("/nothing", 404)] {
        let request = |method| format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let got = Raw::ask(&relay, &request("GET")).await;
        let head = Raw::ask_head(&relay, &request("HEAD")).await;
        assert_eq!((got.status, head.status), (status, status), "{target}");
        for name in ["content-type", "content-length", "connection", "upgrade"] {
            assert_eq!(head.header(name), got.header(name), "{target}: {name}");
        }
    }
    // A WebSocket begins with GET.
    let upgrade = upgrade_request("/ws").replace("GET", "HEAD");
    assert_eq!(Raw::ask_head(&relay, &upgrade).await.status, 426);
}

pub(crate) async fn what_is_not_there_or_not_allowed_has_its_status<S: Starter>(starter: &S) {
    let relay = challenge(starter, config()).await;
    let cases = [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        ("GET /ws/ HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (
            "POST /agents/register HTTP/1.1\r\nHost: a\r\ncontent-length: 0\r\n\r\n",
            404,
        ),
        ("POST /ws HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (
            "POST /health HTTP/1.1\r\nHost: a\r\ncontent-length: 2\r\n\r\n{}",
            405,
        ),
        ("GET /ws HTTP/1.1\r\nHost: a\r\n\r\n", 426),
        (
            "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
            426,
        ),
        ("GET /health HTTP/1.1\r\n\r\n", 400),
        ("GET /health HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET /health HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET /health HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        ("GET /health HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03", 400),
        ("GET /ws\r\n\r\n", 400),
        ("GET /ws HTTP/1.1\r\nno header\r\n\r\n", 400),
        ("GET /ws HTTP/3.7\r\n\r\n", 400),
        ("hello\n\n", 400),
    ];
    for (request, status) in cases {
        let response = Raw::ask(&relay, request).await;
        assert_eq!(response.status, status, "{request:?}");
        assert!(response.body.ends_with('\n'), "{response:?}");
        match status {
            405 => assert_eq!(response.header("allow"), Some("GET, HEAD")),
            426 => {
                assert_eq!(response.header("upgrade"), Some("websocket"));
                assert_eq!(response.header("sec-websocket-version"), Some("13"));
            }
            _ => {}
        }
    }
    emptied(&relay).await;
}

pub(crate) async fn an_upgrade_needs_all_of_its_headers<S: Starter>(starter: &S) {
    let relay = challenge(starter, config()).await;
    for name in ["Connection", "Upgrade", "Sec-WebSocket-Version"] {
        let response = Raw::ask(&relay, &upgrade_without("/ws", name)).await;
        assert_eq!(response.status, 426, "without {name}");
    }
    let old = upgrade_with("/ws", "Sec-WebSocket-Version: 8");
    assert_eq!(Raw::ask(&relay, &old).await.status, 426);
    let keyless = upgrade_without("/ws", "Sec-WebSocket-Key");
    assert_eq!(Raw::ask(&relay, &keyless).await.status, 400);
    let old = upgrade_request("/ws").replace("HTTP/1.1", "HTTP/1.0");
    let response = Raw::ask(&relay, &old).await;
    assert_eq!(response.status, 426);
    assert!(response.body.contains("HTTP/1.0"), "{}", response.body);
}

pub(crate) async fn a_list_may_span_lines_and_what_comes_once_may_not<S: Starter>(starter: &S) {
    let relay = challenge(starter, config()).await;
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let cases = [
        // As Firefox writes it.
        ("Connection: keep-alive, Upgrade".to_owned(), 101),
        ("Connection: keep-alive\r\nConnection: Upgrade".into(), 101),
        ("Connection: Upgrade\r\nConnection: close".into(), 101),
        ("Connection:\t,UPGRADE ,\tkeep-alive".into(), 101),
        ("Upgrade: websocket, h2c".into(), 101),
        ("Upgrade: h2c\r\nUpgrade: WebSocket".into(), 101),
        ("Connection: keep-alive\r\nConnection: close".into(), 426),
        ("Upgrade: h2c\r\nUpgrade: websocket2".into(), 426),
        ("Host: a\r\nHost: a".into(), 400),
        (format!("{key}\r\n{key}"), 400),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZQ==".into(), 400),
        (
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13".into(),
            400,
        ),
        ("Sec-WebSocket-Version: 13, 8".into(), 426),
        ("Content-Length: 5".into(), 400),
        ("Transfer-Encoding: chunked".into(), 400),
    ];
    for (lines, status) in cases {
        let request = upgrade_with("/ws", &lines);
        let response = Raw::ask(&relay, &request).await;
        assert_eq!(response.status, status, "{request}");
    }
    let hostless = upgrade_without("/ws", "Host");
    assert_eq!(Raw::ask(&relay, &hostless).await.status, 400);
}

pub(crate) async fn pages_are_let_in_by_their_origin<S: Starter>(starter: &S) {
    let listed = AllowedOrigins::List(vec![
        "https://app.example.com".into(),
        "https://b.example:8443".into(),
    ]);
    let (app, evil) = ("https://app.example.com", "https://evil.example.com");
    let cases = [
        (AllowedOrigins::None, None, 101),
        (AllowedOrigins::None, Some(app), 403),
        (listed.clone(), None, 101),
        (listed.clone(), Some(app), 101),
        (listed.clone(), Some("https://b.example:8443"), 101),
        (listed.clone(), Some("https://b.example"), 403),
        (
            listed.clone(),
            Some("https://app.example.com.evil.example"),
            403,
        ),
        (listed.clone(), Some("null"), 403),
        (listed.clone(), Some(evil), 403),
        (listed, Some("HTTPS://App.Example.com:443"), 101),
        // The relay's own host, as a library for native programs says it.
        (AllowedOrigins::None, Some("https://relay.example.com"), 101),
        (
            AllowedOrigins::None,
            Some("https://relay.example.com:444"),
            403,
        ),
        (AllowedOrigins::Any, None, 101),
        (AllowedOrigins::Any, Some(evil), 101),
        (AllowedOrigins::Any, Some("null"), 101),
    ];
    for (allowed, origin, status) in cases {
        let relay = bind(
            starter,
            starter
                .builder()
                .hub(config())
                .allowed_origins(allowed.clone()),
        )
        .await;
        let request = match origin {
            Some(origin) => upgrade_with("/ws", &format!("Origin: {origin}")),
            None => upgrade_request("/ws"),
        };
        let response = Raw::ask(&relay, &request).await;
        assert_eq!(response.status, status, "{allowed:?} {origin:?}");
    }
}

pub(crate) async fn a_host_that_nobody_named_allows_no_origin<S: Starter>(starter: &S) {
    let relay = bind(starter, starter.builder().hub(config())).await;
    // As after DNS rebinding: a page's own name leads to the relay.
    let request = upgrade_with("/ws", "Origin: http://evil.example:8080");
    let request = request.replace("Host: relay.example.com", "Host: evil.example:8080");
    assert_eq!(Raw::ask(&relay, &request).await.status, 403);
}

pub(crate) async fn open_mode_needs_an_address_before_the_upgrade<S: Starter>(starter: &S) {
    let relay = open(starter, config()).await;
    let long = format!("/ws?address=pinch:{}@host", "a".repeat(256));
    let cases = [
        ("/ws", "the address is missing"),
        ("/ws?", "the address is missing"),
        ("/ws?addresses=pinch:a@b", "the address is missing"),
        ("/ws?address=", "the address is malformed"),
        ("/ws?address=alice", "the address is malformed"),
        ("/ws?address=pinch:@b", "the address is malformed"),
        ("/ws?address=pinch:a%20b@host", "the address is malformed"),
        ("/ws?address=pinch:%C3%A4@host", "the address is malformed"),
        ("/ws?address=pinch:%ff@host", "the address is not UTF-8"),
        (long.as_str(), "the address is malformed"),
    ];
    for (target, reason) in cases {
        let Response { status, body, .. } = Raw::ask(&relay, &upgrade_request(target)).await;
        assert_eq!(status, 400, "{target}");
        assert!(body.starts_with(reason), "{target}: {body}");
    }
    assert_eq!(relay.stats().hub.registered, 0);

    let encoded = "/ws?a=1&address=pinch%3Aalice%40relay.example.com&b";
    let mut alice = Raw::connect(&relay).await;
    alice.upgrade(encoded).await;
    alice.answer_ping().await;
    let mut again = Raw::connect(&relay).await;
    again.upgrade(&named_target(&address("alice"))).await;
    let close = Heard::close(1008, "address already connected");
    assert_eq!(again.hear().await, close);
}

pub(crate) async fn a_request_may_come_in_tiny_chunks<S: Starter>(starter: &S) {
    let relay = open(starter, config()).await;
    let request = upgrade_request(&named_target(&address("alice")));
    for size in [1, 2, 7] {
        let mut alice = Raw::connect(&relay).await;
        for chunk in request.as_bytes().chunks(size) {
            alice.write(chunk).await;
            yield_now().await;
        }
        alice.upgraded_response().await;
        alice.answer_ping().await;
        drop(alice);
        emptied(&relay).await;
    }
}

pub(crate) async fn the_head_of_a_request_is_bounded<S: Starter>(starter: &S) {
    let relay = challenge(starter, config()).await;
    let with_head_of = |len: usize| {
        let start = "GET /health HTTP/1.1\r\nHost: a\r\nx: ";
        let padding = "x".repeat(len - start.len() - 4);
        format!("{start}{padding}\r\n\r\n")
    };
    let many = |count: usize| {
        let more = "a: b\r\n".repeat(count - 1);
        format!("GET /health HTTP/1.1\r\nHost: a\r\n{more}\r\n")
    };
    let cases = [
        (with_head_of(8192), 200),
        (with_head_of(8193), 431),
        (with_head_of(100_000), 431),
        (many(64), 200),
        (many(65), 431),
        // It does not end, and need not.
        ("GET /".to_owned() + &"a".repeat(8187), 431),
    ];
    for (request, status) in cases {
        let mut raw = Raw::connect(&relay).await;
        raw.write(request.as_bytes()).await;
        let response = raw.response().await;
        assert_eq!(
            response.status,
            status,
            "a request of {} bytes",
            request.len()
        );
        assert_eq!(raw.hear().await, Heard::End);
    }
}

fn impatient<S: Starter>(starter: &S) -> Builder<S::Tag> {
    starter.builder().hub(config()).auth_timeout(millis(200))
}

pub(crate) async fn who_does_not_finish_its_request_in_time_is_told_and_cut<S: Starter>(
    starter: &S,
) {
    let relay = bind(starter, impatient(starter)).await;
    for beginning in ["", "G", "GET /ws HTTP/1.1\r\nHost: a\r\n"] {
        let mut raw = Raw::connect(&relay).await;
        raw.write(beginning.as_bytes()).await;
        assert_eq!(raw.response().await.status, 408);
        assert_eq!(raw.hear().await, Heard::End);
    }
    emptied(&relay).await;
}

pub(crate) async fn who_trickles_its_request_is_cut_all_the_same<S: Starter>(starter: &S) {
    let relay = bind(starter, impatient(starter)).await;
    let mut raw = Raw::connect(&relay).await;
    let trickle = async {
        while raw.stream.write_all(b"a").await.is_ok() {
            Timer::after(millis(5)).await;
        }
    };
    soon("the cut", trickle).await;
    emptied(&relay).await;
}

pub(crate) async fn who_leaves_in_the_middle_of_its_request_leaves_nothing<S: Starter>(
    starter: &S,
) {
    let relay = challenge(starter, config()).await;
    for beginning in ["", "GET /ws HTTP/1.1\r\n", &upgrade_request("/ws")] {
        let mut raw = Raw::connect(&relay).await;
        raw.write(beginning.as_bytes()).await;
        raw.reset();
        let mut raw = Raw::connect(&relay).await;
        raw.write(beginning.as_bytes()).await;
        drop(raw);
    }
    emptied(&relay).await;
}
