//! Which request leads to what.

use pinch_proto::Address;

use super::*;

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn request(head: &str) -> Request<()> {
    let parsed = parse_head(head.as_bytes()).expect("HTTP");
    parsed.expect("a whole head").0
}

fn routed(head: &str, auth: Auth, origins: &AllowedOrigins) -> Route {
    let public = Host::parse("relay.example.com").expect("a host");
    route(&request(head), auth, origins, &public)
}

/// The status and the body with which `head` is answered.
fn answer(head: &str, auth: Auth, origins: &AllowedOrigins) -> (u16, String) {
    match routed(head, auth, origins) {
        Route::Health => (200, String::new()),
        Route::Upgrade(_, response) => (response.status().as_u16(), String::new()),
        Route::Respond(response) => (response.status().as_u16(), response.into_body()),
    }
}

fn status(head: &str, auth: Auth, origins: &AllowedOrigins) -> u16 {
    answer(head, auth, origins).0
}

/// The upgrade request with `to` in place of `from`.
fn upgrade(from: &str, to: &str) -> String {
    assert!(UPGRADE.contains(from), "{from}");
    UPGRADE.replacen(from, to, 1)
}

#[test]
fn every_request_has_its_status() {
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let cases = [
        (UPGRADE.to_owned(), 101),
        (upgrade("/ws", "/ws?a=b"), 101),
        (upgrade("/ws", "http://a/ws"), 101),
        (upgrade("/ws", "http://me@a/ws"), 400),
        (upgrade("/ws", "http://a:65536/ws"), 400),
        (upgrade("websocket", "WebSocket"), 101),
        (upgrade("websocket", "websocket, h2c"), 101),
        (upgrade("websocket", "h2c\r\nupgrade: ,WebSocket"), 101),
        (upgrade("websocket", "websockets"), 426),
        (upgrade("websocket", "h2c"), 426),
        (upgrade(": Upgrade", ": keep-alive, upgrade"), 101),
        (
            upgrade(": Upgrade", ": keep-alive\r\nCONNECTION: UPGRADE"),
            101,
        ),
        (upgrade(": Upgrade", ":\tkeep-alive,upgrade ,"), 101),
        (upgrade(": Upgrade", ": keep-alive"), 426),
        (upgrade(": Upgrade", ": up grade"), 426),
        (upgrade("/ws", "/"), 404),
        (upgrade("/ws", "/wss"), 404),
        (upgrade("GET", "HEAD"), 426),
        (upgrade("GET", "POST"), 405),
        (upgrade("Upgrade: websocket\r\n", ""), 426),
        (upgrade("Connection: Upgrade\r\n", ""), 426),
        (upgrade("Version: 13", "Version: 12"), 426),
        (upgrade("Version: 13", "Version: 13, 8"), 426),
        (
            upgrade("Version: 13", "Version: 8\r\nSec-WebSocket-Version: 13"),
            400,
        ),
        (upgrade("Sec-WebSocket-Version: 13\r\n", ""), 426),
        (upgrade("HTTP/1.1", "HTTP/1.0"), 426),
        (upgrade(key, ""), 400),
        (upgrade(key, &key.repeat(2)), 400),
        (
            upgrade("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ"),
            400,
        ),
        (
            upgrade("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ-="),
            400,
        ),
        (
            upgrade("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25-ZQ=="),
            400,
        ),
        (upgrade("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ=="), 400),
        (upgrade("dGhlIHNhbXBsZSBub25jZQ==", ""), 400),
        (upgrade("Host: a\r\n", ""), 400),
        (upgrade("Host: a", "Host: a\r\nhost: a"), 400),
        (upgrade("Host: a", "Host: a, b"), 400),
        (upgrade("Host: a", "Host: me@a"), 400),
        (upgrade("Host: a", "Host: a:65536"), 400),
        (upgrade("Host: a", "Host:"), 101),
        (upgrade("Host: a", "Host: [::1]:8080"), 101),
        (upgrade("Host: a", "Host: a\r\nContent-Length: 0"), 101),
        (upgrade("Host: a", "Host: a\r\nContent-Length: 1"), 400),
        (
            upgrade("Host: a", "Host: a\r\nTransfer-Encoding: chunked"),
            400,
        ),
        (
            upgrade("Host: a", "Host: a\r\nOrigin: https://a.example"),
            403,
        ),
        (upgrade("Host: a", "Host: a\r\nOrigin:"), 403),
        (upgrade("Host: a", "Host: a\r\nOrigin: x\r\nOrigin: x"), 400),
        ("GET /health HTTP/1.1\r\nHost: a\r\n\r\n".into(), 200),
        ("HEAD /health HTTP/1.1\r\nHost: a\r\n\r\n".into(), 200),
        ("GET /health HTTP/1.1\r\n\r\n".into(), 400),
        (
            "GET http://a/health HTTP/1.1\r\nHost: b\r\n\r\n".into(),
            200,
        ),
        ("GET /health?a HTTP/1.0\r\nOrigin: null\r\n\r\n".into(), 200),
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n".into(), 400),
        ("PUT /health HTTP/1.1\r\nHost: a\r\n\r\n".into(), 405),
        ("HEAD /elsewhere HTTP/1.1\r\nHost: a\r\n\r\n".into(), 404),
        ("DELETE /elsewhere HTTP/1.1\r\nHost: a\r\n\r\n".into(), 404),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".into(), 404),
    ];
    for (head, expected) in cases {
        let found = status(&head, Auth::Challenge, &AllowedOrigins::None);
        assert_eq!(found, expected, "{head}");
    }
}

