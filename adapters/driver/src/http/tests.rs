//! Which request leads to what.

use super::*;

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn request(head: &str) -> Request<()> {
    let parsed = parse_head(head.as_bytes()).expect("HTTP");
    parsed.expect("a whole head").0
}

/// The status with which `head` is answered: 101 for an upgrade, 200 for the health.
fn status(head: &str, auth: Auth, origins: &AllowedOrigins) -> u16 {
    let bytes = match route(&request(head), auth, origins) {
        Route::Health => return 200,
        Route::Upgrade { response, .. } | Route::Respond(response) => response,
    };
    let text = String::from_utf8(bytes).expect("text");
    let status = text
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3));
    status.expect("a status").parse().expect("a number")
}

#[test]
fn every_request_has_its_status() {
    let upgrade = |from: &str, to: &str| {
        assert!(UPGRADE.contains(from));
        UPGRADE.replacen(from, to, 1)
    };
    let cases = [
        (UPGRADE.to_owned(), 101),
        (upgrade("/ws", "/ws?a=b"), 101),
        (upgrade("websocket", "WebSocket"), 101),
        (
            upgrade("Connection: Upgrade", "Connection: keep-alive, upgrade"),
            101,
        ),
        (upgrade("/ws", "/"), 404),
        (upgrade("/ws", "/wss"), 404),
        (upgrade("GET", "POST"), 405),
        (upgrade("Upgrade: websocket\r\n", ""), 426),
        (upgrade("Connection: Upgrade\r\n", ""), 426),
        (upgrade("Version: 13", "Version: 12"), 426),
        (upgrade("Sec-WebSocket-Version: 13\r\n", ""), 426),
        (upgrade("HTTP/1.1", "HTTP/1.0"), 426),
        (
            upgrade("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""),
            400,
        ),
        (upgrade("Host: a", "Origin: https://a.example"), 403),
        ("GET /health HTTP/1.1\r\n\r\n".into(), 200),
        ("GET /health?a HTTP/1.0\r\nOrigin: null\r\n\r\n".into(), 200),
        ("PUT /health HTTP/1.1\r\n\r\n".into(), 405),
        ("DELETE /elsewhere HTTP/1.1\r\n\r\n".into(), 404),
    ];
    for (head, expected) in cases {
        let found = status(&head, Auth::Challenge, &AllowedOrigins::None);
        assert_eq!(found, expected, "{head}");
    }
}

#[test]
fn an_origin_is_compared_as_a_whole_and_without_case() {
    let list = AllowedOrigins::List(vec!["https://app.example.com".into()]);
    let cases = [
        ("https://app.example.com", 101),
        ("HTTPS://App.Example.Com", 101),
        ("https://app.example.com:444", 403),
        ("http://app.example.com", 403),
        ("https://app.example.co", 403),
        ("", 403),
    ];
    for (origin, expected) in cases {
        let head = UPGRADE.replace("Host: a", &format!("Origin: {origin}"));
        assert_eq!(status(&head, Auth::Challenge, &list), expected, "{origin}");
        assert_eq!(status(&head, Auth::Challenge, &AllowedOrigins::Any), 101);
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
        let head = UPGRADE.replacen("/ws", &format!("/ws{query}"), 1);
        match (
            route(&request(&head), Auth::Open, &AllowedOrigins::None),
            expected,
        ) {
            (Route::Upgrade { name, .. }, Ok(expected)) => {
                assert_eq!(name.as_ref().map(Address::as_str), Some(expected));
            }
            (Route::Respond(response), Err(expected)) => {
                assert!(
                    response.starts_with(format!("HTTP/1.1 {expected} ").as_bytes()),
                    "{query}"
                );
            }
            (other, _) => panic!("{query} leads to {other:?}"),
        }
        let challenged = route(&request(&head), Auth::Challenge, &AllowedOrigins::None);
        assert!(
            matches!(challenged, Route::Upgrade { name: None, .. }),
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
        b"\0",
    ] {
        let error = parse_head(bytes).expect_err("no HTTP");
        assert_eq!(error, HeadError::Malformed, "{bytes:x?}");
        assert!(error.response().starts_with(b"HTTP/1.1 400 "));
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
        assert!(error.response().starts_with(b"HTTP/1.1 431 "));
    }
}

#[test]
fn a_response_says_how_long_it_is_and_that_it_is_the_last() {
    let response = refuse(StatusCode::NOT_FOUND, "no", &[("a", "b")]);
    let expected = "HTTP/1.1 404 Not Found\r\ncontent-type: text/plain; charset=utf-8\r\n\
        content-length: 3\r\ncache-control: no-store\r\na: b\r\nconnection: close\r\n\r\nno\n";
    assert_eq!(String::from_utf8(response).as_deref(), Ok(expected));
}