#[test]
fn a_response_names_what_is_missing() {
    let cases = [
        (upgrade("HTTP/1.1", "HTTP/1.0"), "HTTP/1.0"),
        (
            upgrade("Version: 13", "Version: 8"),
            "Sec-WebSocket-Version: 13",
        ),
        (upgrade(": Upgrade", ": close"), "Connection: Upgrade"),
        (upgrade("Host: a\r\n", ""), "Host"),
        (upgrade("dGhl", ""), "Sec-WebSocket-Key"),
        (
            upgrade("Host: a", "Host: a\r\nOrigin: https://evil.example"),
            "https://evil.example",
        ),
    ];
    for (head, named) in cases {
        let (_, body) = answer(&head, Auth::Challenge, &AllowedOrigins::None);
        assert!(body.contains(named), "{head} is answered: {body}");
    }
}

#[test]
fn an_absolute_target_takes_the_place_of_the_host() {
    let origin = "Origin: https://relay.example.com";
    let cases = [
        ("/ws", "relay.example.com", 101),
        ("/ws", "other.example.com", 403),
        ("http://relay.example.com/ws", "other.example.com", 101),
        ("http://other.example.com/ws", "relay.example.com", 403),
    ];
    for (target, host, expected) in cases {
        let head = upgrade("/ws", target);
        let head = head.replace("Host: a", &format!("Host: {host}\r\n{origin}"));
        let found = status(&head, Auth::Challenge, &AllowedOrigins::None);
        assert_eq!(found, expected, "{target} at {host}");
    }
}

#[test]
fn an_upgrade_keeps_the_query_and_whether_there_was_an_origin() {
    for (head, has_origin, query) in [
        (
            upgrade("/ws", "/ws?dedup=1&receive=0"),
            false,
            "dedup=1&receive=0",
        ),
        (upgrade("Host: a", "Host: a\r\nOrigin: null"), true, ""),
    ] {
        let routed = routed(&head, Auth::Challenge, &AllowedOrigins::Any);
        let Route::Upgrade(found, _) = routed else {
            panic!("{head} leads to {routed:?}")
        };
        let expected = Upgrade::trusted().has_origin(has_origin).query(query);
        assert_eq!(found, expected);
    }
}

#[test]
fn open_mode_takes_the_address_from_the_query() {
    let cases = [
        ("?address=pinch:a@b.example", Ok("pinch:a@b.example")),
        (
            "?x=1&address=pinch%3Aa%40b.example&y",
            Ok("pinch:a@b.example"),
        ),
        // The first one counts.
        (
            "?address=pinch:a@b.example&address=pinch:c@d.example",
            Ok("pinch:a@b.example"),
        ),
        ("", Err(400)),
        ("?address", Err(400)),
        ("?address=", Err(400)),
        ("?Address=pinch:a@b.example", Err(400)),
        ("?address=%ff", Err(400)),
        ("?address=a@b.example", Err(400)),
    ];
    for (query, expected) in cases {
        let head = upgrade("/ws", &format!("/ws{query}"));
        match (routed(&head, Auth::Open, &AllowedOrigins::None), expected) {
            (Route::Upgrade(upgrade, _), Ok(expected)) => {
                assert_eq!(
                    upgrade.address.as_ref().map(Address::as_str),
                    Some(expected)
                );
            }
            (Route::Respond(response), Err(expected)) => {
                assert_eq!(response.status(), expected, "{query}");
            }
            (other, _) => panic!("{query} leads to {other:?}"),
        }
        let challenged = routed(&head, Auth::Challenge, &AllowedOrigins::None);
        assert!(
            matches!(&challenged, Route::Upgrade(upgrade, _) if upgrade.address.is_none()),
            "{query}"
        );
    }
}

#[test]
fn a_head_has_an_end_and_what_is_behind_it_is_not_its_own() {
    let bytes = [UPGRADE.as_bytes(), b"\x82\x80"].concat();
    for end in 0..UPGRADE.len() {
        assert!(
            matches!(parse_head(&bytes[..end]), Ok(None)),
            "the first {end} bytes"
        );
    }
    for end in UPGRADE.len()..=bytes.len() {
        let (request, length) = parse_head(&bytes[..end]).expect("HTTP").expect("a head");
        assert_eq!((length, request.uri().path()), (UPGRADE.len(), "/ws"));
        assert_eq!(request.headers().len(), 5);
    }
}

#[test]
fn what_is_no_http_is_known_at_once() {
    for bytes in [
        &b"\x16\x03\x01"[..],
        b"GET /ws HTTP/2",
        b"GET  HTTP/1.1\r\n\r\n",
        b"GET /\n: a\r\n",
        b"GET /ws#a HTTP/1.1\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nHost : a\r\n",
        b"GET /ws HTTP/1.1\r\nHost: a\r\n b\r\n",
        b"\0",
    ] {
        let error = parse_head(bytes).expect_err("no HTTP");
        assert_eq!(error, HeadError::Malformed, "{bytes:x?}");
        assert_eq!(error.response().status(), 400);
    }
}

#[test]
fn a_head_is_bounded_in_bytes_and_headers() {
    let of = |len: usize| format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(len - 23));
    let with = |headers| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(headers));
    assert!(matches!(
        parse_head(of(MAX_HEAD).as_bytes()),
        Ok(Some((_, MAX_HEAD)))
    ));
    assert!(matches!(
        parse_head(with(MAX_HEADERS).as_bytes()),
        Ok(Some(_))
    ));
    let endless = "G".repeat(MAX_HEAD);
    for head in [of(MAX_HEAD + 1), with(MAX_HEADERS + 1), endless] {
        let error = parse_head(head.as_bytes()).expect_err("too large");
        assert_eq!(error, HeadError::TooLarge);
        assert_eq!(error.response().status(), 431);
    }
}

#[test]
fn a_response_says_how_long_it_is_and_that_it_is_the_last() {
    let response = refuse(StatusCode::NOT_FOUND, "no");
    let head = "HTTP/1.1 404 Not Found\r\ncontent-type: text/plain; charset=utf-8\r\n\
        cache-control: no-store\r\ncontent-length: 3\r\nconnection: close\r\n\r\n";
    let whole = encode_last(&response, false);
    assert_eq!(String::from_utf8(whole), Ok(format!("{head}no\n")));
    let headless = encode_last(&response, true);
    assert_eq!(String::from_utf8(headless).as_deref(), Ok(head));
    let upgrade = encode_last(&UpgradeError::NoUpgrade.response(), false);
    let upgrade = String::from_utf8(upgrade).expect("text");
    assert!(
        upgrade.contains("\r\nconnection: upgrade, close\r\n"),
        "{upgrade}"
    );
}
